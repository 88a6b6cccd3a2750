"""What is laid upon PDF pages or attached, pages of odd sizes, and fonts that do not tell their letters."""

from contextlib import nullcontext
from io import BytesIO
from pathlib import Path

import pytest
from fpdf import FPDF
from PIL import Image
from pypdf import PdfWriter
from pypdf.annotations import FreeText, Highlight, Text
from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NumberObject,
    RectangleObject,
    TextStringObject,
)

from app.errors import DamagedDocument, DocumentTooLarge
from app.readers import extract, open_document, page_image
from tests.app.test_readers_pdf import PDF, content_pdf, read, saved, words_pdf

FORM = b"BT /F1 12 Tf 20 250 Td (Name of the boat:) Tj 0 -40 Td (Winter berth:) Tj 0 -40 Td (Harbour:) Tj ET"


def add_field(writer: PdfWriter, kind: str, rect: tuple[int, int, int, int], **entries: object) -> None:
    """A field on the first page without a picture of its value."""
    page = writer.pages[0]
    widget = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Annot"),
            NameObject("/Subtype"): NameObject("/Widget"),
            NameObject("/FT"): NameObject(kind),
            NameObject("/T"): TextStringObject(f"field {rect}"),
            NameObject("/Rect"): RectangleObject(rect),
            NameObject("/DA"): TextStringObject("/Helv 12 Tf 0 g"),
            NameObject("/F"): NumberObject(4),
            **{NameObject(f"/{key}"): value for key, value in entries.items()},
        }
    )
    form = writer.root_object.setdefault(
        NameObject("/AcroForm"),
        DictionaryObject({NameObject("/Fields"): ArrayObject(), NameObject("/NeedAppearances"): BooleanObject(True)}),
    )
    reference = writer._add_object(widget)
    form["/Fields"].append(reference)
    page.setdefault(NameObject("/Annots"), ArrayObject()).append(reference)


@pytest.mark.usefixtures("in_this_process")
class TestForms:
    def test_values_stand_behind_their_labels(self, tmp_path: Path) -> None:
        writer = content_pdf(FORM)
        add_field(writer, "/Tx", (150, 245, 350, 265), V=TextStringObject("Silver Petrel"))
        add_field(writer, "/Btn", (150, 205, 165, 220), V=NameObject("/Yes"), AS=NameObject("/Yes"))
        harbours = ArrayObject(
            ArrayObject([TextStringObject(key), TextStringObject(shown)])
            for key, shown in (("n", "Narvik"), ("t", "Tromso"))
        )
        add_field(writer, "/Ch", (150, 165, 250, 185), V=TextStringObject("t"), Opt=harbours)
        path = saved(writer, tmp_path / "a.pdf")
        (page,) = read(path)
        assert page.text.split("\n") == ["Name of the boat:  Silver Petrel", "Winter berth:  [x]", "Harbour:  Tromso"]
        words = {page.text[word.start : word.end]: word for word in page.words}
        assert words["Petrel"].x0 > words["Silver"].x1 > 150 / 400
        assert words["Silver"].y0 < 1 - 255 / 300 < words["Silver"].y1

    @pytest.mark.parametrize("rotation", [90, 270])
    def test_values_of_a_turned_page(self, tmp_path: Path, rotation: int) -> None:
        writer = content_pdf(b"BT /F1 12 Tf 0 1 -1 0 100 20 Tm (Insurance number:) Tj ET")
        writer.pages[0].rotation = rotation
        add_field(writer, "/Tx", (85, 140, 105, 290), V=TextStringObject("KX-20917"))
        (page,) = read(saved(writer, tmp_path / "a.pdf"))
        assert page.text == "Insurance number:  KX-20917"
        assert len(page.words) == 3

    def test_what_is_empty_hidden_or_secret_is_not_told(self, tmp_path: Path) -> None:
        writer = content_pdf(FORM)
        add_field(writer, "/Tx", (150, 245, 350, 265), V=TextStringObject(""))
        add_field(writer, "/Tx", (150, 225, 350, 240), V=TextStringObject("open sesame"), Ff=NumberObject(1 << 13))
        add_field(writer, "/Tx", (150, 195, 350, 210), V=TextStringObject("behind"), F=NumberObject(2))
        add_field(writer, "/Btn", (150, 205, 165, 220), AS=NameObject("/Off"))
        (page,) = read(saved(writer, tmp_path / "a.pdf"))
        assert page.text.split("\n") == ["Name of the boat:", "Winter berth:  [ ]", "Harbour:"]

    def test_a_field_without_extent_costs_nothing_but_itself(self, tmp_path: Path) -> None:
        writer = content_pdf(FORM)
        add_field(writer, "/Tx", (150, 245, 150, 245), V=TextStringObject("Silver Petrel"))
        (page,) = read(saved(writer, tmp_path / "a.pdf"))
        assert page.text.split("\n") == ["Name of the boat:", "Winter berth:", "Harbour:"]

    def test_a_long_value_comes_in_lines(self, tmp_path: Path) -> None:
        writer = content_pdf(FORM)
        add_field(
            writer, "/Tx", (150, 20, 350, 120), V=TextStringObject("The mast is new. " * 9), Ff=NumberObject(1 << 12)
        )
        (page,) = read(saved(writer, tmp_path / "a.pdf"))
        assert " ".join(page.text.split()).endswith(("The mast is new. " * 9).strip())
        assert max(map(len, page.text.split("\n"))) < 60

    def test_are_drawn_on_the_image_without_a_picture_of_their_own(self, tmp_path: Path) -> None:
        pictures = []
        for value in ("", "Silver Petrel"):
            writer = content_pdf(FORM)
            add_field(writer, "/Tx", (150, 245, 350, 265), V=TextStringObject(value))
            path = saved(writer, tmp_path / f"{len(value)}.pdf")
            with Image.open(BytesIO(page_image(path, PDF, 1, 800))) as image:
                pictures.append(image.convert("L").crop((300, 70, 700, 110)))
        dark = [sum(picture.histogram()[:128]) for picture in pictures]
        assert dark[1] > dark[0] + 100
        # An empty field is not tinted.
        assert pictures[0].getpixel((200, 20)) == 255


