"""Hits: the passages that hold a question's words, found without a model as soon as their pages are known."""

from app.citations import best_passages, cite
from app.events import Cited
from app.routing import Route
from storage import Store


def hits(question: str, document_id: str, store: Store) -> tuple[Cited, ...]:
    """The best passages among the pages that are parsed, the best first; nothing where no page has any of the words."""
    best = best_passages([each for each in Route(question, document_id, store).candidates if each.words])
    pages = {page.number: page for page in store.pages(document_id, {each.passage.page for each in best})}
    return cite(best, pages)
