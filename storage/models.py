"""The nouns that DocPod remembers, as typed rows that stay readable after their session has ended.

They hold no behaviour and no relationships: ids point the way, and the store does the asking.
"""

import enum
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from uuid import uuid4

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from sqlalchemy.types import TypeDecorator

DocumentState = Literal["added", "parsed", "rejected", "deleted"]
"""Of a deleted one nothing is seen any more, and the last of it goes at the next start at the latest."""
PageState = Literal["ok", "empty", "scanned", "unreadable"]
ReadingState = Literal["queued", "reading", "paused", "ready", "failed", "cancelled"]
SectionState = Literal["waiting", "reading", "ready"]
Role = Literal["user", "assistant"]
MessageState = Literal["waiting", "partial", "done", "stopped", "failed"]
"""Waiting for the document to be read; answered from a part of it, to be revised; or at its end."""
Box = tuple[float, float, float, float]


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes, kept in UTC; a naive one is a mistake and is refused."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class JsonTuples(TypeDecorator[list[tuple[Any, ...]]]):
    """A list of tuples as JSON, which by itself would hand lists back."""

    impl = JSON
    cache_ok = True

    def process_result_value(self, value: Sequence[Any] | None, dialect: Dialect) -> list[tuple[Any, ...]] | None:
        return None if value is None else [tuple(row) for row in value]


def utc_now() -> datetime:
    """The current time, aware."""
    return datetime.now(UTC)


class Base(MappedAsDataclass, DeclarativeBase):
    """Owns the metadata, which a new database is made by; the steps of migrations come to the same."""

    type_annotation_map: ClassVar = {
        Literal: Enum(enum.Enum, native_enum=False, length=None),
        int: BigInteger().with_variant(Integer, "sqlite"),
    }


class Document(Base, kw_only=True):
    """A file of the library; its id is the sha256 of its bytes."""

    __tablename__ = "documents"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    title: Mapped[str]
    file_name: Mapped[str]
    media_type: Mapped[str]
    num_bytes: Mapped[int]
    num_pages: Mapped[int] = mapped_column(default=0)
    outline: Mapped[list[tuple[int, str, int]]] = mapped_column(JsonTuples, default_factory=list, repr=False)
    """(level, title, page) from top to bottom."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=utc_now)
    state: Mapped[DocumentState] = mapped_column(default="added")
    error: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True), default=None)
    """Message and hint of a rejected document."""
    recipe: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """How its memory is to be compressed; empty where nobody has chosen."""
    note: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """What a user should know about how the file was read."""
    author: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """As the file itself names it; empty where it does not."""
    written: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """The date that the file gives for itself, as YYYY-MM-DD; empty where it gives none."""
    is_named: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether its title is what its user calls it, which reading the file anew does not change."""
    tags: Mapped[list[str]] = mapped_column(JSON, default_factory=list, server_default=text("'[]'"))
    """What its user sorts it under, in order."""
    attachments: Mapped[list[tuple[str, int]]] = mapped_column(
        JsonTuples, default_factory=list, server_default=text("'[]'"), repr=False
    )
    """Name and bytes, as the file says, of each file inside it."""
    kept: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """sha256 of the bytes that are kept, where they are other ones, such as a copy without a password."""
    checked: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """Size and time of change of the bytes that were found to be whole."""

    index_check: Mapped[str] = mapped_column(default="", server_default=text("''"), repr=False)
    """Checksum of the index of its words (see `storage.page_index`); empty until it is parsed."""

    @property
    def digest(self) -> str:
        """sha256 of the bytes that are kept, if they are whole."""
        return self.kept or self.id

    @property
    def name(self) -> str:
        """What it is called: its title, or else its file's name."""
        return self.title or self.file_name


class Preference(Base, kw_only=True):
    """Something that was chosen once and holds until it is chosen anew."""

    __tablename__ = "preferences"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class ApiKey(Base, kw_only=True):
    """A key of a program that uses the library; what is kept of it does not open anything."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    """The start of the key, by which people name it."""
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True, repr=False)
    """sha256 of the key."""
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=utc_now)


class Page(Base, kw_only=True):
    """One page of a document: text, size, and its words with boxes (see `storage.packing`)."""

    __tablename__ = "pages"
    # So that counting them by state need not go past their text.
    __table_args__ = (Index("pages_by_state", "document_id", "state"),)

    document_id: Mapped[str] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True, default=""
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    """1-based."""
    label: Mapped[str]
    """The number that is printed on the page."""
    text: Mapped[str] = mapped_column(repr=False)
    state: Mapped[PageState]
    width_pt: Mapped[float]
    height_pt: Mapped[float]
    words: Mapped[bytes] = mapped_column(LargeBinary, repr=False)
    """Empty where the page is typeset from its text whenever it is shown."""


class Notes(Base, kw_only=True):
    """What was noted of a part of a document when all of it was gone through; `part` names the part and the way."""

    __tablename__ = "notes"

    document_id: Mapped[str] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True, default=""
    )
    part: Mapped[str] = mapped_column(primary_key=True)
    points: Mapped[list[tuple[Any, ...]]] = mapped_column(JsonTuples)
    """(words, page, start, end): a sentence, and the characters of the page that support it."""


class PageVectors(Base, kw_only=True):
    """What the windows of a page mean to one encoder: a vector for each, or none where the page has no words."""

    __tablename__ = "page_vectors"

    document_id: Mapped[str] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True, default=""
    )
    encoder: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    """Of the page, 1-based."""
    starts: Mapped[bytes] = mapped_column(LargeBinary, repr=False)
    """Where in the page's text each window begins, as int32."""
    vectors: Mapped[bytes] = mapped_column(LargeBinary, repr=False)
    """As float16."""


