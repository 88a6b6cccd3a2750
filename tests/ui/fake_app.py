"""An app that lives in memory: reading takes time, answers stream, pages are drawn; no model, no database."""

import hashlib
import io
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from app.errors import (
    AppError,
    DocumentNotFound,
    EmptyDocument,
    ModelUnavailable,
    RecipeNotThere,
    UnsupportedFile,
    WrongPassword,
)
from app.events import (
    Answer,
    DocumentEntry,
    Forecast,
    PresetState,
    Progress,
    ReaderEntry,
    ReaderStatus,
    RecipeStep,
)
from app.export import Export
from app.keys import SCOPES, Key
from app.listing import listed, tags_in
from app.preferences import Preferences
from app.queue import Waiting
from app.readers import Mark
from app.roles import Parts, Seen
from app.settings import Settings
from app.sharing import Sharing
from storage import Person, Viewer
from tests.ui.fake_chat import CITED, LINES, PAGES, FakeChat
from tests.ui.fake_search import FakeSearch

TOKENS = 83_000
EXACT_BYTES = 1_900_000_000
RECIPES = (
    ("exact", "exact", "everything, as it was read", 1.0),
    ("faithful", "k4v4h", "every token in 4 bits", 0.31),
    ("balanced", "keep40+k4v4h", "40 % of the tokens in 4 bits", 0.16),
    ("compact", "A35+k4v4h", "every token in 4 bits, with keys shared between layers", 0.0),
)
"""Name, parts, what is kept, and the share of the bytes of exact: none where the model cannot do it."""
SHARES = {name: share for name, _, _, share in RECIPES}


