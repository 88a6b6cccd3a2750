"""Exports: what a conversation says in each format, and that foreign text stays text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from app.errors import DocumentNotFound
from app.events import Answer, Cited, Turn
from app.export import Export, plain
from app.readers import Mark

TOWER = Cited(1, 12, "xii", "The tower is\n41.5 | metres", ((0.1, 0.2, 0.3, 0.4),), 0.9)
LAMP = Cited(2, 3, "3", "Its lamp is of 1873.", ((0.5, 0.6, 0.7, 0.8),), 0.5)
SAID = "It is **41.5 metres** high. [1] Its lamp is of 1873. [2] See [9]."
TURN = Turn("How high is it?", Answer(SAID, True, (TOWER, LAMP)))
NASTY = '![x](http://evil.example/?q) <img src=x onerror=alert(1)> <script>alert(1)</script> "# `a` *b* \\'


@dataclass
class Kept:
    """One conversation about documents `a` and perhaps `b`."""

    kept: Sequence[Turn]
    about: tuple[str, ...] = ("a",)
    called: str = "The tower: a/b?"

    def turns(self, conversation_id: str) -> list[Turn]:
        return list(self.kept) if conversation_id == "c" else []

    def documents(self, conversation_id: str) -> tuple[str, ...]:
        return self.about

    def title(self, conversation_id: str) -> str:
        return self.called


class Shelf:
    """Documents that are called by their ids."""

    def __init__(self) -> None:
        self.catalogue = self
        self.marked: tuple[str, list[Mark]] | None = None

    def entry(self, document_id: str) -> SimpleNamespace:
        return SimpleNamespace(
            name=f"Document {document_id} <{NASTY}>" if document_id == "x" else f"Book {document_id}"
        )

    def highlighted(self, document_id: str, marks: list[Mark]) -> bytes:
        self.marked = document_id, marks
        return b"%PDF"


def export(kept: Kept, form: str, document_id: str = "") -> str:
    return Export(kept, Shelf()).conversation("c", form, document_id).content.decode()


def test_markdown_has_questions_answers_pages_and_passages() -> None:
    late = replace(TURN, answer=replace(TURN.answer, coverage="pages 1-2 of 9", understood="How high is the tower?"))
    assert export(Kept([late, Turn("Why?", Answer(), "waiting")]), "md") == (
        "# The tower: a/b?\n\nBook a\n\n## How high is it?\n\n"
        "It is **41.5 metres** high. (p. xii) Its lamp is of 1873. (p. 3) See \\[9\\].\n\n"
        "> The tower is  \n> 41.5 \\| metres  \n> — p. xii\n\n"
        "*Understood as: How high is the tower?*\n\n*From pages 1-2 of 9, the part that was read by then.*\n\n"
        "## Why?\n\nThere is no answer yet.\n"
    )


def test_html_is_one_file_that_loads_nothing() -> None:
    html = export(Kept([TURN, Turn("Why?", Answer(), "failed", "It is gone.", "Ask again.")]), "html")
    assert "<p>It is <strong>41.5 metres</strong> high. (p. xii) Its lamp" in html
    assert '<blockquote dir="auto">The tower is\n41.5 | metres <cite>p. xii</cite></blockquote>' in html
    assert "<p>It is gone. Ask again.</p>" in html
    assert "default-src 'none'" in html and not re.search(r"<(?:script|img|link|a|iframe)\b|url\(", html)


@pytest.mark.parametrize("form", ["md", "html"])
def test_foreign_text_stays_text(form: str) -> None:
    cited = replace(TOWER, quote=NASTY, label=NASTY)
    turn = Turn(NASTY, Answer(f"{NASTY} - no [1]", True, (cited,)))
    said = export(Kept([turn], ("x",), NASTY), form)
    assert not re.search(r"(?<!\\)<(?:img|script)" if form == "md" else "<(?:img|script)", said)
    assert not re.search(r"(?<!\\)\[x|!\[", said) or form == "html"
    assert "evil.example" in said


def test_the_passages_of_a_document_are_marked_with_question_and_answer() -> None:
    others = (replace(TOWER, document_id="a"), replace(LAMP, document_id="b", title="Book b"))
    several = replace(TURN, answer=replace(TURN.answer, citations=others))
    shelf, missed = Shelf(), replace(TURN, answer=replace(TURN.answer, found=False))
    note = "How high is it?\n\nIt is **41.5 metres** high. (p. xii) Its lamp is of 1873. (Book b, p. 3) See [9]."
    Export(Kept([several, missed], ("a", "b")), shelf).conversation("c", "pdf", "b")
    assert shelf.marked == ("b", [(3, LAMP.boxes, note)])
    Export(Kept([several], ("a", "b")), shelf).conversation("c", "pdf")
    assert shelf.marked == ("a", [(12, TOWER.boxes, note)])
    with pytest.raises(DocumentNotFound, match="rests on a passage"):
        export(Kept([missed]), "pdf")


def test_the_name_of_a_file_is_one_everywhere() -> None:
    def name(title: str) -> str:
        return Export(Kept([TURN], called=title), Shelf()).conversation("c", "md").name

    assert name('a/b\\c: "d"?\n') == "a b c d.md"
    assert name("..") == "conversation.md"
    assert len(name("x" * 300)) == 83


def test_what_is_not_there_is_not_exported() -> None:
    for arguments in (("none", "md"), ("c", "exe"), ("c", "pdf", "elsewhere")):
        with pytest.raises(DocumentNotFound):
            Export(Kept([TURN]), Shelf()).conversation(*arguments)


def test_plain_text_names_what_it_is_about_and_the_pages() -> None:
    assert plain("The lighthouse", TURN) == (
        "The lighthouse\n\nHow high is it?\n\n"
        "It is **41.5 metres** high. (p. xii) Its lamp is of 1873. (p. 3) See [9].\n\n"
        "“The tower is\n41.5 | metres” (p. xii)"
    )
