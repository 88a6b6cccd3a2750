"""Retention: which readings keep their pods on the disk, and how the others go."""

from collections.abc import Iterable

from app.intake import storing
from app.model_handle import ModelHandle
from storage import Home, Reading, Store, remove


class Retention:
    """Removes readings, or what they hold, from the caches, the database and the disk."""

    def __init__(self, store: Store, home: Home, model: ModelHandle) -> None:
        self._store = store
        self._pods = home.pods
        self._model = model

    def release(self, reading: Reading) -> None:
        """Drop what is cached of a reading."""
        if engine := self._model.peek():
            engine.recaller.forget(reading.id)

    def delete(self, reading: Reading) -> None:
        """Forget a reading with its blocks."""
        self.release(reading)
        self._unlink(self._store.delete_reading(reading.id))

    def empty(self, reading: Reading) -> None:
        """Drop every block of a reading. Raises DocumentNotFound."""
        self.release(reading)
        with storing():
            for section in self._store.sections(reading.id):
                self._unlink(self._store.drop_blocks(section.id))

    def drop_replaced(self, reading: Reading) -> None:
        """Remove what a reading takes the place of, once it is ready; whole exact pods stay beside it.

        While it is not, only what holds nothing is removed; and nothing, where another recipe was chosen meanwhile.
        Raises ModelUnavailable.
        """
        engine = self._model.wait()
        current = engine.presets.current(reading.document_id)
        if current is None or current.id != reading.id:
            return
        ready = current.state == "ready"
        for other in engine.planner.readings(reading.document_id):
            whole = engine.planner.is_whole_and_exact(other)
            if other.id != reading.id and not whole and (ready or not other.num_bytes):
                self.delete(other)

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            remove(self._pods / name)
