"""The whole page: three panes side by side, bound to one app."""

from typing import Any

import gradio as gr

from app.main import App
from ui import (
    chat_panel,
    head_panel,
    library_panel,
    page_panel,
    people_panel,
    presets_panel,
    readers_panel,
    settings_panel,
    share_panel,
)
from ui.access import GuardedBlocks, acting
from ui.language import t
from ui.render.icons import icon
from ui.view import POLLING, QUIET, Page, Panel

_LIBRARY: tuple[Panel, ...] = (library_panel, readers_panel, share_panel, people_panel, settings_panel)
PANELS: tuple[Panel, ...] = (*_LIBRARY, head_panel, presets_panel, chat_panel, page_panel)
"""In the order in which they stand in their panes. A further one is a module like these and its name here."""
PANES = ("library-pane", "chat-pane", "page-pane")
UNCLAIMED_SECONDS = (60, 300)
"""How often uploads are looked for that no page has taken into the library, and how old they are when they go."""


def build(app: App) -> gr.Blocks:
    """Lays the panes out and wires them. Opening the page restores the document named in its address."""
    page = Page(PANELS)
    blocks = GuardedBlocks(title="DocPod", analytics_enabled=False, fill_width=True, delete_cache=UNCLAIMED_SECONDS)
    with acting(app), blocks:
        page.region("document_id", gr.Textbox(visible="hidden", elem_id="document-id"))
        page.region("conversation_id", gr.Textbox(visible="hidden", elem_id="conversation-id"))
        page.region("timer", gr.Timer(POLLING["value"]))
        with gr.Row(elem_id="desk"):
            for pane in PANES:
                with gr.Column(elem_id=pane, elem_classes="pane"):
                    page.build(pane)
        page.still("switch", _switch())
        page.bind()

        def load(document_id: str, conversation_id: str) -> list[Any]:
            return page.guarded(lambda: page.opened(document_id, conversation_id or None))

        ids = [page["document_id"], page["conversation_id"]]
        blocks.load(load, ids, page.outputs, js="() => window.docpod.place()", api_name="load", **QUIET)
        for part, name in zip(ids, ("remember_document", "remember_conversation"), strict=True):
            part.change(None, ids, None, js="(d, c) => window.docpod.remember(d, c)", api_name=name, **QUIET)
        # Gradio tells every region that an event fills how far it is, time and again: none of ours shows that.
        for event in blocks.fns.values():
            event.show_progress_on = [page["seen"]]
    return blocks


def _switch() -> str:
    panes = (("library", t("Library")), ("chat", t("Chat")), ("page", t("Page")))
    return "".join(
        f'<button data-do="show" data-show="{pane}" aria-label="{label}">{icon(pane)}<span>{label}</span></button>'
        for pane, label in panes
    )
