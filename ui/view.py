"""The page as its panels see it: regions by name, and what each panel shows in its own."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

import gradio as gr

from app.events import DocumentEntry, Turn
from app.listing import listed
from app.main import App
from app.search import Found
from ui.access import current_view
from ui.render import library
from ui.trouble import explain

View = Mapping[str, Any]
"""What a handler changes on the page: the HTML, text or properties of regions by name; the others stay as they are."""

POLLING: dict[str, Any] = {"value": 1.0, "__type__": "update"}
"""Lets the timer look at the library every second."""
RESTING: dict[str, Any] = {"value": 5.0, "__type__": "update"}
"""Seldom: for what other pages and processes do, and where an answer came late and shows what was before."""

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How every event of the page is bound: no spinner over the text, no entry in an API listing."""

AT_ONCE: dict[str, Any] = {"queue": False, **QUIET}
"""How what answers in one go is bound: by one request, without a place in a queue and a stream to wait at."""

LAST_WINS: dict[str, Any] = {
    "queue": True,
    "trigger_mode": "multiple",
    "concurrency_id": "open",
    "concurrency_limit": 1,
}
"""How what opens something is bound: one click after the other."""

NOTHING = Found()
_EXACT = 1 << 53
"""Below it JavaScript holds every whole number."""


@dataclass(frozen=True)
class Open:
    """What is open on a page: a document and one of its conversations, or nothing, beside what was found."""

    document_id: str
    conversation_id: str
    search: str
    library: Sequence[DocumentEntry]
    found: Sequence[DocumentEntry]
    """Those of the library that a list shows."""
    entry: DocumentEntry | None = None
    """The document; None where nothing is open, or what was is gone."""
    turns: Sequence[Turn] = ()
    hits: Found = NOTHING
    several: Sequence[DocumentEntry] = ()
    """The documents of a conversation about more than one."""


class Panel(Protocol):
    """A part of the page, in a module of its own. It may name the regions of others, and no other names its own."""

    PANE: str
    """The pane that it stands in, below the panels before it."""

    def build(self, page: "Page") -> None:
        """Lay out its components; each region that a handler changes is registered."""

    def bind(self, page: "Page") -> None:
        """Wire its events, once all panels are built."""

    def live(self, app: App, at: Open) -> View:
        """Its regions that follow what happens in the background, for the timer and after every action."""


@runtime_checkable
class OpeningPanel(Panel, Protocol):
    """A panel that also has regions which are not live."""

    def opened(self, app: App, at: Open) -> View:
        """Those, when something opens."""