@dataclass
class FakeDocument:
    """A document whose reading is a function of the time it has been running."""

    document_id: str
    title: str
    file_name: str
    num_bytes: int
    stage: str = "reading"
    since: float = 0.0
    read_seconds: float = 0.0
    message: str = ""
    hint: str = ""
    recipe: str = "exact"
    before: str = ""
    """The recipe whose memory answers while another one is being made."""
    kept: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class FakeLibrary:
    """Documents by id; `read_seconds` is how long reading one takes."""

    def __init__(self, clock: Callable[[], float], read_seconds: float, folder: Path) -> None:
        self.clock = clock
        self.read_seconds = read_seconds
        self.folder = folder
        self.documents: dict[str, FakeDocument] = {}
        self.catalogue = self.queue = self
        self.sort = "added"
        self.order: list[str] = []
        self.is_whole = True

    def seen_by(self, viewer: Viewer) -> "FakeLibrary":
        seen = copy(self)
        seen.documents = {key: each for key, each in self.documents.items() if key in (viewer.only or ())}
        seen.catalogue, seen.is_whole = seen, False
        return seen

    def document(self, document_id: str) -> FakeDocument:
        return self._document(document_id)

    def find(self, name: str) -> SimpleNamespace:
        found = [each for each in self.documents if name and each.startswith(name)]
        if len(found) != 1:
            raise DocumentNotFound(f"No document is called {name!r}.", "The command `ls` lists the library.")
        return SimpleNamespace(id=found[0])

    def add(self, path: Path, name: str) -> str:
        data = path.read_bytes()
        if not data:
            raise EmptyDocument(f"“{name}” holds no bytes.", "Choose a file with text in it.")
        if not data.startswith(b"%PDF") and b"\0" in data:
            raise UnsupportedFile(f"“{name}” is neither a PDF nor text.", "Save it as a PDF and add that.")
        document_id = hashlib.sha256(data).hexdigest()
        path.replace(self.folder / document_id)
        if document_id not in self.documents:
            stage = "locked" if b"/Encrypt" in data else "queued" if b"/Queued" in data else "reading"
            self.order.append(document_id)
            title = name.rsplit(".", 1)[0].replace("_", " ")
            self.documents[document_id] = FakeDocument(document_id, title, name, len(data), stage, self.clock())
        return document_id

    def unlock(self, document_id: str, password: str) -> None:
        if password != "open sesame":
            raise WrongPassword("This password does not open the document.", "Check it and try again.")
        self._start(document_id)

    def entries(self, search: str = "", sort: str = "added") -> list[DocumentEntry]:
        return listed([self.entry(key) for key in reversed(self.documents)], search, sort)

    def sort_by(self, sort: str) -> None:
        self.sort = sort

    def tag(self, document_id: str, tags: str) -> None:
        self._document(document_id).tags = tuple(tags_in(tags))

    def waiting(self, entries: Sequence[DocumentEntry]) -> list[Waiting]:
        """In the order in which they were put; each takes three minutes."""
        found = [each for each in entries if each.progress.stage == "queued"]
        found.sort(key=lambda each: self.order.index(each.document_id))
        return [Waiting(each, 180.0 * place) for place, each in enumerate(found, 1)]

    def move(self, document_id: str, step: str) -> None:
        at = self.order.index(document_id)
        self.order.insert({"first": 0, "up": at - 1, "down": at + 1}[step], self.order.pop(at))

    def entry(self, document_id: str) -> DocumentEntry:
        document = self._document(document_id)
        seconds = document.read_seconds + (self.clock() - document.since if document.stage == "reading" else 0.0)
        share = min(1.0, seconds / self.read_seconds)
        if document.stage == "reading" and share == 1.0:
            document.stage = "ready"
            document.kept = ("exact",) if "exact" in (document.before, *document.kept) else ()
            document.before = ""
        if document.stage == "ready":
            share = 1.0
        progress = Progress(
            document_id,
            document.stage,
            int(TOKENS * share),
            TOKENS,
            int(PAGES * share),
            PAGES,
            TOKENS / self.read_seconds,
            (1 - share) * self.read_seconds if seconds > 0.2 else None,
            document.message,
            document.hint,
        )
        forecast = Forecast(PAGES, 2, TOKENS, 13, 180.0, 1_900_000_000, 80_000_000_000)
        outline = (
            (0, "Business", 1),
            (1, "Our strategy", 4),
            (0, "Risk factors", 9),
            (1, "Risks <of> growth", 12),
            (0, "Financial statements", 44),
        )
        return DocumentEntry(
            document_id,
            document.title,
            document.file_name,
            0 if document.stage == "locked" else PAGES,
            2,
            document.num_bytes,
            int(1_900_000_000 * share),
            progress,
            None if document.stage == "locked" or not self.is_whole else forecast,
            document.recipe,
            document.before,
            outline,
            # Most PDFs of the tests only begin like one, and have pictures of pages.
            "application/pdf" if document.num_bytes > 1_000 else "",
            tags=document.tags,
        )

    def highlighted(self, document_id: str, marks: Sequence[Mark]) -> bytes:
        return f"%PDF of {self.entry(document_id).title} with {len(marks)} marks".encode()

    def archive(self, document_id: str) -> Path:
        folder = self.folder / "archives" / document_id
        folder.mkdir(parents=True)
        return Path(shutil.copy(self.folder / document_id, folder / "archive"))

    def original(self, document_id: str) -> AbstractContextManager[Path]:
        return nullcontext(self.folder / document_id)

    def guide(self, document_id: str) -> Answer | None:
        return None

    def suggested(self, document_id: str) -> tuple[str, ...]:
        return "What is this <b>document</b> about?", "How many members were there?"

    def labels(self, document_id: str) -> tuple[str, ...]:
        return tuple("F-2" if number == 44 else str(number) for number in range(1, PAGES + 1))

    def read(self, document_id: str) -> None:
        self._start(document_id)

    def pause(self, document_id: str) -> None:
        document = self._document(document_id)
        document.read_seconds += self.clock() - document.since
        document.stage = "paused"

    def cancel(self, document_id: str) -> None:
        self._document(document_id).stage = "cancelled"

    def delete(self, document_id: str) -> None:
        self._document(document_id)
        del self.documents[document_id]

    def rename(self, document_id: str, title: str) -> None:
        self._document(document_id).title = title

    def presets(self, document_id: str) -> PresetState | None:
        document, entry = self._document(document_id), self.entry(document_id)
        if document.stage == "locked" or not self.is_whole:
            return None
        ready = document.stage == "ready"
        there = {document.recipe if ready else document.before, *document.kept} - {""}
        steps = tuple(
            RecipeStep(
                name=name,
                parts=parts,
                keeps=keeps,
                share=share,
                disk_bytes=int(EXACT_BYTES * share),
                seconds=0.0 if name in there else 180.0,
                ready=name in there,
                needs_text="exact" not in there,
                why_not="" if share else "the model has no plan to share 35 %.",
            )
            for name, parts, keeps, share in RECIPES
        )
        answers_from = document.before or (document.recipe if entry.progress.done else "")
        kept = tuple((name, int(EXACT_BYTES * SHARES[name])) for name in document.kept if ready)
        goes = tuple(sorted(there - {"exact"}))
        return PresetState(document_id, document.recipe, answers_from, steps, kept, goes)

    def choose(self, document_id: str, recipe: str) -> None:
        document = self._document(document_id)
        if not SHARES[recipe]:
            raise RecipeNotThere("the model has no plan to share 35 %.", "The document stays as it is kept now.")
        if document.stage == "ready":
            document.before = document.recipe
        document.recipe = recipe
        if recipe in (document.before, *document.kept):
            document.stage, document.before = "ready", ""
            document.kept = tuple(name for name in document.kept if name != recipe)
        else:
            document.read_seconds = 0.0
            self._start(document_id)

    def drop(self, document_id: str, recipe: str) -> None:
        document = self._document(document_id)
        document.kept = tuple(name for name in document.kept if name != recipe)

    def page_image(self, document_id: str, number: int, width_px: int = 1100) -> bytes:
        title = self._document(document_id).title
        height = int(width_px * 1.294)
        image = Image.new("RGB", (width_px, height), "white")
        draw = ImageDraw.Draw(image)
        body = ImageFont.load_default(size=width_px * 0.0215)
        draw.text((width_px * 0.12, height * 0.055), title[:60], "#777", ImageFont.load_default(size=width_px * 0.016))
        draw.text(
            (width_px * 0.12, height * 0.1),
            f"{number}. Results of the year",
            "#111",
            ImageFont.load_default(size=width_px * 0.032),
        )
        for row in range(30):
            line = LINES[row % (len(LINES) + 1)] if row % (len(LINES) + 1) < len(LINES) else ""
            draw.text((width_px * 0.12, height * (0.16 + row * 0.025)), line, "#222", body)
        draw.text((width_px * 0.49, height * 0.94), str(number), "#777", ImageFont.load_default(size=width_px * 0.018))
        data = io.BytesIO()
        image.save(data, "PNG")
        return data.getvalue()

    def sample(self) -> Path:
        path = self.folder / "The_lighthouse_handbook.pdf"
        path.write_bytes(b"%PDF-1.7 the sample of the tests")
        return path

    def _document(self, document_id: str) -> FakeDocument:
        if document_id not in self.documents:
            raise DocumentNotFound("This document is not in the library.", "Add it again.")
        return self.documents[document_id]

    def _start(self, document_id: str) -> None:
        document = self._document(document_id)
        document.stage, document.since = "reading", self.clock()


