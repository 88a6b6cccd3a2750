"""What the store knows of documents and their pages."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import delete, insert, inspect, select

from storage import page_index
from storage.conversations import about
from storage.databases import WordIndex
from storage.models import Block, Conversation, Document, Notes, Page, PageState, PageVectors, Reading, Section
from storage.sessions import Sessions, count_change, stored

log = logging.getLogger(__name__)


class Documents(Sessions):
    """Verbs about documents and pages."""

    def add_document(self, document: Document) -> Document:
        """Keep the document, or return the one that has this id already."""
        with self._write() as session:
            known = session.get(Document, document.id)
            if known is None:
                known = replace(document)
                session.add(known)
                count_change(session)
            return known

    def save_pages(
        self,
        document_id: str,
        title: str,
        outline: Sequence[tuple[int, str, int]],
        pages: Iterable[Page],
        author: str = "",
        written: str = "",
        note: str = "",
        attachments: Sequence[tuple[str, int]] = (),
    ) -> Document:
        """Replace the pages and their index; the document is parsed. Raises NotStored."""
        # Taken before the transaction: a generator may take minutes, and nobody else could write meanwhile.
        rows = _rows(document_id, pages)
        with self._write(bulk=True) as session:
            document = stored(session, Document, document_id)
            session.execute(delete(Page).where(Page.document_id == document_id))
            session.execute(delete(Notes).where(Notes.document_id == document_id))
            session.execute(delete(PageVectors).where(PageVectors.document_id == document_id))
            if rows:
                session.execute(insert(Page), rows)
            index = [(row["number"], row["text"]) for row in rows]
            document.index_check = self._words.fill(session.connection(), document_id, index)
            document.title = document.title if document.is_named else title
            document.note = note
            document.outline = list(outline)
            document.author, document.written = author, written
            document.attachments = list(attachments)
            document.num_pages = len(rows)
            document.state = "parsed"
            document.error = None
            return document

    def replace_page(self, document_id: str, page: Page) -> None:
        """Put a page in the place of the one with its number, also in the index. Raises NotStored."""
        with self._write() as session:
            document = stored(session, Document, document_id)
            known = stored(session, Page, (document_id, page.number))
            session.execute(delete(Notes).where(Notes.document_id == document_id))
            changed = page.number, known.text, page.text
            document.index_check = self._words.replace(session.connection(), document_id, *changed)
            for column in ("label", "text", "state", "width_pt", "height_pt", "words"):
                setattr(known, column, getattr(page, column))

    def mend_indexes(self) -> None:
        """Index the words of documents anew whose index in SQLite is not what was written."""
        with self._read() as session:
            connection = session.connection()
            indexed = page_index.indexed(connection)
            spoilt = [
                each
                for each in session.scalars(select(Document).where(Document.index_check != ""))
                if each.id not in indexed or page_index.checksum(connection, each.id) != each.index_check
            ]
        for document in spoilt:
            log.warning("the words of %s are indexed anew", document.name)
            numbered = select(Page.number, Page.text).where(Page.document_id == document.id)
            with self._write() as session:
                pages = [(number, text) for number, text in session.execute(numbered)]
                page_index.mend(session.connection(), document.id, pages)

    def draft_pages(self, document_id: str, num_pages: int, pages: Sequence[Page]) -> None:
        """Keep pages as they are found, of so many, so that they can be searched; `save_pages` will replace them.

        Page 1 begins anew. Raises NotStored.
        """
        rows = _rows(document_id, pages)
        index = [(row["number"], row["text"]) for row in rows]
        with self._write(bulk=True) as session:
            document = stored(session, Document, document_id)
            if document.state == "parsed":
                return
            known = delete(Page).where(Page.document_id == document_id)
            meant = delete(PageVectors).where(PageVectors.document_id == document_id)
            if rows[0]["number"] == 1:
                session.execute(known)
                session.execute(meant)
                self._words.drop(session.connection(), document_id)
            else:
                numbers = [row["number"] for row in rows]
                session.execute(known.where(Page.number.in_(numbers)))
                session.execute(meant.where(PageVectors.number.in_(numbers)))
            self._words.add(session.connection(), document_id, index)
            session.execute(insert(Page), rows)
            document.num_pages = num_pages

    def reject_document(self, document_id: str, message: str, hint: str) -> Document:
        """Note why the document cannot be read. Raises NotStored."""
        with self._write() as session:
            document = stored(session, Document, document_id)
            kept = {"parsed": "yes"} if document.state == "parsed" else {}
            document.state = "rejected"
            document.error = {"message": message, "hint": hint, **kept}
            return document

    def accept_document(self, document_id: str) -> None:
        """Take back that a document with pages cannot be read. Raises NotStored."""
        with self._write() as session:
            document = stored(session, Document, document_id)
            document.state, document.error = "parsed", None

    def rename_document(self, document_id: str, title: str) -> None:
        """Call it so from now on. Raises NotStored."""
        with self._write() as session:
            document = stored(session, Document, document_id)
            document.title, document.is_named = title, True

    def tag_document(self, document_id: str, tags: Sequence[str]) -> None:
        """Sort it under these tags, in place of those before. Raises NotStored."""
        with self._write() as session:
            stored(session, Document, document_id).tags = list(tags)

    def keep_otherwise(self, document_id: str, sha256: str) -> None:
        """Note that bytes of this sha256 take the place of the document's own. Raises NotStored."""
        with self._write() as session:
            stored(session, Document, document_id).kept = sha256

    def note_check(self, document_id: str, stamp: str) -> None:
        """Note that the document's bytes were found to be whole. Raises NotStored."""
        with self._write() as session:
            stored(session, Document, document_id).checked = stamp

    def choose_recipe(self, document_id: str, recipe: str) -> None:
        """Note how the document's memory is to be compressed. Raises NotStored."""
        with self._write() as session:
            stored(session, Document, document_id).recipe = recipe

    def document(self, document_id: str) -> Document | None:
        """None where there is none, or none any longer."""
        with self._read() as session:
            found = session.get(Document, document_id)
            return None if found is None or found.state == "deleted" else found

    def documents(self) -> list[Document]:
        """Newest first."""
        kept = select(Document).where(Document.state != "deleted")
        with self._read() as session:
            return list(session.scalars(kept.order_by(Document.created_at.desc(), Document.id)))

    def find_documents(self, prefix_or_title: str) -> list[Document]:
        """Those whose id, title or file name is this; else those whose id begins so or whose names have its words."""
        wanted = prefix_or_title.strip().casefold()
        if not wanted:
            return []
        # Not in SQL, where SQLite would fold the case of plain letters only.
        names = [(each, f"{each.title}\n{each.file_name}".casefold()) for each in self.documents()]
        return [each for each, named in names if wanted == each.id or wanted in named.split("\n")] or [
            each for each, named in names if each.id.startswith(wanted) or all(word in named for word in wanted.split())
        ]

    def doom_document(self, document_id: str) -> tuple[list[str], set[str]]:
        """Note that the document is to go, which takes no room; returns its block files and the identities of its
        sections. Raises NotStored.
        """
        of_document = select(Section.id, Section.identity).join(Reading).where(Reading.document_id == document_id)
        with self._write() as session:
            stored(session, Document, document_id).state = "deleted"
            sections = {row.id: row.identity for row in session.execute(of_document)}
            own = set(session.scalars(select(Block.file_name).where(Block.section_id.in_(sections))))
            named = select(Block.file_name).where(Block.section_id.not_in(sections), Block.file_name.in_(own))
            others = set(session.scalars(named))
            return sorted(own - others), set(sections.values())

    def doomed_documents(self) -> list[str]:
        """Ids of those whose deletion did not come to its end."""
        with self._read() as session:
            return list(session.scalars(select(Document.id).where(Document.state == "deleted")))

    def delete_document(self, document_id: str) -> None:
        """Forget the document with its pages, readings and conversations."""
        with self._write() as session:
            session.execute(delete(Conversation).where(about(document_id)))
            session.execute(delete(Document).where(Document.id == document_id))
            self._words.drop(session.connection(), document_id)
        self._empty_log()

    def page(self, document_id: str, number: int) -> Page | None:
        """The page of this 1-based number."""
        with self._read() as session:
            return session.get(Page, (document_id, number))

    def pages(self, document_id: str, numbers: Collection[int] | None = None) -> list[Page]:
        """All pages, or those of these 1-based numbers, in order."""
        wanted = select(Page).where(Page.document_id == document_id).order_by(Page.number)
        if numbers is not None:
            wanted = wanted.where(Page.number.in_(numbers))
        with self._read() as session:
            return list(session.scalars(wanted))

    def notes(self, document_id: str) -> dict[str, list[tuple[Any, ...]]]:
        """By part, what was noted of the document: (words, page, start, end) each."""
        with self._read() as session:
            found = session.scalars(select(Notes).where(Notes.document_id == document_id))
            return {each.part: each.points for each in found}

    def keep_notes(self, document_id: str, part: str, points: Sequence[tuple[Any, ...]]) -> None:
        """Note something of a part, in place of what was noted of it before. Raises NotStored."""
        with self._write() as session:
            stored(session, Document, document_id)
            session.merge(Notes(document_id=document_id, part=part, points=list(points)))

    def page_texts(self, document_id: str, numbers: Collection[int]) -> dict[int, str]:
        """The texts of those of these 1-based numbers that there are."""
        wanted = select(Page.number, Page.text).where(Page.document_id == document_id, Page.number.in_(numbers))
        with self._read() as session:
            return {row.number: row.text for row in session.execute(wanted)}

    def page_states(self, document_id: str) -> list[tuple[int, PageState]]:
        """Number and state of every page in order, without the text."""
        of_document = select(Page.number, Page.state).where(Page.document_id == document_id).order_by(Page.number)
        with self._read() as session:
            return [(number, state) for number, state in session.execute(of_document)]

    def page_labels(self, document_id: str) -> tuple[str, ...]:
        """The printed label of every page in order, without the text."""
        of_document = select(Page.label).where(Page.document_id == document_id).order_by(Page.number)
        with self._read() as session:
            return tuple(session.scalars(of_document))

    def search_pages(self, document_id: str, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
        """Numbers and BM25 scores of pages with any of these plain words or phrases, best first."""
        with self._read() as session:
            return self._words.search(session.connection(), document_id, terms, limit)

    def pages_with(self, document_ids: Sequence[str], words: str, limit: int) -> dict[str, list[int]]:
        """By document, numbers of the pages with all of these words, best first; the last may be a word's beginning."""
        with self._read() as session:
            return self._words.search_all(session.connection(), document_ids, words, limit)

    def pages_holding(self, document_ids: Sequence[str], terms: Sequence[str]) -> dict[str, list[set[int]]]:
        """By document, for each of these plain words the numbers of the pages with it."""
        with self._read() as session:
            return self._words.holding(session.connection(), document_ids, terms)

    @property
    def _words(self) -> WordIndex:
        return self._database.words


def _rows(document_id: str, pages: Iterable[Page]) -> list[dict[str, Any]]:
    columns = [column.key for column in inspect(Page).column_attrs]
    return [{key: getattr(page, key) for key in columns} | {"document_id": document_id} for page in pages]
