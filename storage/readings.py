"""What the store knows of readings: their sections, the journal of blocks, and how far they are."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, delete, func, select
from sqlalchemy.orm import Session, aliased

from storage.errors import BlockConflict, DatabaseDamaged
from storage.models import Block, Document, Reading, ReadingState, Section, utc_now
from storage.sessions import Sessions, stored


class SectionRead(NamedTuple):
    """A section's pages and tokens, and how many of the tokens are in committed blocks."""

    first_page: int
    last_page: int
    num_tokens: int
    tokens_read: int

    @property
    def last_page_read(self) -> int:
        """About, as if all its pages were of one length; the page before the section where nothing of it is read."""
        return self.first_page - 1 + (self.last_page - self.first_page + 1) * self.tokens_read // self.num_tokens


class Readings(Sessions):
    """Verbs about readings, sections and blocks."""

    def start_reading(
        self, document_id: str, reader: str, model_name: str, recipe: str, sections: Sequence[Section]
    ) -> Reading:
        """Queue a document for this reader, or return the reading there is. Raises NotStored."""
        with self._write() as session:
            stored(session, Document, document_id)
            reading = session.scalar(_by_reader(document_id, reader))
            if reading is None:
                reading = Reading(
                    document_id=document_id,
                    reader=reader,
                    model_name=model_name,
                    recipe=recipe,
                    num_tokens=sum(section.num_tokens for section in sections),
                )
                session.add(reading)
                session.flush()
                session.add_all(replace(section, reading_id=reading.id) for section in sections)
            return reading

    def reading(self, reading_id: int) -> Reading | None:
        """None where there is none."""
        with self._read() as session:
            return session.get(Reading, reading_id)

    def find_reading(self, document_id: str, reader: str) -> Reading | None:
        """The reading of this document by this reader, if there is one."""
        with self._read() as session:
            return session.scalar(_by_reader(document_id, reader))

    def readings(self, document_id: str | None = None, state: ReadingState | None = None) -> list[Reading]:
        """Oldest first, of one document or all, in one state or any."""
        wanted = select(Reading).order_by(Reading.id)
        if document_id is not None:
            wanted = wanted.where(Reading.document_id == document_id)
        if state is not None:
            wanted = wanted.where(Reading.state == state)
        with self._read() as session:
            return list(session.scalars(wanted))

    def set_reading_state(
        self,
        reading_id: int,
        state: ReadingState,
        error: dict[str, str] | None = None,
        only_from: Collection[ReadingState] = (),
    ) -> bool:
        """Also sets or clears the error. With `only_from`, nothing happens in any other state.

        Returns whether it was set. Raises NotStored.
        """
        with self._write() as session:
            reading = stored(session, Reading, reading_id)
            if only_from and reading.state not in only_from:
                return False
            reading.state = state
            reading.error = error
            return True

    def touch_reading(self, reading_id: int) -> None:
        """Note that the reading was used just now. Raises NotStored."""
        with self._write() as session:
            stored(session, Reading, reading_id).last_used_at = utc_now()

    def delete_reading(self, reading_id: int) -> list[str]:
        """Forget the reading; returns the block files to unlink."""
        of_reading = select(Block.file_name).join(Section).where(Section.reading_id == reading_id)
        with self._write() as session:
            files = set(session.scalars(of_reading))
            session.execute(delete(Reading).where(Reading.id == reading_id))
            files -= set(session.scalars(_still_named(files)))
        self._empty_log()
        return sorted(files)

    def sections(self, reading_id: int) -> list[Section]:
        """In order."""
        with self._read() as session:
            of_reading = select(Section).where(Section.reading_id == reading_id).order_by(Section.position)
            return list(session.scalars(of_reading))

    def read_so_far(self, reading_id: int) -> list[SectionRead]:
        """How much of each section is read, in order, without its token ids."""
        with self._read() as session:
            return read_by_reading(session, Reading.id == reading_id).get(reading_id, [])

    def tokens_read(self, section_id: int) -> int:
        """How many of a section's tokens are in committed blocks."""
        with self._read() as session:
            return session.scalar(_tokens_read(section_id)) or 0

    def section(self, section_id: int) -> Section | None:
        """None where there is none."""
        with self._read() as session:
            return session.get(Section, section_id)

    def seconds_to_read(self, sections: Sequence[Section]) -> float:
        """What reading these sections took: the longest of every reading by their model, since others are made of it.

        Of a deleted section, its own seconds.
        """
        alike, other = aliased(Reading), aliased(Section)
        longest = (
            select(Section.id, func.max(other.seconds))
            .join(Reading, Reading.id == Section.reading_id)
            .join(alike, (alike.document_id == Reading.document_id) & (alike.model_name == Reading.model_name))
            .join(other, (other.reading_id == alike.id) & (other.position == Section.position))
            .where(Section.id.in_([section.id for section in sections]))
            .group_by(Section.id)
        )
        with self._read() as session:
            found = {row[0]: row[1] for row in session.execute(longest)}
        return sum(found.get(section.id, section.seconds) for section in sections)

    def add_section_seconds(self, section_id: int, seconds: float) -> None:
        """Add to the time that the section and its reading took. Raises NotStored."""
        with self._write() as session:
            section = stored(session, Section, section_id)
            section.seconds += seconds
            _sum_up(session, section.reading_id)

    def finish_section(self, section_id: int, seconds: float, instead: Sequence[Block] = ()) -> list[str]:
        """Add the last `seconds`; the section is ready, and with the last section the reading.

        Blocks given as `instead` take the place of the journalled ones; returns the files to unlink. Raises NotStored,
        and BlockConflict where the blocks do not hold the whole section.
        """
        with self._write() as session:
            section = stored(session, Section, section_id)
            section.seconds += seconds
            section.state = "ready"
            files = _replace_blocks(session, section_id, instead) if instead else []
            _expect_read(session, section_id, section.num_tokens)
            reading = _sum_up(session, section.reading_id)
            unfinished = select(Section.id).where(Section.reading_id == reading.id, Section.state != "ready")
            if session.scalar(unfinished.limit(1)) is None:
                reading.state = "ready"
                reading.error = None
            return files

    def add_block(self, section_id: int, block: Block, *behind: Block) -> list[str]:
        """Journal a block whose file is safe on disk, and those behind it, all or none; the section is being read.

        Of those behind, one without tokens takes the place of that at its position; returns the files to unlink.
        Raises BlockConflict where the first does not begin at the token after those that are journalled, and NotStored
        where the section is gone.
        """
        with self._write() as session:
            section = stored(session, Section, section_id)
            _expect_read(session, section_id, block.start_token)
            beside = [each for each in behind if not each.stop_token]
            places = Block.position.in_([each.position for each in beside])
            files = _replace_blocks(session, section_id, beside, places) if beside else []
            session.add_all(replace(each, section_id=section_id) for each in (block, *behind) if each.stop_token)
            if section.state == "waiting":
                section.state = "reading"
            _sum_up(session, section.reading_id)
            return files

    def replace_block(self, section_id: int, block: Block) -> list[str]:
        """Put a block in the place of the one at its position, if there is one; returns the files to unlink.

        Raises NotStored.
        """
        with self._write() as session:
            stored(session, Section, section_id)
            return _replace_blocks(session, section_id, [block], Block.position == block.position)

    def blocks(self, section_id: int) -> list[Block]:
        """In order."""
        with self._read() as session:
            return list(session.scalars(select(Block).where(Block.section_id == section_id).order_by(Block.position)))

    def drop_blocks(self, section_id: int, only_with: Collection[str] = ()) -> list[str]:
        """Send a section back to be read again, and a reading that was ready to the queue; returns files to unlink.

        Nothing is dropped where files given as `only_with` are its blocks no more. Raises NotStored.
        """
        with self._write() as session:
            section = stored(session, Section, section_id)
            files = set(session.scalars(select(Block.file_name).where(Block.section_id == section_id)))
            if not files.issuperset(only_with):
                return []
            session.execute(delete(Block).where(Block.section_id == section_id))
            section.state = "waiting"
            section.seconds = 0.0
            reading = _sum_up(session, section.reading_id)
            if reading.state == "ready":
                reading.state = "queued"
            return sorted(files - set(session.scalars(_still_named(files))))

    def all_block_files(self) -> set[str]:
        """The names of every block file that a row stands for."""
        with self._read() as session:
            return set(session.scalars(select(Block.file_name)))


