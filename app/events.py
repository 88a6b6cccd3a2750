"""What a running task reports, as one stream of tagged values shared by the command line and the page."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Forecast:
    """What reading a document will cost, known before it is read."""

    pages: int
    pages_without_text: int
    tokens: int
    sections: int
    seconds: float
    disk_bytes: int
    free_disk_bytes: int


@dataclass(frozen=True)
class Progress:
    """How far one document is.

    `stage` is parsing, ocr, locked (needs a password), waiting (for the user's word), queued, reading, paused, ready,
    failed or cancelled.
    """

    document_id: str
    stage: str
    done: int = 0
    """Pages while parsing and by OCR, tokens while reading."""
    total: int = 0
    pages_done: int = 0
    pages_total: int = 0
    tokens_per_second: float = 0.0
    seconds_left: float | None = None
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Cited:
    """A passage, marked on its page. `page` is 1-based; boxes are fractions of the page, origin top-left."""

    mark: int
    page: int
    label: str
    quote: str
    boxes: tuple[tuple[float, float, float, float], ...]
    score: float
    span: tuple[int, int] | None = None
    """The characters (start, end) of the quote that answer, where they are known."""
    document_id: str = ""
    """Of several documents that were asked, the one that it is of; empty where one was asked."""
    title: str = ""
    """What that one is called."""

    @property
    def words(self) -> str:
        """Those characters of the quote that answer; empty where they are not known."""
        return self.quote[slice(*self.span)] if self.span else ""


@dataclass(frozen=True)
class Working:
    """What is done before an answer that takes long: `done` parts of `total`."""

    doing: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Evidence:
    """The passages, known before the first word of the answer. Without `found` they are only the closest ones."""

    found: bool
    citations: tuple[Cited, ...]
    coverage: str = ""
    """What part of the document was read, when that is not all of it: "pages 1-212 of 640"."""
    understood: str = ""
    """The question as it is completed from those before it; empty where it is whole."""
    answering: bool = False
    """Whether words follow although nothing is found: a reader that is strong enough says what it read."""


@dataclass(frozen=True)
class TextDelta:
    """A further piece of the model's own words."""

    text: str


@dataclass(frozen=True)
class Answer:
    """The end of a question: everything that `ask --json` prints. `[1]` in it stands behind what citation 1 holds."""

    answer: str = ""
    found: bool = False
    citations: tuple[Cited, ...] = ()
    sections: tuple[int, ...] = ()
    reused_tokens: int = 0
    recomputed_tokens: int = 0
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    model: str = ""
    recipe: str = ""
    stopped: bool = False
    coverage: str = ""
    reading_seconds: float = 0.0
    """Seconds it took to read these sections once: what a reader without memory would spend again. As far as that is
    known: of a memory whose exact one is gone, what making it took."""
    conversation_id: str = ""
    message_id: int = 0
    checked_pages: int = 0
    """Pages of the document, where an answer that was given before all were read has been checked against all."""
    understood: str = ""
    """The question as it was completed from those before it; empty where it is whole."""
    unsupported: tuple[tuple[int, int], ...] = ()
    """The characters (start, end) of it that are numbers, names and dates which stand in none of its passages."""
    withheld: bool = False
    """Whether a weak reader's words were left out, because they did not match the passages."""
    ended: str = ""
    """Why it ends early: "cut" at the most tokens that an answer may have, or "repeated" where it went in circles."""
    weak: bool = False
    """Whether the model is one that should be read with care: passages first."""
    looked: str = ""
    """Of several documents: in which ones the answer was sought."""


AskEvent = Working | Evidence | TextDelta | Answer


@dataclass(frozen=True)
class ConversationEntry:
    """One line in the list of a document's conversations."""

    conversation_id: str
    title: str
    updated_at: datetime
    documents: tuple[str, ...] = ()
    """Ids of all documents that it is about."""
    versions: tuple[str, ...] = ()
    """Ids of all conversations that were made from each other, itself among them, oldest first."""
    about: str = ""
    """What its documents are called, in a list over all documents."""


@dataclass(frozen=True)
class Turn:
    """A question and its answer, as remembered.

    `state` is waiting (for the document to be read; the answer holds the passages with the question's words), looking
    (for the passages that answer), answering (as far as it was said), partial (from the part that was read by then),
    checking (the same, while it is revised), done, stopped or failed, with `message` and `hint`.
    """

    question: str
    answer: Answer
    state: str = "done"
    message: str = ""
    hint: str = ""
    doing: str = ""
    """What is done before the first word of an answer that takes long."""
    evidence: Evidence | None = None
    """The passages of an answer on its way."""

    @property
    def is_open(self) -> bool:
        """Whether more is to come."""
        return self.state in ("waiting", "looking", "answering", "partial", "checking")


@dataclass(frozen=True)
class DocumentEntry:
    """One line of the library."""

    document_id: str
    title: str
    file_name: str
    pages: int
    pages_without_text: int
    num_bytes: int
    pod_bytes: int
    progress: Progress
    forecast: Forecast | None = None
    recipe: str = ""
    """How it is kept, or is to be kept; empty until the model is there."""
    answers_from: str = ""
    """The recipe of the memory that answers while another one is being made."""
    outline: tuple[tuple[int, str, int], ...] = field(default=())
    media_type: str = ""
    note: str = ""
    """What a user should know about how the file was read."""
    attachments: tuple[tuple[str, int], ...] = ()
    """Name and bytes of each file inside the file, which can be added as a document; 0 bytes where it does not say."""
    pages_for_ocr: int = 0
    """Pages without text that OCR may read."""
    tags: tuple[str, ...] = ()
    """What its user sorts it under."""
    is_own: bool = True
    """Whether whoever sees it may change it too."""
    used_at: datetime | None = None
    """When it was read or asked last."""

    @property
    def is_pdf(self) -> bool:
        """Whether it is shown by pdf.js, and passages can be marked in a copy of it."""
        return self.media_type == "application/pdf"

    @property
    def name(self) -> str:
        """What it is called: its title, or else its file's name."""
        return self.title or self.file_name


@dataclass(frozen=True)
class RecipeStep:
    """A recipe that a document can be kept by: what it costs and keeps."""

    name: str
    parts: str
    keeps: str
    share: float = 0.0
    """Of the bytes of the exact memory."""
    disk_bytes: int = 0
    """A forecast, until the memory is there."""
    seconds: float = 0.0
    """About how long making it takes; 0 where it is there."""
    ready: bool = False
    needs_text: bool = True
    """Whether the text has to be read again for it."""
    why_not: str = ""
    """Why the model cannot be read so; empty where it can."""


@dataclass(frozen=True)
class PresetState:
    """How a document is kept, and how it could be."""

    document_id: str
    chosen: str
    answers_from: str
    """The recipe of the memory that answers at this moment; empty where nothing is read."""
    steps: tuple[RecipeStep, ...]
    kept: tuple[tuple[str, int], ...] = ()
    """Memories beside the chosen one, once that is ready, by recipe and bytes."""
    goes: tuple[str, ...] = ()
    """Recipes whose memory is removed once another one is chosen and ready."""

    @property
    def ready(self) -> bool:
        """Whether the document is kept as chosen."""
        return any(step.ready for step in self.steps if step.name == self.chosen)


@dataclass(frozen=True)
class ReaderEntry:
    """A reader that could be chosen, or that has read something here; figures that nobody knows are 0."""

    choice: str
    """What chooses it; empty where its files are not known."""
    name: str
    in_use: bool = False
    billions: float = 0.0
    """Of parameters."""
    licence: str = ""
    download_bytes: int = 0
    """What is to be fetched, about; 0 where it is here."""
    needed_bytes: int = 0
    """Memory that it takes with a document, about, where this machine runs models."""
    fits: bool = True
    tokens_per_second: float = 0.0
    """While it reads: as it was measured, or a forecast from the reader in use."""
    measured: bool = False
    documents: int = 0
    """Of which it has pods, and how many bytes they take."""
    pod_bytes: int = 0
    used_at: datetime | None = None
    """When the last of them was."""
    can_prepare: bool = False
    """Whether it could be found out how its memory is coded, which some recipes need."""


@dataclass(frozen=True)
class ReaderStatus:
    """The model behind the page: `state` is loading, ready or failed; `why` says how it was chosen."""

    state: str
    name: str
    why: str
    better: str = ""
    doing: str = ""
    """What goes on in the background while it is ready, and what that means meanwhile."""
    notice: str = ""
    """What happened to the library itself, in whole sentences."""
