"""An app that lives in memory: reading takes time, answers stream, pages are drawn; no model, no database."""

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

from PIL import Image, ImageDraw, ImageFont

from app.errors import (
    Busy,
    DocumentNotFound,
    EmptyDocument,
    QuestionRejected,
    RecipeNotThere,
    UnsupportedFile,
    WrongPassword,
)
from app.events import (
    Answer,
    Cited,
    DocumentEntry,
    Forecast,
    PresetState,
    Progress,
    ReaderStatus,
    RecipeStep,
    Turn,
)
from app.keys import SCOPES, Key
from app.settings import Settings
from app.sharing import Sharing
from tests.ui.fake_search import FakeSearch

PAGES = 98
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
LINES = (
    "We ended the year with 117.6 million streaming memberships in over",
    "190 countries, an increase of 23.8 million over the prior year. Our",
    "revenues grew 32 percent, and the operating margin rose to 7 percent.",
    "",
    "Streaming content obligations were $17.7 billion at the end of the",
    "year, of which $7.4 billion are due within twelve months. We expect",
    "these obligations to grow as we license and produce more titles, and",
    "we may finance a part of them with further debt.",
)
ANSWER = (
    "The company had **117.6 million streaming memberships** at the end of the year. That is 23.8 million more than "
    "a year earlier, in over 190 countries.\n\nTwo things drove the growth:\n\n- more original titles, and\n- "
    "wider international availability."
)


_TOP, _STEP = 0.1585, 0.025
CITED = (
    Cited(
        1,
        12,
        "12",
        " ".join(LINES[:2])[:-5] + ".",
        ((0.118, _TOP, 0.79, _TOP + 0.021), (0.118, _TOP + _STEP, 0.715, _TOP + _STEP + 0.021)),
        0.92,
    ),
    Cited(
        2,
        44,
        "F-2",
        " ".join(LINES[4:6]),
        (
            (0.118, _TOP + 4 * _STEP, 0.76, _TOP + 4 * _STEP + 0.021),
            (0.118, _TOP + 5 * _STEP, 0.75, _TOP + 5 * _STEP + 0.021),
        ),
        0.61,
    ),
)
NOT_FOUND = "Not found in the document. I looked through all 98 pages; the closest passages are shown."


@dataclass
class FakeConversation:
    """A conversation and its turns."""

    conversation_id: str
    document_id: str
    title: str
    updated_at: datetime
    owner: str = ""
    documents: tuple[str, ...] = ()
    turns: list[Turn] = field(default_factory=list)


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


