"""Typesets the sample report: `python docs/sample/make.py` writes app/sample/sample.pdf from report.txt.

The source has one paragraph a line and these marks: `=` chapter, `==` section, `#` numbered step, `@lead` introduction,
`@right` signature, `@figure name | caption`, `@table widths | caption` with one row a line (`!` in bold) up to `@end`.
Chapters are numbered but for the two of the front matter, the appendix and the glossary.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import figures
from figures import ACCENT, GREY, NAVY, PALE
from fpdf import FPDF, FontFace
from fpdf.enums import TableBordersLayout

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "app" / "sample" / "sample.pdf"
TITLE = "Corvane Light and Tidal Station: Annual Report 2031"
BOTTOM = 25
LEADING = 5.45
FRONT = ("Foreword", "The Year in Figures")
BACK = ("Appendix: Instruments", "Glossary")
HEADING = FontFace(emphasis="BOLD", color=NAVY, fill_color=(240, 244, 247))
PLAIN = FontFace(fill_color=(255, 255, 255))
Entry = tuple[int, str, str, int]
"""Level, title, printed page number and page of a line of the contents."""


class Report(FPDF):
    """Pages of 176 by 250 mm with a running header and the printed page number at the foot."""

    def __init__(self) -> None:
        super().__init__(format=(176, 250))
        self.core_fonts_encoding = "cp1252"
        self.set_margins(25, 26, 25)
        self.c_margin = 0
        self.set_auto_page_break(True, BOTTOM)
        self.set_title(TITLE)
        self.set_author("Corvane Light and Tidal Station")
        self.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
        self.chapter = ""
        self.opens_chapter = True
        self.entries: list[Entry] = []

    def header(self) -> None:
        if self.opens_chapter:
            return
        self.set_font("helvetica", size=8)
        self.set_text_color(*GREY)
        self.set_y(13)
        self.cell(self.epw / 2, 5, self.chapter)
        self.cell(self.epw / 2, 5, "Annual Report 2031", align="R")
        self.set_draw_color(*PALE)
        self.set_line_width(0.3)
        self.line(self.l_margin, 19, self.w - self.r_margin, 19)
        self.set_y(self.t_margin)

    def footer(self) -> None:
        if self.page == 1:
            return
        self.set_y(-16)
        self.set_font("helvetica", size=8.5)
        self.set_text_color(*GREY)
        self.cell(self.epw, 5, self.get_page_label(), align="C")

    def open_chapter(self, title: str, number: str = "") -> None:
        """Begin a page with a chapter's title; the first numbered chapter begins page 1."""
        self.opens_chapter = True
        if number == "1":
            self.add_page(label_style="D", label_start=1)
        else:
            self.add_page()
        self.opens_chapter, self.chapter = False, title
        self.start_section(f"{number} {title}".strip())
        self.entries.append((0, f"{number}  {title}" if number else title, self.get_page_label(), self.page))
        self.set_y(34)
        if number:
            self.set_font("helvetica", size=11)
            self.set_text_color(*ACCENT)
            self.cell(0, 7, f"CHAPTER {number}", new_x="LMARGIN", new_y="NEXT")
        self.set_font("times", size=26)
        self.set_text_color(*NAVY)
        self.multi_cell(0, 11, title, align="L", new_x="LMARGIN", new_y="NEXT")
        self.set_fill_color(*ACCENT)
        self.rect(self.l_margin, self.y + 3, 18, 0.9, "F")
        self.ln(12)

    def open_section(self, title: str) -> None:
        if self.will_page_break(32):
            self.add_page()
        self.ln(3.5)
        self.start_section(title, level=1)
        self.entries.append((1, title, self.get_page_label(), self.page))
        self.set_font("helvetica", "B", 11.5)
        self.set_text_color(*NAVY)
        self.cell(0, 7, typographic(title), new_x="LMARGIN", new_y="NEXT")
        self.ln(1.2)

    def paragraph(self, text: str, style: str = "", align: str = "J", indent: float = 0.0) -> None:
        self.set_font("times", style, 11)
        self.set_text_color(30, 34, 38)
        self.set_x(self.l_margin + indent)
        text, width = typographic(text), self.epw - indent
        lines = len(self.multi_cell(width, LEADING, text, align=align, markdown=True, dry_run=True, output="LINES"))
        room = int((self.h - BOTTOM - self.y) / LEADING)
        # No line of a paragraph stands alone on a page: the last one is squeezed in, the first one goes over.
        if lines == room + 1:
            self.set_auto_page_break(True, BOTTOM - LEADING)
        elif room == 1 < lines:
            self.add_page()
            self.set_x(self.l_margin + indent)
        self.multi_cell(width, LEADING, text, align=align, markdown=True, new_x="LMARGIN", new_y="NEXT")
        self.set_auto_page_break(True, BOTTOM)
        self.ln(2.3)

    def step(self, number: int, text: str) -> None:
        if self.will_page_break(11):
            self.add_page()
        self.set_font("helvetica", "B", 9.5)
        self.set_text_color(*ACCENT)
        self.cell(7, LEADING, f"{number}.")
        self.paragraph(text, align="L", indent=7)

    def caption(self, words: str) -> None:
        self.set_font("helvetica", "B", 8.5)
        self.set_text_color(*NAVY)
        self.multi_cell(0, 4.6, typographic(words), align="L", new_x="LMARGIN", new_y="NEXT")

    def figure(self, name: str, words: str) -> None:
        space = {"tower": 98, "months": 74, "level": 68}[name]
        if self.will_page_break(space):
            self.add_page()
        self.ln(3)
        self.ln(getattr(figures, name)(self, self.y))
        self.ln(2)
        self.caption(words)
        self.ln(5)

    def table_of(self, widths: list[int], words: str, rows: list[list[str]]) -> None:
        if self.will_page_break(min(150, 6.4 * len(rows) + 16)):
            self.add_page()
        self.ln(2)
        if words:
            self.caption(words)
            self.ln(1)
        self.set_font("helvetica", size=8.8)
        self.set_text_color(30, 34, 38)
        self.set_draw_color(*PALE)
        numbers = [all(re.match(r"[-–\d!]", row[i]) for row in rows if "!" not in row[0]) for i in range(len(widths))]
        aligns = tuple("R" if i and number else "L" for i, number in enumerate(numbers))
        style = TableBordersLayout.HORIZONTAL_LINES
        with self.table(
            col_widths=tuple(widths), text_align=aligns, borders_layout=style, line_height=5, padding=(0.7, 1.2),
            first_row_as_headings=False, markdown=True,
        ) as table:  # fmt: skip
            for cells in rows:
                bold = cells[0].startswith("! ")
                row = table.row(style=HEADING if bold else PLAIN)
                for cell in cells:
                    row.cell(typographic(cell.removeprefix("! ")))
        self.ln(5)

    def contents(self, entries: list[Entry]) -> None:
        self.opens_chapter = True
        self.add_page()
        self.start_section("Contents")
        self.set_y(34)
        self.set_font("times", size=26)
        self.set_text_color(*NAVY)
        self.cell(0, 11, "Contents", new_x="LMARGIN", new_y="NEXT")
        self.ln(6)
        for level, title, label, page in entries:
            if level:
                continue
            self.set_font("times", size=11.5)
            self.set_text_color(30, 34, 38)
            link = self.add_link(page=page)
            self.cell(self.epw - 14, 7.6, title, link=link)
            self.cell(14, 7.6, label, align="R", link=link, new_x="LMARGIN", new_y="NEXT")
            self.set_draw_color(*PALE)
            self.line(self.l_margin, self.y, self.w - self.r_margin, self.y)


