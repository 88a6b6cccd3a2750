"""How a database comes to its shape: a new one is made by the models, one of an earlier version by numbered steps.

Each step is one transaction with its record. A step is never edited once released; a further change is a further step,
and a change of the models. A database of a server is none of before step 16: later steps run on every database.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection, text

from storage import checks, page_index
from storage.databases import Database
from storage.durable import rename
from storage.errors import NewerDatabase
from storage.models import Base, utc_now
from storage.scripts import RUN

Migration = Callable[[Connection], None]
FIRST = 2
"""The schema of 0.2.0, which the steps begin from."""


def m003_no_index_of_messages(connection: Connection) -> None:
    """It was written with every message, made anew with every deletion, and never searched."""
    connection.exec_driver_sql("DROP TABLE message_search")


def m004_notes_of_documents(connection: Connection) -> None:
    """What a file says of itself, what was noted of its parts, and which characters of a quote answer."""
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN author VARCHAR NOT NULL DEFAULT ''")
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN written VARCHAR NOT NULL DEFAULT ''")
    connection.exec_driver_sql("ALTER TABLE citations ADD COLUMN span JSON")
    connection.exec_driver_sql(
        "CREATE TABLE notes (document_id VARCHAR NOT NULL REFERENCES documents (id) ON DELETE CASCADE, "
        "part VARCHAR NOT NULL, points JSON NOT NULL, PRIMARY KEY (document_id, part))"
    )


def m005_keys_of_programs(connection: Connection) -> None:
    """Programs use the library by keys, of which only digests are kept."""
    connection.exec_driver_sql(
        "CREATE TABLE api_keys (id VARCHAR NOT NULL PRIMARY KEY, name VARCHAR NOT NULL, digest VARCHAR NOT NULL UNIQUE,"
        " scopes JSON NOT NULL, created_at DATETIME NOT NULL)"
    )


def m006_owner_of_a_conversation(connection: Connection) -> None:
    """Visitors of a shared library have conversations of their own; those that there are belong to the home's user."""
    connection.exec_driver_sql("ALTER TABLE conversations ADD COLUMN owner VARCHAR NOT NULL DEFAULT ''")


def m007_vectors_and_pairs_of_signs(connection: Connection) -> None:
    """Pages have vectors for what they mean; and of scripts without spaces every two signs are searched as a word."""
    connection.exec_driver_sql(
        "CREATE TABLE page_vectors (document_id VARCHAR NOT NULL REFERENCES documents (id) ON DELETE CASCADE, "
        "encoder VARCHAR NOT NULL, number INTEGER NOT NULL, starts BLOB NOT NULL, vectors BLOB NOT NULL, "
        "PRIMARY KEY (document_id, encoder, number))"
    )
    for (document_id,) in connection.exec_driver_sql("SELECT id FROM documents WHERE state = 'parsed'").all():
        rows = connection.exec_driver_sql("SELECT number, text FROM pages WHERE document_id = ?", (document_id,)).all()
        if any(RUN.search(text) for _, text in rows):
            page_index.fill(connection, document_id, [(number, text) for number, text in rows])


def m008_note_of_a_document(connection: Connection) -> None:
    """What was assumed to read a file is kept; and the words of pages of text stand where typesetting puts them."""
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN note VARCHAR NOT NULL DEFAULT ''")
    connection.exec_driver_sql(
        "UPDATE pages SET words = x'' WHERE document_id IN (SELECT id FROM documents WHERE media_type IN "
        "('text/plain', 'text/markdown', 'application/epub+zip'))"
    )


def m009_attachments_of_a_document(connection: Connection) -> None:
    """Files inside a file are offered as documents of their own."""
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN attachments JSON NOT NULL DEFAULT '[]'")


def m010_conversations_about_several_documents(connection: Connection) -> None:
    """A conversation may be about further documents, and each of its passages is of one of them."""
    connection.exec_driver_sql("ALTER TABLE conversations ADD COLUMN beside JSON NOT NULL DEFAULT '[]'")
    connection.exec_driver_sql("ALTER TABLE citations ADD COLUMN document_id VARCHAR NOT NULL DEFAULT ''")


def m011_names_and_second_thoughts(connection: Connection) -> None:
    """Documents have the names that their user gave them, and a deleted conversation can be brought back."""
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN is_named BOOLEAN NOT NULL DEFAULT 0")
    connection.exec_driver_sql("ALTER TABLE conversations ADD COLUMN is_deleted BOOLEAN NOT NULL DEFAULT 0")


def m012_checks_of_originals(connection: Connection) -> None:
    """Originals are compared with their names, or with what took their place."""
    for column in ("kept", "checked"):
        connection.exec_driver_sql(f"ALTER TABLE documents ADD COLUMN {column} VARCHAR NOT NULL DEFAULT ''")


def m013_copies_of_conversations(connection: Connection) -> None:
    """A conversation can be made from another one, and both know of each other."""
    connection.exec_driver_sql("ALTER TABLE conversations ADD COLUMN copy_of VARCHAR NOT NULL DEFAULT ''")


def m014_tags_of_documents(connection: Connection) -> None:
    """Documents are sorted under tags, and the states of a whole library's pages are counted for every list of it."""
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN tags JSON NOT NULL DEFAULT '[]'")
    connection.exec_driver_sql("CREATE INDEX pages_by_state ON pages (document_id, state)")


