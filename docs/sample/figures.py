"""The drawings of the sample report, in vectors."""

from fpdf import FPDF

NAVY = (20, 44, 68)
ACCENT = (184, 88, 38)
GREY = (120, 128, 136)
PALE = (222, 229, 235)
MONTHS = [1224, 1163, 1323, 1258, 1147, 804, 945, 1169, 1312, 1285, 1007, 1201]
LEVELS = [0, 9, 17, 24, 38, 49, 63, 74, 86, 97, 106, 117, 139, 164, 189, 209]


def cover(pdf: FPDF) -> None:
    """A tower at night on the full page, with two beams."""
    w, h = pdf.w, pdf.h
    pdf.set_fill_color(*NAVY)
    pdf.rect(0, 0, w, h, "F")
    x, lamp = w * 0.7, h * 0.47
    for reach, opacity in ((1.0, 0.10), (0.62, 0.07), (0.32, 0.09)):
        with pdf.local_context(fill_opacity=opacity):
            pdf.set_fill_color(255, 240, 200)
            pdf.polygon([(x, lamp), (x - w * reach, lamp - 40 * reach), (x - w * reach, lamp - 4 * reach)], style="F")
            pdf.polygon([(x, lamp), (x + w * reach, lamp + 6 * reach), (x + w * reach, lamp + 42 * reach)], style="F")
    foot = h * 0.86
    pdf.set_fill_color(233, 228, 216)
    pdf.polygon([(x - 8, foot), (x + 8, foot), (x + 4.6, lamp + 7), (x - 4.6, lamp + 7)], style="F")
    pdf.set_fill_color(*ACCENT)
    pdf.polygon([(x - 4.9, lamp - 3.6), (x + 4.9, lamp - 3.6), (x, lamp - 9)], style="F")
    pdf.rect(x - 6.4, lamp + 5, 12.8, 2.2, "F")
    pdf.set_fill_color(255, 236, 170)
    pdf.rect(x - 3.6, lamp - 3.6, 7.2, 8.6, "F")
    pdf.set_fill_color(*NAVY)
    for step in range(4):
        pdf.rect(x - 1.2, lamp + 20 + 19 * step, 2.4, 5, "F")
    pdf.set_fill_color(36, 48, 58)
    pdf.polygon([(x - 46, foot + 6), (x - 20, foot - 3), (x + 14, foot - 4), (x + 40, foot + 6)], style="F")
    for row, shade in enumerate(((28, 66, 96), (24, 58, 86), (18, 48, 74), (14, 40, 64))):
        pdf.set_fill_color(*shade)
        top = foot + 3 + 7 * row
        crests = [(w * i / 24, top + (2.2 if (i + row) % 2 else 0)) for i in range(25)]
        pdf.polygon([(0, h), *crests, (w, h)], style="F")


