"""Export: a conversation as Markdown, as one page of HTML, or as highlights and notes in a copy of its PDF."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import DocumentNotFound
from app.events import Cited, Turn
from app.prose import prose
from app.prose import text as escaped
from app.readers import Mark
from app.remarks import remarks

FORMATS = {"md": "text/markdown; charset=utf-8", "html": "text/html; charset=utf-8", "pdf": "application/pdf"}
"""Media types by the ends of file names."""
_NO_NAME = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')
_LINK = re.compile(r"\[(\d{1,3})\]")
_MARKUP = re.compile(r"([\\`*_\[\]<>#|!~])")
_FOREIGN_MARKUP = re.compile(r"([\[\]<])")
"""Of a model's words: lists and bold stay, what would link, load or run does not."""
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.6 Georgia, "Noto Serif", serif; }
body { max-width: 42rem; margin: 3rem auto; padding: 0 1.25rem; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.3; } h2 { margin-top: 2.5rem; font-size: 1.2rem; white-space: pre-wrap; }
blockquote { margin: 1rem 0; padding-left: 1rem; border-left: 3px solid #f5c518; white-space: pre-line; }
cite, .quiet { font: .85rem/1.5 system-ui, sans-serif; opacity: .75; }
"""


@dataclass(frozen=True)
class Exported:
    """A file to be kept by its user."""

    name: str
    media_type: str
    content: bytes


class Export:
    """Makes files of conversations, as far as whoever asks has those and their documents: a `Chat` and a `Library`, or
    what a visitor has of them."""

    def __init__(self, chat: Any, library: Any) -> None:
        self._chat, self._library = chat, library

    def conversation(self, conversation_id: str, form: str, document_id: str = "") -> Exported:
        """One conversation in one of `FORMATS`; of several documents the given PDF is marked, or else the first.

        Raises DocumentNotFound, UnsupportedFile and DamagedDocument; NotAllowed for a copy of what is only shared.
        """
        turns, documents = self._chat.turns(conversation_id), self._chat.documents(conversation_id)
        if not turns or form not in FORMATS or (document_id and document_id not in documents):
            raise DocumentNotFound("There is no such conversation.", "Choose one from the list.")
        title = self._chat.title(conversation_id)
        if form == "pdf":
            content = self._library.highlighted(document_id or documents[0], _marks(turns, documents, document_id))
        else:
            names = [self._library.catalogue.entry(each).name for each in documents]
            content = {"md": _markdown, "html": _html}[form](title, ", ".join(names), turns).encode()
        name = " ".join(_NO_NAME.sub(" ", title).split())[:80].strip(" .") or "conversation"
        return Exported(f"{name}.{form}", FORMATS[form], content)


def plain(about: str, turn: Turn) -> str:
    """A turn as text that can be pasted anywhere: what it is about, question, answer, and passages with their pages."""
    quotes = (f"“{each.quote}” ({_where(each)})" for each in _passages(turn))
    return "\n\n".join([about, turn.question, _said(turn), *quotes])


def _markdown(title: str, about: str, turns: Sequence[Turn]) -> str:
    parts = [f"# {_literal(title)}", _literal(about)]
    for turn in turns:
        parts += [f"## {_literal(turn.question)}", _said(turn, lambda words: _FOREIGN_MARKUP.sub(r"\\\1", words))]
        quotes = ([*each.quote.split("\n"), f"— {_where(each)}"] for each in _passages(turn))
        parts += ("  \n".join(f"> {_literal(line)}" for line in lines) for lines in quotes)
        parts += (f"*{_literal(each)}*" for each in _notes(turn))
    return "\n\n".join(parts) + "\n"


def _literal(words: str) -> str:
    """Foreign text on one line of Markdown, where it means nothing."""
    return _MARKUP.sub(r"\\\1", " ".join(words.split()))


def _html(title: str, about: str, turns: Sequence[Turn]) -> str:
    parts = [f'<h1 dir="auto">{escaped(title)}</h1><p class="quiet" dir="auto">{escaped(about)}</p>']
    for turn in turns:
        quotes = (f"{escaped(each.quote)} <cite>{escaped(_where(each))}</cite>" for each in _passages(turn))
        parts.append(f'<h2 dir="auto">{escaped(turn.question)}</h2><div dir="auto">{prose(_said(turn))}</div>')
        parts += (f'<blockquote dir="auto">{each}</blockquote>' for each in quotes)
        parts += (f'<p class="quiet">{escaped(each)}</p>' for each in _notes(turn))
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escaped(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _marks(turns: Sequence[Turn], documents: Sequence[str], document_id: str) -> list[Mark]:
    """The passages of one document that answers rest on, with question and answer as their notes."""
    first = documents[0]
    marks: list[Mark] = [
        (each.page, each.boxes, f"{turn.question}\n\n{_said(turn)}")
        for turn in turns
        for each in turn.answer.citations
        if turn.answer.found and (each.document_id or first) == (document_id or first)
    ]
    if not marks:
        raise DocumentNotFound("No answer of this conversation rests on a passage of this document.", "Ask it first.")
    return marks


def _said(turn: Turn, literal: Callable[[str], str] = str) -> str:
    """The answer, with the pages of its passages where it leads to them."""
    if turn.message:
        return literal(f"{turn.message} {turn.hint}")
    by_mark = {f"{each.mark}": f"({_where(each)})" for each in turn.answer.citations}
    parts = _LINK.split(turn.answer.answer)
    parts[1::2] = (by_mark.get(mark, f"[{mark}]") for mark in parts[1::2])
    return literal("".join(parts)) or "There is no answer yet."


def _passages(turn: Turn) -> list[Cited]:
    """Those that the answer does not quote itself."""
    return [each for each in turn.answer.citations if each.quote not in turn.answer.answer]


def _notes(turn: Turn) -> list[str]:
    """What is to be known about an answer."""
    understood = [f"Understood as: {turn.answer.understood}"] if turn.answer.understood else []
    coverage = [f"From {turn.answer.coverage}, the part that was read by then."] if turn.answer.coverage else []
    return [*understood, *coverage, *remarks(turn.answer)]


def _where(cited: Cited) -> str:
    """`p. 12`, by the printed label, behind the title where several documents were asked."""
    return f"{cited.title}, p. {cited.label or cited.page}" if cited.title else f"p. {cited.label or cited.page}"