@pytest.mark.usefixtures("in_this_process")
class TestNotes:
    def test_are_told_as_notes_at_their_place(self, tmp_path: Path) -> None:
        writer = words_pdf("The draft budget is 300 pounds.", "Nothing.")
        writer.add_annotation(0, FreeText(text="The budget was raised\nto 8150 pounds.", rect=(50, 50, 200, 80)))
        writer.add_annotation(0, Text(text="Ferry licence QF-771.", rect=(300, 200, 320, 220)))
        quads = ArrayObject(FloatObject(each) for each in (50, 100, 90, 100, 50, 110, 90, 110))
        highlight = Highlight(rect=(50, 100, 90, 110), quad_points=quads)
        highlight[NameObject("/Contents")] = TextStringObject("Is this right?")
        writer.add_annotation(0, highlight)
        stamp = Text(text="Approved by Ada.", rect=(10, 10, 20, 20))
        stamp[NameObject("/Subtype")] = NameObject("/Stamp")
        writer.add_annotation(0, stamp)
        first, second = read(saved(writer, tmp_path / "a.pdf"))
        assert first.text.split("\n\n") == [
            "The draft budget is 300 pounds.",
            "Note: The budget was raised to 8150 pounds.",
            "Note: Ferry licence QF-771.",
            "Note: Is this right?",
            "Note: Approved by Ada.",
        ]
        assert second.text == "Nothing."
        (place,) = (word for word in first.words if "8150" in first.text[word.start : word.end])
        assert place[2:] == pytest.approx((50 / 400, 220 / 300, 200 / 400, 250 / 300), abs=0.01)

    def test_a_damaged_place_costs_nothing_but_itself(self, tmp_path: Path) -> None:
        writer = words_pdf("The draft budget is 300 pounds.")
        writer.add_annotation(0, Text(text="Ferry licence QF-771.", rect=(300, 200, 320, 220)))
        annotation = writer.pages[0]["/Annots"][0].get_object()  # type: ignore[index]
        annotation[NameObject("/Rect")] = TextStringObject("nowhere")
        (page,) = read(saved(writer, tmp_path / "a.pdf"))
        assert page.text == "The draft budget is 300 pounds.\n\nNote: Ferry licence QF-771."
        assert len(page.words) == 6


