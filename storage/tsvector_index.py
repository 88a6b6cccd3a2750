"""Full-text search over the pages of documents, by PostgreSQL: the pages that SQLite's FTS5 finds, by the same scores.

FTS5 itself takes texts apart here, in memory, so that both databases know the same words. PostgreSQL keeps them with
their places and finds the pages that have them (a GIN index); phrases and BM25 are made of the places. A `tsvector` has
room for 256 places of a word, so a page has a row for every 256 words.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from math import log

from blake3 import blake3
from sqlalchemy import Connection, text

from storage.page_index import TOKENIZER
from storage.scripts import spaced

_TABLE = """CREATE TABLE IF NOT EXISTS page_words (
    document_id VARCHAR NOT NULL REFERENCES documents (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    part INTEGER NOT NULL, num_words INTEGER NOT NULL, words TSVECTOR NOT NULL,
    PRIMARY KEY (document_id, number, part))"""
_INDEX = "CREATE INDEX IF NOT EXISTS page_words_by_word ON page_words USING gin (words)"
_PART = 256
_LONGEST = 500
"""Characters of a word: PostgreSQL takes 2,046 bytes. What is longer ends in a digest of itself."""
_K1, _B, _LEAST = 1.2, 0.75, 1e-6
"""As FTS5 has them: of BM25, and the least weight of a word that most pages have."""

Places = dict[int, int]
"""How often a phrase is on each page that has it, by number."""


def make(connection: Connection) -> None:
    """The table, where it is not there."""
    connection.exec_driver_sql(_TABLE)
    connection.exec_driver_sql(_INDEX)


def fill(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
    """Index (number, text) of every page, in place of what was indexed before."""
    drop(connection, document_id)
    add(connection, document_id, pages)


mend = fill


def add(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
    """Index further pages."""
    rows = [
        {
            "document_id": document_id,
            "number": number,
            "part": start // _PART,
            "num_words": len(part := words[start : start + _PART]),
            "words": _vector(part),
        }
        for number, words in _taken_apart((number, spaced(text)) for number, text in pages).items()
        for start in range(0, max(1, len(words)), _PART)
    ]
    if rows:
        sql = "INSERT INTO page_words VALUES (:document_id, :number, :part, :num_words, CAST(:words AS tsvector))"
        connection.execute(text(sql), rows)


def replace(connection: Connection, document_id: str, number: int, before: str, text_now: str) -> None:
    """Index a page's text in place of the one before."""
    of_page = {"document_id": document_id, "number": number}
    connection.execute(text("DELETE FROM page_words WHERE document_id = :document_id AND number = :number"), of_page)
    add(connection, document_id, [(number, text_now)])


def drop(connection: Connection, document_id: str) -> None:
    """Forget every word of the document."""
    connection.execute(text("DELETE FROM page_words WHERE document_id = :document_id"), {"document_id": document_id})


def indexed(connection: Connection) -> set[str]:
    """The ids of the documents that have an index."""
    return set(connection.exec_driver_sql("SELECT DISTINCT document_id FROM page_words").scalars())


def checksum(connection: Connection, document_id: str) -> str:
    """None: the server checks its own pages."""
    return ""


def search(connection: Connection, document_id: str, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
    """Page numbers and BM25 scores, best first; a page needs one of the terms."""
    found = _found(connection, [document_id], _phrases(dict.fromkeys(terms)))[document_id]
    return _ranked(connection, document_id, found, {number for each in found for number in each})[:limit]


def search_all(connection: Connection, document_ids: Sequence[str], words: str, limit: int) -> dict[str, list[int]]:
    """By document, numbers of the pages with every word of a text, best first; the last may be a beginning."""
    phrases = _phrases(dict.fromkeys(spaced(words).split()))
    answers = {}
    for document_id, found in _found(connection, document_ids, phrases, begins=True).items():
        both = set.intersection(*map(set, found)) if found else set()
        answers[document_id] = [number for number, _ in _ranked(connection, document_id, found, both)[:limit]]
    return answers


def holding(connection: Connection, document_ids: Sequence[str], terms: Sequence[str]) -> dict[str, list[set[int]]]:
    """By document, for each plain word or phrase the numbers of all pages with it."""
    found = _found(connection, document_ids, _phrases(terms, all_of_them=True))
    return {document_id: [set(each) for each in places] for document_id, places in found.items()}


def _phrases(terms: Iterable[str], all_of_them: bool = False) -> list[list[str]]:
    """The words of each term that has a letter or digit, or of `all_of_them`, of which the others have none."""
    said = [term if any(map(str.isalnum, term)) else "" for term in terms]
    return list(_taken_apart(enumerate(each for each in said if each or all_of_them)).values())


def _found(
    connection: Connection, document_ids: Sequence[str], phrases: Sequence[Sequence[str]], begins: bool = False
) -> dict[str, list[Places]]:
    """By document, where each phrase is; where it `begins`, the last may go on with any letters."""
    beginning = phrases[-1][-1] if begins and phrases and phrases[-1] else None
    words = sorted({word for phrase in phrases for word in phrase})
    places: dict[tuple[str, int], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    sql = """SELECT document_id, number, part, lexeme, positions FROM page_words, unnest(words)
        WHERE document_id = ANY(:documents) AND words @@ CAST(:query AS tsquery)
        AND (lexeme = ANY(:words) OR starts_with(lexeme, :beginning))"""
    if words:
        query = " | ".join([*map(_quoted, words), *([f"{_quoted(beginning)}:*"] if beginning else [])])
        facts = {"documents": list(document_ids), "query": query, "words": words, "beginning": beginning}
        for document_id, number, part, word, positions in connection.execute(text(sql), facts):
            at = {part * _PART + each for each in positions}
            places[document_id, number][word] |= at
            if beginning and word.startswith(beginning):
                # No word has a space.
                places[document_id, number][f"{beginning} "] |= at
    if beginning:
        phrases = [*phrases[:-1], [*phrases[-1][:-1], f"{beginning} "]]
    found: dict[str, list[Places]] = {each: [{} for _ in phrases] for each in document_ids}
    for (document_id, number), page in places.items():
        for phrase, pages in zip(phrases, found[document_id], strict=True):
            starts = [{place - n for place in page[word]} for n, word in enumerate(phrase)]
            if often := len(set.intersection(*starts)) if starts else 0:
                pages[number] = often
    return found


def _ranked(
    connection: Connection, document_id: str, found: Sequence[Places], numbers: set[int]
) -> list[tuple[int, float]]:
    """Pages of a document with their BM25 scores, best first."""
    if not numbers:
        return []
    sql = "SELECT number, sum(num_words) FROM page_words WHERE document_id = :document_id GROUP BY number"
    lengths = {number: int(length) for number, length in connection.execute(text(sql), {"document_id": document_id})}
    average = sum(lengths.values()) / len(lengths)
    weights = [max(log((len(lengths) - len(each) + 0.5) / (len(each) + 0.5)), _LEAST) for each in found]
    scores = Counter[int]()
    for weight, pages in zip(weights, found, strict=True):
        for number in numbers & pages.keys():
            often = pages[number]
            scores[number] += weight * (often * (_K1 + 1)) / (often + _K1 * (1 - _B + _B * lengths[number] / average))  # type: ignore[assignment]
    return sorted(scores.items(), key=lambda each: (-each[1], each[0]))


def _taken_apart(texts: Iterable[tuple[int, str]]) -> dict[int, list[str]]:
    """The words of numbered texts, as FTS5 knows them."""
    words: dict[int, list[str]] = {}
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.execute(f"CREATE VIRTUAL TABLE texts USING fts5(text, content='', {TOKENIZER})")
        scratch.execute("CREATE VIRTUAL TABLE words USING fts5vocab(texts, instance)")
        for number, each in texts:
            words[number] = []
            scratch.execute("INSERT INTO texts (rowid, text) VALUES (?, ?)", (number, each))
        for number, word in scratch.execute("SELECT doc, term FROM words ORDER BY doc, offset"):
            words[number].append(word if len(word) <= _LONGEST else word[:_LONGEST] + blake3(word.encode()).hexdigest())
    return words


def _vector(words: Sequence[str]) -> str:
    """As PostgreSQL reads a `tsvector`."""
    places: dict[str, list[str]] = {}
    for place, word in enumerate(words, start=1):
        places.setdefault(word, []).append(str(place))
    return " ".join(f"{_quoted(word)}:{','.join(at)}" for word, at in places.items())


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
