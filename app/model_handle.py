"""The handle of the one model of a run: for whoever waits for it, and for whoever does without until it is there."""

import threading
from collections.abc import Callable
from pathlib import Path

from app.errors import ModelUnavailable
from app.events import ReaderStatus
from app.pod_engine import PodEngine
from app.reader_model import Load, Loaded, ReaderModel, load_here
from app.settings import Settings


class ModelHandle:
    """The model, which is there from some moment on, or never, and may give way to another one; `equip` makes what
    works with it, once. Whoever holds what an earlier model was equipped with goes on with that to the end.
    """

    def __init__(
        self,
        choice: str,
        settings: Settings,
        folder: Path,
        equip: Callable[[Loaded], PodEngine],
        load: Load = load_here,
    ) -> None:
        self._load = load
        self._settings = settings
        self._folder = folder
        self._equip = equip
        self._lock = threading.Lock()
        self._reader = self.made(choice)
        self._instead: ReaderModel | None = None
        self._engine: PodEngine | None = None

    def made(self, choice: str, after: Callable[[], None] = lambda: None) -> ReaderModel:
        """Another model, which is loaded beside, once `after` has returned."""
        return ReaderModel(self._settings, self._folder, after, choice, self._load)

    def take(self, reader: ReaderModel) -> None:
        """Go by this model from now on."""
        with self._lock:
            before, self._reader, self._instead, self._engine = self._reader, reader, None, None
        before.close()

    def give_way(self, choice: str) -> ReaderModel:
        """Let go of the model, and load another one then; where that cannot be loaded, the same one again."""
        with self._lock:
            before = self._reader
            self._reader, self._instead = self.made(choice, before.let_go), self.made(before.choice)
            self._engine = None
            return self._reader

    @property
    def choice(self) -> str:
        """What the model was chosen by, as `--model` takes it."""
        return self._current().choice

    def start(self) -> None:
        """Begin to load, once."""
        self._current().start()

    def status(self) -> ReaderStatus:
        """What the page may say of the model at this moment."""
        return self._current().status()

    def settled(self, seconds: float) -> bool:
        """Wait at most so long; whether the model is there, or failed, by then."""
        reader = self._current()
        return reader.settled(seconds) and reader is self._current()

    def calibrated(self, seconds: float) -> bool:
        """Wait at most so long; whether nothing more is being found out about the model by then."""
        return self._current().calibrated(seconds)

    def wait(self) -> PodEngine:
        """Once the model is loaded, which begins now if it has not begun. Raises ModelUnavailable."""
        while True:
            reader = self._current()
            try:
                loaded = reader.ready()
            except ModelUnavailable:
                if reader is self._current():
                    raise
            else:
                if engine := self._equipped(reader, loaded):
                    return engine

    def peek(self) -> PodEngine | None:
        """None until the model is loaded."""
        reader = self._current()
        return self._equipped(reader, reader.ready()) if reader.status().state == "ready" else None

    def close(self) -> None:
        """As `ReaderModel.close`."""
        self._current().close()

    def _equipped(self, reader: ReaderModel, loaded: Loaded) -> PodEngine | None:
        """None where another model is gone by meanwhile."""
        with self._lock:
            if reader is not self._reader:
                return None
            self._engine = self._engine or self._equip(loaded)
            return self._engine

    def _current(self) -> ReaderModel:
        with self._lock:
            if self._instead and self._reader.status().state == "failed":
                self._reader, self._instead, self._engine = self._instead, None, None
                self._reader.start()
            return self._reader
