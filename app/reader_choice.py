"""The choice of a reader: which ones this machine can run, and how another one takes over while DocPod runs."""

import gc
import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.errors import AppError, BadSetting, Busy, ModelUnavailable
from app.events import ReaderEntry
from app.intake import storing
from app.library import Library
from app.log_file import NAME
from app.model_handle import ModelHandle
from app.reader_model import ReaderModel
from app.refusals import report
from engine.core.errors import ModelRefused
from engine.core.oom import free_bytes
from engine.models import hub
from engine.models.families.known import EMBEDDED, readers
from engine.models.loader import local_folder, needed_bytes, select_device
from storage import Home, Reading, StorageError, Store

log = logging.getLogger(__name__)

_PREFERENCE = "reader"
_MOST_REMEMBERED = 8
_LOOK_SECONDS = 0.2


def latest_choice(store: Store) -> str:
    """What was chosen last, as `--model` takes it; at first `auto`."""
    return next(iter(_chosen(store)), "auto")


class _Stopped(Exception):
    """The user wants the change no longer."""


class Readers:
    """Lists readers, and changes from one to another in the background: one change at a time."""

    def __init__(self, store: Store, home: Home, model: ModelHandle, library: Library) -> None:
        self._store = store
        self._models = home.models
        self._model = model
        self._library = library
        self._lock = threading.Lock()
        self._thread = threading.Thread()
        self._stop = threading.Event()
        self._doing = ""
        self._next: ReaderModel | None = None
        self.can_stop = False
        """Whether what goes on can be stopped."""
        self.trouble: AppError | None = None
        """Why the last change came to nothing."""

    @property
    def doing(self) -> str:
        """What goes on, in a sentence; empty where nothing does."""
        if self._next is not None:
            return f"{self._next.status().why} {self._model.status().name} answers until it is ready."
        return self._doing

    def use(self, choice: str) -> None:
        """Change to `auto`, `embedded`, a folder or a hub id, in the background, and remember it.

        Raises BadSetting, and Busy during another change.
        """
        if not choice.strip():
            raise BadSetting("No reader is named.", "Type a folder, or a hub id.")
        with self._lock:
            if self._thread.is_alive():
                raise Busy("Another reader is on its way.", "Wait for it, or stop it first.")
            self._stop.clear()
            self.trouble = None
            self._doing = "Looking for the reader."
            self._thread = threading.Thread(target=self._run, args=(choice.strip(),), name="reader", daemon=True)
            self._thread.start()

    def settled(self, seconds: float) -> bool:
        """Wait at most so long; whether no change goes on by then."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Have a change come to nothing; what was downloaded stays, to be gone on with."""
        self._stop.set()

    def forget(self, name: str) -> int:
        """Delete all pods of a reader; how many bytes that was. Raises Busy for the one in use."""
        if name == self._model.status().name:
            raise Busy(f"{name} is the reader in use.", "Delete its documents instead, or change to another reader.")
        return self._library.forget_reader(name)

    def entries(self) -> list[ReaderEntry]:
        """Those that are known to do well, best first, then others that are here, then those that left only pods."""
        readings: dict[str, list[Reading]] = {}
        for reading in self._store.readings():
            readings.setdefault(reading.model_name, []).append(reading)
        engine, name = self._model.peek(), self._model.status().name
        pace = engine.loaded.pace.tokens_per_second if engine else 0.0
        room = self._free() + self._held()
        known = list(readers(self._models, [self._model.choice, *_chosen(self._store)]))
        work = (_measured(readings.get(name, ())) or pace) * next(
            (each.weight_bytes for each in known if each.name == name), 0
        )
        entries = []
        for each in known:
            own = readings.pop(each.name, [])
            needed = needed_bytes(each.weight_bytes, self._models)
            measured = _measured(own) or (pace if each.name == name else 0.0)
            entry = ReaderEntry(
                choice=each.choice,
                name=each.name,
                in_use=each.name == name,
                billions=each.billions,
                licence=each.licence,
                download_bytes=each.download_bytes,
                needed_bytes=needed,
                fits=each.choice == EMBEDDED.choice or needed <= room,
                tokens_per_second=measured or work / each.weight_bytes,
                measured=bool(measured),
            )
            entries.append(_with_pods(entry, own))
        gone = (_with_pods(ReaderEntry("", name), own) for name, own in readings.items())
        return [*entries, *(each for each in gone if each.pod_bytes)]

    def _run(self, choice: str) -> None:
        trouble: AppError | None = ModelUnavailable(
            "The reader was not changed.", f"{NAME} in the home folder may say why."
        )
        try:
            choice, before = self._fetched(choice), self._model.choice
            self._change(choice)
            with storing():
                latest = dict.fromkeys((choice, before, *_chosen(self._store)))
                self._store.prefer(_PREFERENCE, "\n".join([*latest][:_MOST_REMEMBERED]))
            log.info("the reader is %s from now on", choice)
            trouble = None
        except _Stopped:
            log.info("the change of the reader was stopped")
            trouble = None
        except ModelRefused as error:
            trouble = ModelUnavailable(f"{error}.", error.hint)
        except (AppError, StorageError, OSError) as error:
            trouble = report(error)
        finally:
            # Also after a bug, whose traceback the thread prints.
            self.trouble = trouble
            self._doing, self._next, self.can_stop = "", None, False

    def _fetched(self, choice: str) -> str:
        """The choice, once its files are here and it is sure that there is room for it. Raises ModelRefused."""
        if choice in ("auto", EMBEDDED.choice):
            return choice
        if folder := local_folder(choice):
            self._require_room(choice, hub.weight_bytes(folder))
            return str(folder.resolve())
        if folder := hub.found(choice, self._models):
            self._require_room(choice, hub.weight_bytes(folder))
            return choice
        self.can_stop = True
        listed = hub.listing(choice)
        self._require_room(choice, listed.weight_bytes)

        def note(have: int, total: int) -> None:
            self._doing = f"Fetching {choice}: {have / 1e9:.2f} of {total / 1e9:.2f} GB."
            if self._stop.is_set():
                raise _Stopped

        hub.fetch(choice, self._models, note, listed)
        return choice

    def _change(self, choice: str) -> None:
        """Have the other model take over: where memory holds both, once it is there. Raises ModelUnavailable."""
        size = next((each.weight_bytes for each in readers(self._models, [choice]) if each.choice == choice), 0)
        if needed_bytes(size, self._models) <= self._free() or not self._held():
            self.can_stop = True
            self._next = new = self._model.made(choice)
            while not new.settled(_LOOK_SECONDS):
                if self._stop.is_set():
                    new.close()
                    raise _Stopped
            new.ready()
            self._next = None
            self._model.take(new)
        else:
            self.can_stop = False
            self._library.rest()
            self._doing = f"{self._model.status().name} makes way: there is no memory for both. Questions wait."
            new = self._model.give_way(choice)
        try:
            new.ready()
        finally:
            self._doing = ""
            self._library.replan()
            # What the one before held in circles.
            gc.collect()

    def _require_room(self, name: str, weight_bytes: int) -> None:
        needed, room = needed_bytes(weight_bytes, self._models), self._free() + self._held()
        if needed > room:
            message = f"{name} needs about {needed / 1e9:.1f} GB of memory, and {room / 1e9:.1f} GB are to be had"
            raise ModelRefused(message, "Close other programs that use memory, or choose a smaller reader.")

    def _free(self) -> int:
        return free_bytes(select_device())

    def _held(self) -> int:
        """What the reader in use would give back; 0 where there is none."""
        engine = self._model.peek()
        return engine.loaded.num_bytes if engine else 0


def _chosen(store: Store) -> list[str]:
    """The latest first, among them what was in use before a change."""
    return store.preference(_PREFERENCE).splitlines()


def _measured(readings: Iterable[Reading]) -> float:
    """Tokens a second over what was read; 0 where nothing was."""
    ready = [each for each in readings if each.state == "ready"]
    # Of other recipes, some are made of the exact pods.
    ready = [each for each in ready if each.recipe == "exact"] or ready
    seconds = sum(each.seconds for each in ready)
    return sum(each.num_tokens for each in ready) / seconds if seconds else 0.0


def _with_pods(entry: ReaderEntry, readings: Sequence[Reading]) -> ReaderEntry:
    return replace(
        entry,
        documents=len({each.document_id for each in readings if each.num_bytes}),
        pod_bytes=sum(each.num_bytes for each in readings),
        used_at=max((each.last_used_at for each in readings if each.num_bytes), default=None),
    )