def typographic(text: str) -> str:
    """Curly quotation marks and dashes for minus signs."""
    text = re.sub(r'(^|[\s(])"', r"\1“", text).replace('"', "”").replace("'", "’")
    return re.sub(r"^-(?=\d)", "–", text)


def typeset(entries: list[Entry]) -> Report:
    """The report with these contents; its own `entries` are the true ones."""
    pdf = Report()
    pdf.add_page(label_style="r")
    figures.cover(pdf)
    for y, size, words in ((34, 30, "Corvane Light"), (46, 30, "and Tidal Station"), (64, 14, "Annual Report 2031")):
        pdf.set_font("times", size=size)
        pdf.set_text_color(245, 240, 228)
        pdf.text(25, y, words)
    pdf.contents(entries)
    number = 0
    step = 0
    lines = iter((HERE / "report.txt").read_text("utf-8").splitlines())
    for line in filter(None, lines):
        mark, _, text = line.partition(" ")
        step = step + 1 if mark == "#" else 0
        match mark:
            case "=":
                number += text not in FRONT + BACK
                pdf.open_chapter(text, "" if text in FRONT + BACK else str(number))
            case "==":
                pdf.open_section(text)
            case "#":
                pdf.step(step, text)
            case "@lead":
                pdf.paragraph(text, style="I", align="L")
            case "@right":
                pdf.paragraph(text, align="R")
            case "@figure":
                pdf.figure(*text.split(" | "))
            case "@table":
                widths, _, words = text.partition("|")
                pdf.table_of([int(width) for width in widths.split()], words.strip(), list(rows(lines)))
            case _:
                pdf.paragraph(line)
    return pdf


def rows(lines: Iterator[str]) -> Iterator[list[str]]:
    """The cells of a table's rows, up to its end."""
    for line in lines:
        if line == "@end":
            return
        yield [cell.strip() if i else cell.rstrip() for i, cell in enumerate(line.split("|"))]


def main() -> None:
    typeset(typeset([(0, "x", "1", 1)]).entries).output(str(OUT))


if __name__ == "__main__":
    main()
