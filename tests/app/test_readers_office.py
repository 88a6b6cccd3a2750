"""Word, PowerPoint, Excel, HTML and CSV: the text that matters, tables with their heads, and files that mean harm."""

import socket
from datetime import datetime
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from openpyxl import load_workbook
from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from app.errors import AppError, DamagedDocument, DocumentTooLarge, UnsupportedFile
from app.readers import open_document, sniff
from app.readers.sandbox import SandboxedDocument
from tests.app import made


def opened(path: Path) -> SandboxedDocument:
    return open_document(path, sniff(path))


def texts(path: Path) -> list[str]:
    return [page.text for page in opened(path).pages()]


def refusal(path: Path) -> AppError:
    with pytest.raises(AppError) as caught:
        opened(path)
    return caught.value


class TestWord:
    def test_headings_tables_and_paragraphs(self, tmp_path: Path) -> None:
        body = (
            made.paragraph("Harbour rules", "Title")
            + made.paragraph("Berths", "heading1")
            + "<w:p><w:r><w:t>The fee is 93</w:t></w:r><w:r><w:rPr><w:b/></w:rPr><w:t>0 crowns.</w:t></w:r></w:p>"
            + made.table(["office", "code"], ["Bergen", "7731"], ["Oslo", "a|b"])
            + made.paragraph("Cranes", "heading2")
        )
        document = opened(made.docx(tmp_path / "a.docx", body))
        assert document.info.title == "Harbour rules"
        assert [entry[:2] for entry in document.info.outline] == [(1, "Harbour rules"), (1, "Berths"), (2, "Cranes")]
        text = next(document.pages()).text
        assert "The fee is 930 crowns." in text
        assert "| office | code |\n| --- | --- |\n| Bergen | 7731 |\n| Oslo | a\\|b |" in text

    def test_a_file_elsewhere_is_not_read(self, tmp_path: Path) -> None:
        (secret := tmp_path / "secret.txt").write_text("swordfish")
        doctype = f'<!DOCTYPE d [<!ENTITY s SYSTEM "{secret.as_uri()}">]>'
        path = made.docx(tmp_path / "a.docx", made.paragraph("open &s; here"), doctype)
        try:
            assert "swordfish" not in "".join(texts(path))
        except DamagedDocument:
            # To refuse it is as good.
            return

    def test_entities_that_multiply_cost_the_document_only(self, tmp_path: Path) -> None:
        entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20 if n else "tide " * 20}">' for n in range(9))
        path = made.docx(tmp_path / "a.docx", made.paragraph("&e8;"), f"<!DOCTYPE d [{entities}]>")
        assert isinstance(refusal(path), DamagedDocument)


@pytest.mark.usefixtures("in_this_process")
class TestPowerPoint:
    def test_a_slide_is_a_page_with_its_title_in_the_outline(self, tmp_path: Path) -> None:
        path = made.pptx(
            tmp_path / "a.pptx", [("Berths", "The fee is 930 crowns."), ("", "No title here."), ("End", "")]
        )
        document = opened(path)
        assert document.info.outline == ((2, "Berths", 1), (2, "Slide 2", 2), (2, "End", 3))
        assert [page.text.split("\n\n")[-1].strip() for page in document.pages()][:2] == [
            "The fee is 930 crowns.",
            "No title here.",
        ]

    def test_tables_charts_and_notes(self, tmp_path: Path) -> None:
        show = Presentation()
        slide = show.slides.add_slide(show.slide_layouts[5])
        slide.shapes.title.text = "Income"
        area = Inches(1), Inches(2), Inches(5), Inches(2)
        table = slide.shapes.add_table(2, 2, *area).table
        for place, word in enumerate(("office", "code", "Bergen", "7731")):
            table.cell(place // 2, place % 2).text = word
        data = CategoryChartData()
        data.categories = ["2018", "2019"]
        data.add_series("Oslo", (9.1, 9.4))
        slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *area, data)
        slide.notes_slide.notes_text_frame.text = "Ask Ingrid."
        show.save(str(tmp_path / "a.pptx"))
        (text,) = texts(tmp_path / "a.pptx")
        assert "| office | code |\n| --- | --- |\n| Bergen | 7731 |" in text
        assert "| 2018 | 9.1 |\n| 2019 | 9.4 |" in text
        assert text.endswith("Notes: Ask Ingrid.")