class TestAttachments:
    def test_are_named_with_their_sizes_and_taken_out(self, tmp_path: Path) -> None:
        writer = words_pdf("Open this portfolio in a newer reader.", "Two.")
        writer.add_attachment("figures 2031.xlsx", b"figures").size = NumberObject(7)
        writer.add_attachment("lease.pdf", b"%PDF-1.7 inner")
        writer.add_attachment("<1>x", b"").alternative_name = TextStringObject("../../de\ned\x07.pdf")
        opened = open_document(path := saved(writer, tmp_path / "a.pdf"), PDF)
        first, second = opened.pages()
        odd = "../../de ed.pdf"
        assert opened.info.attachments == ((odd, 0), ("figures 2031.xlsx", 7), ("lease.pdf", 0))
        assert first.text.endswith(f"Attached to this PDF and not read with it: {odd}, figures 2031.xlsx, lease.pdf.")
        assert second.text == "Two."
        extract(path, 3, out := tmp_path / "out", 1000)
        assert out.read_bytes() == b"%PDF-1.7 inner"

    @pytest.mark.parametrize("num_bytes", [1000, 1001, 9_000_000])
    def test_one_that_unpacks_to_too_much_is_refused(self, tmp_path: Path, num_bytes: int) -> None:
        writer = words_pdf("One.")
        inner = writer.add_attachment("zeros.txt", bytes(num_bytes)).pdf_object["/EF"]
        inner[NameObject("/F")] = writer._add_object(inner["/F"].get_object().flate_encode())  # type: ignore[index]
        path = saved(writer, tmp_path / "a.pdf")
        with pytest.raises(DocumentTooLarge) if num_bytes > 1000 else nullcontext():
            extract(path, 1, tmp_path / "out", 1000)

    @pytest.mark.parametrize("entry", [{}, {"/EF": TextStringObject("nothing")}])
    def test_a_damaged_one_costs_nothing_but_itself(self, tmp_path: Path, entry: dict[str, object]) -> None:
        writer = words_pdf("One.")
        damaged = writer.add_attachment("a.txt", b"a").pdf_object
        damaged.pop("/EF")
        damaged.update({NameObject(key): value for key, value in entry.items()})
        opened = open_document(path := saved(writer, tmp_path / "a.pdf"), PDF)
        assert [page.state for page in opened.pages()] == ["ok"]
        assert len(opened.info.attachments) == 1
        with pytest.raises(DamagedDocument):
            extract(path, 1, tmp_path / "out", 1000)


@pytest.mark.usefixtures("in_this_process")
class TestOddPages:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("/MediaBox", (0, 0, 0, 0)),
            ("/MediaBox", (400, 300, 0, 0)),
            ("/MediaBox", (0, 0, 14400, 14400)),
            ("/MediaBox", (0, 0, 1_000_000, 2)),
            ("/MediaBox", (-500, -500, 400, 300)),
            ("/CropBox", (5000, 5000, 6000, 6000)),
            ("/CropBox", (10, 10, 10, 200)),
            ("/UserUnit", 10),
            ("/Rotate", 45),
        ],
    )
    def test_are_read_and_drawn(self, tmp_path: Path, key: str, value: tuple[int, ...] | int) -> None:
        writer = words_pdf("The pilot of Vardo is Odd Brekke.")
        odd = RectangleObject(value) if isinstance(value, tuple) else NumberObject(value)
        writer.pages[0][NameObject(key)] = odd
        path = saved(writer, tmp_path / "a.pdf")
        (page,) = read(path)
        assert (page.text, page.state) == ("The pilot of Vardo is Odd Brekke.", "ok")
        assert all(0 <= word.x0 < word.x1 <= 1 and 0 <= word.y0 < word.y1 <= 1 for word in page.words)
        with Image.open(BytesIO(page_image(path, PDF, 1, 800))) as image:
            assert min(image.size) > 0


