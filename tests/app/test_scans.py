"""Scans: added whatever they hold, read by OCR page by page, and asked like any other document."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from fpdf import FPDF
from PIL import Image, ImageFilter

from app.errors import EmptyDocument
from app.main import App
from app.readers import ParsedPage, open_document, recognise
from app.readers.layout import Piece
from app.readers.ocr import _set_out
from tests.app import paper

PAGES = (
    "The works department keeps eleven depots. The access code of the Bergen office is 7731, and it changes every "
    "spring. Lorries left before dawn and came back after noon.",
    "Invoice KX-20917 of 12 March 2021. Captain: Ingrid Vale. The anchor weighs 415 kg; the chain costs 930 crowns.",
)
OpenApp = Callable[..., App]


def typed(path: Path, pages: Sequence[str] = PAGES) -> Path:
    """A PDF with text."""
    pdf = FPDF()
    pdf.set_font("helvetica", size=12)
    for text in pages:
        pdf.add_page()
        pdf.multi_cell(150, 7, text)
    pdf.output(str(path))
    return path


def print_and_scan(source: Path, path: Path, only: Sequence[int] = (), dpi: int = 170, degrees: float = 0.5) -> Path:
    """The same pages as pictures, a little askew and noisy; with `only`, these (from 0), and the others as they are."""
    random = np.random.default_rng(7)
    document = pypdfium2.PdfDocument(source)
    out = FPDF()
    out.set_margin(0)
    out.set_font("helvetica", size=12)
    for number, page in enumerate(document):
        out.add_page()
        if only and number not in only:
            out.multi_cell(150, 7, page.get_textpage().get_text_bounded())
            continue
        picture = page.render(scale=dpi / 72).to_pil().convert("L")
        picture = picture.rotate(degrees, resample=Image.Resampling.BICUBIC, fillcolor=255)
        noisy = np.asarray(picture, dtype=float) + random.normal(0, 14, picture.size[::-1])
        picture = Image.fromarray(noisy.clip(0, 255).astype("uint8")).filter(ImageFilter.GaussianBlur(0.5))
        picture.save(file := BytesIO(), "JPEG", quality=75)
        out.image(file, x=0, y=0, w=210, h=297)
    out.output(str(path))
    return path


def words_of(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside what was printed."""
    folder = tmp_path_factory.mktemp("scan")
    return print_and_scan(typed(folder / "typed.pdf"), folder / "scan.pdf")


def test_words_are_right_and_stand_where_they_were_printed(scan: Path) -> None:
    before = list(open_document(scan.with_name("typed.pdf"), "application/pdf").pages())
    after = list(recognise(scan, "application/pdf", {1: 595.0, 2: 0.0}))
    for printed, read in zip(before, after, strict=True):
        assert read.state == "ok"
        wanted = words_of(printed.text)
        assert (wanted & words_of(read.text)).total() >= 0.95 * wanted.total()
        places = {read.text[word.start : word.end]: word for word in read.words or ()}
        for word in printed.words or ():
            said = printed.text[word.start : word.end]
            if printed.text.count(said) == 1 and said in places:
                assert abs(places[said].x0 - word.x0) < 0.02 and abs(places[said].y0 - word.y0) < 0.02


