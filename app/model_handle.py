"""The handle of the one model of a run: for whoever waits for it, and for whoever does without until it is there."""

import threading
from collections.abc import Callable

from app.pod_engine import PodEngine
from app.reader_model import Loaded, ReaderModel


class ModelHandle:
    """The model, which is there from some moment on, or never; `equip` makes what works with it, once."""

    def __init__(self, model: ReaderModel, equip: Callable[[Loaded], PodEngine]) -> None:
        self._model = model
        self._equip = equip
        self._engine: PodEngine | None = None
        self._lock = threading.Lock()

    def wait(self) -> PodEngine:
        """Once the model is loaded, which begins now if it has not begun. Raises ModelUnavailable."""
        loaded = self._model.ready()
        with self._lock:
            if self._engine is None:
                self._engine = self._equip(loaded)
            return self._engine

    def peek(self) -> PodEngine | None:
        """None until the model is loaded."""
        return self.wait() if self._model.status().state == "ready" else None

    def settled(self, seconds: float) -> bool:
        """Wait at most so long; whether the model is there, or failed, by then."""
        return self._model.settled(seconds)

    def calibrated(self, seconds: float) -> bool:
        """Wait at most so long; whether nothing more is being found out about the model by then."""
        return self._model.calibrated(seconds)
