"""The choice of a reader: which ones this machine can run, and how another one takes over while DocPod runs."""

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from app.document_reader import DISK_SPARE_BYTES
from app.errors import AppError, BadSetting, Busy, DiskFull, ModelUnavailable
from app.events import ReaderEntry
from app.intake import storing
from app.library import Library
from app.log_file import NAME
from app.model_handle import ModelHandle
from app.pod_engine import PodEngine
from app.reader_model import ReaderModel
from app.refusals import TOLD, report
from app.settings import Settings
from engine.compression.basis_fit import angles_of_codable, passing_bytes, prepare, sample_tokens, seconds_of
from engine.compression.sample_text import MOST_CHARACTERS
from engine.core.errors import EngineError, ModelRefused
from engine.core.oom import free_bytes, translate_oom
from engine.models import hub
from engine.models.families.known import EMBEDDED, KnownReader, readers
from engine.models.loader import local_folder, needed_bytes, select_device
from storage import Home, Reading, Store

log = logging.getLogger(__name__)

_PREFERENCE = "reader"
_MOST_REMEMBERED = 8
_LOOK_SECONDS = 0.2
_NICE = 15
_PREPARING = "Finding out how the memory of the reader is coded."
CODED = "faithful"
"""The recipe that needs a basis of the reader's memory."""
_MOST_SECONDS = 600.0
"""So long at most a reader may take to be prepared for it that is prepared unasked."""


def latest_choice(store: Store) -> str:
    """What was chosen last, as `--model` takes it; at first `auto`."""
    return next(iter(_chosen(store)), "auto")


class _Stopped(Exception):
    """The user wants the change no longer."""