class FakeReaders:
    """One in use, one to download, one that is too large, and one gone that has read; changing takes a second."""

    trouble: AppError | None = None

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since, self._next = 0.0, ""
        self._used = "embedded"
        self._gone = 412_000_000

    def entries(self) -> list[ReaderEntry]:
        big = ReaderEntry(
            "big/reader", "big/reader", False, 4.0, "Apache-2.0", 8_050_000_000, 21_600_000_000, False, 33.0
        )
        small = replace(big, choice="small/reader", name="small/reader", billions=0.6, download_bytes=1_510_000_000)
        small = replace(small, needed_bytes=5_200_000_000, fits=True, tokens_per_second=178.0)
        own = replace(small, choice="embedded", name="SmolLM2-135M-Instruct", billions=0.135, download_bytes=0)
        own = replace(own, tokens_per_second=998.0, measured=True, documents=3, pod_bytes=2_100_000_000)
        used_at = datetime(2026, 3, 1, tzinfo=UTC)
        gone = ReaderEntry("", "old-reader", documents=2, pod_bytes=self._gone, used_at=used_at)
        known = (big, small, own)
        entries = [replace(each, in_use=each.choice == self._used) for each in known]
        return [*entries, *([gone] if self._gone else [])]

    @property
    def name(self) -> str:
        return next(each.name for each in self.entries() if each.in_use)

    @property
    def doing(self) -> str:
        if self._next and self._clock() - self._since > 1.0:
            self._used, self._next = self._next, ""
        return f"Fetching {self._next}: 0.42 of 1.51 GB." if self._next else ""

    @property
    def can_stop(self) -> bool:
        return bool(self.doing)

    def use(self, choice: str) -> None:
        if choice not in ("small/reader", "embedded"):
            self.trouble = ModelUnavailable(f"{choice} could not be fetched from the model hub.", "Check its name.")
            return
        self.trouble, self._next, self._since = None, choice, self._clock()

    def stop(self) -> None:
        self._next = ""

    def forget(self, name: str) -> int:
        self._gone, freed = 0, self._gone
        return freed


