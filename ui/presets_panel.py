"""The presets under the title of the open document: choosing how its pods are kept."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.errors import DocumentNotFound
from app.main import App
from ui.render import presets
from ui.trouble import explain
from ui.view import AT_ONCE, POLLING, Open, Page, View

PANE = "chat-pane"


def build(page: Page) -> None:
    """One region."""
    page.surface("dial")


def bind(page: Page) -> None:
    """A step and a Remove both say what they are about."""

    def act(document_id: str, conversation_id: str, search: str, event: gr.EventData) -> list[Any]:
        return page.guarded(lambda: on_act(page, document_id, conversation_id, search, event._data or {}))

    ids = [page["document_id"], page["conversation_id"], page["search"]]
    page["dial"].click(act, ids, page.outputs, api_name="recipe", **AT_ONCE)


def live(app: App, at: Open) -> View:
    """How the open document is kept; empty when it is gone."""
    try:
        shown = presets.presets(app.library.presets(at.document_id)) if at.document_id and not at.several else ""
    except DocumentNotFound:
        shown = ""
    return {"dial": shown}


def on_act(page: Page, open_id: str, conversation_id: str, search: str, event: Mapping[str, Any]) -> View:
    """Carries it out; what goes wrong is said under the steps."""
    library = page.app.library
    document_id, recipe = str(event.get("document", "")), str(event.get("recipe", ""))
    try:
        if event.get("act") == "choose":
            library.choose(document_id, recipe)
        elif event.get("act") == "drop":
            library.drop(document_id, recipe)
    except Exception as error:
        return {"dial": presets.presets(library.presets(open_id), explain(error)), "timer": POLLING}
    return page.after(document_id, open_id, conversation_id, search)