class Reading(Base, kw_only=True):
    """One document read by one reader; `reader` is the digest of everything that shapes the pod except its tokens."""

    __tablename__ = "readings"
    # Ids name block files, so none is given twice; the same holds for sections.
    __table_args__ = (UniqueConstraint("document_id", "reader"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    reader: Mapped[str]
    model_name: Mapped[str]
    recipe: Mapped[str]
    state: Mapped[ReadingState] = mapped_column(default="queued")
    num_tokens: Mapped[int] = mapped_column(default=0)
    """Of all sections, read or not."""
    num_bytes: Mapped[int] = mapped_column(default=0)
    """Of all blocks written so far."""
    seconds: Mapped[float] = mapped_column(default=0.0)
    """Spent so far on reading it, or on making it from another reading's memory."""
    error: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True), default=None)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=utc_now)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=utc_now)
    pinned: Mapped[bool] = mapped_column(default=False)


class Section(Base, kw_only=True):
    """A run of pages that fits the model's window, with the exact tokens that are read (see `storage.packing`)."""

    __tablename__ = "sections"
    __table_args__ = (UniqueConstraint("reading_id", "position"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    reading_id: Mapped[int] = mapped_column(ForeignKey("readings.id", ondelete="CASCADE"), default=0)
    position: Mapped[int]
    """0-based."""
    first_page: Mapped[int]
    last_page: Mapped[int]
    start_char: Mapped[int]
    """In the text of the first page."""
    end_char: Mapped[int]
    """In the text of the last page."""
    token_ids: Mapped[bytes] = mapped_column(LargeBinary, repr=False)
    num_tokens: Mapped[int]
    state: Mapped[SectionState] = mapped_column(default="waiting")
    seconds: Mapped[float] = mapped_column(default=0.0)
    identity: Mapped[str]
    """sha256 over the reader's digest and the token ids."""


class Block(Base, kw_only=True):
    """A file that holds tokens `start_token` to `stop_token` of a section's pod."""

    __tablename__ = "blocks"

    section_id: Mapped[int] = mapped_column(ForeignKey("sections.id", ondelete="CASCADE"), primary_key=True, default=0)
    position: Mapped[int] = mapped_column(primary_key=True)
    start_token: Mapped[int]
    stop_token: Mapped[int]
    file_name: Mapped[str]
    """Relative to the folder of pods."""
    num_bytes: Mapped[int]
    checksum: Mapped[str]
    """BLAKE3 of the whole file."""


class Conversation(Base, kw_only=True):
    """Questions and answers about one document or several; it goes with any of them."""

    __tablename__ = "conversations"
    __table_args__ = (Index("conversations_by_document", "document_id"),)

    id: Mapped[str] = mapped_column(String, primary_key=True, default_factory=lambda: uuid4().hex)
    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    title: Mapped[str]
    owner: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """The visitor whose it is; empty for the home's user."""
    beside: Mapped[list[str]] = mapped_column(JSON, default_factory=list, server_default=text("'[]'"))
    """Ids of the further documents that it is about."""
    is_deleted: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether it is out of sight, and goes unless it is brought back first."""
    copy_of: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """The first of the conversations that were made from each other; empty for that one itself."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=utc_now)

    @property
    def documents(self) -> tuple[str, ...]:
        """Ids of all documents that it is about."""
        return (self.document_id, *self.beside)

    @property
    def first(self) -> str:
        """The id of the first of those that were made from each other, which all of them share."""
        return self.copy_of or self.id


class Message(Base, kw_only=True):
    """A question or an answer; messages of one parent are branches, of which the newest is the active one."""

    __tablename__ = "messages"
    __table_args__ = (
        Index("messages_by_conversation", "conversation_id"),
        Index("messages_by_parent", "parent_id"),
        # Ids are never given twice, so the newest message has the greatest.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), default="")
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("messages.id"), default=None)
    role: Mapped[Role]
    content: Mapped[str]
    found: Mapped[bool | None] = mapped_column(default=None)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict)
    """How the answer came about: reused_tokens, recomputed_tokens, first_token_seconds, seconds, model, recipe."""
    state: Mapped[MessageState] = mapped_column(default="done")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=utc_now)


class Citation(Base, kw_only=True):
    """A passage that an answer rests on; boxes are fractions of the page, origin top-left."""

    __tablename__ = "citations"
    __table_args__ = (Index("citations_by_message", "message_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), default=0)
    mark: Mapped[int]
    """1-based."""
    page: Mapped[int]
    """1-based."""
    label: Mapped[str]
    quote: Mapped[str]
    boxes: Mapped[list[Box]] = mapped_column(JsonTuples)
    score: Mapped[float]
    span: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True), default=None)
    """The characters (start, end) of the quote that answer, where they are known."""
    document_id: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """Which of several documents the passage is of; empty where the conversation is about one."""
