"""What the store knows of the meaning of pages: their vectors, which come page by page while a document is read."""

from collections.abc import Sequence

from sqlalchemy import func, insert, select

from storage.models import Document, Page, PageVectors
from storage.sessions import Sessions, stored


class Vectors(Sessions):
    """Verbs about the vectors of pages."""

    def add_vectors(self, document_id: str, encoder: str, rows: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Keep number, starts and vectors of pages, but for those that have some. Raises NotStored."""
        columns = ("number", "starts", "vectors")
        of_document = {"document_id": document_id, "encoder": encoder}
        known = select(PageVectors.number).filter_by(**of_document)
        with self._write(bulk=True) as session:
            stored(session, Document, document_id)
            has = set(session.scalars(known))
            values = [dict(zip(columns, row, strict=True), **of_document) for row in rows if row[0] not in has]
            if values:
                session.execute(insert(PageVectors), values)

    def vectors(self, document_id: str, encoder: str) -> list[tuple[int, bytes, bytes]]:
        """Number, starts and vectors of the pages that have them, in order."""
        wanted = (
            select(PageVectors.number, PageVectors.starts, PageVectors.vectors)
            .where(PageVectors.document_id == document_id, PageVectors.encoder == encoder)
            .order_by(PageVectors.number)
        )
        with self._read() as session:
            return [(number, starts, vectors) for number, starts, vectors in session.execute(wanted)]

    def count_vectors(self, document_id: str, encoder: str) -> int:
        """How many pages have them."""
        of_document = PageVectors.document_id == document_id, PageVectors.encoder == encoder
        with self._read() as session:
            return session.scalar(select(func.count()).select_from(PageVectors).where(*of_document)) or 0

    def pages_without_vectors(self, encoder: str, limit: int, document_id: str = "") -> list[tuple[str, int]]:
        """Document and number of the first pages that have none, of one document or else of all, newest first."""
        has = (
            select(PageVectors.number)
            .where(
                PageVectors.document_id == Page.document_id,
                PageVectors.number == Page.number,
                PageVectors.encoder == encoder,
            )
            .exists()
        )
        wanted = select(Page.document_id, Page.number).join(Document, Document.id == Page.document_id).where(~has)
        if document_id:
            wanted = wanted.where(Page.document_id == document_id)
        with self._read() as session:
            ordered = wanted.order_by(Document.created_at.desc(), Page.document_id, Page.number).limit(limit)
            return [(each, number) for each, number in session.execute(ordered)]
