"""The text of PDF pages: columns, turned text, footnote marks, broken words, and writing from the right."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from fpdf import FPDF

from app.readers import ParsedPage
from app.readers.bidi import logical
from app.readers.layout import Piece
from app.readers.page_text import write
from app.readers.pdf_glyphs import by_direction
from tests.app.test_readers_pdf import content_pdf, read, saved

pytestmark = pytest.mark.usefixtures("in_this_process")

LEFT = [
    "The harbour of Narvik has",
    "two quays of granite, and",
    "a third one, which is made",
    "of wood, waits for repair.",
]
RIGHT = [
    "The lighthouse burns oil of",
    "a fine kind, which is sent",
    "from Bergen in small casks",
    "and kept in a dry cellar.",
]


def page(tmp_path: Path, content: str, rotation: int = 0) -> ParsedPage:
    """A page of 400 by 300 points with the font F1 (Helvetica)."""
    writer = content_pdf(content.encode("cp1252"))
    writer.pages[0].rotation = rotation
    (parsed,) = read(saved(writer, tmp_path / "a.pdf"))
    return parsed


def text_at(x: float, y: float, text: str, size: float = 10) -> str:
    escaped = text.replace("(", r"\(").replace(")", r"\)")
    return f"BT /F1 {size} Tf {x} {y} Td ({escaped}) Tj ET\n"


def lines(parsed: ParsedPage) -> list[str]:
    return [line for line in parsed.text.splitlines() if line]


class TestColumns:
    @pytest.mark.parametrize("by_row", [False, True])
    @pytest.mark.parametrize("offset", [0, 5])
    def test_are_read_one_after_the_other(self, tmp_path: Path, by_row: bool, offset: float) -> None:
        left = [text_at(20, 200 - 13 * row, line) for row, line in enumerate(LEFT)]
        right = [text_at(210, 200 - offset - 13 * row, line) for row, line in enumerate(RIGHT)]
        drawn = [each for row in zip(left, right, strict=True) for each in row] if by_row else left + right
        head = text_at(60, 240, "A report to the council about the harbour of Narvik")
        foot = text_at(20, 100, "Both of them were visited in the spring by the whole of the council.")
        parsed = page(tmp_path, head + foot + "".join(drawn))
        assert lines(parsed) == [
            "A report to the council about the harbour of Narvik",
            *LEFT,
            *RIGHT,
            "Both of them were visited in the spring by the whole of the council.",
        ]

    def test_three_of_them(self, tmp_path: Path) -> None:
        texts = [[f"the {word} number {row} is old" for row in range(5)] for word in ("boat", "sail", "mast")]
        rows = "".join(
            text_at(10 + 130 * column, 200 - 13 * row, texts[column][row]) for row in range(5) for column in range(3)
        )
        assert lines(page(tmp_path, rows)) == [line for column in texts for line in column]

    @pytest.mark.parametrize(
        "rows",
        [
            [("Cash and equivalents", "31,750", "21,856"), ("Marketable securities", "9,500", "7,012")] * 3,
            [("Oslo", "Ingrid Vale", "7731"), ("Bergen", "Odd Brekke", "9915"), ("Narvik", "Ada Whitlock", "4410")] * 2,
            [("The price of a ticket to the museum", "412 crowns"), ("The toll for a lorry on the bridge", "85 crowns")]
            * 3,
        ],
    )
    def test_a_table_is_read_row_by_row(self, tmp_path: Path, rows: list[tuple[str, ...]]) -> None:
        content = "".join(
            text_at(x, 250 - 14 * row, cell)
            for x, column in zip((20, 210, 300), range(3), strict=True)
            for row, cells in enumerate(rows)
            for cell in cells[column : column + 1]
        )
        assert lines(page(tmp_path, content)) == ["  ".join(cells) for cells in rows]

    def test_what_belongs_to_a_number_is_no_cell_of_its_own(self, tmp_path: Path) -> None:
        cells = [(20, "Net income"), (200, "$"), (230, "4,029"), (290, "(12.5"), (330, ")%")]
        assert lines(page(tmp_path, "".join(text_at(x, 200, cell) for x, cell in cells))) == [
            "Net income  $4,029  (12.5)%"
        ]


class TestWrappedCells:
    LONG = ("The crane was repaired in spring, because its", "chain had been worn through by the frost")

    @pytest.mark.parametrize("middle", [False, True])
    @pytest.mark.parametrize("others", [("Crane", "930"), ("Quay of the north", "41,200")])
    def test_a_row_with_a_wrapped_cell_is_one_line(self, tmp_path: Path, middle: bool, others: tuple[str, str]) -> None:
        rows = text_at(20, 250, "Item") + text_at(120, 250, "What was done") + text_at(350, 250, "Cost")
        for top, (name, cost) in ((230, others), (190, ("Lamp", "12"))):
            rows += text_at(20, top - 6 * middle, name) + text_at(350, top - 6 * middle, cost)
            rows += text_at(120, top, self.LONG[0]) + text_at(120, top - 12, self.LONG[1])
        assert lines(page(tmp_path, rows)) == [
            "Item  What was done  Cost",
            "  ".join((others[0], " ".join(self.LONG), others[1])),
            "  ".join(("Lamp", " ".join(self.LONG), "12")),
        ]

    def test_rows_that_stand_close_stay_rows(self, tmp_path: Path) -> None:
        cells = [
            "The crane was repaired in the spring",
            "Planks were laid by the masons anew",
            "Frost took all of the new lamps",
        ]
        rows = "".join(
            text_at(20, 200 - 12 * row, name) + text_at(120, 200 - 12 * row, cells[row])
            for row, name in enumerate(("Crane", "Quay", "Lamp"))
        )
        assert lines(page(tmp_path, rows)) == [
            f"{a}  {b}" for a, b in zip(("Crane", "Quay", "Lamp"), cells, strict=True)
        ]

    @pytest.mark.parametrize("numbers", [("739", "383", "1,122"), ("$", "(12)", "—")])
    def test_a_label_above_its_numbers(self, tmp_path: Path, numbers: tuple[str, ...]) -> None:
        rows = text_at(20, 230, "Amortization expense") + text_at(20, 206, "Litigation related")
        rows += "".join(text_at(180 + 60 * column, 218, number) for column, number in enumerate(numbers))
        rows += text_at(180, 194, "6,900")
        joined = "  ".join(("Amortization expense", *numbers)).replace("$  ", "$")
        assert lines(page(tmp_path, rows)) == [joined, "Litigation related  6,900"]

    def test_a_label_in_front_of_a_paragraph(self, tmp_path: Path) -> None:
        rows = text_at(20, 230, "(a)") + text_at(50, 230, self.LONG[0]) + text_at(50, 218, self.LONG[1])
        rows += text_at(20, 198, "(b)") + text_at(50, 198, "Nothing else was done.")
        assert lines(page(tmp_path, rows)) == ["(a)  " + " ".join(self.LONG), "(b)  Nothing else was done."]


class TestTurned:
    @pytest.mark.parametrize("matrix", ["1 0 0 1 40 200", "0 1 -1 0 60 20", "-1 0 0 -1 350 100", "0 -1 1 0 60 280"])
    @pytest.mark.parametrize("rotation", [0, 90, 180, 270])
    def test_text_is_read_in_its_own_direction(self, tmp_path: Path, matrix: str, rotation: int) -> None:
        said = ["The pilot of Vardo is Odd Brekke,", "since March 2016, and he lives", "above the customs house."]
        moved = " ".join(f"({line}) Tj 0 -14 Td" for line in said)
        parsed = page(tmp_path, f"BT /F1 11 Tf {matrix} Tm {moved} ET", rotation)
        assert lines(parsed) == said
        assert len(parsed.words) == len(parsed.text.split())

    def test_text_in_the_margin_stays_out_of_the_lines(self, tmp_path: Path) -> None:
        upright = "".join(text_at(60, 200 - 13 * row, line) for row, line in enumerate(LEFT))
        margin = "BT /F1 9 Tf 0 1 -1 0 30 120 Tm (Printed in Bergen) Tj ET\n"
        stamp = "BT /F1 40 Tf 0.7071 0.7071 -0.7071 0.7071 100 60 Tm (DRAFT) Tj ET\n"
        assert lines(page(tmp_path, margin + stamp + upright)) == [*LEFT, "Printed in Bergen", "DRAFT"]


class TestVertical:
    def test_columns_are_read_from_the_right(self) -> None:
        said = ["卑尔根的密码", "是七七三一。", "第二行"]
        drawn = [
            Piece(
                character, 300 - 20 * column, -200 + 12 * row, 312 - 20 * column, -188 + 12 * row, -190 + 12 * row, 12
            )
            for column, text in enumerate(said)
            for row, character in enumerate(text)
        ]
        upright, vertical = by_direction(drawn)
        assert upright == []
        text, words = write(vertical)
        assert text.split("\n") == said
        # Every column is a line of its own, and as wide as a character.
        assert [round(word.y1 - word.y0) for word in words] == [12, 12, 12]

    def test_letters_in_a_list_stay_in_their_rows(self) -> None:
        drawn = [Piece(c, 20, 12 * row, 26, 12 * row + 12, 12 * row + 10, 12) for row, c in enumerate("abcd")]
        assert by_direction(drawn) == (drawn, [])


def with_marks(parts: Sequence[str], gap: float = 0.2, rise: float = 4, size: float = 6.5) -> str:
    """A line of text whose every second part is raised."""
    font = FPDF(unit="pt")
    font.set_font("helvetica")
    content, x = "", 40.0
    for index, part in enumerate(parts):
        raised = index % 2
        font.set_font_size(size if raised else 11)
        content += text_at(x, 200 + rise * raised, part, size if raised else 11)
        x += font.get_string_width(part) + gap * raised
    return content


class TestRaised:
    @pytest.mark.parametrize("gap", [0, 0.2])
    @pytest.mark.parametrize(
        ("parts", "text"),
        [
            (["a berth and 930", "4", " pounds"], "a berth and 930 pounds"),
            (
                ["a new dog house", "12", " on 2019", "1,2", " and 61", "*", " boxes"],
                "a new dog house on 2019 and 61 boxes",
            ),
            (["an area no 540 m", "2", " and 3 km", "2", " do"], "an area no 540 m2 and 3 km2 do"),
            (["a speed 5 x 10", "6", " and 2 = 10", "3", " ounces"], "a speed 5 x 10^6 and 2 = 10^3 ounces"),
            (["on a 21", "st", " and on a 2", "nd", " day"], "on a 21st and on a 2nd day"),
        ],
    )
    def test_footnote_marks_go_and_exponents_stay(
        self, tmp_path: Path, parts: list[str], text: str, gap: float
    ) -> None:
        assert lines(page(tmp_path, with_marks(parts, gap))) == [text]

    def test_the_number_of_a_footnote_stays(self, tmp_path: Path) -> None:
        body = text_at(40, 200, "The fee is 930 crowns a season, of which a third is paid in spring.")
        note = text_at(40, 44, "4", 5) + text_at(44, 40, "Without the fee for water and light.", 8)
        assert lines(page(tmp_path, body + note))[-1] == "4 Without the fee for water and light."


class TestHyphens:
    @pytest.mark.parametrize(
        ("said", "text"),
        [
            (["near the light-", "house of Alta"], "near the lighthouse\nof Alta"),
            (["an inter-", "national treaty"], "an international\ntreaty"),
            (["a long-term loan, a long-", "term rate"], "a long-term loan, a long-term\nrate"),
            (
                ["of average weight is weighted; a weighted-", "average price"],
                "of average weight is weighted; a weighted-average\nprice",
            ),
            (["the Anglo-", "Norwegian line"], "the Anglo-Norwegian\nline"),
            (["short-", "and long-term loans"], "short-\nand long-term loans"),
            (["from 2019 -", "and never again"], "from 2019 -\nand never again"),
        ],
    )
    def test_at_a_line_end(self, tmp_path: Path, said: list[str], text: str) -> None:
        parsed = page(tmp_path, "".join(text_at(20, 200 - 14 * row, line) for row, line in enumerate(said)))
        assert parsed.text == text
        # Each half of a broken word has a box of its own.
        assert all(word.y1 - word.y0 < 0.06 for word in parsed.words)


def glyphs(visual: str) -> list[Piece]:
    """The pieces of a line as PDFium and we find them: right-to-left glyphs one by one, from left to right."""
    pieces: list[Piece] = []
    x = 0.0
    for word in visual.split(" "):
        parts = list(word) if max(word) >= "\u0590" else [word]
        for part in parts:
            pieces.append(Piece(part, x, 0, x + 5 * len(part), 10, 8, 10))
            x += 5 * len(part)
        x += 4
    return pieces


class TestRightToLeft:
    @pytest.mark.parametrize(
        ("visual", "read"),
        [
            ("םולש", "שלום"),
            ("םלוע םולש", "שלוםעולם"),
            (".2019 תנשל", "לשנת2019."),
            ("John Smith בתכ", "כתבJohnSmith"),
            (")הנתשמ( 7731 דוק", "קוד7731(משתנה)"),
        ],
    )
    def test_order(self, visual: str, read: str) -> None:
        assert "".join(piece.text for piece in logical(glyphs(visual), True)) == read

    def test_a_word_inside_a_line_from_the_left(self) -> None:
        order = [piece.text for piece in logical(glyphs("The word םולש means hello"), True)]
        assert order == ["The", "word", *"שלום", "means", "hello"]

    @pytest.mark.parametrize("given", ["\u0644\u0627", "\u0627\u0644"])
    def test_lam_and_alef_of_one_glyph(self, given: str) -> None:
        """PDFium gives the letters of the ligature in either order, depending on what the font says of it."""
        pieces = [Piece(given, 0, 0, 5, 10, 8, 10), Piece("\u0648", 5, 0, 10, 10, 8, 10)]
        assert "".join(piece.text for piece in logical(pieces, True)) == "\u0648\u0644\u0627"


def test_slanted_letters_that_hang_over_a_space_do_not_join_its_words(tmp_path: Path) -> None:
    sentence = "The rules of procedure and all of the rest that follow are asked for if a ship is off."
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("times", "I", 11)
    for width in (60, 80, 100):
        pdf.multi_cell(width, text=sentence, align="J", new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(tmp_path / "a.pdf"))
    (parsed,) = read(tmp_path / "a.pdf")
    assert parsed.text.split() == 3 * sentence.split()
