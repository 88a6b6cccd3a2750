"""Ownership: who asks, and which rows are his. One clause for each kind of row, which every statement of his gets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, Select, event, exists, false, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from storage.models import (
    ApiKey,
    Block,
    Citation,
    Conversation,
    Document,
    Message,
    Notes,
    Page,
    PageVectors,
    Person,
    Reading,
    Section,
    Share,
    SignIn,
)

EVERYBODY = "*"
"""Whom a share is with, where it is with all people of the home."""


@dataclass(frozen=True)
class Viewer:
    """Whoever asks: unless anything else is said the home's user, and what runs in the background."""

    id: str = ""
    has_all: bool = True
    """Whether he is an owner, from whom nothing in the library is kept."""
    only: frozenset[str] | None = None
    """The documents that a link gave him, which are not his; None for a person of the home."""

    @property
    def names(self) -> tuple[str, ...]:
        """Whom a collection is shared with that is shared with him."""
        return (self.id, EVERYBODY) if self.only is None else ()

    def own_id(self, digest: str) -> str:
        """The id of his document of these bytes, which is nobody else's."""
        return sha256(f"{self.id} {digest}".encode()).hexdigest() if self.id else digest

    def restrict(self, session: Session, changing: bool) -> None:
        """Have every statement of a session find only what is his to see, or to change."""
        if self.has_all:
            return
        options = _options(self, changing)

        def on_execute(state: ORMExecuteState) -> None:
            assert state.is_orm_statement, f"nothing says whose the rows are: {state.statement}"
            state.statement = state.statement.options(*options)

        event.listen(session, "do_orm_execute", on_execute)

    def clauses(self, changing: bool) -> Mapping[type[Any], Callable[[Any], ColumnElement[bool]]]:
        """By kind of row, which are his."""
        # Tables under other names, which no statement takes for its own.
        reading, section = (each.__table__.alias() for each in (Reading, Section))
        conversation, message, person = (each.__table__.alias() for each in (Conversation, Message, Person))
        me, names, seen, documents = self.id, self.names, self._documents(), self._documents(changing)
        readings = select(reading.c.id).where(reading.c.document_id.in_(documents))
        sections = select(section.c.id).where(section.c.reading_id.in_(readings))
        whole = conversation.c.document_id.in_(seen), ~exists().where(_elements(conversation.c.beside).not_in(seen))
        talks = select(conversation.c.id).where(conversation.c.owner == me, *whole)
        messages = select(message.c.id).where(message.c.conversation_id.in_(talks))
        nobody = select(person.c.id).where(false())
        return {
            Document: lambda row: row.id.in_(documents),
            **dict.fromkeys((Page, Notes, PageVectors, Reading), lambda row: row.document_id.in_(documents)),
            Section: lambda row: row.reading_id.in_(readings),
            Block: lambda row: row.section_id.in_(sections),
            Conversation: lambda row: row.id.in_(talks),
            Message: lambda row: row.conversation_id.in_(talks),
            Citation: lambda row: row.message_id.in_(messages),
            ApiKey: lambda row: row.owner == me,
            Share: (lambda row: row.owner == me)
            if changing
            else lambda row: or_(row.owner == me, row.person.in_(names)),
            Person: lambda row: row.id.in_(nobody),
            SignIn: lambda row: row.person_id.in_(nobody),
        }

    def _documents(self, changing: bool = False) -> Select[tuple[str]]:
        """Ids of those that he may see, or change."""
        document, share = Document.__table__.alias(), Share.__table__.alias()
        ids = select(document.c.id)
        if self.only is not None:
            return ids.where(false() if changing else document.c.id.in_(self.only))
        own = document.c.owner == self.id
        to_him = share.c.owner == document.c.owner, share.c.person.in_(self.names)
        shared = exists().where(*to_him, share.c.tag == _elements(document.c.tags))
        return ids.where(own if changing else or_(own, shared))


@lru_cache(256)
def _options(viewer: Viewer, changing: bool) -> Sequence[ORMOption]:
    clauses = viewer.clauses(changing).items()
    return [with_loader_criteria(kind, clause, include_aliases=True) for kind, clause in clauses]


class _Each(GenericFunction[str]):
    name = "json_each"
    inherit_cache = True


@compiles(_Each, "postgresql")
def _each(element: _Each, compiler: SQLCompiler, **how: Any) -> str:
    return f"json_array_elements_text({compiler.process(element.clauses, **how)})"


def _elements(column: Any) -> Any:
    """The elements of a JSON list, each in a row of its own beside that of the list."""
    return _Each(column).table_valued("value").c.value
