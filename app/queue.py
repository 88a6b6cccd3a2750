"""The queue: which documents are read next, short ones first unless their user says otherwise, and until when."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from app.catalogue import Catalogue
from app.errors import DocumentNotFound
from app.events import DocumentEntry
from app.intake import storing
from storage import Store

IN_QUEUE = frozenset({"parsing", "ocr", "queued", "reading"})
"""Stages of documents that are on their way to be read."""
_CHOSEN = "queue"
Step = Literal["first", "up", "down"]


class Waiting(NamedTuple):
    """A document in the queue, and about how many seconds it takes until it is read, where that is known."""

    entry: DocumentEntry
    seconds: float | None


class Queue:
    """What is read, in order: documents whose answers somebody waits for, those that were put in order, short ones."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue

    def first(self) -> list[str]:
        """Ids of those that go before all others, in order."""
        return [*dict.fromkeys((*self._store.awaited_documents(), *self._store.preference(_CHOSEN).split()))]

    def waiting(self, entries: Sequence[DocumentEntry] | None = None) -> list[Waiting]:
        """Those of the library's entries that are in the queue, in its order."""
        places = {each: place for place, each in enumerate(self.first())}

        def turn(each: DocumentEntry) -> tuple[int, int]:
            return places.get(each.document_id, len(places)), each.progress.total - each.progress.done

        known = self._catalogue.entries() if entries is None else entries
        seconds: float | None = 0.0
        found = []
        for each in sorted((each for each in known if each.progress.stage in IN_QUEUE), key=turn):
            own = _seconds(each)
            seconds = None if seconds is None or own is None else seconds + own
            found.append(Waiting(each, seconds))
        return found

    def move(self, document_id: str, step: Step) -> None:
        """Have a document read before all others, or its neighbour, or behind that one.

        Raises DocumentNotFound where it is not in the queue.
        """
        order, before = [each.entry.document_id for each in self.waiting()], self._store.preference(_CHOSEN).split()
        if document_id not in order:
            raise DocumentNotFound("This document does not wait to be read.", "Only those that do can be put in order.")
        at = order.index(document_id)
        to = {"first": 0, "up": max(0, at - 1), "down": at + 1}[step]
        order.insert(to, order.pop(at))
        # Of those behind whatever was moved the short ones still go first.
        last = max(place for place, each in enumerate(order) if each in (document_id, *before))
        with storing():
            self._store.prefer(_CHOSEN, " ".join(order[: last + 1]))


def _seconds(entry: DocumentEntry) -> float | None:
    """As it was measured on this machine so far; unknown until a document is planned."""
    if entry.progress.seconds_left is not None:
        return entry.progress.seconds_left
    if entry.forecast is None or not entry.progress.total:
        return None
    return entry.forecast.seconds * (1 - entry.progress.done / entry.progress.total)