class Page:
    """The regions of all panels."""

    def __init__(self, panels: Sequence[Panel]) -> None:
        self.answering: list[Any] = []
        """The events that answer, for others to cancel."""
        self._panels = panels
        self._regions: dict[str, Any] = {}

    @property
    def app(self) -> App:
        """The app as whoever caused the running event has it: a visitor of a share has a part of it."""
        return current_view()

    def region(self, name: str, component: Any) -> None:
        """Register what handlers change by this name."""
        assert name not in self._regions, f"two regions are called {name}"
        self._regions[name] = component

    def surface(self, name: str, value: str = "", template: str = "${value}") -> None:
        """A region of our own HTML whose buttons and forms report what they carry in their data attributes."""
        component = gr.HTML(
            value,
            elem_id=name,
            html_template=template,
            js_on_load="window.docpod.wire(element, trigger)",
            apply_default_css=False,
        )
        self.region(name, component)

    def still(self, name: str, value: str) -> None:
        """HTML that stays as it is; the script translates it."""
        gr.HTML(value, elem_id=name, js_on_load="window.docpod.translate(element)", apply_default_css=False)

    def __getitem__(self, name: str) -> Any:
        """The component behind a region."""
        return self._regions[name]

    @property
    def outputs(self) -> list[Any]:
        """All components, in the order of `values`."""
        return list(self._regions.values())

    def values(self, view: View) -> list[Any]:
        """A view in the order of `outputs`."""
        assert view.keys() <= self._regions.keys(), f"no regions: {view.keys() - self._regions.keys()}"
        shown = [view.get(name, gr.skip()) for name in self._regions]
        # Gradio takes the value out of an update that it is given, and the next one of the same name would have none.
        return [dict(each) if isinstance(each, dict) else each for each in shown]

    def stream(self, views: Iterable[View]) -> Iterator[list[Any]]:
        """The values of one view after another.

        The last ones change nothing: Gradio sends them again when the stream ends, and by then another event may have
        drawn something newer.
        """
        yield from map(self.values, views)
        yield self.values({})

    def guarded(self, make: Callable[[], View]) -> list[Any]:
        """The values of a view, or of one that says what went wrong."""
        try:
            view = make()
        except Exception as error:
            view = {"notices": library.notices([("", explain(error))]), "timer": POLLING}
        return self.values(view)

    def build(self, pane: str) -> None:
        """Lay out the panels of a pane."""
        for panel in self._panels:
            if pane == panel.PANE:
                panel.build(self)

    def bind(self) -> None:
        """Wire all panels, the last first: what ends an answer is bound once it is known what answers."""
        for panel in reversed(self._panels):
            panel.bind(self)

    def place(self, document_id: str, conversation_id: str, search: str = "") -> Open:
        """What is open, as it is at this moment."""
        catalogue = self.app.library.catalogue
        known = catalogue.entries(sort=catalogue.sort)
        by_id = {each.document_id: each for each in known}
        entry = by_id.get(document_id)
        turns = self.app.chat.turns(conversation_id) if entry else ()
        hits = self.app.search.find(search)
        asked = self.app.chat.documents(conversation_id) if entry else ()
        several = [by_id[each] for each in asked if each in by_id] if len(asked) > 1 else ()
        ids = (document_id, conversation_id) if entry else ("", "")
        return Open(*ids, search, known, listed(known, search, catalogue.sort), entry, turns, hits, several)

    def live(self, at: Open) -> dict[str, Any]:
        """The regions of all panels that follow what happens in the background."""
        return {name: shown for panel in self._panels for name, shown in panel.live(self.app, at).items()}

    def after(self, document_id: str, open_id: str, conversation_id: str, search: str) -> View:
        """What an action on a document changes: of another one than is open, only its line in the library."""
        live = self.live(self.place(open_id, conversation_id, search))
        return {**(live if document_id == open_id else {"documents": live["documents"]}), "timer": POLLING}

    def current(self, at: Open) -> dict[str, Any]:
        """The live regions, and as `seen` the hashes of just these, and of the last answer's marks."""
        live = self.live(at)
        marks = at.turns[-1].answer.citations if at.turns else ()
        return {**live, "seen": {name: hash(str(shown)) % _EXACT for name, shown in {**live, "marks": marks}.items()}}

    def changed(self, at: Open, seen: Mapping[str, int]) -> View:
        """The regions that differ from those whose hashes were `seen` last, and the hashes as they are now."""
        current = self.current(at)
        hashes = current["seen"]
        return {name: shown for name, shown in current.items() if hashes.get(name) != seen.get(name) or name == "seen"}

    def opened(self, document_id: str, conversation_id: str | None, search: str = "") -> View:
        """Everything about one document; a conversation of None means its latest, or a new one.

        A conversation has its id before its first question. An unknown document, such as one deleted in another tab,
        opens nothing.
        """
        if not conversation_id:
            mine = self.app.questions.conversations(document_id)
            known = [each.conversation_id for each in mine if len(each.documents) < 2]
            conversation_id = next(iter(known), "") if conversation_id is None else ""
        at = self.place(document_id, conversation_id or uuid4().hex, search)
        if at.document_id:
            self.app.chat.expect(at.document_id)
        opening = (panel.opened(self.app, at) for panel in self._panels if isinstance(panel, OpeningPanel))
        return {
            **self.current(at),
            **{name: shown for others in opening for name, shown in others.items()},
            "document_id": at.document_id,
            "conversation_id": at.conversation_id,
            "timer": POLLING,
        }
