"""The head of the conversation pane: the open document's title and state, and its conversations."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.main import App
from ui.render import conversation
from ui.render import head as view
from ui.render.page import failed
from ui.trouble import explain
from ui.view import AT_ONCE, LAST_WINS, QUIET, Open, Page, View

PANE = "chat-pane"


def build(page: Page) -> None:
    """One region."""
    page.surface("head")


def bind(page: Page) -> None:
    """Conversations open and go; an answer that is being given goes on in its own."""

    def open_conversation(event: gr.EventData) -> list[Any]:
        data = event._data or {}
        return page.guarded(lambda: page.opened(str(data.get("document", "")), str(data.get("conversation", ""))))

    def open_new(document_id: str, conversation_id: str) -> list[Any]:
        return page.guarded(lambda: page.opened(document_id, conversation_id))

    def delete(document_id: str, conversation_id: str, event: gr.EventData) -> list[Any]:
        deleted = str((event._data or {}).get("conversation", ""))
        return page.guarded(lambda: on_delete(page, document_id, conversation_id, deleted))

    def rename(document_id: str, conversation_id: str, search: str, event: gr.EventData) -> list[Any]:
        data = event._data or {}
        return page.guarded(lambda: on_rename(page, document_id, conversation_id, search, data))

    def undo(document_id: str, event: gr.EventData) -> list[Any]:
        return page.guarded(lambda: on_undo(page, document_id, str((event._data or {}).get("conversation", ""))))

    def copy(document_id: str, conversation_id: str) -> list[Any]:
        return page.guarded(lambda: page.opened(document_id, page.app.chat.copy(conversation_id)))

    ids, head = [page["document_id"], page["conversation_id"]], page["head"]
    leaving = {"cancels": page.answering, **AT_ONCE}
    head.select(open_conversation, None, page.outputs, api_name="conversation", **leaving | LAST_WINS)
    # The browser names it at once, so that a question which is quicker than the server is asked in the new one.
    fresh = {"js": "() => window.docpod.fresh()", "api_name": "conversation_fresh", **QUIET}
    new = head.edit(None, None, page["conversation_id"], **fresh)
    new.then(open_new, ids, page.outputs, api_name="conversation_new", **leaving)
    head.copy(copy, ids, page.outputs, api_name="conversation_copy", **leaving)
    places = [*ids, page["search"]]
    head.submit(rename, places, page.outputs, api_name="conversation_rename", **AT_ONCE)
    page["said"].click(undo, ids[:1], page.outputs, api_name="conversation_undo", **leaving)
    head.delete(delete, ids, page.outputs, api_name="conversation_delete", **leaving)


def live(app: App, at: Open) -> View:
    """Title, state and conversations of the open document, or why there are none."""
    if at.entry is None:
        return {"head": ""}
    try:
        head = view.head(at.entry, app.questions.conversations(at.document_id), at.conversation_id, at.several)
    except Exception as error:
        head = failed(explain(error))
    return {"head": head}


def on_delete(page: Page, document_id: str, open_id: str, conversation_id: str) -> View:
    """Deletes a conversation; the open one leaves its document open with none."""
    page.app.chat.delete(conversation_id)
    view = page.opened(document_id, "" if conversation_id == open_id else open_id)
    return {**view, "said": conversation.deleted(conversation_id)}


def on_undo(page: Page, document_id: str, conversation_id: str) -> View:
    """Brings a deleted conversation back and opens it."""
    page.app.chat.bring_back(conversation_id)
    first, *_ = page.app.chat.documents(conversation_id) or (document_id,)
    return page.opened(first, conversation_id)


def on_rename(page: Page, document_id: str, open_id: str, search: str, event: Mapping[str, Any]) -> View:
    """Calls a conversation otherwise."""
    page.app.chat.rename(str(event.get("conversation", "")), str(event.get("title", "")))
    return page.live(page.place(document_id, open_id, search))
