"""Guides: what a document is and its main points, made before anybody asks, while nobody else is at work."""

import logging
import threading
from queue import SimpleQueue

from app.conversations import Asked
from app.errors import DocumentNotFound, NotRead
from app.events import Answer
from app.model_handle import ModelHandle
from app.question_kind import Asking
from app.settings import Settings
from app.whole_answer import Interrupted, WholeAnswer
from storage import Store

log = logging.getLogger(__name__)

_GUIDE, _SUMMARY = Asking("whole", points=5, bullets=True), Asking("whole")


class Guides:
    """Finds kept guides, and makes others in a thread of its own."""

    def __init__(self, store: Store, model: ModelHandle, settings: Settings) -> None:
        self._store, self._model, self._settings = store, model, settings
        self._wanted: SimpleQueue[str] = SimpleQueue()
        self._at_hand: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="guides", daemon=True)

    def start(self) -> None:
        """Make what is wanted from now on."""
        self._thread.start()

    def close(self) -> None:
        """End, once the model is closed."""
        self._wanted.put("")
        if self._thread.is_alive():
            self._thread.join()

    def of(self, document_id: str) -> Answer | None:
        """The guide of a document that is read; None while it is made, or where none is to be."""
        if self._model.peek() is None:
            return None
        whole = self._whole(document_id, _GUIDE)
        if whole.is_kept:
            for _ in whole.events(threading.Event()):
                pass
            return whole.answer(stopped=False)
        # Replicas may be at work on questions that nobody here knows of.
        may_write = self._settings.guides and (whole.is_weak or not self._settings.cluster)
        if may_write and document_id not in self._at_hand:
            self._at_hand.add(document_id)
            self._wanted.put(document_id)
        return None

    def _run(self) -> None:
        while document_id := self._wanted.get():
            try:
                for asking in (_GUIDE, _SUMMARY):
                    self._whole(document_id, asking).prepare()
            except (DocumentNotFound, NotRead, Interrupted) as ended:
                log.info("no guide of %s for now: %r", document_id[:12], ended)
            except Exception:
                # The rim of the background: whatever is wrong with one document, others have their guides.
                log.exception("making a guide of %s failed", document_id[:12])
                continue
            self._at_hand.discard(document_id)

    def _whole(self, document_id: str, asking: Asking) -> WholeAnswer:
        return WholeAnswer(self._store, self._model, Asked(document_id, ""), asking, self._settings.max_answer_tokens)
