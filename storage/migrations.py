"""How the database came to its shape: numbered steps, each in one transaction with its record.

A step is never edited once released; a further change is a further step.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine

from storage import checks, page_index
from storage.database import for_writing
from storage.errors import NewerDatabase
from storage.models import utc_now
from storage.scripts import RUN

Migration = Callable[[Connection], None]


def m001_first_schema(connection: Connection) -> None:
    """Documents with pages, readings with sections and blocks, conversations with messages and citations.

    The words of pages are indexed in one table a document, made with its pages (see `storage.page_index`).
    """
    for statement in _FIRST_SCHEMA.split(";"):
        connection.exec_driver_sql(statement)


def m002_recipe_of_a_document(connection: Connection) -> None:
    """How a document's memory is compressed is its user's choice, and the last choice is kept."""
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN recipe VARCHAR NOT NULL DEFAULT ''")
    connection.exec_driver_sql("CREATE TABLE preferences (name VARCHAR NOT NULL PRIMARY KEY, value VARCHAR NOT NULL)")


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
    tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    for table in (name for name in tables if not name.startswith(("sqlite_", "page_search_"))):
        checks.check_rows(connection, table)


MIGRATIONS: Sequence[Migration] = (
    m001_first_schema,
    m002_recipe_of_a_document,
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
)


def migrate(engine: Engine, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the database to the shape that this program knows; raise NewerDatabase where it is beyond it."""
    with engine.begin() as connection:
        if _version(connection) == len(migrations):
            return
    writing = for_writing(engine)
    for number, migration in enumerate(migrations, start=1):
        with writing.begin() as connection:
            version = _version(connection)
            if version > len(migrations):
                raise NewerDatabase(
                    f"{engine.url.database} has schema {version}, this program knows up to {len(migrations)}."
                )
            # Another process may have taken this step meanwhile.
            if version >= number:
                continue
            migration(connection)
            if number == 1:
                connection.exec_driver_sql(
                    "CREATE TABLE schema_version (version INTEGER PRIMARY KEY, name TEXT, applied_at TEXT)"
                )
            connection.exec_driver_sql(
                "INSERT INTO schema_version (version, name, applied_at) VALUES (?, ?, ?)",
                (number, migration.__name__, utc_now().isoformat()),
            )


def _version(connection: Connection) -> int:
    if not connection.dialect.has_table(connection, "schema_version"):
        return 0
    return int(connection.exec_driver_sql("SELECT max(version) FROM schema_version").scalar_one())


_FIRST_SCHEMA = """
CREATE TABLE documents (
    id VARCHAR NOT NULL PRIMARY KEY,
    title VARCHAR NOT NULL,
    file_name VARCHAR NOT NULL,
    media_type VARCHAR NOT NULL,
    num_bytes INTEGER NOT NULL,
    num_pages INTEGER NOT NULL,
    outline JSON NOT NULL,
    created_at DATETIME NOT NULL,
    state VARCHAR NOT NULL,
    error JSON
);
CREATE TABLE pages (
    document_id VARCHAR NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    label VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    width_pt DOUBLE NOT NULL,
    height_pt DOUBLE NOT NULL,
    words BLOB NOT NULL,
    PRIMARY KEY (document_id, number)
);
CREATE TABLE readings (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    document_id VARCHAR NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    reader VARCHAR NOT NULL,
    model_name VARCHAR NOT NULL,
    recipe VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    num_tokens INTEGER NOT NULL,
    num_bytes INTEGER NOT NULL,
    seconds DOUBLE NOT NULL,
    error JSON,
    created_at DATETIME NOT NULL,
    last_used_at DATETIME NOT NULL,
    pinned BOOLEAN NOT NULL,
    UNIQUE (document_id, reader)
);
CREATE TABLE sections (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    reading_id INTEGER NOT NULL REFERENCES readings (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    first_page INTEGER NOT NULL,
    last_page INTEGER NOT NULL,
    start_char INTEGER NOT NULL,
    end_char INTEGER NOT NULL,
    token_ids BLOB NOT NULL,
    num_tokens INTEGER NOT NULL,
    state VARCHAR NOT NULL,
    seconds DOUBLE NOT NULL,
    identity VARCHAR NOT NULL,
    UNIQUE (reading_id, position)
);
CREATE TABLE blocks (
    section_id INTEGER NOT NULL REFERENCES sections (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    start_token INTEGER NOT NULL,
    stop_token INTEGER NOT NULL,
    file_name VARCHAR NOT NULL,
    num_bytes INTEGER NOT NULL,
    checksum VARCHAR NOT NULL,
    PRIMARY KEY (section_id, position)
);
CREATE TABLE conversations (
    id VARCHAR NOT NULL PRIMARY KEY,
    document_id VARCHAR NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    title VARCHAR NOT NULL,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL
);
CREATE INDEX conversations_by_document ON conversations (document_id);
CREATE TABLE messages (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    conversation_id VARCHAR NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    parent_id INTEGER REFERENCES messages (id),
    role VARCHAR NOT NULL,
    content VARCHAR NOT NULL,
    found BOOLEAN,
    facts JSON NOT NULL,
    state VARCHAR NOT NULL,
    created_at DATETIME NOT NULL
);
CREATE INDEX messages_by_conversation ON messages (conversation_id);
CREATE INDEX messages_by_parent ON messages (parent_id);
CREATE TABLE citations (
    id INTEGER NOT NULL PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    mark INTEGER NOT NULL,
    page INTEGER NOT NULL,
    label VARCHAR NOT NULL,
    quote VARCHAR NOT NULL,
    boxes JSON NOT NULL,
    score DOUBLE NOT NULL
);
CREATE INDEX citations_by_message ON citations (message_id);
CREATE VIRTUAL TABLE message_search USING fts5(
    content, content='messages', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
)
"""
