"""Citations and facts of an answer, as every client gets them beside what its own library knows of."""

from collections.abc import Iterable, Iterator
from typing import Any

from app.events import Answer, Cited, Evidence
from app.remarks import remarks
from ui.api.reply import Reply


class NewCitations:
    """The passages that a client was told of while the answer grew: each once, in the order in which they came."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, str]] = set()

    def of(self, event: Evidence | Answer) -> Iterator[Cited]:
        """Those of an event that are new; where nothing was found, the closest ones are no citations."""
        for each in event.citations if event.found else ():
            if (each.page, each.quote) not in self._seen:
                self._seen.add((each.page, each.quote))
                yield each


def passage(document_id: str, cited: Cited) -> dict[str, Any]:
    """Where a passage is: boxes are fractions of the page, origin top-left."""
    return {
        "file_id": document_id,
        "page": cited.page,
        "label": cited.label,
        "quote": cited.quote,
        "answers": cited.words,
        "boxes": [list(box) for box in cited.boxes],
        "score": cited.score,
    }


def passages(document_id: str, cited: Iterable[Cited]) -> list[dict[str, Any]]:
    """Several, best first."""
    return [passage(document_id, each) for each in cited]


def place(answer: Answer, cited: Cited) -> int:
    """Where in an answer's text a citation belongs: at its mark, or at the end."""
    found = answer.answer.find(f"[{cited.mark}]")
    return found if found >= 0 else len(answer.answer)


def rest(text: str, answer: Answer) -> str:
    """What of an answer was not streamed yet; nothing where the answer in its end is worded otherwise."""
    return answer.answer[len(text) :] if answer.answer.startswith(text) else ""


def facts(reply: Reply, answer: Answer) -> dict[str, Any]:
    """What DocPod says of an answer beyond what the client's own form has; `closest` where nothing was found."""
    return {
        "found": answer.found,
        "closest": [] if answer.found else passages(reply.inquiry.document.id, answer.citations),
        "coverage": answer.coverage,
        "understood": answer.understood,
        "remarks": remarks(answer),
        "recipe": answer.recipe,
        "reused_tokens": answer.reused_tokens,
        "recomputed_tokens": answer.recomputed_tokens,
        "first_token_seconds": answer.first_token_seconds,
        "seconds": answer.seconds,
        "conversation_id": answer.conversation_id,
        "ignored": list(reply.inquiry.ignored),
    }