def mute_font(writer: PdfWriter, first: int, name: str) -> None:
    """Give the font F1 the glyphs of a Type 3 font, whose names and codes say nothing."""
    glyph = DecodedStreamObject()
    glyph.set_data(b"500 0 0 0 400 700 d1 0 0 400 700 re f")
    procs, differences = DictionaryObject(), ArrayObject([NumberObject(first)])
    drawn = writer._add_object(glyph)
    for code in range(first, 256):
        procs[NameObject(f"/{name}{code}")] = drawn
        differences.append(NameObject(f"/{name}{code}"))
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type3"),
            NameObject("/FontBBox"): RectangleObject((0, 0, 500, 700)),
            NameObject("/FontMatrix"): ArrayObject(FloatObject(each) for each in (0.001, 0, 0, 0.001, 0, 0)),
            NameObject("/CharProcs"): procs,
            NameObject("/Encoding"): DictionaryObject({NameObject("/Differences"): differences}),
            NameObject("/FirstChar"): NumberObject(first),
            NameObject("/LastChar"): NumberObject(255),
            NameObject("/Widths"): ArrayObject([NumberObject(500)] * (256 - first)),
        }
    )
    writer.pages[0]["/Resources"]["/Font"][NameObject("/F1")] = writer._add_object(font)  # type: ignore[index]


@pytest.mark.usefixtures("in_this_process")
class TestMuteFonts:
    @pytest.mark.parametrize(("shift", "name"), [(0, "g"), (100, "g"), (-30, "glyph"), (-31, "G")])
    def test_pages_are_unreadable(self, tmp_path: Path, shift: int, name: str) -> None:
        said = b"The lease of the Hammerfest depot ends in 2031".replace(b" ", b"!")
        codes = bytes(code + shift for code in said)
        writer = content_pdf(b"BT /F1 12 Tf 20 200 Td <" + codes.hex().encode() + b"> Tj ET")
        mute_font(writer, 1, name)
        (page,) = read(saved(writer, tmp_path / "a.pdf"))
        assert (page.state, page.text, page.words) == ("unreadable", "", ())

    def test_a_font_whose_map_leads_to_private_characters(self, tmp_path: Path) -> None:
        pdf = FPDF()
        pdf.set_font("helvetica", size=12)
        pdf.add_page()
        pdf.write(text="The lease of the depot.")
        writer = PdfWriter(BytesIO(pdf.output()))
        cmap = DecodedStreamObject()
        cmap.set_data(
            b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> endcodespacerange\n"
            b"1 beginbfrange <21> <7E> <F021> endbfrange endcmap end"
        )
        for font in writer.pages[0]["/Resources"]["/Font"].values():  # type: ignore[index]
            font.get_object()[NameObject("/ToUnicode")] = writer._add_object(cmap)
        (page,) = read(saved(writer, tmp_path / "a.pdf"))
        assert page.state == "unreadable"

    def test_a_long_text_of_such_a_font_is_believed_where_it_reads_as_one(self, tmp_path: Path) -> None:
        """Fonts of old TeX files tell nothing, but keep to ASCII."""
        line = (
            b"(The warden of the depot and the clerk of the harbour came to the end of the day in a boat.) Tj 0 -20 Td "
        )
        writer = content_pdf(b"BT /F1 6 Tf 2 250 Td " + line * 4 + b"ET")
        mute_font(writer, 32, "a")
        (page,) = read(saved(writer, tmp_path / "a.pdf"))
        assert page.state == "ok"
        assert "clerk of the harbour" in page.text

    def test_other_pages_of_the_document_are_read(self, tmp_path: Path) -> None:
        writer = content_pdf(b"BT /F1 12 Tf 20 200 Td (The lease) Tj ET", b"BT /F1 12 Tf 20 200 Td (Page two) Tj ET")
        writer.pages[0][NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject(writer.pages[0]["/Resources"]["/Font"])}  # type: ignore[index]
        )
        mute_font(writer, 1, "g")
        path = saved(writer, tmp_path / "a.pdf")
        assert [page.state for page in open_document(path, PDF).pages()] == ["unreadable", "ok"]
