"""The whole page: three panes side by side, bound to one app."""

from dataclasses import replace
from typing import Any

import gradio as gr

from app.main import App
from ui import chat_panel, library_panel, page_panel, page_state, presets_panel
from ui.render import library
from ui.render.icons import icon
from ui.stops import Stops
from ui.view import POLLING, QUIET, Regions, View


def build(app: App) -> gr.Blocks:
    """Lays the panes out and wires them. Opening the page restores the document named in its address."""
    stops = Stops()
    blocks = gr.Blocks(title="DocPod", analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600))
    with blocks:
        document_id = gr.Textbox(visible="hidden", elem_id="document-id")
        conversation_id = gr.Textbox(visible="hidden", elem_id="conversation-id")
        awaited, timer = gr.State(""), gr.Timer(POLLING["value"])
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_id="library-pane", elem_classes="pane"):
                shelf = library_panel.build(app.settings.max_upload_mb)
            with gr.Column(elem_id="chat-pane", elem_classes="pane"):
                chat = chat_panel.build()
            with gr.Column(elem_id="page-pane", elem_classes="pane"):
                leaf = page_panel.build()
        gr.HTML(_switch(), elem_id="switch", js_on_load=None, apply_default_css=False)
        regions = Regions(
            reader=shelf.reader,
            notices=shelf.notices,
            documents=shelf.documents,
            head=chat.head,
            presets=chat.presets,
            history=chat.history,
            live=chat.live,
            status=chat.status,
            question=chat.question,
            sheet=leaf.sheet,
            outline=leaf.outline,
            document_id=document_id,
            conversation_id=conversation_id,
            awaited=awaited,
            timer=timer,
        )
        answering = chat_panel.bind(chat, regions, app, stops)
        library_panel.bind(shelf, regions, app, stops, answering)
        page_panel.bind(leaf, regions, app)
        presets_panel.bind(chat.presets, regions, app, shelf.search)

        def load(document_id: str, conversation_id: str) -> list[Any]:
            return page_state.guarded(lambda: on_load(app, document_id, conversation_id))

        ids = [document_id, conversation_id]
        blocks.load(load, ids, regions.outputs(), js="() => window.docpod.place()", api_name="load", **QUIET)
        for part, name in ((document_id, "remember_document"), (conversation_id, "remember_conversation")):
            part.change(None, ids, None, js="(d, c) => window.docpod.remember(d, c)", api_name=name, **QUIET)
    return blocks


def on_load(app: App, document_id: str, conversation_id: str) -> View:
    """A page that opens: what its address names, read from the database."""
    view = page_state.opened(app, document_id, conversation_id or None)
    return replace(view, reader=library.reader(app.status()))


def _switch() -> str:
    panes = (("library", "Library"), ("chat", "Chat"), ("page", "Page"))
    return "".join(
        f'<button data-do="show" data-show="{pane}" aria-label="{label}">{icon(pane)}<span>{label}</span></button>'
        for pane, label in panes
    )
