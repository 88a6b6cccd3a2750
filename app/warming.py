"""Warming: what a document's questions are answered from is brought back from the disk as soon as it is opened."""

import logging
import threading

from app.model_handle import ModelHandle
from app.refusals import report
from app.routing import index
from storage import Store

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.3
"""What was opened is shown first, and who clicks through documents means the last one."""


class Warming:
    """Follows one opened document, the latest, section by section, and makes way for questions."""

    def __init__(self, store: Store, model: ModelHandle) -> None:
        self._store, self._model = store, model
        self._changed = threading.Condition()
        self._wanted: str | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._follow, name="warming", daemon=True)

    def start(self) -> None:
        """Follow what is opened, in the background."""
        self._thread.start()

    def expect(self, document_id: str) -> None:
        """A document was opened. Unknown ones and those that are not read yet are nothing to warm."""
        with self._changed:
            self._wanted = document_id
            self._changed.notify_all()

    def close(self) -> None:
        """End after the section at hand."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted is not None)
                if self._changed.wait_for(lambda: self._closed, _PAUSE_SECONDS):
                    return
                document_id, self._wanted = self._wanted, None
            try:
                self.warm(document_id or "")
            except Exception as error:
                # Whoever asks is told, and the next document is warmed all the same.
                log.info("%s is not warmed: %s", document_id, report(error))

    def _is_over(self) -> bool:
        return self._closed or self._wanted is not None

    def warm(self, document_id: str) -> None:
        """Its sections from the first on, for as long as there is room beside what is warm already."""
        while not self._model.settled(1.0):
            if self._is_over():
                return
        engine = self._model.wait()
        index(document_id, self._store)
        reading = engine.presets.serving(document_id)
        tiers, largest = engine.loaded.tiers, 0
        for section in self._store.sections(reading.id) if reading else ():
            engine.loaded.idle.make_way(self._is_over)
            held = tiers.nbytes[0]
            if self._is_over() or section.state != "ready" or held + largest > tiers.device_limit:
                return
            engine.recaller.recall(section)
            largest = max(largest, tiers.nbytes[0] - held)