@pytest.mark.usefixtures("in_this_process")
class TestExcel:
    def test_sheets_with_numbers_dates_and_shares_as_they_are_shown(self, tmp_path: Path) -> None:
        rows = [
            ["Offices of the harbour"],
            ["office", None, "opened", "share", "paid"],
            ["Bergen", None, datetime(2024, 3, 12), 0.125, True],
            [],
            ["city", "people"],
            ["Oslo", 0.1 + 0.2],
        ]
        path = made.xlsx(tmp_path / "a.xlsx", {"Offices": rows, "Empty": [], "Other": [["a", "b"], ["1", 2]]})
        book = load_workbook(path)
        book["Offices"]["D3"].number_format = "0.0%"
        book["Offices"]["F3"] = "=1+1"
        book.save(path)
        document = opened(path)
        assert (document.info.title, [entry.title for entry in document.info.outline]) == (
            "",
            ["Offices", "Empty", "Other"],
        )
        text = next(document.pages()).text
        assert "## Offices\n\nOffices of the harbour\n\n| office | opened | share | paid |" in text
        assert "| Bergen | 2024-03-12 | 12.5% | TRUE | =1+1 |" in text
        assert "\n\n| city | people |\n| --- | --- |\n| Oslo | 0.3 |\n\n## Empty" in text

    def test_heads_stand_on_every_page(self, tmp_path: Path) -> None:
        rows = [["office", "code"], *(["Place", n] for n in range(200))]
        pages = texts(made.xlsx(tmp_path / "a.xlsx", {"Codes": rows}))
        assert len(pages) > 3
        for page in pages[1:]:
            assert page.startswith("| office | code |\n| --- | --- |\n| Place |")
        assert sum(page.count("| Place |") for page in pages) == 200


class TestHtml:
    def test_main_text_without_what_stands_around_it(self, tmp_path: Path) -> None:
        (path := tmp_path / "a.html").write_text(
            "<!doctype html><html><head><title>Caf&eacute; log</title><style>p{color:red}</style><script>var a</script>"
            "</head><body><nav>Home</nav><main><h1>Log</h1><p>Code&nbsp;77<b>31</b></p><img src=http://x.invalid/a.png "
            "alt='A crane'><table><thead><tr><th>a<th>b</thead><tr><td>1<td>2</table></main>"
            "<footer>more</footer></body>"
        )
        document = opened(path)
        assert document.info.title == "Café log"
        text = next(document.pages()).text
        assert text.startswith("# Log\n\nCode 7731\n\nA crane")
        assert "| a | b |\n| --- | --- |\n| 1 | 2 |" in text
        assert not any(word in text for word in ("Home", "color", "var", "more", "http"))

    @pytest.mark.parametrize(
        "said", ['<meta charset="windows-1251">', '<meta http-equiv=x content="a; charset=cp1251">']
    )
    def test_the_encoding_is_what_the_page_says(self, tmp_path: Path, said: str) -> None:
        (path := tmp_path / "a.htm").write_bytes(f"<html><head>{said}</head><body>Код</body>".encode("cp1251"))
        assert texts(path) == ["Код"]

    def test_nothing_is_fetched(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.2)
            address = f"http://127.0.0.1:{server.getsockname()[1]}/"
            (path := tmp_path / "a.html").write_text(
                f'<link rel=stylesheet href="{address}"><img src="{address}"><iframe src="{address}"></iframe><p>text'
            )
            assert texts(path) == ["text"]
            with pytest.raises(TimeoutError):
                server.accept()

    def test_a_page_nested_beyond_reason_is_refused(self, tmp_path: Path) -> None:
        (path := tmp_path / "a.html").write_text("<html>" + "<div>" * 5000 + "deep")
        assert isinstance(refusal(path), DamagedDocument)


