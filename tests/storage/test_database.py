"""The database: its shape, its transactions, threads and processes, and what deletes and full disks leave."""

import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect
from sqlalchemy.exc import OperationalError

from storage import DatabaseDamaged, Home, NewerDatabase, StorageFull, Store, checks
from storage.databases import Database, connect
from storage.migrations import FIRST, MIGRATIONS, m016_recipes_by_their_parts, migrate
from storage.models import Base
from tests.damage import change
from tests.storage.rows import A, B, document, filled, page

LATEST = FIRST + len(MIGRATIONS)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(connect(database_url)) as database:
        yield database


@pytest.fixture
def engine(home: Home) -> Iterator[Engine]:
    """Of SQLite."""
    with closing(connect(home.database_url)) as database:
        yield database.engine


def tables(database: Database | Engine) -> list[str]:
    return inspect(database if isinstance(database, Engine) else database.engine).get_table_names()


@pytest.fixture
def of_0_2_0(home: Home) -> None:
    """A database that 0.2.0 made, with a message."""
    with closing(sqlite3.connect(home.database)) as database:
        database.executescript(Path(__file__).with_name("schema_0_2_0.sql").read_text())
        database.execute("INSERT INTO documents VALUES ('d', 't', 'f', 'm', 1, 1, '[]', '2024', 'parsed', NULL, '')")
        database.execute("INSERT INTO conversations VALUES ('c', 'd', 't', '2024', '2024')")
        database.execute("INSERT INTO messages VALUES (1, 'c', NULL, 'user', 'zanzibar', 1, '{}', 'done', '2024')")
        database.execute("INSERT INTO message_search (rowid, content) VALUES (1, 'zanzibar')")
        database.commit()


def test_the_models_describe_the_database_of_an_earlier_version(home: Home, of_0_2_0: None, engine: Engine) -> None:
    Store.open(home.database_url).close()
    described = create_engine("sqlite://")
    Base.metadata.create_all(described)
    ours, theirs = inspect(engine), inspect(described)
    names = theirs.get_table_names()
    assert {name for name in tables(engine) if "_search" not in name} == {*names, "schema_version", checks.SCHEMA}
    for name in names:
        for facts in ("get_columns", "get_pk_constraint", "get_unique_constraints", "get_indexes"):
            left, right = ([*map(str, found(name))] for found in (getattr(ours, facts), getattr(theirs, facts)))
            # Which only triggers know of.
            assert sorted(each for each in left if checks.COLUMN not in each) == sorted(right), (name, facts)
    with engine.connect() as left, described.connect() as right:
        for sql in (
            "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY name",
            """SELECT m.name, "table", "from", "to", on_delete FROM sqlite_master m, pragma_foreign_key_list(m.name)
            ORDER BY 1, 3""",
        ):
            assert left.exec_driver_sql(sql).all() == right.exec_driver_sql(sql).all() != []
    described.dispose()


def test_migrating_again_changes_nothing(database: Database) -> None:
    migrate(database)
    migrate(database)
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version, name FROM schema_version").all() == [
            (3, "m003_no_index_of_messages"),
            (4, "m004_notes_of_documents"),
            (5, "m005_keys_of_programs"),
            (6, "m006_owner_of_a_conversation"),
            (7, "m007_vectors_and_pairs_of_signs"),
            (8, "m008_note_of_a_document"),
            (9, "m009_attachments_of_a_document"),
            (10, "m010_conversations_about_several_documents"),
            (11, "m011_names_and_second_thoughts"),
            (12, "m012_checks_of_originals"),
            (13, "m013_copies_of_conversations"),
            (14, "m014_tags_of_documents"),
            (15, "m015_checks_of_rows"),
            (16, "m016_recipes_by_their_parts"),
            (17, "m017_people"),
            (18, "m018_checks_of_the_schema"),
        ]


