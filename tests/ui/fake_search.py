"""A search over the documents and conversations of the app that lives in memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.events import Cited
from app.search import DocumentHits, Excerpt, Found, PageHit, TurnHit


class FakeSearch:
    """Every document has the same lines on page 12."""

    def __init__(self, library: Any, chat: Any, lines: Sequence[str], cited: Cited) -> None:
        self.library, self.chat, self.lines, self.found = library, chat, lines, cited

    def find(self, words: str) -> Found:
        if not words.strip():
            return Found()
        known = list(self.library.documents.values())
        line = next((each for each in self.lines if words in each), "")
        at = line.find(words)
        excerpt = Excerpt(line, ((at, at + len(words)),))
        pages = [DocumentHits(each.document_id, each.title, (PageHit(12, "12", excerpt),), 3) for each in known]
        turns = [
            TurnHit(each.document_id, key, turn.answer.message_id, each.title, Excerpt(turn.question))
            for key, each in self.chat.known.items()
            for turn in each.turns
            if words in turn.question
            and each.owner == self.chat.owner
            and each.document_id in {one.document_id for one in known}
        ]
        return Found(tuple(pages) if line else (), tuple(turns))

    def cited(self, document_id: str, number: int, words: str) -> Cited:
        return replace(self.found, page=number)
