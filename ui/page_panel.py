"""The page pane: one page as an image, with the marks of the chosen passage, and the document's contents."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from app.events import Cited
from app.main import App
from ui.language import t
from ui.render import page as view
from ui.trouble import explain
from ui.view import QUIET, Open, Page, View

PANE = "page-pane"
WHOLE = re.compile(r"-?\d{1,9}")


def build(page: Page) -> None:
    """The contents above the sheet."""
    page.surface("outline")
    page.surface("sheet", view.empty(nothing_open=True))
    # The open document, as long as its pages are not known.
    page.region("awaited", gr.State(""))


def bind(page: Page) -> None:
    """A chip, an arrow, a page number and a line of the contents all turn the page."""

    def turn(document_id: str, event: gr.EventData) -> Any:
        return on_turn(page.app, document_id, event._data or {})["sheet"]

    for name, source in (("cite", "history"), ("cite_live", "live"), ("turn", "sheet"), ("contents", "outline")):
        page[source].select(
            turn,
            page["document_id"],
            page["sheet"],
            api_name=name,
            # One after the other, so that the last click wins; a deferred "always_last" would forget what it was about.
            concurrency_id="turn",
            concurrency_limit=1,
            trigger_mode="multiple",
            **QUIET,
        )


def live(app: App, at: Open) -> View:
    """The contents; a page stays as it is."""
    return {"outline": view.outline(at.entry) if at.entry and not at.several else ""}


def opened(app: App, at: Open) -> View:
    """The page of the best passage of the last answer, or the first one."""
    if at.entry is None:
        return {"sheet": view.empty(nothing_open=True), "awaited": ""}
    return {
        "sheet": best_sheet(app, at.document_id, at.turns[-1].answer.citations if at.turns else ()),
        "awaited": "" if at.entry.pages else at.document_id,
    }


def on_turn(app: App, document_id: str, event: Mapping[str, Any]) -> View:
    """Turns to the page that the event names, keeping the marks of the answer it came from.

    `page` is its number in the file, or what is printed on it, as `printed` is; `at` is the page that is shown.
    """
    page, printed = str(event.get("page", "")), str(event.get("printed", ""))
    number = _whole(page, _whole(event.get("at"), 1))
    printed = printed or (page if not WHOLE.fullmatch(page) else "")
    marks, chosen = view.parse_marks(str(event.get("citations", ""))), _whole(event.get("mark"), 0)
    document_id, pictures = str(event.get("document") or document_id), bool(event.get("pictures"))
    return {"sheet": sheet(app, document_id, number, marks, chosen, printed, pictures)}


def _whole(value: Any, otherwise: int) -> int:
    return int(value) if WHOLE.fullmatch(str(value)) else otherwise


def best_sheet(app: App, document_id: str, citations: Sequence[Cited]) -> str:
    """The page of the best passage with all marks, or the first page when there is no passage."""
    if not citations:
        return sheet(app, document_id, 1, (), 0)
    marks = tuple(view.Mark(each.mark, each.page, each.label, each.boxes, each.document_id) for each in citations)
    return sheet(app, citations[0].document_id or document_id, citations[0].page, marks, citations[0].mark)


def sheet(
    app: App,
    document_id: str,
    number: int,
    marks: tuple[view.Mark, ...],
    chosen: int,
    printed: str = "",
    pictures: bool = False,
) -> str:
    """A page with its marks, or why it cannot be shown: what is `printed` on it names it before its `number` does.

    With `pictures` it is a picture also of a PDF, for a browser that cannot show one.
    """
    try:
        entry = app.library.catalogue.entry(document_id)
        if not entry.pages:
            return view.empty(t("The pages appear here as soon as they are known."))
        labels = app.library.catalogue.labels(document_id)
        named = [label.casefold() for label in labels]
        wanted = printed.strip().casefold()
        found = named.index(wanted) + 1 if wanted in named else number
        shown = min(max(found, 1), entry.pages)
        missing = printed if wanted not in ("", *named) else str(found) if found != shown else ""
        note = t("Shown as pictures: this browser cannot open the file itself.") if pictures else ""
        note = t("There is no page {page}.", page=missing) if missing else note
        in_frame = entry.is_pdf and not pictures
        image = None if in_frame else app.library.page_image(document_id, shown)
        return view.sheet(entry, shown, image, marks, chosen, labels, note)
    except Exception as error:
        return view.failed(explain(error))
