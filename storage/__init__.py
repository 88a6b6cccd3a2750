"""What DocPod remembers: documents, readings and conversations in a database, bytes and pods in files.

Knows nothing of models, tensors, PDF files or the page in the browser.
"""

from storage.blobs import BlobStore, digest_of
from storage.conversations import OpenAnswer
from storage.conversion import convert, seen_from_outside
from storage.errors import (
    BlockConflict,
    BlockDamaged,
    DatabaseDamaged,
    HomeBusy,
    HomeLocked,
    NewerDatabase,
    NotStored,
    PlaceRefused,
    StorageAway,
    StorageError,
    StorageFailed,
    StorageFull,
)
from storage.home import Home
from storage.keeper import Keeper
from storage.models import (
    ApiKey,
    Block,
    Box,
    Citation,
    Conversation,
    Document,
    DocumentState,
    Message,
    MessageState,
    Notes,
    Page,
    PageState,
    PageVectors,
    Person,
    PersonRole,
    Reading,
    ReadingState,
    Role,
    Section,
    SectionState,
    SignIn,
)
from storage.object_store import is_kept, move_in, remove
from storage.ownership import EVERYBODY, Viewer
from storage.packing import Word, pack_token_ids, pack_words, unpack_token_ids, unpack_words
from storage.podfile import prefetch, read_block, write_block
from storage.readings import SectionRead
from storage.recovery import Opened, forget, note, open_library
from storage.shelf import Shelved
from storage.sqlite import has_encryption
from storage.store import Store
from storage.takeover import take_over
from storage.vault import By, Header, opened, read_bytes