class Readers:
    """Lists readers, changes from one to another, and prepares one, in the background: one at a time."""

    def __init__(self, store: Store, home: Home, model: ModelHandle, library: Library, settings: Settings) -> None:
        self._store, self._home, self._settings = store, home, settings
        self._models = home.models
        self._model = model
        self._library = library
        self._lock = threading.Lock()
        self._thread = threading.Thread()
        self._stop = threading.Event()
        self._doing = self._busy = ""
        self._unasked: set[str] = set()
        """Readers that were prepared by themselves in this run, or were begun to be."""
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
        """Change to what `--model` takes, in the background, and remember it. Raises BadSetting, and Busy meanwhile."""
        if not choice.strip():
            raise BadSetting("No reader is named.", "Type a folder, a GGUF file, or a hub id.")
        work = partial(self._use, choice.strip())
        self._begin("Looking for the reader.", work, "Another reader is on its way.")

    def prepare(self) -> None:
        """Find out in the background, while nobody asks, how the reader's memory is coded. Raises Busy meanwhile, and
        ModelUnavailable where the reader is elsewhere.
        """
        if self._settings.cluster:
            hint = "Prepare it with a page of this home that was begun without --cluster."
            raise ModelUnavailable("The reader is at replicas, and is prepared where it is.", hint)
        self._begin(_PREPARING, self._prepare, "The reader is being prepared.")

    def prepare_unasked(self) -> None:
        """The same where nothing else is to be done, once something is read, if it will not take long and may be done;
        it gives way to whatever the user wants of readers."""
        engine = self._model.peek()
        if engine is None or not self._settings.prepare or not self._model.calibrated(0.0) or self._home.is_read_only:
            return
        model, pace = engine.loaded.runner.model, engine.loaded.pace
        read = any(each.model_name == model.name for each in self._store.readings(state="ready"))
        if model.name in self._unasked or not read or not self._can_prepare(engine):
            return
        if seconds_of(model, pace.seconds(0, sample_tokens(model))) > _MOST_SECONDS:
            return
        with suppress(Busy):
            self._begin(_PREPARING, self._prepare)
            self._unasked.add(model.name)

    def _begin(self, doing: str, work: Callable[[], None], busy: str = "") -> None:
        """`busy`: what whoever wants something else meanwhile is told; empty for what makes way for them."""
        with self._lock:
            before = self._thread
            if before.is_alive():
                if self._busy or not busy:
                    raise Busy(self._busy or "The reader is being prepared.", "Wait for it, or stop it first.")
                self._stop.set()
            self._stop, self._busy = threading.Event(), busy
            self.trouble = None
            self._doing = doing
            self._thread = threading.Thread(target=self._run, args=(work, doing, before), name="reader", daemon=True)
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
        engine, used = self._model.peek(), self._model.status().name
        readings: dict[str, list[Reading]] = {}
        for reading in self._store.readings():
            if reading.num_bytes:
                readings.setdefault(reading.model_name, []).append(reading)
        known = list(readers(self._models, [self._model.choice, *_chosen(self._store)]))
        rates = {each.name: _rate(readings.get(each.name, ())) for each in known}
        work = 0.0
        if engine and used in rates:
            rates[used] = rates[used] or engine.loaded.pace.tokens_per_second
            work = rates[used] * next(each.weight_bytes for each in known if each.name == used)
        entries, room = [], self._room()
        gone = [KnownReader("", name, 0) for name in readings if name not in rates]
        for each in (*known, *gone):
            own, rate = readings.get(each.name, ()), rates.get(each.name, 0.0)
            needed = needed_bytes(each.weight_bytes, self._models)
            entry = ReaderEntry(
                choice=each.choice,
                name=each.name,
                in_use=each.name == used,
                billions=each.billions,
                licence=each.licence,
                download_bytes=each.download_bytes,
                needed_bytes=needed if each.choice else 0,
                fits=each.choice == EMBEDDED.choice or needed <= room,
                tokens_per_second=rate or work / max(1, each.weight_bytes),
                measured=bool(rate),
                documents=len({reading.document_id for reading in own}),
                pod_bytes=sum(reading.num_bytes for reading in own),
                can_prepare=each.name == used and self._can_prepare(engine),
                used_at=max((reading.last_used_at for reading in own), default=None),
            )
            entries.append(entry)
        return entries

    def _run(self, work: Callable[[], None], doing: str, before: threading.Thread) -> None:
        if before.ident is not None:
            # What makes way ends after its step.
            before.join()
            self._doing = doing
        trouble: AppError | None = ModelUnavailable(
            "The reader was not changed.", f"{NAME} in the home folder may say why."
        )
        try:
            work()
            trouble = None
        except _Stopped:
            trouble = None
        except ModelRefused as error:
            trouble = ModelUnavailable(f"{error}.", error.hint)
        except EngineError as error:
            trouble = ModelUnavailable(f"{error}.", "Keep documents by another recipe.")
        except TOLD as error:
            trouble = report(error)
        finally:
            # Also after a bug, whose traceback the thread prints. What nobody asked for is no trouble.
            self.trouble = trouble if self._busy else None
            self._doing, self._next, self.can_stop = "", None, False

    def _use(self, choice: str) -> None:
        before = self._model.choice
        choice, needed = self._fetched(choice)
        self._change(choice, needed)
        with storing():
            latest = dict.fromkeys((choice, before, *_chosen(self._store)))
            self._store.prefer(_PREFERENCE, "\n".join([*latest][:_MOST_REMEMBERED]))
        log.info("the reader is %s from now on", choice)

    def _prepare(self) -> None:
        """From texts of every kind, of which sums over all are kept; the library's own are among them, unless it is
        encrypted: what is seen of each text lies beside the models until the end.
        """
        loaded, stop = self._model.wait().loaded, self._stop
        needed = passing_bytes(loaded.runner.model) + DISK_SPARE_BYTES
        if needed > self._home.free_bytes():
            raise DiskFull(needed, self._home.free_bytes())
        if sys.platform == "linux":
            # Of this thread, and of those that multiply for it.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        self.can_stop = True

        def say(doing: str) -> None:
            self._doing = doing
            while not stop.is_set() and not loaded.idle.wait(_LOOK_SECONDS):
                pass
            if stop.is_set():
                raise _Stopped

        own: list[str] = []
        for document in self._store.documents() if self._home.header is None else ():
            if sum(map(len, own)) < MOST_CHARACTERS:
                own += [page.text for page in self._store.pages(document.id)]
        with self._home.lock("preparing"), translate_oom():
            prepare(loaded.runner, self._models, "\n\n".join(own), say)
        log.info("the memory of %s can be coded from now on", loaded.runner.model.name)

    def _can_prepare(self, engine: PodEngine | None) -> bool:
        """Whether documents could be kept by the recipe that codes, but for a basis."""
        if engine is None or not engine.loaded.recipes.why_not(CODED):
            return False
        try:
            angles_of_codable(engine.loaded.runner.model)
        except EngineError:
            return False
        return True

    def _fetched(self, choice: str) -> tuple[str, int]:
        """The choice, and the memory that it needs, once its files are here. Raises ModelRefused where it is short."""
        if choice in ("auto", EMBEDDED.choice):
            return choice, needed_bytes(EMBEDDED.weight_bytes, self._models)
        folder = local_folder(choice, self._models, self._say)
        here = folder or hub.found(choice, self._models)
        self.can_stop = here is None
        size = hub.weight_bytes(here) if here else hub.num_bytes(hub.listing(choice), hub.WEIGHTS)
        needed, room = needed_bytes(size, self._models), self._room()
        if needed > room:
            message = f"{choice} needs about {needed / 1e9:.1f} GB of memory, and {room / 1e9:.1f} GB are to be had"
            raise ModelRefused(message, "Close other programs that use memory, or choose a smaller reader.")

        def note(have: int, total: int) -> None:
            self._doing = f"Fetching {choice}: {have / 1e9:.2f} of {total / 1e9:.2f} GB."
            if self._stop.is_set():
                raise _Stopped

        if here is None:
            hub.fetch(choice, self._models, note)
        return str(folder.resolve()) if folder else choice, needed

    def _say(self, doing: str) -> None:
        self._doing = doing

    def _change(self, choice: str, needed: int) -> None:
        """Have the other model take over: where memory holds both, once it is there. Raises ModelUnavailable."""
        self.can_stop = needed <= self._free() or not self._held()
        if self.can_stop:
            self._next = new = self._model.made(choice)
            while not new.settled(_LOOK_SECONDS):
                if self._stop.is_set():
                    new.close()
                    raise _Stopped
            new.ready()
            self._next = None
            self._model.take(new)
        else:
            self._library.rest()
            self._doing = f"{self._model.status().name} makes way: there is no memory for both. Questions wait."
            new = self._model.give_way(choice)
        try:
            new.ready()
        finally:
            self._library.replan()
            # What the one before held in circles.
            gc.collect()

    def _room(self) -> int:
        return self._free() + self._held()

    def _free(self) -> int:
        return free_bytes(select_device())

    def _held(self) -> int:
        """What the reader in use would give back; 0 where there is none."""
        engine = self._model.peek()
        return engine.loaded.num_bytes if engine else 0


def _chosen(store: Store) -> list[str]:
    """The latest first, among them what was in use before a change."""
    return store.preference(_PREFERENCE).splitlines()


def _rate(readings: Sequence[Reading]) -> float:
    """Tokens a second, as they were read; 0 where nothing was."""
    ready = [each for each in readings if each.state == "ready"]
    # Of other recipes, some are made of the exact pods.
    ready = [each for each in ready if each.recipe == "exact"] or ready
    seconds = sum(each.seconds for each in ready)
    return sum(each.num_tokens for each in ready) / seconds if seconds else 0.0
