"""What stands on the page when a document and one of its conversations are open."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app.errors import DocumentNotFound
from app.events import Cited
from ui.backend import App
from ui.render import conversation, library, page
from ui.render import presets as presets_view
from ui.trouble import explain
from ui.view import POLLING, Shown, View


def guarded(make: Callable[[], View]) -> list[Shown]:
    """The values of a view, or of one that says what went wrong."""
    try:
        return make().values()
    except Exception as error:
        return View(notices=library.notices([("", explain(error))]), timer=POLLING).values()


def opened(app: App, document_id: str, conversation_id: str | None, search: str = "") -> View:
    """Everything about one document; a conversation of None means its latest, "" means none yet.

    An unknown document, such as one deleted in another tab, opens nothing.
    """
    if not document_id:
        return _nothing_open(app, search)
    try:
        entry = app.library.entry(document_id)
    except DocumentNotFound:
        return _nothing_open(app, search)
    known = [each.conversation_id for each in app.questions.conversations(document_id)]
    if conversation_id is None:
        conversation_id = known[0] if known else ""
    turns = app.questions.turns(conversation_id) if conversation_id in known else []
    return View(
        notices="",
        documents=documents(app, document_id, search),
        head=head(app, document_id, conversation_id),
        presets=presets_of(app, document_id),
        history=conversation.history(turns) if turns else conversation.invitation(entry),
        live="",
        status="",
        question=gr.update(interactive=True, placeholder="Ask this document", submit_btn="Send", stop_btn=False),
        sheet=best_sheet(app, document_id, turns[-1].answer.citations if turns and turns[-1].answer.found else ()),
        outline=page.outline(entry),
        document_id=document_id,
        conversation_id=conversation_id if turns else "",
        awaited="" if entry.pages else document_id,
        timer=POLLING,
    )


def _nothing_open(app: App, search: str) -> View:
    known = bool(app.library.entries())
    return View(
        notices="",
        documents=documents(app, "", search),
        head="",
        presets="",
        history=conversation.choose() if known else conversation.welcome(),
        live="",
        status="",
        question=gr.update(interactive=False, placeholder="Open a document to ask it"),
        sheet=page.empty(),
        outline="",
        document_id="",
        conversation_id="",
        awaited="",
        timer=POLLING,
    )


def documents(app: App, document_id: str, search: str) -> str:
    """The list, with the open document marked."""
    return library.documents(app.library.entries(search), document_id, search)


def head(app: App, document_id: str, conversation_id: str) -> str:
    """Title, state and conversations of the open document; empty when it is gone."""
    if not document_id:
        return ""
    try:
        return conversation.head(
            app.library.entry(document_id), app.questions.conversations(document_id), conversation_id
        )
    except Exception as error:
        return conversation.failure("", explain(error))


def presets_of(app: App, document_id: str) -> str:
    """How the open document is kept; empty when it is gone."""
    if not document_id:
        return ""
    try:
        return presets_view.presets(app.library.presets(document_id))
    except DocumentNotFound:
        return ""


def best_sheet(app: App, document_id: str, citations: Sequence[Cited]) -> str:
    """The page of the best passage with all marks, or the first page when there is no passage."""
    if not citations:
        return sheet(app, document_id, 1, (), 0)
    marks = tuple(page.Mark(each.mark, each.page, each.label, each.boxes) for each in citations)
    return sheet(app, document_id, citations[0].page, marks, citations[0].mark)


def sheet(app: App, document_id: str, number: int, marks: tuple[page.Mark, ...], chosen: int) -> str:
    """One page of a document with its marks, or why it cannot be shown."""
    try:
        entry = app.library.entry(document_id)
        if not entry.pages:
            return page.empty("The pages appear here as soon as they are known.")
        number = min(max(number, 1), entry.pages)
        return page.sheet(entry, number, app.library.page_image(document_id, number), marks, chosen)
    except Exception as error:
        return page.failed(explain(error))


def where(event: dict[str, Any]) -> tuple[int, int]:
    """Page and mark named by an event; anything that is no number means page 1 and no mark."""
    try:
        return int(event.get("page", 1)), int(event.get("mark", 0))
    except (TypeError, ValueError):
        return 1, 0
