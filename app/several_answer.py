"""The answer from several documents: passages of all of them, and words from the one that holds the best."""

import math
import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace

from app.citations import NEAR, cite
from app.conversations import Asked
from app.errors import NotRead
from app.events import Answer, Cited, Evidence, TextDelta
from app.evidence import Ranked, rank
from app.meaning import nearest
from app.pod_engine import PodEngine
from app.query_terms import core_question
from app.retrieval import Pages, Retriever
from app.routing import Route
from app.section_answer import SectionAnswer
from app.settings import Settings
from app.words import terms
from storage import Document, Store

_BY_WORDS, _BY_MEANING = 8, 4
"""Documents whose passages are ranked: those with the most of the question on one page, and those nearest to it."""


def read_of(engine: PodEngine, asked: Asked) -> list[str]:
    """Those of the documents that are asked which are read, all of them to their end."""
    readings = {each: engine.presets.serving(each, asked.recipe) for each in asked.documents}
    return [each for each, reading in readings.items() if reading and reading.state == "ready"]


class SeveralAnswer:
    """A question to several documents on its way to its answer."""

    def __init__(self, store: Store, engine: PodEngine, retriever: Retriever, asked: Asked, settings: Settings) -> None:
        """Finds the best document, and recalls what the question needs of it. Raises NotRead where none is read."""
        found = {each: store.document(each) for each in asked.documents}
        documents = {key: each for key, each in found.items() if each}
        read = [each for each in read_of(engine, asked) if each in documents]
        if not read:
            raise NotRead("None of these documents has been read yet.", "Wait until one is read, then ask again.")
        self._store, self._settings = store, settings
        self._titles = {each: documents[each].name for each in read}
        self._looked = _looked([documents[each] for each in read])
        unread = [each.name for key, each in documents.items() if key not in self._titles]
        self._looked += f" Not read yet: {', '.join(unread)}." if unread else ""
        self._ranked = _ranked(store, retriever, asked.whole, read)
        self._best = next(iter(self._ranked), read[0])
        self._inner = SectionAnswer(
            store, engine, retriever, replace(asked, document_id=self._best, beside=()), settings
        )

    def events(self, stop: threading.Event) -> Generator[Evidence | TextDelta, None, None]:
        """As of one document; the evidence is of all of them."""
        with closing(self._inner.events(stop)) as events:
            for event in events:
                if isinstance(event, Evidence):
                    event = replace(event, citations=self._of_all(event.citations, event.found))
                yield event

    def answer(self, stopped: bool) -> Answer:
        """The answer as far as it was said."""
        answer = self._inner.answer(stopped)
        words = answer.answer if answer.found else "Not found in these documents. The closest passages are shown."
        citations = self._of_all(answer.citations, answer.found)
        return replace(answer, answer=words, citations=citations, looked=self._looked)

    def _of_all(self, own: Sequence[Cited], found: bool) -> tuple[Cited, ...]:
        """The best document's passages, and behind them the best of each other one that comes near."""
        cited = [self._of(self._best, each) for each in own]
        least = NEAR * self._ranked[self._best].score if self._best in self._ranked else math.inf
        for document_id, best in self._ranked.items():
            if document_id == self._best or best.score < least or (found and not best.found):
                continue
            if len(cited) == len(own) + self._settings.passages:
                break
            (each,) = cite([best], Pages(self._store, document_id))
            cited.append(replace(self._of(document_id, each), mark=len(cited) + 1))
        return tuple(cited)

    def _of(self, document_id: str, cited: Cited) -> Cited:
        return replace(cited, document_id=document_id, title=self._titles[document_id])


def _ranked(store: Store, retriever: Retriever, question: str, documents: Sequence[str]) -> dict[str, Ranked]:
    """The best passage of each document that has one, the best document first."""
    best: dict[str, Ranked] = {}
    for each in _likely(store, retriever, question, documents):
        route = Route(question, each, store, retriever.meaning)
        passages = rank(question, route.terms, route.candidates, [])
        if passages and (passages[0].words or passages[0].meaning):
            best[each] = passages[0]
    return dict(sorted(best.items(), key=lambda item: (item[1].found, item[1].score), reverse=True))


def _likely(store: Store, retriever: Retriever, question: str, documents: Sequence[str]) -> list[str]:
    """The documents that may answer: by the words on their best page, which weigh by their rarity on all pages of all
    documents, and by meaning."""
    if len(documents) <= _BY_WORDS:
        return list(documents)
    core = core_question(question)
    held = store.pages_holding(documents, terms(core))
    on = [sum(len(pages[place]) for pages in held.values()) for place in range(len(terms(core)))]
    weights = [1 / math.log(2 + count) for count in on]

    def words(document_id: str) -> float:
        own = held[document_id]
        pages = set().union(*own)
        weighed = (sum(w for w, on in zip(weights, own, strict=True) if page in on) for page in pages)
        return max(weighed, default=0.0)

    def meaning(document_id: str) -> float:
        near = retriever.meaning.near(document_id, core) if retriever.meaning else {}
        return max((near[page].best + near[page].mean for page in nearest(near, 1)), default=0.0)

    by_words = [each for each in sorted(documents, key=words, reverse=True) if words(each)][:_BY_WORDS]
    meant = {each: meaning(each) for each in documents}
    by_meaning = [each for each in sorted(documents, key=lambda each: meant[each], reverse=True) if meant[each]]
    return list(dict.fromkeys([*by_words, *by_meaning[:_BY_MEANING]]))


def _looked(read: Sequence[Document]) -> str:
    pages = sum(each.num_pages for each in read)
    documents = f"{len(read):,} document{'s' if len(read) > 1 else ''}"
    return f"Looked through {documents}, {pages:,} page{'s' if pages > 1 else ''} in all."
