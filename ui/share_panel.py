"""The share panel, at the foot of the library: what is shared with whom, for how long, and the end of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from app.events import DocumentEntry
from app.main import App
from app.sharing import Terms
from ui.render import sharing
from ui.trouble import Trouble, explain
from ui.view import POLLING, QUIET, Open, Page, View

PANE = "library-pane"
MOST_SECONDS = 604_800


def build(page: Page) -> None:
    """One region."""
    page.surface("share")


def bind(page: Page) -> None:
    """A form starts a share; buttons invite, show out and end it."""

    def act(event: gr.EventData) -> Iterator[list[Any]]:
        yield from page.stream(on_act(page.app, event._data or {}))

    page["share"].click(act, None, page.outputs, api_name="share", concurrency_limit=None, **QUIET)


def live(app: App, at: Open) -> View:
    """What is shared, or how to share; a visitor sees what he is."""
    return {"share": shown(app, at.library)}


def shown(app: App, entries: Sequence[DocumentEntry], trouble: Trouble | None = None) -> str:
    """The region as it is now."""
    if app.role == "visitor":
        return sharing.visiting(app.may_ask, app.name)
    if app.role == "member":
        return ""
    state = app.sharing.state()
    if state is None:
        return sharing.form(entries, {name: road.label for name, road in app.sharing.roads.items()}, trouble)
    titles = [entry.name for entry in entries if entry.document_id in state.terms.documents]
    return sharing.running(state, titles, trouble)


def on_act(app: App, event: Mapping[str, Any]) -> Iterator[View]:
    """Carries out what a button or the form says; what goes wrong is said in the panel."""
    trouble: Trouble | None = None
    try:
        match event.get("act"):
            case "start":
                terms = terms_of(event)
                yield {"share": sharing.opening()}
                app.sharing.start(terms)
            case "invite":
                app.sharing.invite()
            case "remove":
                app.sharing.remove(str(event.get("visitor", "")))
            case "stop":
                app.sharing.stop()
    except Exception as error:
        trouble = explain(error)
    yield {
        "share": shown(app, app.library.catalogue.entries(sort=app.library.catalogue.sort), trouble),
        "timer": POLLING,
    }


def terms_of(event: Mapping[str, Any]) -> Terms:
    """What the form says."""
    documents = frozenset(name.removeprefix("document-") for name in event if name.startswith("document-"))
    seconds = int(event.get("seconds", 0))
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"sharing for {seconds} s")
    road, password = str(event.get("road", "")), str(event.get("password", ""))
    return Terms(documents, road, bool(event.get("may_ask")), seconds, password)
