"""PDF pages: boxes where the ink is, words and rows, states, encryption, damage, and pages that never end."""

import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from fpdf import FPDF
from fpdf.outline import TableOfContents
from PIL import Image
from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, RectangleObject

from app.errors import DamagedDocument, EmptyDocument, PasswordNeeded, WrongPassword
from app.readers import ParsedPage, ReaderLimits, open_document, page_image, unlock
from tests.pairwise import pairwise

PDF = "application/pdf"


def words_pdf(*pages: str) -> PdfWriter:
    """A PDF with one paragraph a page."""
    pdf = FPDF(unit="pt", format=(400, 300))
    pdf.set_font("helvetica", size=14)
    for text in pages:
        pdf.add_page()
        pdf.multi_cell(0, text=text)
    return PdfWriter(BytesIO(pdf.output()))


def content_pdf(*contents: bytes) -> PdfWriter:
    """A PDF whose pages have the given content streams and the font F1."""
    writer = words_pdf(*["x"] * len(contents))
    for page, content in zip(writer.pages, contents, strict=True):
        stream = DecodedStreamObject()
        stream.set_data(content)
        page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    return writer


def saved(writer: PdfWriter, path: Path) -> Path:
    writer.write(path)
    writer.close()
    return path


def read(path: Path) -> list[ParsedPage]:
    return list(open_document(path, PDF).pages())


def ink(path: Path, page: ParsedPage, word: str) -> tuple[float, float, float, float]:
    """Where a page that shows one word only has ink, in fractions."""
    with Image.open(BytesIO(page_image(path, PDF, page.number, 1600))) as image:
        box = image.convert("L").point(lambda value: 255 if value < 160 else 0).getbbox()
        assert box, f"{word} is not drawn"
        return box[0] / image.width, box[1] / image.height, box[2] / image.width, box[3] / image.height


@pytest.mark.usefixtures("in_this_process")
class TestBoxes:
    @pytest.mark.parametrize(
        ("rotation", "crop", "shift"),
        pairwise((0, 90, 180, 270), (None, (30, 40, 380, 290)), ((0, 0), (-120, 77))),
    )
    def test_cover_the_ink_of_turned_cropped_and_shifted_pages(
        self, tmp_path: Path, rotation: int, crop: tuple[int, ...] | None, shift: tuple[int, int]
    ) -> None:
        x, y = shift
        writer = content_pdf(f"BT /F1 20 Tf {x + 130} {y + 90} Td (Lighthouse) Tj ET".encode())
        page = writer.pages[0]
        page.mediabox = RectangleObject((x, y, x + 400, y + 300))
        if crop:
            page.cropbox = RectangleObject((x + crop[0], y + crop[1], x + crop[2], y + crop[3]))
        page.rotation = rotation
        path = saved(writer, tmp_path / "a.pdf")
        (parsed,) = read(path)
        (word,) = parsed.words
        left, top, right, bottom = ink(path, parsed, "Lighthouse")
        assert parsed.text.strip() == "Lighthouse"
        assert (parsed.width_pt > parsed.height_pt) == (rotation in (0, 180))
        slack = 0.004
        assert word.x0 - slack <= left < right <= word.x1 + slack
        assert word.y0 - slack <= top < bottom <= word.y1 + slack
        assert (word.x1 - word.x0) * (word.y1 - word.y0) < 2.5 * (right - left) * (bottom - top)

    def test_cover_text_that_runs_upwards(self, tmp_path: Path) -> None:
        path = saved(content_pdf(b"BT /F1 20 Tf 0 1 -1 0 200 60 Tm (Lighthouse) Tj ET"), tmp_path / "a.pdf")
        (parsed,) = read(path)
        (word,) = parsed.words
        left, top, right, bottom = ink(path, parsed, "Lighthouse")
        assert word.x0 - 0.01 <= left < right <= word.x1 + 0.01
        assert word.y0 - 0.01 <= top < bottom <= word.y1 + 0.01

    def test_words_outside_the_crop_have_none(self, tmp_path: Path) -> None:
        writer = content_pdf(b"BT /F1 20 Tf 20 150 Td (Cut) Tj 200 0 Td (Kept) Tj ET")
        writer.pages[0].cropbox = RectangleObject((150, 0, 400, 300))
        (parsed,) = read(saved(writer, tmp_path / "a.pdf"))
        assert "Cut" in parsed.text
        assert [parsed.text[word.start : word.end] for word in parsed.words] == ["Kept"]