def m015_checks_of_rows(connection: Connection) -> None:
    """Every row knows whether it is what was written, and so does every index of words."""
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN index_check VARCHAR NOT NULL DEFAULT ''")
    documents = set(connection.exec_driver_sql("SELECT id FROM documents").scalars())
    for document_id in documents & page_index.indexed(connection):
        page_index.note_check(connection, document_id)
    checks.check_all(connection)


def m016_recipes_by_their_parts(connection: Connection) -> None:
    """Names of recipes mean other parts from now on: what was made by the earlier ones is called by these."""
    parts = {
        "faithful": "keep60+k8v4h",
        "balanced": "keep40+k4v4h",
        "compact": "keep27+k4v4h+near4,32",
        "packed": "coded16+near4,1",
        "archive": "coded50+near4,1",
    }
    for name, made_by in parts.items():
        for change in (
            "UPDATE documents SET recipe = :made_by WHERE recipe = :name",
            "UPDATE readings SET recipe = :made_by WHERE recipe = :name",
            "UPDATE preferences SET value = :made_by WHERE value = :name AND name = 'recipe'",
        ):
            connection.execute(text(change), {"made_by": made_by, "name": name})


def m017_people(connection: Connection) -> None:
    """Documents and keys belong to people, whose collections can be shared; and originals are named by their bytes, so
    that those of several people are kept once.
    """
    for table in ("documents", "api_keys"):
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN owner VARCHAR NOT NULL DEFAULT ''")
    connection.exec_driver_sql("CREATE INDEX documents_by_owner ON documents (owner)")
    connection.exec_driver_sql(
        "CREATE TABLE people (id VARCHAR NOT NULL PRIMARY KEY, name VARCHAR NOT NULL UNIQUE, role VARCHAR NOT NULL, "
        "password VARCHAR NOT NULL, created_at DATETIME NOT NULL)"
    )
    connection.exec_driver_sql(
        "CREATE TABLE sign_ins (digest VARCHAR NOT NULL PRIMARY KEY, person_id VARCHAR NOT NULL REFERENCES people (id) "
        "ON DELETE CASCADE, ends_at DATETIME NOT NULL)"
    )
    connection.exec_driver_sql(
        "CREATE TABLE shares (owner VARCHAR NOT NULL, tag VARCHAR NOT NULL, person VARCHAR NOT NULL, "
        "PRIMARY KEY (owner, tag, person))"
    )
    for table in ("documents", "api_keys", "people", "sign_ins", "shares"):
        checks.check_rows(connection, table)
    # Again harmless where this step did not come to its end.
    documents = Path(connection.engine.url.database or "").with_name("documents")
    unlocked = connection.exec_driver_sql("SELECT id, kept FROM documents WHERE kept != ''").all()
    for document_id, kept in unlocked:
        if (documents / document_id).exists() and not (documents / kept).exists():
            rename(documents / document_id, documents / kept)


def m018_checks_of_the_schema(connection: Connection) -> None:
    """What tables, indexes and triggers are is checked as rows are: the last step completes the database by that."""


MIGRATIONS: Sequence[Migration] = (
    m003_no_index_of_messages,
    m004_notes_of_documents,
    m005_keys_of_programs,
    m006_owner_of_a_conversation,
    m007_vectors_and_pairs_of_signs,
    m008_note_of_a_document,
    m009_attachments_of_a_document,
    m010_conversations_about_several_documents,
    m011_names_and_second_thoughts,
    m012_checks_of_originals,
    m013_copies_of_conversations,
    m014_tags_of_documents,
    m015_checks_of_rows,
    m016_recipes_by_their_parts,
    m017_people,
    m018_checks_of_the_schema,
)


def migrate(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the database to the shape that this program knows; raise NewerDatabase where it is beyond it."""
    latest = FIRST + len(migrations)
    with database.engine.begin() as connection:
        if _version(connection) == latest:
            return
    with database.writing.begin() as connection:
        if not _version(connection):
            _make(connection, migrations)
            database.complete(connection)
    for number, migration in enumerate(migrations, start=FIRST + 1):
        with database.writing.begin() as connection:
            version = _version(connection)
            if version > latest:
                name = database.engine.url.database
                raise NewerDatabase(f"{name} has schema {version}, this program knows up to {latest}.")
            # Another process may have taken this step meanwhile.
            if version < number:
                migration(connection)
                _record(connection, number, migration)
                if number == latest:
                    database.complete(connection)


def _make(connection: Connection, migrations: Sequence[Migration]) -> None:
    """A new database, which needs no step any more."""
    Base.metadata.create_all(connection)
    connection.exec_driver_sql("CREATE TABLE schema_version (version INTEGER PRIMARY KEY, name TEXT, applied_at TEXT)")
    for number, migration in enumerate(migrations, start=FIRST + 1):
        _record(connection, number, migration)


def _record(connection: Connection, number: int, migration: Migration) -> None:
    connection.execute(
        text("INSERT INTO schema_version (version, name, applied_at) VALUES (:version, :name, :applied_at)"),
        {"version": number, "name": migration.__name__, "applied_at": utc_now().isoformat()},
    )


def _version(connection: Connection) -> int:
    if not connection.dialect.has_table(connection, "schema_version"):
        return 0
    return int(connection.exec_driver_sql("SELECT max(version) FROM schema_version").scalar_one())