def m_add_shelf(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE shelves (id INTEGER PRIMARY KEY)")


def m_fail_late(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE half (id INTEGER PRIMARY KEY)")
    connection.exec_driver_sql("DELETE FROM documents")
    raise RuntimeError("power cut")


def test_a_failed_migration_leaves_nothing(database: Database) -> None:
    migrate(database)
    with database.writing.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO documents (id, title, file_name, media_type, num_bytes, num_pages, outline, created_at, "
            "state) VALUES ('a', 't', 'f', 'm', 1, 0, '[]', '2024-01-01 00:00:00.000000', 'added')"
        )
    with pytest.raises(RuntimeError, match="power cut"):
        migrate(database, [*MIGRATIONS, m_add_shelf, m_fail_late])
    assert "shelves" in tables(database)
    assert "half" not in tables(database)
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT max(version) FROM schema_version").scalar() == LATEST + 1
        assert connection.exec_driver_sql("SELECT count(*) FROM documents").scalar() == 1


def test_a_database_that_could_not_be_made_is_empty(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "complete", m_fail_late)
    with pytest.raises(RuntimeError, match="power cut"):
        migrate(database)
    assert tables(database) == []


def test_tables_of_a_later_step_are_checked_too(engine: Engine, home: Home) -> None:
    with closing(connect(home.database_url)) as database:
        migrate(database)
        migrate(database, [*MIGRATIONS, m_add_shelf])
    assert checks.COLUMN in {each["name"] for each in inspect(engine).get_columns("shelves")}


def test_a_database_from_the_future_is_refused(database_url: str, database: Database) -> None:
    migrate(database, [*MIGRATIONS, m_add_shelf])
    with pytest.raises(NewerDatabase, match=f"has schema {LATEST + 1}, .* up to {LATEST}"):
        Store.open(database_url)


def test_an_index_of_messages_goes_and_the_messages_stay(home: Home, of_0_2_0: None, engine: Engine) -> None:
    assert any("message_search" in name for name in tables(engine))
    Store.open(home.database_url).close()
    assert not any("message_search" in name for name in tables(engine))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT content FROM messages").scalar() == "zanzibar"


def test_what_earlier_names_of_recipes_meant_is_kept(database: Database) -> None:
    step = MIGRATIONS.index(m016_recipes_by_their_parts)
    migrate(database, MIGRATIONS[:step])
    with database.writing.begin() as connection:
        for number, name in enumerate(("packed", "faithful", "exact", "keep50")):
            connection.exec_driver_sql(
                "INSERT INTO documents (id, title, file_name, media_type, num_bytes, num_pages, outline, created_at, "
                f"state, recipe) VALUES ('{number}', 't', 'f', 'm', 1, 0, '[]', '2024-01-01 00:00:00.000000', 'added', "
                f"'{name}')"
            )
        connection.exec_driver_sql("INSERT INTO preferences (name, value) VALUES ('recipe', 'archive')")
    migrate(database, MIGRATIONS[: step + 1])
    with database.engine.connect() as connection:
        recipes = connection.exec_driver_sql("SELECT recipe FROM documents ORDER BY id").scalars().all()
        assert recipes == ["coded16+near4,1", "keep60+k8v4h", "exact", "keep50"]
        assert connection.exec_driver_sql("SELECT value FROM preferences").scalar() == "coded50+near4,1"


def test_every_connection_is_set_up(engine: Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            pragmas = ("journal_mode", "foreign_keys", "secure_delete", "busy_timeout")
            values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
            assert values == ["wal", 1, 1, 30_000]


def test_foreign_keys_are_enforced(database: Database) -> None:
    migrate(database)
    with pytest.raises(Exception, match=r"(?i)foreign key"), database.writing.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO conversations (id, document_id, title, created_at, updated_at) "
            "VALUES ('c', 'none', 't', '2024-01-01', '2024-01-01')"
        )


def test_everything_is_there_after_a_restart(database_url: str) -> None:
    store = Store.open(database_url)
    reading_id, section_ids, conversation_id = filled(store)
    before = (
        store.documents(), store.pages(A), store.reading(reading_id), store.sections(reading_id),
        store.blocks(section_ids[0]), store.messages(conversation_id), store.search_pages(A, ["zanzibar"], 5),
    )  # fmt: skip
    store.close()
    again = Store.open(database_url)
    assert before == (
        again.documents(), again.pages(A), again.reading(reading_id), again.sections(reading_id),
        again.blocks(section_ids[0]), again.messages(conversation_id), again.search_pages(A, ["zanzibar"], 5),
    )  # fmt: skip
    again.close()


def test_deleted_words_are_in_no_file_of_the_home(home: Home) -> None:
    def files_with(word: bytes) -> list[str]:
        return [path.name for path in home.root.rglob("*") if path.is_file() and word in path.read_bytes().lower()]

    store = Store.open(home.database_url)
    filled(store, A, "zanzibar")
    filled(store, B, "madagascar")
    assert files_with(b"zanzibar")
    store.delete_document(A)
    assert files_with(b"zanzibar") == []
    assert files_with(b"madagascar")
    store.delete_conversation(store.conversations(B)[0].id)
    store.delete_document(B)
    store.close()
    assert files_with(b"madagascar") == []


def test_readers_do_not_wait_for_a_writer(database_url: str, database: Database) -> None:
    with closing(Store.open(database_url)) as store:
        filled(store)
        with database.writing.begin() as connection:
            connection.exec_driver_sql("DELETE FROM documents")
            assert len(store.pages(A)) == 2
            assert len(store.search_pages(A, ["zanzibar"], 5)) == 2
        assert store.pages(A) == []


def test_two_threads_add_the_same_document(store: Store) -> None:
    barrier, stored, failed = threading.Barrier(4), [], []

    def add(name: str) -> None:
        barrier.wait()
        try:
            for _ in range(10):
                stored.append(store.add_document(document(file_name=name)).file_name)
                store.save_pages(A, name, [], [page(1, name), page(2, name)])
                assert len(store.pages(A)) == 2
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=add, args=(f"name{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(set(stored)) == 1
    assert len(store.documents()) == 1
    title = store.document(A).title
    assert {each.text for each in store.pages(A)} == {title}
    assert [number for number, _ in store.search_pages(A, [title], 5)] == [1, 2]


def write_from_another_process(url: str, document_id: str) -> None:
    store = Store.open(url)
    for _ in range(10):
        filled(store, document_id)
        store.delete_document(document_id)
    filled(store, document_id)
    store.close()


def test_several_make_one_database_at_the_same_moment(tmp_path: Path) -> None:
    """SQLite does not wait while it turns to its write-ahead log: without care about one start in four fails."""

    def make(url: str, together: Barrier) -> str:
        with closing(connect(url)) as database:
            together.wait()
            with database.engine.connect() as connection:
                return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())

    with ThreadPoolExecutor(3) as threads:
        for attempt in range(40):
            url, together = f"sqlite:///{tmp_path / f'{attempt}.sqlite3'}", Barrier(3)
            assert list(threads.map(make, [url] * 3, [together] * 3)) == ["wal"] * 3


def test_two_processes_open_and_write_one_database(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_from_another_process, args=(database_url, key)) for key in (A, B)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    store = Store.open(database_url)
    assert {each.id for each in store.documents()} == {A, B}
    assert len(store.search_pages(A, ["zanzibar"], 5)) == len(store.search_pages(B, ["zanzibar"], 5)) == 2
    store.close()


def test_a_full_disk_leaves_the_old_state(kept: Store) -> None:
    kept.add_document(document())
    kept.save_pages(A, "Old", [], [page(1, "alpha")])
    with kept._read() as session:
        pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar()
    # The limit holds for one connection: it is the only one in the pool, since nothing ran at the same time.
    with kept._read() as session:
        session.connection().exec_driver_sql(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(StorageFull):
        kept.save_pages(A, "New", [], [page(number, "beta " * 5000) for number in range(1, 20)])
    assert kept.document(A).title == "Old"
    assert [each.text for each in kept.pages(A)] == ["alpha"]
    assert len(kept.search_pages(A, ["alpha"], 5)) == 1
    kept.save_pages(A, "Small", [], [page(1, "gamma")])


def test_other_trouble_of_the_database_is_not_called_a_full_disk(kept: Store) -> None:
    with pytest.raises(OperationalError), kept._write() as session:
        session.connection().exec_driver_sql("SELECT * FROM nowhere")


def test_a_mistake_of_the_program_is_not_called_damage(kept: Store) -> None:
    filled(kept)
    for mistake, kind in ((lambda: int("x"), ValueError), (lambda: {}["x"], LookupError)):
        with pytest.raises(kind), kept._write():
            mistake()
    path = Path(kept._database.engine.url.database)
    change(path, "UPDATE conversations SET created_at = '2026-11-29 14:49:38.05!489'")
    with pytest.raises(DatabaseDamaged, match="never written"):
        kept.conversations(A)
    for sql in ("UPDATE documents SET outline = '[['", "UPDATE documents SET state = 'okay'"):
        change(path, sql)
        with pytest.raises(DatabaseDamaged, match="never written"):
            kept.documents()
    kept.prefer("changes", "1x")
    with pytest.raises(DatabaseDamaged, match="no number"):
        kept.count_backup()


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are notes, not a database. " * 100)
    with pytest.raises(Exception, match="not a database"):
        Store.open(f"sqlite:///{path}")
    assert path.read_bytes() == b"these are notes, not a database. " * 100
