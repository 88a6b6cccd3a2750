"""What a handler changes on the page: one field for each region, and those left out stay as they are."""

from dataclasses import dataclass, field, fields
from typing import Any

import gradio as gr

Shown = str | dict[str, Any]
"""A region's HTML or text, or an update of its properties."""


@dataclass(frozen=True)
class View:
    """The next state of the page's regions."""

    reader: Shown = field(default_factory=gr.skip)
    notices: Shown = field(default_factory=gr.skip)
    documents: Shown = field(default_factory=gr.skip)
    head: Shown = field(default_factory=gr.skip)
    presets: Shown = field(default_factory=gr.skip)
    history: Shown = field(default_factory=gr.skip)
    live: Shown = field(default_factory=gr.skip)
    status: Shown = field(default_factory=gr.skip)
    question: Shown = field(default_factory=gr.skip)
    sheet: Shown = field(default_factory=gr.skip)
    outline: Shown = field(default_factory=gr.skip)
    document_id: Shown = field(default_factory=gr.skip)
    conversation_id: Shown = field(default_factory=gr.skip)
    awaited: Shown = field(default_factory=gr.skip)
    """The open document, as long as its pages are not known."""
    timer: Shown = field(default_factory=gr.skip)

    def values(self) -> list[Shown]:
        """In the order of `Regions.outputs`."""
        return [getattr(self, each.name) for each in fields(self)]


@dataclass(frozen=True)
class Regions:
    """The component behind each field of a View."""

    reader: gr.HTML
    notices: gr.HTML
    documents: gr.HTML
    head: gr.HTML
    presets: gr.HTML
    history: gr.HTML
    live: gr.HTML
    status: gr.HTML
    question: gr.Textbox
    sheet: gr.HTML
    outline: gr.HTML
    document_id: gr.Textbox
    conversation_id: gr.Textbox
    awaited: gr.State
    timer: gr.Timer

    def outputs(self) -> list[Any]:
        """In the order of `View.values`."""
        return [getattr(self, each.name) for each in fields(self)]


POLLING: dict[str, Any] = {"value": 1.0, "__type__": "update"}
"""Lets the timer look at the library every second."""
RESTING: dict[str, Any] = {"value": 5.0, "__type__": "update"}
"""Seldom: for what other pages and processes do, and where an answer came late and shows what was before."""

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How every event of the page is bound: no spinner over the text, no entry in an API listing."""


def surface(name: str, value: str = "", template: str = "${value}") -> gr.HTML:
    """A region of our own HTML whose buttons and forms report what they carry in their data attributes."""
    return gr.HTML(
        value,
        elem_id=name,
        html_template=template,
        js_on_load="window.docpod.wire(element, trigger)",
        apply_default_css=False,
    )
