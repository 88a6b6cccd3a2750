"""The settings panel, over the page: each setting explained, with where its value comes from, and changed."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.main import App
from ui.render import settings
from ui.trouble import explain
from ui.view import AT_ONCE, Open, Page, View

PANE = "library-pane"


def build(page: Page) -> None:
    """One region, which the script shows over the page."""
    page.surface("settings")


def bind(page: Page) -> None:
    """What is shown is made when it is opened, and anew after each change."""

    def act(event: gr.EventData) -> list[Any]:
        return page.values(on_act(page.app, event._data or {}))

    page["settings"].click(act, None, page.outputs, api_name="settings", **AT_ONCE)


def live(app: App, at: Open) -> View:
    """Nothing changes but by its user."""
    return {}


def on_act(app: App, event: Mapping[str, Any]) -> View:
    """Carries out a change; what is wrong with it is said beside its field."""
    name, given = str(event.get("setting", "")), str(event.get("value", ""))
    wrong = None
    try:
        match event.get("act"):
            case "change":
                app.preferences.change(name, given)
            case "reset":
                app.preferences.reset(name)
    except Exception as error:
        wrong = given, explain(error)
    return {"settings": settings.panel(app.preferences.states(), name, wrong)}
