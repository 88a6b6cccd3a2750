"""Full-text search over the pages of documents, by PostgreSQL: the pages that SQLite's FTS5 finds, by the same scores.

FTS5 itself takes texts apart here, in memory, so that both databases know the same words. PostgreSQL keeps them with
their places and finds the pages that have them (a GIN index); phrases and BM25 are made of the places. A `tsvector` has
room for 256 places of a word, so a page has a row for every 256 words.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from math import log

from blake3 import blake3
from sqlalchemy import Connection

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

_PLACES = """SELECT document_id, number, part, lexeme, positions FROM page_words, unnest(words)
    WHERE document_id = ANY(%s) AND words @@ %s::tsquery AND (lexeme = ANY(%s) OR starts_with(lexeme, %s))"""
_LENGTHS = "SELECT number, sum(num_words) FROM page_words WHERE document_id = %s GROUP BY number"


def make(connection: Connection) -> None:
    """The table, where it is not there."""
    connection.exec_driver_sql(_TABLE)
    connection.exec_driver_sql(_INDEX)


def fill(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> str:
    """Index (number, text) of every page, in place of what was indexed before; without a checksum of our own."""
    drop(connection, document_id)
    add(connection, document_id, pages)
    return ""


def add(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
    """Index further pages."""
    rows = [
        (document_id, number, start // _PART, len(part := words[start : start + _PART]), _vector(part))
        for number, words in _taken_apart((number, spaced(text)) for number, text in pages).items()
        for start in range(0, max(1, len(words)), _PART)
    ]
    if rows:
        connection.exec_driver_sql("INSERT INTO page_words VALUES (%s, %s, %s, %s, %s::tsvector)", rows)


def replace(connection: Connection, document_id: str, number: int, before: str, text: str) -> str:
    """Index a page's text in place of the one before."""
    connection.exec_driver_sql("DELETE FROM page_words WHERE document_id = %s AND number = %s", (document_id, number))
    add(connection, document_id, [(number, text)])
    return ""


def drop(connection: Connection, document_id: str) -> None:
    """Forget every word of the document."""
    connection.exec_driver_sql("DELETE FROM page_words WHERE document_id = %s", (document_id,))


def search(connection: Connection, document_id: str, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
    """Page numbers and BM25 scores, best first; a page needs one of the terms."""
    found = _found(connection, [document_id], _phrases(dict.fromkeys(terms)))[document_id]
    return _ranked(connection, document_id, found, set().union(*found))[:limit]


def search_all(connection: Connection, document_ids: Sequence[str], words: str, limit: int) -> dict[str, list[int]]:
    """By document, numbers of the pages with every word of a text, best first; the last may be a beginning."""
    answers, phrases = {}, [each for each in _phrases(dict.fromkeys(spaced(words).split())) if each]
    for document_id, found in _found(connection, document_ids, phrases, begins=True).items():
        numbers = set.intersection(*map(set, found)) if found else set()
        answers[document_id] = [number for number, _ in _ranked(connection, document_id, found, numbers)[:limit]]
    return answers


def holding(connection: Connection, document_ids: Sequence[str], terms: Sequence[str]) -> dict[str, list[set[int]]]:
    """By document, for each plain word or phrase the numbers of all pages with it."""
    found = _found(connection, document_ids, _phrases(terms))
    return {document_id: [set(each) for each in places] for document_id, places in found.items()}


def _phrases(terms: Iterable[str]) -> list[list[str]]:
    """The words of each term; none where it has no letter or digit."""
    return list(_taken_apart(enumerate(each if any(map(str.isalnum, each)) else "" for each in terms)).values())


def _found(
    connection: Connection, document_ids: Sequence[str], phrases: Sequence[Sequence[str]], begins: bool = False
) -> dict[str, list[dict[int, int]]]:
    """By document, for each phrase how often it is on each page that has it; where it `begins`, the last may go on."""
    found: dict[str, list[dict[int, int]]] = {each: [{} for _ in phrases] for each in document_ids}
    words = sorted({word for phrase in phrases for word in phrase})
    if not words:
        return found
    last = phrases[-1][-1] if begins else None
    query = " | ".join([*map(_quoted, words), *([f"{_quoted(last)}:*"] if last else [])])
    rows = connection.exec_driver_sql(_PLACES, (list(document_ids), query, words, last))
    places: dict[tuple[str, int], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for document_id, number, part, word, positions in rows:
        # No word has an asterisk.
        for each in {word, f"{last}*"} if last and word.startswith(last) else {word}:
            places[document_id, number][each].update(part * _PART + position for position in positions)
    sought = [*phrases[:-1], [*phrases[-1][:-1], f"{last}*"]] if last else phrases
    for (document_id, number), page in places.items():
        for phrase, pages in zip(sought, found[document_id], strict=True):
            starts = [{place - n for place in page[word]} for n, word in enumerate(phrase)]
            if often := len(set.intersection(*starts)) if starts else 0:
                pages[number] = often
    return found


def _ranked(
    connection: Connection, document_id: str, found: Sequence[Mapping[int, int]], numbers: set[int]
) -> list[tuple[int, float]]:
    """Pages of a document with their BM25 scores, best first."""
    if not numbers:
        return []
    lengths = {number: int(words) for number, words in connection.exec_driver_sql(_LENGTHS, (document_id,))}
    average, scores = sum(lengths.values()) / len(lengths), dict.fromkeys(numbers, 0.0)
    for pages in found:
        weight = max(log((len(lengths) - len(pages) + 0.5) / (len(pages) + 0.5)), _LEAST)
        for number in numbers & pages.keys():
            long = _K1 * (1 - _B + _B * lengths[number] / average)
            scores[number] += weight * pages[number] * (_K1 + 1) / (pages[number] + long)
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