class FakeStore:
    """What was chosen, by name."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def preference(self, name: str) -> str:
        return self._known.get(name, "")

    def prefer(self, name: str, value: str) -> None:
        self._known[name] = value


class FakeKeys:
    """One key that may do everything."""

    def key_of(self, secret: str) -> Key | None:
        return Key(id="fake", name="fake", digest="", scopes=list(SCOPES)) if secret == "fake-key" else None


class FakePeople:
    """Nobody beside its user."""

    def all(self) -> list[Person]:
        return []

    def is_proxy(self, address: str) -> bool:
        return False

    def signed_in(self, cookie: str) -> Person | None:
        return None


class FakeApp:
    """The whole app in memory; `loading_seconds` is how long the reader takes to be ready."""

    may_ask = True
    role = "owner"
    name = ""
    signs_out = False
    people = FakePeople()

    def __init__(
        self,
        home: Path,
        read_seconds: float = 6.0,
        word_seconds: float = 0.05,
        loading_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.uploads = home / "uploads"
        self.uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = replace(Settings(), home=home, browser=False)
        self.preferences = Preferences(FakeStore(), self.settings, {"home": "--home", "browser": "--no-browser"})
        self.clock = clock
        self.ready_at = clock() + loading_seconds
        self.keys = FakeKeys()
        self.readers = FakeReaders(clock)
        self.library = FakeLibrary(clock, read_seconds, home)
        self.questions = self.chat = FakeChat(self.library, word_seconds)
        self.export = Export(self.chat, self.library)
        self.search = FakeSearch(self.library, self.chat, LINES, CITED[0])
        self.sharing = Sharing(self.seen_by)

    def seen_by(self, viewer: Viewer, role: str, **how: Any) -> Seen:
        library = self.library.seen_by(viewer)
        chat = self.chat.seen_by(viewer, library)
        search = FakeSearch(library, chat, LINES, CITED[0])
        return Seen(self, Parts(library, chat, chat, search, self.keys, None, None), role, **how)

    def status(self) -> ReaderStatus:
        state = "ready" if self.clock() >= self.ready_at else "loading"
        return ReaderStatus(
            state,
            self.readers.name,
            "No GPU was found, so the embedded reader was chosen.",
            "Qwen3-0.6B, with --model Qwen/Qwen3-0.6B",
            self.readers.doing,
        )

    def close(self) -> None:
        """Nothing but a share to close."""
        self.sharing.stop()
