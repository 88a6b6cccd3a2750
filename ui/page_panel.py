"""The page pane: one page as an image, with the marks of the chosen passage, and the document's contents."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.main import App
from ui import page_state
from ui.render import page
from ui.view import QUIET, Regions, View, surface


@dataclass(frozen=True)
class PagePanel:
    """The components of the pane."""

    outline: gr.HTML
    sheet: gr.HTML


def build() -> PagePanel:
    """Components only."""
    return PagePanel(surface("outline"), surface("sheet", page.empty()))


def bind(panel: PagePanel, regions: Regions, app: App) -> None:
    """A chip, an arrow, a page number and a line of the contents all turn the page."""

    def turn(document_id: str, event: gr.EventData) -> Any:
        return on_turn(app, document_id, event._data or {}).sheet

    for name, source in (
        ("cite", regions.history),
        ("cite_live", regions.live),
        ("turn", panel.sheet),
        ("contents", panel.outline),
    ):
        source.select(
            turn,
            regions.document_id,
            panel.sheet,
            api_name=name,
            # One after the other, so that the last click wins; a deferred "always_last" would forget what it was about.
            concurrency_id="turn",
            concurrency_limit=1,
            trigger_mode="multiple",
            **QUIET,
        )


def on_turn(app: App, document_id: str, event: dict[str, Any]) -> View:
    """Turns to the page that the event names, keeping the marks of the answer it came from."""
    number, chosen = page_state.where(event)
    return View(
        sheet=page_state.sheet(app, document_id, number, page.parse_marks(str(event.get("citations", ""))), chosen)
    )
