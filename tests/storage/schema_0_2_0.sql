-- The database of DocPod 0.2.0 as it was made anew, under its second schema.
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
    error JSON,
    recipe VARCHAR NOT NULL DEFAULT ''
);
CREATE TABLE preferences (name VARCHAR NOT NULL PRIMARY KEY, value VARCHAR NOT NULL);
CREATE TABLE schema_version (version INTEGER PRIMARY KEY, name TEXT, applied_at TEXT);
INSERT INTO schema_version VALUES (1, 'm001_first_schema', '2026-11-28'), (2, 'm002_recipe_of_a_document', '2026-11-28');
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
