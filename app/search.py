"""Search: which pages and conversations of the library hold some words, as they are typed."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.citations import words_of
from app.events import Cited
from app.listing import parted
from app.passages import Passage, boxes
from app.words import fold, stem
from app.words import words as words_in
from storage import Page, Store

PAGES_OF_A_DOCUMENT = 100
"""Pages that are counted of one document."""
MOST_SHOWN = 30
"""Pages of which an excerpt is shown."""
_A_FEW = 3
"""Of one document where there are many."""
_COMPARED = 50
"""Words of a page among which the place with most of them is sought."""
_MOST_TURNS = 20
_BEFORE, _BEHIND = 50, 110
"""Characters shown around the first word."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Excerpt:
    """Some text, and the characters (start, end) of it that are words which were searched for."""

    text: str
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class PageHit:
    """A page that holds the words; `page` is 1-based."""

    page: int
    label: str
    excerpt: Excerpt


@dataclass(frozen=True)
class DocumentHits:
    """The best pages of a document that hold the words, of `count` that do; none where other documents have more."""

    document_id: str
    title: str
    pages: tuple[PageHit, ...]
    count: int


@dataclass(frozen=True)
class TurnHit:
    """A question or its answer that holds the words; `message_id` is that of the answer."""

    document_id: str
    conversation_id: str
    message_id: int
    title: str
    excerpt: Excerpt


@dataclass(frozen=True)
class Found:
    """What holds the words beside the titles of documents, those with most pages first; conversations newest first."""

    documents: tuple[DocumentHits, ...] = ()
    turns: tuple[TurnHit, ...] = ()
    more_turns: int = 0


class Search:
    """Looks into every page and conversation. The last word may be the beginning of one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, words: str) -> Found:
        """What holds all the words among its viewer's documents and conversations."""
        tags, words = parted(words)
        if self._store.viewer.only is not None:
            # Whoever comes by a link does not hear of tags.
            tags = frozenset()
        if not any(map(str.isalnum, words)):
            return Found()
        known = [each for each in self._store.documents() if tags <= {tag.casefold() for tag in each.tags}]
        titles = {each.id: each.name for each in known}
        numbers = self._store.pages_with(list(titles), words, PAGES_OF_A_DOCUMENT)
        most = sorted((each for each in titles if numbers[each]), key=lambda each: -len(numbers[each]))
        shown = max(_A_FEW, MOST_SHOWN // max(1, len(most)))
        found = []
        for place, each in enumerate(most):
            best = numbers[each][:shown] if place * shown < MOST_SHOWN else []
            found.append(DocumentHits(each, titles[each], self._pages(each, best, words), len(numbers[each])))
        turns = list(self._turns(words, titles))
        hits = (TurnHit(a, b, c, titles[a], _excerpt(said, words)) for a, b, c, said in turns[:_MOST_TURNS])
        return Found(tuple(found), tuple(hits), max(0, len(turns) - _MOST_TURNS))

    def cited(self, document_id: str, number: int, words: str) -> Cited | None:
        """Those words on a page, with their boxes; None where there is no such page."""
        page, (_, words) = self._store.page(document_id, number), parted(words)
        if page is None:
            return None
        places = words_of(page)
        found = [
            box
            for start, end in _spans(page.text, words)
            for box in boxes(Passage(number, start, end, page.text[start:end]), places)
        ]
        return Cited(1, number, page.label, words, tuple(found), 1.0)

    def _pages(self, document_id: str, numbers: Sequence[int], words: str) -> tuple[PageHit, ...]:
        texts = self._store.pages(document_id, numbers) if numbers else ()
        pages: Mapping[int, Page] = {each.number: each for each in texts}
        return tuple(
            PageHit(number, pages[number].label, _excerpt(pages[number].text, words))
            for number in numbers
            if number in pages
        )

    def _turns(self, words: str, titles: Collection[str]) -> Iterator[tuple[str, str, int, str]]:
        """Document, conversation and answer of the turns that hold the words, and which part of it is shown."""
        wanted = words.casefold().split()
        for conversation, messages in self._store.all_messages():
            if not set(conversation.documents) <= set(titles):
                continue
            for asked, answer in zip(messages[::2], messages[1::2], strict=False):
                said = f"{asked.content}\n{answer.content}"
                if all(word in said.casefold() for word in wanted):
                    inside = asked if any(word in asked.content.casefold() for word in wanted) else answer
                    yield conversation.document_id, conversation.id, answer.id, inside.content


def _spans(text: str, words: str) -> list[Span]:
    """The words of a text that were searched for, or begin with the last one."""
    wanted = [word for word, _, _ in words_in(words)]
    stems = frozenset(map(stem, wanted))
    last = fold(wanted[-1]) if wanted else ""
    return [
        (start, end) for word, start, end in words_in(text) if stem(word) in stems or (last and word.startswith(last))
    ]


def _excerpt(text: str, words: str) -> Excerpt:
    """What stands around the first place with most of the words, on one line."""
    spans = _spans(text, words)
    best = max(spans[:_COMPARED], key=lambda span: len(_kinds(text, spans, span[0])), default=(0, 0))
    start = max(0, best[0] - _BEFORE)
    if start:
        start = text.find(" ", start, best[0]) + 1 or start
    end = min(len(text), best[0] + _BEHIND)
    shown = re.sub(r"\s", " ", text[start:end])
    lead = "… " if start else ""
    inside = tuple((a - start + len(lead), b - start + len(lead)) for a, b in spans if start <= a and b <= end)
    return Excerpt(f"{lead}{shown}{' …' if end < len(text) else ''}", inside)


def _kinds(text: str, spans: Sequence[Span], start: int) -> set[str]:
    """Which of the words stand in the excerpt that begins with one."""
    return {stem(fold(text[a:b])) for a, b in spans if start <= a and b <= start + _BEHIND}
