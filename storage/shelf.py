"""The shelf: documents with what a list tells of them, in as many queries for a thousand as for one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import func, select, true

from storage.models import Document, Page, PageState, Reading
from storage.people import People
from storage.readings import SectionRead, read_by_reading


class Shelved(NamedTuple):
    """A document, how many of its pages are in each state, and its readings, oldest first, with their sections."""

    document: Document
    pages: Mapping[PageState, int]
    readings: Sequence[Reading]
    sections: Mapping[int, Sequence[SectionRead]]
    """By reading, in order."""


class Shelf(People):
    """The verb of lists."""

    def shelf(self, document_id: str | None = None) -> list[Shelved]:
        """That document, or all, newest first."""
        of_documents, of_pages, of_readings = (
            true() if document_id is None else column == document_id
            for column in (Document.id, Page.document_id, Reading.document_id)
        )
        counted = (
            select(Page.document_id, Page.state, func.count()).where(of_pages).group_by(Page.document_id, Page.state)
        )
        kept = select(Document).where(Document.state != "deleted", of_documents)
        pages: dict[str, dict[PageState, int]] = {}
        readings: dict[str, list[Reading]] = {}
        with self._read() as session:
            for each, state, number in session.execute(counted):
                pages.setdefault(each, {})[state] = number
            for reading in session.scalars(select(Reading).where(of_readings).order_by(Reading.id)):
                readings.setdefault(reading.document_id, []).append(reading)
            sections = read_by_reading(session, of_readings)
            documents = session.scalars(kept.order_by(Document.created_at.desc(), Document.id)).all()
        return [
            Shelved(
                each,
                pages.get(each.id, {}),
                own := readings.get(each.id, []),
                {r.id: sections.get(r.id, []) for r in own},
            )
            for each in self._told(documents)
        ]
