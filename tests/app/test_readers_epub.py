"""EPUB: the chapters in the order of the spine, with titles and outline; and books that cannot or may not be read."""

import zlib
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest

from app.errors import AppError, DamagedDocument, DocumentTooLarge, EmptyDocument, UnsupportedFile
from app.readers import open_document, sniff

EPUB = "application/epub+zip"
CONTAINER = """<?xml version="1.0"?>
<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>
<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
PAGE = '<?xml version="1.0" encoding="UTF-8"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><head><title>no text</title>\
<style>p { color: red }</style></head><body>%s</body></html>'


def package(*names: str, title: str = "The  Harbour\nBook") -> str:
    """A package document whose manifest lists the chapters the other way round than its spine."""
    kind = "application/xhtml+xml"
    items = "".join(f'<item id="c{n}" href="{name}" media-type="{kind}"/>' for n, name in enumerate(names))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in reversed(range(len(names))))
    return (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{title}</dc:title></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>"
    )


def write(path: Path, parts: dict[str, str | bytes], leave_out: str = "") -> Path:
    """An EPUB with these parts beside its media type and its container."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", EPUB, ZIP_STORED)
        for name, content in {"META-INF/container.xml": CONTAINER, **parts}.items():
            if name != leave_out:
                archive.writestr(name, content)
    return path


def book(path: Path, *bodies: str) -> Path:
    """An EPUB with these chapters."""
    names = [f"text/{n} a.xhtml" for n in range(len(bodies))]
    chapters = {f"OPS/{name}": PAGE % body for name, body in zip(names, reversed(bodies), strict=True)}
    return write(path, {"OPS/book.opf": package(*(name.replace(" ", "%20") for name in names)), **chapters})


def text_of(path: Path) -> str:
    return "".join(page.text for page in open_document(path, sniff(path)).pages())


def refusal(path: Path) -> AppError:
    with pytest.raises(AppError) as caught:
        open_document(path, EPUB)
    return caught.value


def test_chapters_come_in_the_order_of_the_spine_with_titles_and_outline(tmp_path: Path) -> None:
    prose = "".join(f"<p>{n}. The keeper wrote the height of the tide into the book. </p>" for n in range(120))
    path = book(
        tmp_path / "a.epub", f"<h1>One <em>tide</em></h1>{prose}", f"<h2 id='x'>Two<br/>lights</h2>{prose}<h1> </h1>"
    )
    opened = open_document(path, sniff(path, "book.txt"))
    assert opened.info.title == "The Harbour Book"
    pages = list(opened.pages())
    (first, second) = opened.info.outline
    assert first == (1, "One tide", 1) and second[:2] == (2, "Two lights")
    assert pages[0].text.startswith("# One tide\n\n0. The keeper")
    assert "## Two lights" in pages[second.page - 1].text
    text = "".join(page.text for page in pages)
    assert text.count("119. The keeper") == 2 and text.index("One tide") < text.index("Two lights")


def test_the_text_is_what_a_reader_of_the_book_sees(tmp_path: Path) -> None:
    body = (
        "<script>alert('x')</script><p>Of  the\n  fish&nbsp;&amp; sea\xadbirds&#8217;<b> a</b>nd <i>boats</i>.</p>"
        "<ul><li>cod<li>eel</ul>"
        "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table><pre>  two\n    four</pre>after\x01"
    )
    text = text_of(book(tmp_path / "a.epub", body))
    assert text.startswith("Of the fish & seabirds\u2019 and boats.\n\n- cod\n- eel\n\n")
    assert "\n| a | b |\n| --- | --- |\n| c | d |\n" in text
    assert text.endswith("\n\n```\n  two\n    four\n```\n\nafter")
    assert "alert" not in text and "color" not in text and "no text" not in text


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-16", "UTF-16"), ("latin-1", "ISO-8859-1"), ("utf-8-sig", "UTF-8")]
)
def test_the_encoding_of_a_chapter_is_what_it_says(tmp_path: Path, encoding: str, said: str) -> None:
    chapter = (PAGE % "<p>Grüße</p>").replace("UTF-8", said).encode(encoding)
    assert text_of(write(tmp_path / "a.epub", {"OPS/book.opf": package("a.xhtml"), "OPS/a.xhtml": chapter})) == "Grüße"


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("META-INF/container.xml", "lacks META-INF/container.xml"),
        ("OPS/book.opf", "lacks OPS/book.opf"),
        ("OPS/a.xhtml", "lacks OPS/a.xhtml"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, lacks: str, said: str) -> None:
    parts: dict[str, str | bytes] = {"OPS/book.opf": package("a.xhtml"), "OPS/a.xhtml": PAGE % "text"}
    error = refusal(write(tmp_path / "a.epub", parts, leave_out=lacks))
    assert isinstance(error, DamagedDocument) and said in error.message and "PDF" in error.hint


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("META-INF/container.xml", "<container/>"),
        ("META-INF/container.xml", "no XML"),
        ("OPS/book.opf", package("a.xhtml").replace('idref="c0"', 'idref="gone"')),
        ("OPS/book.opf", f'<!DOCTYPE p [<!ENTITY a "{"a" * 100_000}"><!ENTITY b "{"&a;" * 1000}">]><p>{"&b;" * 9}</p>'),
        ("OPS/a.xhtml", '<?xml version="1.0" encoding="no-such"?><p>text</p>'),
    ],
)
def test_a_book_that_contradicts_itself_is_damaged(tmp_path: Path, part: str, content: str) -> None:
    parts: dict[str, str | bytes] = {"OPS/book.opf": package("a.xhtml"), "OPS/a.xhtml": PAGE % "text", part: content}
    assert isinstance(refusal(write(tmp_path / "a.epub", parts)), DamagedDocument)


