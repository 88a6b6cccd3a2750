"""The dial under the title of the open document: choosing how its memory is kept."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from app.main import App
from ui import page_state
from ui.render import presets
from ui.trouble import explain
from ui.view import POLLING, QUIET, Regions, View, surface


def build() -> gr.HTML:
    """The component only."""
    return surface("dial")


def bind(panel: gr.HTML, regions: Regions, app: App, search: gr.Textbox) -> None:
    """A step and a Remove both say what they are about."""

    def act(document_id: str, conversation_id: str, search: str, event: gr.EventData) -> list[Any]:
        return page_state.guarded(lambda: on_act(app, document_id, conversation_id, search, event._data or {}))

    ids = [regions.document_id, regions.conversation_id, search]
    panel.click(act, ids, regions.outputs(), api_name="recipe", concurrency_limit=None, **QUIET)


def on_act(app: App, open_id: str, conversation_id: str, search: str, event: Mapping[str, Any]) -> View:
    """Carries it out; what goes wrong is said under the steps."""
    document_id, recipe = str(event.get("document", "")), str(event.get("recipe", ""))
    try:
        if event.get("act") == "choose":
            app.library.choose(document_id, recipe)
        elif event.get("act") == "drop":
            app.library.drop(document_id, recipe)
    except Exception as error:
        return View(presets=presets.presets(app.library.presets(open_id), explain(error)), timer=POLLING)
    view = View(documents=page_state.documents(app, open_id, search), timer=POLLING)
    if document_id != open_id:
        return view
    return replace(
        view, head=page_state.head(app, open_id, conversation_id), presets=page_state.presets_of(app, open_id)
    )
