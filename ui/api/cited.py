"""Citations and facts of an answer, as every client gets them beside what its own library knows of."""

from collections.abc import Iterable
from typing import Any

from app.events import Answer, Cited
from app.remarks import remarks
from ui.api.reply import Reply

Event = tuple[str, Any]
"""Of a stream: its name, which may be empty, and its data: text as it is, anything else as JSON."""


def passage(reply: Reply, cited: Cited) -> dict[str, Any]:
    """Where a passage is: boxes are fractions of the page, origin top-left."""
    document = reply.inquiry.document_of(cited)
    return {
        "file_id": document.document_id,
        "title": document.title,
        "page": cited.page,
        "label": cited.label,
        "quote": cited.quote,
        "answers": cited.words,
        "boxes": [list(box) for box in cited.boxes],
        "score": cited.score,
    }


def passages(reply: Reply, cited: Iterable[Cited]) -> list[dict[str, Any]]:
    """Several, best first."""
    return [passage(reply, each) for each in cited]


def place(answer: Answer, cited: Cited) -> int:
    """Where in an answer's text a citation belongs: at its mark, or at the end."""
    found = answer.answer.find(f"[{cited.mark}]")
    return found if found >= 0 else len(answer.answer)


def facts(reply: Reply, answer: Answer) -> dict[str, Any]:
    """What DocPod says of an answer beyond what the client's own form has; `closest` where nothing was found."""
    names = ("found", "coverage", "understood", "looked", "recipe", "reused_tokens", "recomputed_tokens")
    return {
        **{name: getattr(answer, name) for name in (*names, "first_token_seconds", "seconds", "conversation_id")},
        "closest": [] if answer.found else passages(reply, answer.citations),
        "remarks": remarks(answer),
        "ignored": list(reply.inquiry.ignored),
    }