def test_a_torn_file_is_damaged(tmp_path: Path) -> None:
    path = book(tmp_path / "a.epub", "<p>text</p>")
    path.write_bytes(path.read_bytes()[:-30])
    assert isinstance(refusal(path), DamagedDocument)


def test_a_part_with_flipped_bits_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.epub"
    with ZipFile(path, "w", ZIP_STORED) as archive:
        for name, content in (("mimetype", EPUB), ("META-INF/container.xml", CONTAINER)):
            archive.writestr(name, content)
        archive.writestr("OPS/book.opf", package("a.xhtml"))
        archive.writestr("OPS/a.xhtml", PAGE % "whole words")
    path.write_bytes(path.read_bytes().replace(b"whole words", b"wrong words"))
    assert isinstance(refusal(path), DamagedDocument)


@pytest.mark.parametrize(
    "method", ["http://www.w3.org/2001/04/xmlenc#aes256-cbc", "http://www.idpf.org/2008/embedding"]
)
def test_a_protected_book_is_refused_but_not_for_its_fonts(tmp_path: Path, method: str) -> None:
    encryption = (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:enc="http://www.w3.org/2001/04/xmlenc#">'
        f'<enc:EncryptedData><enc:EncryptionMethod Algorithm="{method}"/></enc:EncryptedData></encryption>'
    )
    parts = {"OPS/book.opf": package("a.xhtml"), "OPS/a.xhtml": PAGE % "text", "META-INF/encryption.xml": encryption}
    path = write(tmp_path / "a.epub", {**parts})
    if "embedding" in method:
        assert text_of(path) == "text"
    else:
        error = refusal(path)
        assert isinstance(error, UnsupportedFile) and "DRM" in error.message


def test_an_archive_with_a_password_is_refused(tmp_path: Path) -> None:
    path = book(tmp_path / "a.epub", "<p>text</p>")
    data = bytearray(path.read_bytes())
    # The flag of every entry of the central directory.
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + 8] |= 1
        at = data.find(b"PK\x01\x02", at + 4)
    path.write_bytes(data)
    assert isinstance(refusal(path), UnsupportedFile)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    parts: dict[str, str | bytes] = {"OPS/book.opf": package("a.xhtml"), "OPS/a.xhtml": b" " * (40 << 20)}
    path = write(tmp_path / "a.epub", parts)
    assert path.stat().st_size < 100_000
    error = refusal(path)
    assert isinstance(error, DocumentTooLarge) and "32 MB" in error.message


def test_a_chapter_that_is_named_again_and_again_counts_each_time(tmp_path: Path) -> None:
    chapter = (PAGE % "<p/>").replace("<style>", f"<style>{' ' * (1 << 20)}")
    opf = package("a.xhtml").replace('<itemref idref="c0"/>', '<itemref idref="c0"/>' * 40)
    assert isinstance(
        refusal(write(tmp_path / "a.epub", {"OPS/book.opf": opf, "OPS/a.xhtml": chapter})), DocumentTooLarge
    )


def test_a_bomb_that_lies_about_its_size_is_not_unpacked(tmp_path: Path) -> None:
    bomb = b" " * (64 << 20)
    path = write(tmp_path / "a.epub", {"OPS/book.opf": package("a.xhtml"), "OPS/a.xhtml": bomb})
    size, lie = len(bomb).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    data = path.read_bytes()
    assert data.count(zlib.crc32(bomb).to_bytes(4, "little") + data[data.find(size) - 4 : data.find(size)] + size) >= 1
    path.write_bytes(data.replace(size, lie))
    assert isinstance(refusal(path), DamagedDocument)


@pytest.mark.parametrize("body", ["", "<img src='a.png'/>"])
def test_a_book_without_words_is_empty(tmp_path: Path, body: str) -> None:
    assert isinstance(refusal(book(tmp_path / "a.epub", body)), EmptyDocument)


def test_another_archive_is_no_book(tmp_path: Path) -> None:
    path = tmp_path / "a.epub"
    with ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    assert sniff(path).endswith("wordprocessingml.document")
    with ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "text")
    with pytest.raises(UnsupportedFile, match=r"named \.epub, but is a ZIP archive"):
        sniff(path)
