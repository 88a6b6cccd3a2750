"""The readers panel, at the foot of the library: which model reads, which others could, and the change to one."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.main import App
from ui.render import readers
from ui.trouble import explain
from ui.view import AT_ONCE, POLLING, Open, Page, View

PANE = "library-pane"


def build(page: Page) -> None:
    """The list, and below it what goes on, which changes more often."""
    page.surface("reader")
    page.surface("change")


def bind(page: Page) -> None:
    """Buttons and the form choose, stop and delete."""

    def act(event: gr.EventData) -> list[Any]:
        return page.values(on_act(page.app, event._data or {}))

    for source, name in (("reader", "reader"), ("change", "reader_stop")):
        page[source].click(act, None, page.outputs, api_name=name, **AT_ONCE)


def live(app: App, at: Open | None = None) -> View:
    """Both regions; others than owners see the name of the reader alone."""
    status = app.status()
    if app.role != "owner":
        return {"reader": readers.panel(status), "change": ""}
    trouble = explain(app.readers.trouble) if app.readers.trouble else None
    return {
        "reader": readers.panel(status, app.readers.entries()),
        "change": readers.change(status, app.readers.can_stop, trouble),
    }


def on_act(app: App, event: Mapping[str, Any]) -> View:
    """Carries it out; what goes wrong is said below the list."""
    choice = str(event.get("choice", ""))
    try:
        match event.get("act"):
            case "use":
                app.readers.use(choice)
            case "prepare":
                app.readers.prepare()
            case "stop":
                app.readers.stop()
            case "forget":
                app.readers.forget(choice)
    except Exception as error:
        return {"change": readers.change(app.status(), app.readers.can_stop, explain(error)), "timer": POLLING}
    return {"change": live(app)["change"], "timer": POLLING}
