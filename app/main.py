"""App: the library, the questions and the model behind them, wired together once."""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

from app import passphrase
from app.chat import Chat
from app.cluster.distant import DistantModel, equip_distant
from app.conversations import Conversations
from app.errors import BadSetting
from app.events import ReaderStatus
from app.export import Export
from app.keys import Keys
from app.library import Library
from app.log_file import log_from
from app.meaning import Meaning
from app.model_handle import ModelHandle
from app.originals import Originals
from app.people import Collections, People, proxies
from app.pod_engine import equip
from app.preferences import Preferences
from app.questions import Questions
from app.reader_choice import Readers, latest_choice
from app.reader_model import load_here
from app.refusals import as_app_error
from app.roles import Parts, Seen
from app.search import Search
from app.settings import Settings
from app.sharing import Sharing
from engine.models.checksums import scrub
from storage import (
    BlockDamaged,
    Home,
    HomeBusy,
    HomeLocked,
    Keeper,
    NewerDatabase,
    Opened,
    PersonRole,
    StorageError,
    Viewer,
    open_library,
    read_block,
)

_MOST_NAMES = 5
"""Of documents that are named in a sentence."""


class App:
    """Everything a user can do. Nothing runs in the background until `start`.

    Raises BadSetting where the home cannot be used, DiskFull, DiskFailed, and Busy while another process tidies it up.
    With `rescue` the database is checked even where it was closed in good order. `sources` says by which option or
    variable settings were given, which is above what is saved in the home.
    """

    may_ask = True
    """A visitor of a share may be allowed to look only."""
    role: PersonRole = "owner"
    name = ""
    """Of the person who has it; the home's user has none."""
    signs_out = False
    """Whether he came with a password of his own."""

    def __init__(self, settings: Settings, rescue: bool = False, sources: Mapping[str, str] | None = None) -> None:
        proxies(settings)
        self._home, opened = _open(settings, rescue)
        self.settings = replace(settings, home=self._home.root)
        self.uploads = self._home.uploads
        """Where files pass through on their way into the library."""
        header = self._home.header
        self.encryption = f"AES-256, by a {header.by}; plain files pass through {self.uploads}" if header else "off"
        if header and self._home.is_served:
            self.encryption += "; the database is its operator's, and not encrypted by DocPod"
        self._only_page = False
        self._store = opened.store
        self._open = ExitStack()
        self._open.callback(self._home.close)
        self._keeper = None if self._home.is_served else Keeper(self._home, self._store, opened.changed)
        if self._keeper:
            self._open.callback(self._keeper.seal)
        self._open.callback(self._store.close)
        if self._keeper:
            self._open.callback(self._keeper.close)
        self.keys = Keys(self._store)
        mine, models = self.settings, self._home.models
        self.preferences = Preferences(self._store, mine, sources or {})
        choice = settings.model or latest_choice(self._store)
        load, equipped = (DistantModel, equip_distant) if mine.cluster else (load_here, equip)
        self.model = ModelHandle(
            choice, mine, models, lambda loaded: equipped(self._store, self._home, loaded, mine), load
        )
        self.preferences.on = {
            "log_level": lambda: log_from(mine.log_level),
            **dict.fromkeys(("memory_mb", "gpu_memory_mb"), self._limit_memory),
        }
        self._meaning = Meaning(self._store, models, lambda: mine.meaning)
        self._open.callback(self._meaning.close)
        self.library = Library(self._store, self._home, self.model, mine, self._meaning)
        self._open.callback(self.library.close)
        self._open.callback(self.model.close)
        self.readers = Readers(self._store, self._home, self.model, self.library, mine)
        if not mine.cluster:
            self.library.at_rest = self.readers.prepare_unasked
        self._open.callback(self.readers.stop)
        conversations = Conversations(self._store)
        self.questions = Questions(self._store, self.model, conversations, mine, self._meaning)
        self.chat = Chat(self._store, self.model, conversations, self.questions)
        self._open.callback(self.chat.close)
        self.search = Search(self._store)
        self._originals = Originals(self.library.intake)
        self._open.callback(self._originals.close)
        self.export = Export(self.chat, self.library)
        self.sharing = Sharing(self.seen_by)
        self.people = People(self._store, mine, self.seen_by)
        self.collections = Collections(self._store, self.people)
        self._open.callback(self.sharing.stop)
        self.rescued = self.library.intake.rescue(opened.unknown)
        """Documents that were entered anew, because only their original files were known."""
        more = len(self.rescued) - _MOST_NAMES
        names = ", ".join(each.name for each in self.rescued[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        notices = (
            f"{settings.home} can only be read: nothing of what is done now is kept."
            if self._home.is_read_only
            else "",
            opened.said,
            self.preferences.notice.strip(),
            names and f"Entered anew from the original files: {names}.",
        )
        self.notice = " ".join(filter(None, notices))
        """What happened to the library since it was open last, in whole sentences."""

    def seen_by(self, viewer: Viewer, role: PersonRole, **how: Any) -> "App":
        """The app as somebody else has it, by the gate of his role (see `Seen`)."""
        store = self._store.seen_by(viewer)
        library, questions = self.library.seen_by(store), self.questions.seen_by(store)
        parts = Parts(
            library,
            questions,
            self.chat.seen_by(store),
            Search(store),
            Keys(store),
            Collections(store, self.people),
            self.model,
        )
        return cast(App, Seen(self, parts, role, **how))

    def start(self) -> None:
        """Load the model and go on with unfinished documents, in the background."""
        self.model.start()
        if self._keeper:
            self._keeper.start()
        self._originals.start()
        self.library.start()
        self._meaning.start()
        self.chat.start()

    def is_only_page(self) -> bool:
        """Whether this is the one process that shows the page of this home, which it then is until it is closed."""
        if not self._only_page:
            try:
                self._open.enter_context(self._home.lock("page"))
            except HomeBusy:
                return False
            self._only_page = True
        return True

    def status(self) -> ReaderStatus:
        """What the page may say of the model, and to the home's user of the library."""
        notices, status = (self.notice, self._originals.sentence()), self.model.status()
        return replace(status, doing=self.readers.doing or status.doing, notice=" ".join(filter(None, notices)))

    def free_bytes(self) -> int:
        """Free space on the disk of the home."""
        return shutil.disk_usage(self.settings.home).free

    def verify(self, all_of_them: bool = True) -> tuple[int, list[str]]:
        """Check every stored block, or only what is on this machine; the number checked and the names of the damaged
        ones.
        """
        sections = [section for reading in self._store.readings() for section in self._store.sections(reading.id)]
        blocks = [block for section in sections for block in self._store.blocks(section.id)]
        if self._home.is_remote and not all_of_them:
            blocks = [block for block in blocks if (self._home.pods / block.file_name).exists()]
        damaged = []
        for block in blocks:
            try:
                read_block(self._home.pods / block.file_name, block.checksum)
            except BlockDamaged:
                # Unless it was replaced meanwhile.
                if block in self._store.blocks(block.section_id):
                    damaged.append(block.file_name)
        return len(blocks), damaged

    @property
    def database(self) -> str:
        """What the database is, and what it leaves to whoever runs it."""
        return self._store.about()

    def damaged_rows(self) -> list[str]:
        """Rows of the database that are not what was written; `rescue` puts them right."""
        return self._store.damaged_rows()

    def scrub_models(self) -> list[str]:
        """Look at every byte of the models' files; where one is damaged, what its model read is read again."""
        damaged = scrub(self._home.models)
        for reading in self._store.readings():
            # A model has the name of its folder, or of its place on the hub.
            if any(reading.model_name.replace("/", "--") in str(path) for path in damaged):
                self.library.empty(reading)
        return [str(path) for path in damaged]

    def set_aside(self, empty: bool = False) -> list[str]:
        """What lies in quarantine, relative to the home; with `empty` it is gone then."""
        folder = self.settings.home / "quarantine"
        found = sorted(str(path.relative_to(self.settings.home)) for path in folder.rglob("*") if path.is_file())
        if empty and found:
            shutil.rmtree(folder)
        return found

    def _limit_memory(self) -> None:
        if engine := self.model.peek():
            engine.loaded.limit_memory(self.settings)

    def close(self) -> None:
        """End the background work and let go of the home; nothing happens the second time."""
        self._open.close()


def _open(settings: Settings, check: bool) -> tuple[Home, Opened]:
    """The home and its database, without what an interrupted run left lying about."""
    try:
        home = Home(settings.home, passphrase.known, **settings.places)
        try:
            return home, open_library(home, check)
        except (StorageError, OSError):
            home.close()
            raise
    except HomeLocked:
        raise
    except NewerDatabase as error:
        message = f"{settings.home} was written by a later version of DocPod: {error}"
        raise BadSetting(message, "Use that version, or choose another folder with --home.") from error
    except (StorageError, OSError) as error:
        if (known := as_app_error(error)) is not None:
            raise known from error
        reason = getattr(error, "strerror", "") or str(error)
        raise BadSetting(f"{settings.home} cannot be used: {reason}.", "Choose another folder with --home.") from error