def tower(pdf: FPDF, top: float) -> float:
    """The tower in section with its rooms named; returns the height used, in millimetres."""
    x, scale = pdf.w / 2 - 14, 1.62
    ground = top + 47 * scale + 8
    rooms = [
        ("Entrance and winch", 7, 13),
        ("Oil room: batteries", 13, 18),
        ("Store", 18, 22.5),
        ("Kitchen", 22.5, 27),
        ("Bedroom", 27, 31.5),
        ("Watch room", 31.5, 36),
        ("Lantern and optic", 36, 41.5),
    ]

    def half_width(height: float) -> float:
        return 8.2 - 4.4 * (height / 36) ** 0.7

    def y(height: float) -> float:
        return ground - 5.5 * scale - height * scale

    pdf.set_fill_color(205, 205, 200)
    pdf.polygon([(x - 40, ground), (x - 22, y(0) - 1), (x + 20, y(0) - 1), (x + 40, ground)], style="F")
    pdf.set_fill_color(*PALE)
    pdf.set_draw_color(*NAVY)
    pdf.set_line_width(0.35)
    outline = [0, 4, 8, 13, 18, 24, 30, 36]
    walls = [(x - half_width(t), y(t)) for t in outline] + [(x + half_width(t), y(t)) for t in reversed(outline)]
    pdf.polygon(walls, style="DF")
    pdf.set_fill_color(255, 240, 196)
    pdf.rect(x - 2.9, y(40), 5.8, y(36) - y(40), "DF")
    pdf.set_fill_color(*ACCENT)
    pdf.polygon([(x - 3.6, y(40)), (x + 3.6, y(40)), (x, y(43.6))], style="DF")
    pdf.rect(x - 5.2, y(36.4), 10.4, 1.1, "DF")
    pdf.set_font("helvetica", size=7.5)
    pdf.set_text_color(*NAVY)
    pdf.set_line_width(0.2)
    for name, low, high in rooms:
        if low > 7 and low < 36:
            pdf.line(x - half_width(low), y(low), x + half_width(low), y(low))
        middle = (low + high) / 2 if low < 36 else 38
        pdf.set_draw_color(*GREY)
        pdf.line(x + 1, y(middle), x + 22, y(middle))
        pdf.text(x + 23.5, y(middle) + 0.9, name)
        pdf.set_draw_color(*NAVY)
    pdf.line(x - half_width(7), y(7), x + half_width(7), y(7))
    pdf.text(x + 23.5, y(3) + 0.9, "Solid granite to 7 m")
    pdf.set_draw_color(*GREY)
    pdf.line(x + 3, y(3), x + 22, y(3))
    for height, words in ((38, "Focal plane, 47 m"), (0, "Foot of the tower, 9 m")):
        pdf.set_dash_pattern(dash=1, gap=1)
        pdf.line(x - 40, y(height), x - 4 if height else x - 8.5, y(height))
        pdf.set_dash_pattern()
        pdf.text(x - 40, y(height) - 1.2, words)
    pdf.set_draw_color(60, 110, 150)
    pdf.set_line_width(0.5)
    pdf.line(x - 46, ground, x + 46, ground)
    pdf.text(x - 46, ground + 3.6, "Mean high water")
    return ground + 5 - top


def months(pdf: FPDF, top: float) -> float:
    """One bar for each month; returns the height used, in millimetres."""
    height, left = 52.0, pdf.l_margin + 10
    width = pdf.epw - 10
    _grid(pdf, left, top, width, height, [(value, f"{value:,}") for value in range(0, 1500, 250)], 1400)
    step = width / 12
    for index, value in enumerate(MONTHS):
        tall = height * value / 1400
        pdf.set_fill_color(*(ACCENT if value == min(MONTHS) else NAVY))
        pdf.rect(left + step * index + step * 0.2, top + height - tall, step * 0.6, tall, "F")
        _centred(pdf, left + step * (index + 0.5), top + height - tall - 1.2, f"{value:,}", 6.5)
        _centred(pdf, left + step * (index + 0.5), top + height + 4, "JFMAMJJASOND"[index], 7.5)
    return height + 6


def level(pdf: FPDF, top: float) -> float:
    """Sea level by decade as a line; returns the height used, in millimetres."""
    height, left = 46.0, pdf.l_margin + 10
    width = pdf.epw - 14
    _grid(pdf, left, top, width, height, [(value, str(value)) for value in range(0, 251, 50)], 250)
    points = [
        (left + width * (index + 0.5) / len(LEVELS), top + height * (1 - value / 250))
        for index, value in enumerate(LEVELS)
    ]
    pdf.set_draw_color(*ACCENT)
    pdf.set_line_width(0.7)
    pdf.polyline(points)
    pdf.set_fill_color(*ACCENT)
    for index, (x, y) in enumerate(points):
        pdf.circle(x, y, 0.9, "F")
        if index % 3 == 0:
            _centred(pdf, x, top + height + 4, f"{1871 + 10 * index}–", 7.5)
    return height + 6


def _grid(
    pdf: FPDF, left: float, top: float, width: float, height: float, ticks: list[tuple[int, str]], maximum: int
) -> None:
    pdf.set_font("helvetica", size=7.5)
    pdf.set_text_color(*NAVY)
    pdf.set_draw_color(*PALE)
    pdf.set_line_width(0.2)
    for value, name in ticks:
        y = top + height * (1 - value / maximum)
        pdf.line(left, y, left + width, y)
        pdf.text(left - 2 - pdf.get_string_width(name), y + 0.9, name)


def _centred(pdf: FPDF, x: float, y: float, words: str, size: float) -> None:
    pdf.set_font("helvetica", size=size)
    pdf.text(x - pdf.get_string_width(words) / 2, y, words)
