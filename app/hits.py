"""Hits: the passages that hold a question's words, found without a model as soon as their pages are known."""

from app.citations import best_passages, cite
from app.events import Cited
from app.evidence import Ranked
from app.passages import split
from app.query_terms import seek
from app.words import terms
from storage import Store

_PAGES = 12


def hits(question: str, document_id: str, store: Store) -> tuple[Cited, ...]:
    """The best passages among the pages that are parsed, the best first; nothing where no page has any of the words."""
    scores = dict(store.search_pages(document_id, terms(question), _PAGES))
    pages = {page.number: page for page in store.pages(document_id, scores)}
    passages = {number: split(number, page.text) for number, page in pages.items()}
    query = seek(question, list(passages.values()))
    best = max(scores.values(), default=0.0) or 1.0
    ranked = [
        Ranked(passage, 0, (0, 0), max(0.0, scores[number]) / best, share, 0.0, named)
        for number, of_page in passages.items()
        for passage, (share, named) in zip(of_page, query.shares(of_page), strict=True)
        if share
    ]
    return cite(best_passages(sorted(ranked, key=lambda each: each.score, reverse=True)), pages)
