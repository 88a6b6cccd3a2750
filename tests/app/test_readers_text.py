"""Text and Markdown: nothing is lost between the pages, and the pages are of a readable size."""

from pathlib import Path

import pytest

from app.errors import EmptyDocument
from app.readers import ParsedPage, open_document

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
        assert "".join(page.text[word.start : word.end] for word in page.words) == "".join(page.text.split())
        for word in page.words:
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