@pytest.mark.usefixtures("in_this_process")
class TestText:
    def test_rows_come_from_where_the_glyphs_stand(self, tmp_path: Path) -> None:
        """Cells drawn in a scaled space, as report generators do: in the order of drawing, figures slip a row."""
        rows = [("Cash and equivalents", "31,750"), ("Marketable securities", "9,500"), ("Inventories", "17,174")]
        content = "".join(
            f"q 0.03 0 0 0.03 0 0 cm q 1 0 0 1 {x} {9000 - 500 * row} cm BT /F1 400 Tf [({cell})] TJ ET Q Q\n"
            for row, cells in enumerate(rows)
            for x, cell in zip((700, 7500), cells, strict=True)
        )
        (page,) = read(saved(content_pdf(content.encode()), tmp_path / "a.pdf"))
        assert page.text.splitlines() == [f"{name}  {figure}" for name, figure in rows]
        assert len(page.words) == 9

    def test_title_outline_and_labels(self, tmp_path: Path) -> None:
        pdf = FPDF()
        pdf.set_title("The Harbour Book")
        pdf.set_font("helvetica", size=12)
        pdf.add_page(label_style="r")
        pdf.insert_toc_placeholder(TableOfContents().render_toc)
        pdf.add_page(label_style="D", label_start=1)
        pdf.start_section("Tides")
        pdf.start_section("Spring tides", level=1)
        pdf.write(text="Tides")
        path = tmp_path / "a.pdf"
        pdf.output(str(path))
        opened = open_document(path, PDF)
        assert opened.info.title == "The Harbour Book"
        last = opened.info.num_pages
        assert opened.info.outline == ((1, "Tides", last), (2, "Spring tides", last))
        assert [page.label for page in opened.pages()][:: last - 1] == ["i", "1"]


class TestStates:
    def test_tell_text_pictures_and_nothing_apart(self, tmp_path: Path) -> None:
        pdf = FPDF()
        pdf.set_font("helvetica", size=12)
        picture = Image.effect_noise((200, 280), 60)
        pdf.add_page()
        pdf.write(text="A page with enough text to be called one.")
        pdf.image(picture, x=0, y=0, w=pdf.w, h=pdf.h)
        pdf.add_page()
        pdf.image(picture, x=0, y=0, w=pdf.w, h=pdf.h / 2)
        pdf.image(picture, x=0, y=pdf.h / 2, w=pdf.w, h=pdf.h / 2)
        pdf.write(text="4")
        pdf.add_page()
        pdf.add_page()
        pdf.write(text="Part II")
        pdf.image(picture, w=20)
        path = tmp_path / "a.pdf"
        pdf.output(str(path))
        assert [page.state for page in read(path)] == ["ok", "scanned", "empty", "ok"]

    def test_a_page_with_broken_content_costs_no_other(self, tmp_path: Path) -> None:
        path = saved(words_pdf(*(f"Harbour {n}" for n in range(1, 6))), tmp_path / "a.pdf")
        streams = [found.span(1) for found in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.S)]
        damaged = bytearray(path.read_bytes())
        start, end = streams[2]
        damaged[start:end] = b"\xa5" * (end - start)
        path.write_bytes(damaged)
        pages = read(path)
        assert [page.number for page in pages] == [1, 2, 3, 4, 5]
        assert [page.text.strip() for page in pages if page.text] == [f"Harbour {n}" for n in (1, 2, 4, 5)]
        assert pages[2].state in ("empty", "unreadable")

    def test_a_page_that_never_ends_is_unreadable_and_no_other(self, tmp_path: Path) -> None:
        writer = words_pdf("One", "Two", "Three")
        add_bomb(writer, writer.pages[1])
        path = saved(writer, tmp_path / "a.pdf")
        pages = open_document(path, PDF, limits=ReaderLimits(page_seconds=4)).pages()
        assert [(page.number, page.state) for page in pages] == [(1, "ok"), (2, "unreadable"), (3, "ok")]

    def test_where_no_process_survives_every_page_is_still_accounted_for(self, tmp_path: Path) -> None:
        opened = open_document(saved(words_pdf(*["Harbour"] * 9), tmp_path / "a.pdf"), PDF)
        doomed = replace(opened, limits=ReaderLimits(memory_bytes=1 << 20, max_failures=2))
        assert [(page.number, page.state) for page in doomed.pages()] == [(n, "unreadable") for n in range(1, 10)]


