"""Intake: files become documents, and documents become pages."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import copy
from pathlib import Path

from app.contents import printed_contents
from app.errors import AppError, Busy, DocumentNotFound, DocumentTooLarge, EmptyDocument, PasswordNeeded
from app.events import Progress
from app.readers import ParsedPage, ReaderLimits, extract, open_document, sniff, unlock
from app.readers.base import clean
from app.refusals import as_app_error, disk_failed
from app.settings import Settings
from app.titles import title_of
from storage import BlobStore, Document, Home, NotStored, Page, StorageError, Store, forget, note, pack_words

log = logging.getLogger(__name__)

DELETED = "This document was deleted meanwhile.", "Add it again to read it."
_DRAFT_SECONDS = 0.25
"""How often pages are kept while further ones are parsed: so soon their words can be searched."""


class Intake:
    """The way of a file's bytes into the library, and out of it again."""

    def __init__(self, store: Store, home: Home, settings: Settings) -> None:
        self._settings = settings
        self._store = self._all = store
        self._home = home
        self._blobs = BlobStore(home.bytes)
        # Bytes and row come and go together, also where one document is added and deleted at once.
        self._keeping = threading.Lock()

    def seen_by(self, store: Store) -> "Intake":
        """What is added belongs to the viewer of that store."""
        seen = copy(self)
        seen._store = store
        return seen

    @property
    def limits(self) -> ReaderLimits:
        """What reading a file may take at this moment."""
        return ReaderLimits(max_pages=self._settings.max_pages, page_seconds=self._settings.page_seconds)

    def opened(self, document: Document) -> AbstractContextManager[Path]:
        """A file with a document's bytes, while this lasts."""
        return self._blobs.plain(document.digest, document.digest)

    def keep(self, path: Path, name: str, move: bool) -> Document:
        """Put a file into the private store and a row into the database; known bytes are the known document.

        Raises UnsupportedFile, EmptyDocument, DocumentTooLarge or DiskFull; the file then stays where it is.
        """
        if (size := path.stat().st_size) > self._settings.max_upload_mb * 1_000_000:
            raise DocumentTooLarge(
                f"The file has {size / 1e6:,.1f} MB; the limit is {self._settings.max_upload_mb} MB.",
                "Raise it in the settings, or split the file.",
            )
        file_name = _file_name(name)
        media_type = sniff(path, file_name)
        title = title_of("", file_name)
        with storing(), self._keeping:
            digest, num_bytes = self._blobs.put_file(path, move)
            document = self._store.add_document(
                Document(
                    id=(id_ := self._store.viewer.own_id(digest)),
                    title=title,
                    file_name=file_name,
                    media_type=media_type,
                    num_bytes=num_bytes,
                    kept=digest if digest != id_ else "",
                )
            )
            self._drop_unused(digest)
            if document.state == "deleted":
                raise Busy("This document is being deleted.", "Add it again in a moment.")
            note(self._home, self._all)
            return document

    def rescue(self, names: Mapping[str, str]) -> list[Document]:
        """Make entries for originals that the database does not know, by id with their file names or "".

        One that is of no format that can be read stays where it is.
        """
        entered = []
        for document_id, name in names.items():
            try:
                with self._blobs.plain(document_id) as path:
                    media_type, num_bytes = sniff(path, name or document_id), path.stat().st_size
            except AppError as error:
                log.warning("%s was not entered: %s", document_id, error)
                continue
            name = name or f"document {document_id[:8]}"
            title = title_of("", name)
            document = Document(id=document_id, title=title, file_name=name, media_type=media_type, num_bytes=num_bytes)
            entered.append(self._store.add_document(document))
        if entered:
            note(self._home, self._store)
        return entered

    def unlock(self, document: Document, password: str) -> None:
        """Open an encrypted PDF for good: the stored copy needs no password any more. Raises WrongPassword."""
        with tempfile.TemporaryDirectory(dir=self._home.uploads) as folder:
            unlocked = Path(folder, "unlocked")
            with self.opened(document) as path:
                unlock(path, password, unlocked, self.limits)
            with self._keeping, storing():
                kept, _ = self._blobs.put_file(unlocked, move=True)
                try:
                    self._store.keep_otherwise(document.id, kept)
                finally:
                    # Of a document that was deleted meanwhile, the copy.
                    for each in (document.digest, kept):
                        self._drop_unused(each)

    def extract(self, document: Document, number: int, out_path: Path) -> str:
        """Write a copy of a file that is attached to a document, by its 1-based number; returns its name.

        Raises DocumentNotFound, DocumentTooLarge or DamagedDocument.
        """
        if not 1 <= number <= len(document.attachments):
            raise DocumentNotFound(
                f"There is no attached file {number}.", f"The document has {len(document.attachments)}."
            )
        with self.opened(document) as path:
            extract(path, number, out_path, self._settings.max_upload_mb * 1_000_000, self.limits)
        return document.attachments[number - 1][0]

    def parse(self, document: Document) -> Generator[Progress]:
        """Turn bytes into pages, with progress. A document that cannot be parsed is kept as rejected.

        Raises the errors of `app.readers` and DiskFull; PasswordNeeded leaves the document as it was.
        """
        if document.state == "rejected" and "parsed" in (document.error or {}):
            # Cancelled after its pages were made, of which OCR may have read some.
            with storing():
                self._store.accept_document(document.id)
            return
        if document.state == "parsed":
            return
        pages: list[Page] = []
        kept, kept_at = 0, time.monotonic() - _DRAFT_SECONDS
        with storing(), self.opened(document) as path:
            try:
                opened = open_document(path, document.media_type, self.limits)
                for page in opened.pages():
                    pages.append(page_row(page))
                    if time.monotonic() - kept_at >= _DRAFT_SECONDS:
                        self._store.draft_pages(document.id, opened.info.num_pages, pages[kept:])
                        kept, kept_at = len(pages), time.monotonic()
                    yield Progress(document.id, "parsing", len(pages), opened.info.num_pages)
                if all(page.state == "empty" for page in pages):
                    # Nothing can come of any of them, not even by OCR.
                    blank = f"None of the {len(pages)} pages has text."
                    raise EmptyDocument(blank, "Check that it was saved completely.")
                outline = [(entry.level, entry.title, entry.page) for entry in opened.info.outline]
                info = opened.info
                title = title_of(info.title, document.file_name)
                said = " ".join(info.author.split()), info.written, info.note, info.attachments
                self._store.save_pages(document.id, title, outline or printed_contents(pages), pages, *said)
            except PasswordNeeded:
                raise
            except AppError as error:
                self.reject(document, error.message, error.hint)
                raise

    def parse_anew(self, document_id: str) -> dict[int, Page]:
        """The pages of a document that is parsed, by number, from its bytes again; nothing of it is stored.

        Raises the errors of `app.readers`.
        """
        document = self._store.document(document_id)
        if document is None:
            raise DocumentNotFound(*DELETED)
        with self.opened(document) as path:
            opened = open_document(path, document.media_type, self.limits)
            return {page.number: page_row(page) for page in opened.pages()}

    def stamp(self, document: Document) -> str:
        """What changes when a document's bytes do."""
        return self._blobs.stamp(document.digest)

    def damaged(self, stopped: Callable[[], bool] = lambda: False, all_anew: bool = False) -> Iterator[Document]:
        """Documents whose bytes are not what was added; those that were whole before are looked at where they changed,
        or `all_anew`.
        """
        for document in self._store.documents():
            if stopped():
                return
            stamp = self.stamp(document)
            if stamp and stamp == document.checked and not all_anew:
                continue
            if self._blobs.digest(document.digest) == document.digest:
                if stamp != document.checked:
                    with suppress(NotStored):
                        self._store.note_check(document.id, stamp)
            elif self._store.document(document.id) == document:
                # Unless it was deleted or unlocked meanwhile.
                yield document

    def _drop_unused(self, digest: str) -> None:
        """Let an original go that no document is made of, such as one whose copy without a password is kept."""
        if not self._all.keeps_file(digest):
            self._blobs.delete(digest)

    def reject(self, document: Document, message: str, hint: str) -> None:
        """Note why a document is not read."""
        with storing():
            self._store.reject_document(document.id, message, hint)

    def forget(self, document: Document) -> None:
        """Remove the document from the database and the disk, with everything that came of it."""
        with self._keeping, storing():
            forget(self._home, self._all, document.id)


@contextmanager
def storing(deleted: tuple[str, str] = DELETED) -> Iterator[None]:
    """What storage refuses, as the user can use it: the disk may be full, and another tab or process may delete a
    document between any two steps of its work, of which he is told as `deleted` says: message and hint.
    """
    try:
        yield
    except NotStored as error:
        raise DocumentNotFound(*deleted) from error
    except StorageError as error:
        if (known := as_app_error(error)) is None:
            raise
        raise known from error
    except OSError as error:
        # Such as a home that was moved away.
        raise as_app_error(error) or disk_failed(error) from error


def _file_name(name: str) -> str:
    """The last part of a name, on one line, fit to be shown and stored."""
    return " ".join(clean(name.replace("\\", "/").rstrip("/").rpartition("/")[2]).split()) or "document"


def page_row(page: ParsedPage) -> Page:
    """A page as it is stored."""
    return Page(**{**vars(page), "words": b"" if page.words is None else pack_words(page.words)})