def read_by_reading(session: Session, which: ColumnElement[bool]) -> dict[int, list[SectionRead]]:
    """How much of each section of some readings is read, in order, without its token ids."""
    read = func.coalesce(func.max(Block.stop_token), 0)
    of_readings = (
        select(Section.reading_id, Section.first_page, Section.last_page, Section.num_tokens, read)
        .join(Reading, Reading.id == Section.reading_id)
        .outerjoin(Block)
        .where(which)
        .group_by(Section.id)
        .order_by(Section.reading_id, Section.position)
    )
    found: dict[int, list[SectionRead]] = {}
    for reading_id, *facts in session.execute(of_readings):
        found.setdefault(reading_id, []).append(SectionRead(*facts))
    if any(each.num_tokens < 1 for sections in found.values() for each in sections):
        raise DatabaseDamaged("a section without tokens")
    return found


def _by_reader(document_id: str, reader: str) -> Select[Reading]:
    return select(Reading).where(Reading.document_id == document_id, Reading.reader == reader)


def _tokens_read(section_id: int) -> Select[int]:
    return select(func.max(Block.stop_token)).where(Block.section_id == section_id)


def _still_named(files: Collection[str]) -> Select[str]:
    """Those of some files that a row stands for."""
    return select(Block.file_name).where(Block.file_name.in_(files))


def _expect_read(session: Session, section_id: int, tokens: int) -> None:
    """Raise BlockConflict unless the blocks of a section hold so many tokens."""
    read = session.scalar(_tokens_read(section_id)) or 0
    if read != tokens:
        raise BlockConflict(f"section {section_id} is read up to token {read}, not {tokens}")


def _replace_blocks(
    session: Session, section_id: int, blocks: Sequence[Block], *which: ColumnElement[bool]
) -> list[str]:
    """Put blocks in the place of a section's, or of some of them; returns the files that no row stands for any more."""
    replaced = select(Block).where(Block.section_id == section_id, *which)
    files = {block.file_name for block in session.scalars(replaced)}
    session.execute(delete(Block).where(Block.section_id == section_id, *which))
    session.add_all(replace(block, section_id=section_id) for block in blocks)
    session.flush()
    return sorted(files - set(session.scalars(_still_named(files))))


def _sum_up(session: Session, reading_id: int) -> Reading:
    """Bring the figures of a reading in step with its sections and blocks."""
    reading = stored(session, Reading, reading_id)
    of_reading = Section.reading_id == reading_id
    reading.seconds = session.scalar(select(func.sum(Section.seconds)).where(of_reading)) or 0.0
    # PostgreSQL adds numbers up to decimals.
    reading.num_bytes = int(session.scalar(select(func.sum(Block.num_bytes)).join(Section).where(of_reading)) or 0)
    return reading
