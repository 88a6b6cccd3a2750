"""The handle of the one model of a run: for whoever waits for it, and for whoever does without until it is there."""

import threading
from collections.abc import Callable
from pathlib import Path

from app.pod_engine import PodEngine
from app.reader_model import Loaded, ReaderModel
from app.settings import Settings


class ModelHandle(ReaderModel):
    """The model, which is there from some moment on, or never; `equip` makes what works with it, once."""

    def __init__(self, settings: Settings, folder: Path, equip: Callable[[Loaded], PodEngine]) -> None:
        super().__init__(settings, folder)
        self._equip = equip
        self._engine: PodEngine | None = None
        self._lock = threading.Lock()

    def wait(self) -> PodEngine:
        """Once the model is loaded, which begins now if it has not begun. Raises ModelUnavailable."""
        loaded = self.ready()
        with self._lock:
            if self._engine is None:
                self._engine = self._equip(loaded)
            return self._engine

    def peek(self) -> PodEngine | None:
        """None until the model is loaded."""
        return self.wait() if self.status().state == "ready" else None