class FakeLibrary:
    """Documents by id; `read_seconds` is how long reading one takes."""

    def __init__(self, clock: Callable[[], float], read_seconds: float, folder: Path) -> None:
        self.clock = clock
        self.read_seconds = read_seconds
        self.folder = folder
        self.documents: dict[str, FakeDocument] = {}
        self.catalogue = self

    def add(self, path: Path, name: str) -> str:
        data = path.read_bytes()
        if not data:
            raise EmptyDocument(f"“{name}” holds no bytes.", "Choose a file with text in it.")
        if not data.startswith(b"%PDF") and b"\0" in data:
            raise UnsupportedFile(f"“{name}” is neither a PDF nor text.", "Save it as a PDF and add that.")
        document_id = hashlib.sha256(data).hexdigest()
        path.replace(self.original(document_id))
        if document_id not in self.documents:
            stage = "locked" if b"/Encrypt" in data else "reading"
            title = name.rsplit(".", 1)[0].replace("_", " ")
            self.documents[document_id] = FakeDocument(document_id, title, name, len(data), stage, self.clock())
        return document_id

    def unlock(self, document_id: str, password: str) -> None:
        if password != "open sesame":
            raise WrongPassword("This password does not open the document.", "Check it and try again.")
        self._start(document_id)

    def entries(self, search: str = "") -> list[DocumentEntry]:
        found = [self.entry(key) for key in reversed(self.documents)]
        return [entry for entry in found if search.lower() in entry.title.lower()]

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
            None if document.stage == "locked" else forecast,
            document.recipe,
            document.before,
            outline,
            # Most PDFs of the tests only begin like one, and have pictures of pages.
            "application/pdf" if document.num_bytes > 1_000 else "",
        )

    def original(self, document_id: str) -> Path:
        return self.folder / document_id

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
        if document.stage == "locked":
            return None
        ready = document.stage == "ready"
        there = {document.recipe if ready else document.before, *document.kept} - {""}
        steps = tuple(
            RecipeStep(
                name=name,
                parts=parts,
                keeps=keeps,
                bytes_per_token=23_040 * share,
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


NOTHING = Answer()
EARLY_PAGES = 20
"""Pages that must be read before a question that says `early` is answered."""


class FakeChat:
    """Answers word by word in a thread; a question that says `early` waits and is revised, one that names a unicorn is
    not found, and one that says `bug` is one."""

    def __init__(self, library: FakeLibrary, word_seconds: float) -> None:
        self.library = library
        self.word_seconds = word_seconds
        self.known: dict[str, FakeConversation] = {}
        self.deleted: dict[str, FakeConversation] = {}
        self.asked = 0
        self._stops: dict[str, Event] = {}

    def is_owner(self, owner: str, conversation_id: str) -> bool:
        return conversation_id in self.known and self.known[conversation_id].owner == owner

    def forget(self, owner: str) -> None:
        for conversation_id in [key for key, each in self.known.items() if each.owner == owner]:
            self.delete(conversation_id)

    def open(self, documents: Sequence[str], owner: str = "") -> str:
        for each in documents:
            self.library.entry(each)
        new = FakeConversation(uuid4().hex, documents[0], "", datetime.now(UTC), owner, tuple(documents))
        self.known[new.conversation_id] = new
        return new.conversation_id

    def documents(self, conversation_id: str) -> tuple[str, ...]:
        return self.known[conversation_id].documents if conversation_id in self.known else ()

    def ask(self, document_id: str, conversation_id: str, question: str, owner: str = "") -> str:
        if conversation_id in self.known and not self.is_owner(owner, conversation_id):
            raise DocumentNotFound("This document has no such conversation.", "Start a new one.")
        self.library.catalogue.entry(document_id)
        if not question.strip():
            raise QuestionRejected("The question is empty.", "Write what you would like to know.")
        if "bug" in question:
            raise ValueError("a bug of the tests")
        conversation_id = conversation_id or uuid4().hex
        new = FakeConversation(conversation_id, document_id, question[:80], datetime.now(UTC), owner, (document_id,))
        conversation = self.known.setdefault(conversation_id, new)
        conversation.title = conversation.title or question[:80]
        state = "waiting" if "early" in question else "looking"
        conversation.turns.append(
            Turn(question, replace(NOTHING, citations=CITED if "early" in question else ()), state)
        )
        self._begin(conversation)
        return conversation_id

    def again(self, conversation_id: str) -> None:
        conversation = self.known[conversation_id]
        if conversation.turns[-1].is_open:
            raise Busy("An answer is still to come.", "Wait for it.")
        conversation.turns[-1] = replace(conversation.turns[-1], answer=NOTHING, state="looking")
        self._begin(conversation)

    def stop(self, conversation_id: str) -> None:
        self._stops[conversation_id].set()
        turns = self.known[conversation_id].turns
        if turns[-1].is_open:
            turns[-1] = replace(turns[-1], answer=replace(turns[-1].answer, stopped=True), state="stopped")

    def follow(self, conversation_id: str) -> Iterator[Turn]:
        while (turn := self.known[conversation_id].turns[-1]).state in ("looking", "answering"):
            yield turn
            time.sleep(0.005)

    def turns(self, conversation_id: str) -> list[Turn]:
        return list(self.known[conversation_id].turns) if conversation_id in self.known else []

    def conversations(self, document_id: str, owner: str = "") -> list[FakeConversation]:
        mine = [
            each for each in self.known.values() if document_id in each.documents and each.owner == owner and each.title
        ]
        return sorted(mine, key=lambda each: each.updated_at, reverse=True)

    def delete(self, conversation_id: str) -> None:
        self.deleted = {conversation_id: self.known.pop(conversation_id)}

    def bring_back(self, conversation_id: str, owner: str = "") -> None:
        if conversation_id not in self.deleted or self.deleted[conversation_id].owner != owner:
            raise DocumentNotFound("This conversation is gone for good.", "Start a new one.")
        self.known[conversation_id] = self.deleted.pop(conversation_id)

    def rename(self, conversation_id: str, title: str) -> None:
        self.known[conversation_id].title = title

    def _begin(self, conversation: FakeConversation) -> None:
        stop = self._stops[conversation.conversation_id] = Event()
        Thread(target=self._answer, args=(conversation, len(conversation.turns) - 1, stop), daemon=True).start()

    def _answer(self, conversation: FakeConversation, place: int, stop: Event) -> None:
        self.asked += 1
        question = conversation.turns[place].question
        early, found = "early" in question, "unicorn" not in question.lower()

        def entry() -> DocumentEntry:
            return self.library.catalogue.entry(conversation.document_id)

        def put(answer: Answer, state: str) -> None:
            if not stop.is_set():
                conversation.turns[place] = Turn(question, answer, state)

        while early and entry().progress.pages_done < EARLY_PAGES:
            if stop.wait(0.05):
                return
        reading = entry().progress.stage == "reading"
        coverage = f"pages 1-{entry().progress.pages_done} of {PAGES}" if reading else ""
        figures = (0, 3), 12_800, 31, 0.4, 2.1, 18.0, "Fake", "exact"
        cited, documents = CITED, conversation.documents
        if len(documents) > 1:
            cited = tuple(
                replace(each, document_id=key, title=self.library.documents[key].title)
                for each, key in zip(CITED, documents, strict=False)
            )
        answer = Answer("", found, cited, *figures, False, coverage, 94.0, conversation.conversation_id, self.asked)
        put(answer, "answering")
        words = ""
        for piece in ANSWER.split(" ") if found else ():
            if stop.wait(self.word_seconds):
                return
            words += ("" if not words else " ") + piece
            put(replace(answer, answer=words), "answering")
        answer = replace(answer, answer=words if found else NOT_FOUND)
        conversation.updated_at = datetime.now(UTC)
        put(answer, "partial" if early and reading else "done")
        while early and entry().progress.stage == "reading":
            if stop.wait(0.05):
                return
        if early:
            put(replace(answer, coverage="", checked_pages=PAGES), "done")


class FakeKeys:
    """One key that may do everything."""

    def key_of(self, secret: str) -> Key | None:
        return Key(id="fake", name="fake", digest="", scopes=list(SCOPES)) if secret == "fake-key" else None


class FakeApp:
    """The whole app in memory; `loading_seconds` is how long the reader takes to be ready."""

    may_ask = True

    def __init__(
        self,
        home: Path,
        read_seconds: float = 6.0,
        word_seconds: float = 0.05,
        loading_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.settings = replace(Settings(), home=home, browser=False)
        self.clock = clock
        self.ready_at = clock() + loading_seconds
        self.keys = FakeKeys()
        self.library = FakeLibrary(clock, read_seconds, home)
        self.questions = self.chat = FakeChat(self.library, word_seconds)
        self.search = FakeSearch(self.library, self.chat, LINES, CITED[0])
        self.sharing = Sharing(self.library, self.questions, self.chat, self.search, self.status)

    def status(self) -> ReaderStatus:
        state = "ready" if self.clock() >= self.ready_at else "loading"
        return ReaderStatus(
            state,
            "SmolLM2-135M-Instruct",
            "No GPU was found, so the embedded reader was chosen.",
            "Qwen3-0.6B, with --model Qwen/Qwen3-0.6B",
        )

    def close(self) -> None:
        """Nothing but a share to close."""
        self.sharing.stop()