def test_without_the_extra_a_scan_waits_with_words_on_what_to_do_and_with_it_it_is_read_and_asked(
    open_app: OpenApp, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app()
    with monkeypatch.context() as patch:
        patch.setattr("app.scans.ocr_installed", lambda: False)
        document_id = app.library.add(scan, "scan.pdf", move=False)
        with pytest.raises(EmptyDocument, match="2 are pictures of text") as caught:
            list(app.library.wait(document_id))
        assert "pip install" in caught.value.hint
        entry = app.library.catalogue.entry(document_id)
        assert (entry.progress.stage, entry.pages, entry.pages_for_ocr) == ("failed", 2, 2)
        assert app.library.page_image(document_id, 2)
    app.close()
    again = open_app()
    assert [progress.stage for progress in again.library.wait(document_id)].count("ocr") == 3
    entry = again.library.catalogue.entry(document_id)
    assert (entry.progress.stage, entry.pages_without_text, entry.pages_for_ocr) == ("ready", 0, 0)
    answer = paper.last(again.questions.ask(document_id, "What is the access code of the Bergen office?"))
    assert answer.citations[0].page == 1 and "7731" in answer.citations[0].quote and answer.citations[0].boxes


def test_pages_that_are_read_stay_when_it_is_stopped(
    open_app: OpenApp, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app()
    document_id = app.library.add(scan, "scan.pdf", move=False)
    work = app.library.wait(document_id)
    assert any(progress.stage == "ocr" and progress.done == 1 for progress in work)
    work.close()
    app.library.cancel(document_id)
    app.close()

    asked: list[list[int]] = []

    def recognised(path: Path, media_type: str, sizes: dict[int, float], limits: object) -> Iterator[ParsedPage]:
        asked.append(sorted(sizes))
        return recognise(path, media_type, sizes)

    monkeypatch.setattr("app.scans.recognise", recognised)
    again = open_app()
    list(again.library.wait(document_id))
    assert asked == [[2]]
    assert again.library.catalogue.entry(document_id).pages_without_text == 0


def test_a_document_that_is_read_is_read_anew_with_the_words_of_its_pictures(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = print_and_scan(typed(tmp_path / "typed.pdf"), tmp_path / "mixed.pdf", only=[1])
    with monkeypatch.context() as patch:
        patch.setattr("app.scans.ocr_installed", lambda: False)
        document_id = app.library.add(path, "mixed.pdf", move=False)
        list(app.library.wait(document_id))
    before = app.library.catalogue.entry(document_id)
    assert (before.progress.stage, before.pages_for_ocr) == ("ready", 1)
    (first,) = app.library.catalogue.readings(document_id)
    # Nothing happens by itself to what is read already.
    list(app.library.wait(document_id))
    assert app.library.catalogue.entry(document_id).pages_for_ocr == 1
    app.library.recognise(document_id)
    list(app.library.wait(document_id))
    (second,) = app.library.catalogue.readings(document_id)
    assert second.state == "ready" and second.id != first.id and second.num_tokens > first.num_tokens
    answer = paper.last(app.questions.ask(document_id, "How heavy is the anchor?"))
    assert any("415" in each.quote for each in answer.citations)
    assert not any(app.library.catalogue.entry(document_id).progress.message)


def test_a_picture_without_words_is_looked_at_once(app: App, tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.set_font("helvetica", size=12)
    pdf.add_page()
    pdf.multi_cell(150, 7, PAGES[0])
    pdf.add_page()
    pdf.image(Image.new("L", (300, 400), 200), x=0, y=0, w=210, h=297)
    pdf.output(str(tmp_path / "a.pdf"))
    document_id = app.library.add(tmp_path / "a.pdf", "a.pdf", move=False)
    list(app.library.wait(document_id))
    entry = app.library.catalogue.entry(document_id)
    assert (entry.progress.stage, entry.pages_without_text, entry.pages_for_ocr) == ("ready", 1, 0)


class TestOrder:
    def set_out(self, *lines: tuple[str, float, float, float]) -> str:
        return _set_out([(Piece(text, x0, y0, x1, y0 + 0.01, y0 + 0.01, 0.01), ()) for text, x0, x1, y0 in lines])[0]

    def test_columns_come_one_behind_the_other(self) -> None:
        left = [(f"left {n}", 0.1, 0.46, 0.2 + n * 0.015) for n in range(5)]
        right = [(f"right {n}", 0.54, 0.9, 0.2 + n * 0.015) for n in range(5)]
        text = self.set_out(
            ("title", 0.1, 0.9, 0.1), *(each for pair in zip(left, right, strict=True) for each in pair)
        )
        assert [line for line in text.split("\n") if line] == ["title", *(each[0] for each in (*left, *right))]

    def test_rows_of_a_table_stay_together(self) -> None:
        columns = ("a", 0.1), ("b", 0.5), ("c", 0.8)
        cells = [(f"{name}{n}", x, x + 0.08, 0.2 + n * 0.015) for n in range(6) for name, x in columns]
        assert self.set_out(*cells).split("\n") == [f"a{n} b{n} c{n}" for n in range(6)]
