"""Full-text search over the pages of documents, in PostgreSQL: the pages that SQLite's FTS5 finds, by the same scores.

FTS5 itself takes texts apart here, in memory, so that both databases know the same words. A row has the places of a
word on the pages that were indexed together; a question reads the rows of its words, and BM25 is computed from them. A
`tsvector` of each page would have to be unpacked whole for that, word by word.
"""

import sqlite3
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from math import log

from blake3 import blake3
from sqlalchemy import Connection

from storage.page_index import TOKENIZER
from storage.scripts import spaced

_TABLE = """CREATE TABLE IF NOT EXISTS page_words (
    document_id VARCHAR NOT NULL REFERENCES documents (id) ON DELETE CASCADE, word VARCHAR COLLATE "C" NOT NULL,
    first INTEGER NOT NULL, places BYTEA NOT NULL, PRIMARY KEY (document_id, word, first))"""
_ADD = """INSERT INTO page_words
    SELECT %s, word, %s, places FROM unnest(%s::varchar[], %s::bytea[]) AS new (word, places)
    ON CONFLICT (document_id, word, first) DO UPDATE SET places = page_words.places || excluded.places"""
_CHANGE = """UPDATE page_words AS known SET places = new.places
    FROM unnest(%s::varchar[], %s::integer[], %s::bytea[]) AS new (word, first, places)
    WHERE document_id = %s AND known.word = new.word AND known.first = new.first"""
_READ = "SELECT document_id, word, places FROM page_words WHERE document_id = ANY(%s) AND (word = ANY(%s)"
_LENGTHS = ""
"""The word whose places are the numbers of words of all pages."""
_LONGEST = 500
"""Characters of a word: an index takes 2,704 bytes. What is longer ends in a digest of itself."""
_K1, _B, _LEAST = 1.2, 0.75, 1e-6
"""As FTS5 has them: of BM25, and the least weight of a word that most pages have."""
_PAGE = 1 << 32
"""A place is a page's number times this, and how many words of the page are before it."""


def make(connection: Connection) -> None:
    """The table, where it is not there."""
    connection.exec_driver_sql(_TABLE)


def fill(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> str:
    """Index (number, text) of every page, in place of what was indexed before; without a checksum of our own."""
    drop(connection, document_id)
    add(connection, document_id, pages)
    return ""


def add(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
    """Index further pages."""
    places = defaultdict[str, list[int]](list)
    for number, words in _taken_apart((number, spaced(text)) for number, text in pages).items():
        places[_LENGTHS].append(number * _PAGE + len(words))
        for place, word in enumerate(words, start=number * _PAGE):
            places[word].append(place)
    if places:
        packed = list(places), [_packed(at) for at in places.values()]
        connection.exec_driver_sql(_ADD, (document_id, pages[0][0], *packed))


def replace(connection: Connection, document_id: str, number: int, before: str, text: str) -> str:
    """Index a page's text in place of the one before."""
    words = [_LENGTHS, *dict.fromkeys(_taken_apart([(number, spaced(before))])[number])]
    known = "SELECT word, first, places FROM page_words WHERE document_id = %s AND word = ANY(%s)"
    rows = connection.exec_driver_sql(known, (document_id, words)).all()
    others = [_packed(each for each in _unpacked(row.places) if each // _PAGE != number) for row in rows]
    changed = [row.word for row in rows], [row.first for row in rows], others
    connection.exec_driver_sql(_CHANGE, (*changed, document_id))
    add(connection, document_id, [(number, text)])
    return ""


def drop(connection: Connection, document_id: str) -> None:
    """Forget every word of the document."""
    connection.exec_driver_sql("DELETE FROM page_words WHERE document_id = %s", (document_id,))


def search(connection: Connection, document_id: str, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
    """Page numbers and BM25 scores, best first; a page needs one of the terms."""
    lengths, found = _found(connection, [document_id], _phrases(dict.fromkeys(terms)))[document_id]
    return _ranked(lengths, found, set().union(*found))[:limit]


def search_all(connection: Connection, document_ids: Sequence[str], words: str, limit: int) -> dict[str, list[int]]:
    """By document, numbers of the pages with every word of a text, best first; the last may be a beginning."""
    answers, phrases = {}, [each for each in _phrases(dict.fromkeys(spaced(words).split())) if each]
    for document_id, (lengths, found) in _found(connection, document_ids, phrases, begins=True).items():
        numbers = set.intersection(*map(set, found)) if found else set()
        answers[document_id] = [number for number, _ in _ranked(lengths, found, numbers)[:limit]]
    return answers


def holding(connection: Connection, document_ids: Sequence[str], terms: Sequence[str]) -> dict[str, list[set[int]]]:
    """By document, for each plain word or phrase the numbers of all pages with it."""
    of_all = _found(connection, document_ids, _phrases(terms))
    return {document_id: [set(each) for each in found] for document_id, (_, found) in of_all.items()}


def _phrases(terms: Iterable[str]) -> list[list[str]]:
    """The words of each term; none where it has no letter or digit."""
    return list(_taken_apart(enumerate(each if any(map(str.isalnum, each)) else "" for each in terms)).values())


def _found(
    connection: Connection, document_ids: Sequence[str], phrases: Sequence[Sequence[str]], begins: bool = False
) -> dict[str, tuple[Mapping[int, int], Sequence[Mapping[int, int]]]]:
    """By document, the lengths of its pages, and for each phrase how often it is on each page that has it.

    Where it `begins`, the last word may go on.
    """
    words = list({_LENGTHS, *(word for phrase in phrases for word in phrase)})
    last = phrases[-1][-1] if begins and phrases else ""
    begun, facts = (" OR word >= %s AND word < %s)", (last, f"{last}\U0010ffff")) if last else (")", ())
    at: dict[str, dict[str, set[int]]] = {each: defaultdict(set) for each in document_ids}
    for document_id, word, places in connection.exec_driver_sql(_READ + begun, (list(document_ids), words, *facts)):
        at[document_id][word].update(_unpacked(places))
        if last and word.startswith(last):
            # No word has an asterisk.
            at[document_id][f"{last}*"].update(_unpacked(places))
    sought = [*phrases[:-1], [*phrases[-1][:-1], f"{last}*"]] if last else phrases
    return {
        each: (
            {place // _PAGE: place % _PAGE for place in of[_LENGTHS]},
            [
                Counter(place // _PAGE for place in set.intersection(*_starts(of, phrase))) if phrase else {}
                for phrase in sought
            ],
        )
        for each, of in at.items()
    }


def _starts(at: Mapping[str, set[int]], phrase: Sequence[str]) -> Iterable[set[int]]:
    """For each word of a phrase, where the phrase would begin."""
    return ({place - n for place in at[word]} if n else at[word] for n, word in enumerate(phrase))


def _ranked(
    lengths: Mapping[int, int], found: Sequence[Mapping[int, int]], numbers: set[int]
) -> list[tuple[int, float]]:
    """Pages of a document with their BM25 scores, best first."""
    scores = dict.fromkeys(numbers, 0.0)
    average = sum(lengths.values()) / max(1, len(lengths))
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


def _packed(places: Iterable[int]) -> bytes:
    return struct.pack(f"<{len(at := list(places))}q", *at)


def _unpacked(places: bytes) -> Sequence[int]:
    return struct.unpack(f"<{len(places) // 8}q", places)
