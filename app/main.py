"""App: the library, the questions and the model behind them, wired together once."""

from contextlib import ExitStack

from app.chat import Chat
from app.conversations import Conversations
from app.errors import BadSetting, Busy
from app.events import ReaderStatus
from app.export import Export
from app.keys import Keys
from app.library import Library
from app.meaning import Meaning
from app.model_handle import ModelHandle
from app.pod_engine import equip
from app.questions import Questions
from app.search import Search
from app.settings import Settings
from app.sharing import Sharing
from storage import BlockDamaged, Home, HomeBusy, NewerDatabase, Store, read_block


class App:
    """Everything a user can do. Nothing runs in the background until `start`.

    Raises BadSetting where the home cannot be used, and Busy while another process tidies it up.
    """

    may_ask = True
    """A visitor of a share may be allowed to look only."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._only_page = False
        self._home, self._store = _open(settings)
        self._open = ExitStack()
        self._open.callback(self._home.close)
        self._open.callback(self._store.close)
        self.keys = Keys(self._store)
        models = self._home.models
        self.model = ModelHandle(settings, models, lambda loaded: equip(self._store, self._home, loaded, settings))
        self._meaning = Meaning(self._store, models, settings.meaning)
        self._open.callback(self._meaning.close)
        self.library = Library(self._store, self._home, self.model, settings, self._meaning)
        self._open.callback(self.library.close)
        self._open.callback(self.model.close)
        conversations = Conversations(self._store)
        self.questions = Questions(self._store, self.model, conversations, settings.max_answer_tokens, self._meaning)
        self.chat = Chat(self._store, self.model, conversations, self.questions)
        self._open.callback(self.chat.close)
        self.search = Search(self._store)
        self.export = Export(self.chat, self.library)
        self.sharing = Sharing(self.library, self.questions, self.chat, self.search, self.status)
        self._open.callback(self.sharing.stop)

    def start(self) -> None:
        """Load the model and go on with unfinished documents, in the background."""
        self.model.start()
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
        """What the page may say of the model."""
        return self.model.status()

    def free_bytes(self) -> int:
        """Free space on the disk of the home."""
        return self._home.free_bytes()

    def verify(self) -> tuple[int, list[str]]:
        """Check every stored block; the number checked and the names of the damaged ones."""
        sections = [section for reading in self._store.readings() for section in self._store.sections(reading.id)]
        blocks = [block for section in sections for block in self._store.blocks(section.id)]
        damaged = []
        for block in blocks:
            try:
                read_block(self._home.pods / block.file_name, block.checksum)
            except BlockDamaged:
                # Unless it was replaced meanwhile.
                if block in self._store.blocks(block.section_id):
                    damaged.append(block.file_name)
        return len(blocks), damaged

    def close(self) -> None:
        """End the background work and let go of the home; nothing happens the second time."""
        self._open.close()


def _known_files(store: Store) -> set[str]:
    """Asked once it is sure that no other process uses the home: then no visitor is there either."""
    store.delete_conversations_of_visitors()
    return store.known_files()


def _open(settings: Settings) -> tuple[Home, Store]:
    """The home and its database, without what an interrupted run left lying about."""
    try:
        home = Home(settings.home)
        try:
            store = Store.open(home.database_url)
            home.sweep_orphans(lambda: _known_files(store))
        except (NewerDatabase, HomeBusy):
            home.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadSetting(f"{settings.home} cannot be used: {reason}.", "Choose another folder with --home.") from error
    except HomeBusy as error:
        raise Busy("Another DocPod process is tidying up this folder.", "Try again in a minute.") from error
    except NewerDatabase as error:
        message = f"{settings.home} was written by a later version of DocPod: {error}"
        raise BadSetting(message, "Use that version, or choose another folder with --home.") from error
    return home, store