def add_bomb(writer: PdfWriter, page: PageObject) -> None:
    """Let a page draw a form that draws ten of the next form, nine times over."""
    form = None
    for _ in range(9):
        stream = DecodedStreamObject()
        stream.set_data(b"/B Do " * 10 if form else b"BT /F1 9 Tf (x) Tj ET")
        stream.update({NameObject("/Type"): NameObject("/XObject"), NameObject("/Subtype"): NameObject("/Form")})
        stream[NameObject("/BBox")] = RectangleObject((0, 0, 400, 300))
        fonts = page["/Resources"]["/Font"]  # type: ignore[index]
        stream[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        if form:
            stream["/Resources"][NameObject("/XObject")] = DictionaryObject({NameObject("/B"): form})
        form = writer._add_object(stream)
    content = DecodedStreamObject()
    content.set_data(b"/B Do")
    page[NameObject("/Contents")] = writer._add_object(content)
    page["/Resources"][NameObject("/XObject")] = DictionaryObject({NameObject("/B"): form})  # type: ignore[index]


@pytest.mark.usefixtures("in_this_process")
def test_names_that_are_no_text_keep_no_page_from_being_read(tmp_path: Path) -> None:
    writer = words_pdf("The tide turns at noon.")
    writer.add_metadata({"/Title": "Tides", "/Author": "Nobody"})
    writer.add_outline_item(title="Nobody", page_number=0)
    path = saved(writer, tmp_path / "a.pdf")
    # Half of a pair of UTF-16.
    path.write_bytes(path.read_bytes().replace(b"(Nobody)", b"(\xfe\xff\xd8\x00\x00A)"))
    opened = open_document(path, PDF)
    assert (opened.info.title, opened.info.author) == ("Tides", "")
    assert [entry.page for entry in opened.info.outline] == [1]
    assert [page.text.strip() for page in opened.pages()] == ["The tide turns at noon."]


@pytest.mark.usefixtures("in_this_process")
class TestEncryption:
    @pytest.mark.parametrize("password", ["sésame", "owner"])
    @pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
    def test_asks_for_the_password_which_gives_a_copy_that_asks_for_nothing(
        self, tmp_path: Path, algorithm: str, password: str
    ) -> None:
        writer = words_pdf("The tide turns at noon.")
        writer.encrypt("sésame", "owner", algorithm=algorithm)
        path = saved(writer, tmp_path / "a.pdf")
        with pytest.raises(PasswordNeeded) as caught:
            open_document(path, PDF)
        assert not isinstance(caught.value, WrongPassword)
        plain = tmp_path / "plain.pdf"
        with pytest.raises(WrongPassword):
            unlock(path, "guess", plain)
        assert not plain.exists()
        unlock(path, password, plain)
        assert not PdfReader(plain).is_encrypted
        assert next(open_document(plain, PDF).pages()).text.strip() == "The tide turns at noon."

    def test_a_file_that_only_its_owner_locked_opens(self, tmp_path: Path) -> None:
        writer = words_pdf("The tide turns at noon.")
        writer.encrypt("", "owner")
        opened = open_document(saved(writer, tmp_path / "a.pdf"), PDF)
        assert next(opened.pages()).state == "ok"


class TestDamage:
    def test_garbage_behind_a_header_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pdf"
        path.write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 40)
        with pytest.raises(DamagedDocument):
            open_document(path, PDF)
        with pytest.raises(DamagedDocument):
            page_image(path, PDF, 1, 800)

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
    def test_a_truncated_file_is_refused_or_has_all_its_pages(self, tmp_path: Path, share: float) -> None:
        path = saved(words_pdf(*["Harbour " * 60] * 9), tmp_path / "a.pdf")
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        try:
            pages = read(path)
        except DamagedDocument:
            return
        assert len(pages) == 9

    def test_no_pages_is_an_empty_document(self, tmp_path: Path) -> None:
        with pytest.raises(EmptyDocument):
            open_document(saved(PdfWriter(), tmp_path / "a.pdf"), PDF)


def test_2400_pages_are_all_read(tmp_path: Path) -> None:
    pages = read(saved(words_pdf(*(f"Harbour log, day {n}." for n in range(1, 2401))), tmp_path / "a.pdf"))
    assert [page.text.strip() for page in pages] == [f"Harbour log, day {n}." for n in range(1, 2401)]
