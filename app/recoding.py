"""Recoding: documents that were kept exactly, since nobody chose otherwise, become coded while nothing else is done."""

import logging
from collections.abc import Callable

from app.errors import AppError
from app.intake import storing
from app.model_handle import ModelHandle
from app.pod_engine import PodEngine
from app.presets import USUAL
from app.retention import Retention
from storage import Reading, Store

log = logging.getLogger(__name__)


class Recoding:
    """Makes a document's coded memory of its exact one, which goes once every byte of the other was decoded.

    Ended at any moment, it goes on at the next call; until then the exact memory answers.
    """

    def __init__(self, store: Store, model: ModelHandle, retention: Retention) -> None:
        self._store, self._model, self._retention = store, model, retention

    def one(self, stopped: Callable[[], bool]) -> None:
        """Recode the first document that waits for it, until `stopped()`, or until another reader takes over."""
        engine = self._model.peek()
        if engine is None or engine.presets.usual() != USUAL:
            return
        # Mostly there is none: this is looked at as long as nothing else is done.
        known = {each.document_id for each in self._store.readings(state="ready") if each.recipe == "exact"}
        for document in (each for each in self._store.documents() if each.id in known and not each.recipe):
            exact = engine.planner.find(document.id, "exact")
            if exact is not None and exact.state == "ready":
                try:
                    self._recode(engine, exact, lambda: stopped() or self._model.peek() is not engine)
                except AppError as error:
                    log.info("%s stays exact for now: %s", document.id[:12], error)
                return

    def _recode(self, engine: PodEngine, exact: Reading, stopped: Callable[[], bool]) -> None:
        with storing():
            coded = engine.planner.plan(exact.document_id, USUAL)
        for _ in engine.reader.read(coded, stopped):
            pass
        now = self._store.reading(coded.id)
        if now is None or now.state != "ready" or not engine.reader.is_whole(now, stopped):
            return
        # Unless somebody has chosen how it is kept meanwhile.
        document = self._store.document(exact.document_id)
        if document and not document.recipe:
            self._retention.delete(exact)
