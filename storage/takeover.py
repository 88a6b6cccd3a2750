"""The copy of a library from the folder of its home into the database of a server, and into a store."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial, reduce
from operator import xor
from typing import Any

from blake3 import blake3
from sqlalchemy import URL, Connection, Table, delete, exists, insert, select, update

from storage.blobs import digest_of
from storage.durable import atomic_file
from storage.errors import HomeBusy, PlaceRefused, StorageError
from storage.home import Home
from storage.migrations import migrate
from storage.models import Base, Document, Page, Preference
from storage.object_store import is_kept, put, store_of
from storage.postgres import Postgres
from storage.store import Store

_ROWS = 500


def take_over(home: Home) -> dict[str, int]:
    """Copy the files in the folder of a home to its store, and the rows of the database there to its server, where they
    are elsewhere; how many files, and rows by table. What is copied is read again and compared.

    Files that are there already stay; rows come in one transaction. Raises HomeBusy, PlaceRefused where another library
    is there, and StorageError where something reads otherwise.
    """
    local = URL.create("sqlite", database=str(home.database)).render_as_string()
    with home.alone() as alone, closing(Store.open(local)) as source:
        if not alone:
            raise HomeBusy(f"{home.root} is in use")
        home.claim(source.library, "")
        names = source.known_files() if home.bytes != home.root else set()
        for name in sorted(names):
            _copy_file(home, name)
        rows = _copy_rows(source, home.database_url) if home.is_served else {}
        return {"files": len(names), **rows}


def _copy_file(home: Home, name: str) -> None:
    source, target = home.root / name, home.bytes / name
    if not is_kept(target):
        with source.open("rb") as file, atomic_file(target, source.stat().st_size, partial(put, target)) as copy:
            shutil.copyfileobj(file, copy)
    if store := store_of(target):
        store.fetch(target, anew=True)
    if digest_of(target) != digest_of(source):
        raise StorageError(f"{name} was copied, but reads otherwise")


def _copy_rows(source: Store, url: str) -> dict[str, int]:
    with closing(Postgres(url)) as database:
        migrate(database)
        with source._database.engine.begin() as old, database.writing.begin() as new:
            counts = {}
            # All that a library has from its beginning.
            new.execute(delete(Preference))
            for table in Base.metadata.sorted_tables:
                if new.scalar(select(exists(table.select()))):
                    raise PlaceRefused("a library is in that database already")
                count = total = 0
                for rows in _rows(old, table):
                    new.execute(insert(table), rows)
                    count, total = count + len(rows), total ^ _checksum(rows)
                if reduce(xor, map(_checksum, _rows(new, table)), 0) != total:
                    raise StorageError(f"{table.name} was copied, but reads otherwise")
                counts[table.name] = count
                database.count_on(new, table)
            for document_id in new.scalars(select(Document.id).where(Document.state == "parsed")).all():
                pages = new.execute(select(Page.number, Page.text).where(Page.document_id == document_id)).all()
                check = database.words.fill(new, document_id, [(number, text) for number, text in pages])
                new.execute(update(Document).where(Document.id == document_id).values(index_check=check))
            return counts


def _rows(connection: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    """All rows, parents before their children; without NUL, which PostgreSQL has in no text."""
    found = connection.execute(select(table).order_by(*table.primary_key).execution_options(yield_per=_ROWS))
    for part in found.mappings().partitions():
        yield [{k: v.replace("\0", "\ufffd") if isinstance(v, str) else v for k, v in row.items()} for row in part]


def _checksum(rows: Iterable[dict[str, Any]]) -> int:
    """Of rows that no two are alike, in whichever order."""
    return reduce(xor, (int.from_bytes(blake3(repr(row).encode()).digest()) for row in rows), 0)