@pytest.mark.usefixtures("in_this_process")
class TestCsv:
    @pytest.mark.parametrize("between", [",", ";", "\t", "|"])
    def test_any_character_between_columns(self, tmp_path: Path, between: str) -> None:
        rows = ["office;code;note", 'Bergen;7731;"two\nlines, and ""quotes"""', 'Oslo;930;"1,5"']
        (path := tmp_path / "a.csv").write_text("\n".join(row.replace(";", between) for row in rows))
        heads = "| office | code | note |\n| --- | --- | --- |\n"
        assert texts(path) == [f'{heads}| Bergen | 7731 | two lines, and "quotes" |\n| Oslo | 930 | 1,5 |']

    def test_an_older_encoding_is_said(self, tmp_path: Path) -> None:
        (path := tmp_path / "a.csv").write_bytes("Stadt;Straße\nKöln;Größe\nMünchen;Süden\n".encode("cp1252"))
        document = opened(path)
        assert "| Köln | Größe |" in next(document.pages()).text
        assert "Windows-1252" in document.info.note


@pytest.mark.parametrize("suffix", [".docx", ".pptx", ".xlsx"])
class TestArchives:
    def make(self, path: Path) -> Path:
        if path.suffix == ".docx":
            return made.docx(path, made.paragraph("text"))
        return made.pptx(path, [("a", "b")]) if path.suffix == ".pptx" else made.xlsx(path, {"a": [["b"]]})

    def test_a_torn_file_is_damaged(self, tmp_path: Path, suffix: str) -> None:
        path = self.make(tmp_path / f"a{suffix}")
        whole = path.read_bytes()
        at = whole.rindex(b"PK\x05\x06")
        path.write_bytes(whole[: at - 8] + whole[at:])
        assert isinstance(refusal(path), DamagedDocument)

    def test_a_file_with_a_hole_is_damaged(self, tmp_path: Path, suffix: str) -> None:
        """Where its first parts stand by its list is before its beginning."""
        path = self.make(tmp_path / f"a{suffix}")
        whole = path.read_bytes()
        path.write_bytes(whole[:30] + whole[whole.index(b"PK\x01\x02") - 99 :])
        error = refusal(path)
        assert isinstance(error, DamagedDocument) and "cannot be opened" in error.message

    def test_a_part_of_the_wrong_kind_is_damaged(self, tmp_path: Path, suffix: str) -> None:
        path = self.make(tmp_path / f"a{suffix}")
        with ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        main = next(name for name in parts if name.endswith(("/document.xml", "/presentation.xml", "/workbook.xml")))
        with ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, b"<no xml" if name == main else content)
        assert isinstance(refusal(path), DamagedDocument)

    def test_a_bomb_is_not_unpacked(self, tmp_path: Path, suffix: str) -> None:
        path = self.make(tmp_path / f"a{suffix}")
        with ZipFile(path, "a", ZIP_DEFLATED) as archive, archive.open("big.xml", "w") as part:
            for _ in range(300):
                part.write(bytes(1 << 20))
        assert path.stat().st_size < 1_000_000
        error = refusal(path)
        assert isinstance(error, DocumentTooLarge) and "256 MB" in error.message

    def test_a_password_is_said(self, tmp_path: Path, suffix: str) -> None:
        path = self.make(tmp_path / f"a{suffix}")
        data = bytearray(path.read_bytes())
        at = data.find(b"PK\x01\x02")
        while at >= 0:
            data[at + 8] |= 1
            at = data.find(b"PK\x01\x02", at + 4)
        path.write_bytes(data)
        error = refusal(path)
        assert isinstance(error, UnsupportedFile) and "password" in error.message
