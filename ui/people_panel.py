"""The people panel, at the foot of the library: who is signed in, what he shares with whom, and the way out."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.main import App
from app.people import EVERYBODY
from ui.render import people
from ui.trouble import Trouble, explain
from ui.view import AT_ONCE, POLLING, Open, Page, View

PANE = "library-pane"


def build(page: Page) -> None:
    """One region."""
    page.surface("who")


def bind(page: Page) -> None:
    """A form shares a tag; buttons end that."""

    def act(event: gr.EventData) -> list[Any]:
        return page.values(on_act(page.app, event._data or {}))

    page["who"].click(act, None, page.outputs, api_name="collections", **AT_ONCE)


def live(app: App, at: Open) -> View:
    """Nothing for the user of a home without people, and for visitors by a link."""
    return {"who": _shown(app) if app.name or (app.role == "owner" and app.people.all()) else ""}


def on_act(app: App, event: Mapping[str, Any]) -> View:
    """Carries it out; what goes wrong is said in the panel."""
    names = [each.strip() for each in str(event.get("people", "")).split(",") if each.strip()]
    try:
        app.collections.share(str(event.get("tag", "")), [] if event.get("act") == "stop" else names or [EVERYBODY])
    except Exception as error:
        return {"who": _shown(app, explain(error))}
    return {"who": _shown(app), "timer": POLLING}


def _shown(app: App, trouble: Trouble | None = None) -> str:
    shares = None if app.role == "visitor" else app.collections.all()
    return people.panel(app.name, app.role, app.signs_out, shares, trouble)
