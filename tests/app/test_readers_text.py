"""Text and Markdown: nothing is lost between the pages, and the pages are of a readable size."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from app.errors import EmptyDocument
from app.readers import ParsedPage, ReaderLimits, fonts, open_document, sniff
from app.readers.typeset import draw, words

PROSE = "\n\n".join(f"{n}. " + "The keeper wrote the height of the tide into the book. " * 7 for n in range(80))


def read(path: Path, text: str) -> list[ParsedPage]:
    path.write_text(text, "utf-8")
    return list(open_document(path, "text/plain").pages())


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "\n".join(f"{n};{n * n}" for n in range(400)),
        "indented\n\tby a tab\n    by spaces\n\n\nend",
        "word" * 5000,
        "Ω 漢字 🌊 " * 900,
        "W" * 3000 + " " + "i" * 3000,
    ],
    ids=["prose", "short lines", "indented", "one long word", "other scripts", "wide and narrow"],
)
def test_pages_hold_the_whole_text_and_every_word_has_a_place(tmp_path: Path, text: str) -> None:
    pages = read(tmp_path / "a.txt", text)
    assert "".join(page.text for page in pages) == text.rstrip()
    for page in pages:
        assert len(page.text) <= 3200
        assert page.words is None
        places = words(page.text)
        assert sorted(places) == sorted({word.start: word for word in places}.values())
        in_order = sorted(places)
        assert "".join(page.text[word.start : word.end] for word in in_order) == "".join(page.text.split())
        for word in places:
            assert 0 < word.x0 < word.x1 < 1
            assert 0 < word.y0 < word.y1 < 1


def test_prose_breaks_between_paragraphs(tmp_path: Path) -> None:
    pages = read(tmp_path / "a.txt", PROSE)
    assert all(page.text.endswith("\n\n") for page in pages[:-1])
    assert all(len(page.text) > 2000 for page in pages[:-1])


def test_byte_order_mark_and_foreign_line_ends_vanish(tmp_path: Path) -> None:
    (page,) = read(tmp_path / "a.txt", "\ufeffone\r\ntwo\rthree")
    assert page.text == "one\ntwo\nthree"


@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown"])
def test_nothing_but_space_is_an_empty_document(tmp_path: Path, media_type: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeff \n\t\n", "utf-8")
    with pytest.raises(EmptyDocument):
        open_document(path, media_type)


def test_headings_are_the_outline_of_markdown_only(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    text = f"Preface\n# The Harbour Book #\n{PROSE}\n```sh\n# a comment\n```\n## Tides & #hashtags\n#no heading\n"
    path.write_text(text)
    opened = open_document(path, "text/markdown")
    last = opened.info.num_pages
    assert opened.info.title == "The Harbour Book"
    assert opened.info.outline == ((1, "The Harbour Book", 1), (2, "Tides & #hashtags", last))
    assert "## Tides" in list(opened.pages())[-1].text
    assert open_document(path, "text/plain").info.outline == ()


UMLAUTS = "Der Zugangscode des Büros in Bergen ist 7731. Größe: fünf Meter.\nÄpfel und Öl.\n"
CYRILLIC = "Код доступа в бергенскую контору: 6623. Его меняют весной.\n"
CHINESE = "卑尔根办公室的门禁密码是七七三一。\n奥斯陆起重机的保修期为九年。\n"


@pytest.mark.parametrize(
    ("data", "text", "said"),
    [
        (UMLAUTS.encode("utf-16"), UMLAUTS, ""),
        (b"\xfe\xff" + CHINESE.encode("utf-16-be"), CHINESE, ""),
        (CHINESE.encode("utf-16-le"), CHINESE, "read as UTF-16"),
        (UMLAUTS.encode("utf-16-be"), UMLAUTS, "read as UTF-16"),
        (CYRILLIC.encode("utf-32"), CYRILLIC, ""),
        (UMLAUTS.encode("latin-1"), UMLAUTS, "Windows-1252"),
        (("“Café” – naïve " + UMLAUTS).encode("cp1252"), "“Café” – naïve " + UMLAUTS, "Windows-1252"),
        (CYRILLIC.encode("cp1251"), CYRILLIC, "Windows-1251"),
        (CHINESE.encode("gb18030"), CHINESE, "GB 18030"),
        (UMLAUTS.encode() + b"\xff", UMLAUTS + "\ufffd", "One place that is no UTF-8"),
        ((CYRILLIC.encode() + b"\xc3\xe2\x82 ") * 2, (CYRILLIC + "\ufffd\ufffd ") * 2, "4 places that are no UTF-8"),
        (b"plain \xff text", "plain ÿ text", "Windows-1252"),
        (b"tide " * 900 + b"\0end", "tide " * 900 + "end", ""),
    ],
)
def test_every_encoding_is_read_and_what_was_assumed_is_said(tmp_path: Path, data: bytes, text: str, said: str) -> None:
    (path := tmp_path / "a.txt").write_bytes(data)
    document = open_document(path, sniff(path))
    assert "".join(page.text for page in document.pages()) == text.rstrip()
    assert said in document.info.note and bool(said) == bool(document.info.note)


def test_a_form_feed_begins_a_page(tmp_path: Path) -> None:
    pages = read(tmp_path / "a.txt", "first\n\ftide\x0clamp\n")
    assert [page.text.strip() for page in pages] == ["first", "tide", "lamp"]


def test_heads_of_a_table_stand_on_every_page(tmp_path: Path) -> None:
    rows = "".join(f"| {n} | Place {n} |\n" for n in range(150))
    path = tmp_path / "a.md"
    path.write_text(f"# Places\n\n| number | name |\n|---|---|\n{rows}\nAfter the table. {PROSE}")
    pages = [page.text for page in open_document(path, "text/markdown").pages()]
    inside = [page for page in pages[1:] if "| Place" in page]
    assert len(inside) > 2 and all(page.startswith("| number | name |\n|---|---|\n| ") for page in inside)
    assert not any("number | name" in page for page in pages if "| Place" not in page)
    assert "".join(pages).count("| Place") == 150


def test_underlined_headings_count_and_front_matter_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("---\nlayout: x\n---\nThe Harbour Book\n====\n\ntext\n\nPart two\n---\n\n- a\n---\n")
    outline = open_document(path, "text/markdown").info.outline
    assert outline == ((1, "The Harbour Book", 1), (2, "Part two", 1))


@pytest.mark.parametrize(
    "text",
    [
        "Мосты через канал",
        "Ελληνικά γράμματα",
        "رمز الدخول إلى المكتب",
        "קוד הגישה למשרד",
        "बर्गन कार्यालय का",
        "รหัสเข้าสำนักงาน",
        "বার্গেন অফিস",
        "卑尔根办公室的门禁密码",
        "ベルゲン事務所",
        "베르겐 사무실",
        "አማርኛ ፊደል",
    ],
)
def test_letters_of_every_script_are_drawn_and_none_is_a_box(text: str) -> None:
    assert all(face is not None and face.has(character) for run, face in fonts.runs(text) for character in run)
    # No letter of these is as wide as it is in a font that lacks it all.
    assert len({round(word.x1 - word.x0, 4) for word in words(text)}) > 1 or len(text.split()) == 1 or text > "\u3000"


def test_letters_that_no_font_has_are_named_and_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fonts.runs("\U0001e910") == [("\U0001e910", None)]
    with_letters, without = (Image.open(BytesIO(draw(text, 800))).convert("L") for text in ("a", "\U0001e910"))
    assert without.crop((0, 0, 800, 1000)).getextrema() == (255, 255)
    assert without.getbbox() != with_letters.getbbox() or without.getextrema()[0] < 200


def test_a_row_from_right_to_left_begins_at_the_right() -> None:
    text = "رمز الدخول هو ABC 6622 هنا"
    places = {text[word.start : word.end]: word for word in words(text)}
    left_to_right = sorted(places, key=lambda each: places[each].x0)
    assert left_to_right == ["هنا", "ABC", "6622", "هو", "الدخول", "رمز"]
    assert places["رمز"].x1 > 0.85


def test_a_long_text_is_cut_without_looking_at_its_letters_twice(tmp_path: Path) -> None:
    """A hundred times more text than a book: what takes long on every word would take minutes here."""
    (path := tmp_path / "a.txt").write_text(PROSE * 1000)
    document = open_document(path, "text/plain", limits=ReaderLimits(memory_bytes=2 << 30))
    assert document.info.num_pages > 9000
    assert sum(len(page.text) for page in document.pages()) == len((PROSE * 1000).rstrip())
