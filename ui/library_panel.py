"""The library pane: adding documents, and the list of them."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr

from app.listing import parted
from app.main import App
from app.queue import IN_QUEUE
from ui import page_panel
from ui.language import i18n, t
from ui.render import library
from ui.trouble import Trouble, explain
from ui.view import AT_ONCE, LAST_WINS, POLLING, QUIET, RESTING, Open, Page, View

PANE = "library-pane"


def build(page: Page) -> None:
    """Adding, searching, and the list."""
    brand = library.brand(page.app.settings.max_upload_mb)
    page.still("brand", brand)
    page.region("upload", gr.UploadButton(i18n("Add documents"), file_count="multiple", elem_id="upload"))
    page.surface("notices")
    search = gr.Textbox(
        placeholder=i18n("Search everything"),
        label=i18n("Search titles, pages and conversations"),
        show_label=False,
        container=False,
        elem_id="search",
    )
    page.region("search", search)
    page.still("lists", library.lists())
    page.surface("order")
    page.surface("documents")
    page.surface("several")
    # What the page shows, so that the timer only sends what changed: hashes of the live regions. The page has them, not
    # the server: answers come in any order, and one that comes late brings its own.
    page.region("seen", gr.JSON({}, visible="hidden"))


def bind(page: Page) -> None:
    """Wires the pane."""

    def upload(document_id: str, conversation_id: str, search: str, files: list[dict[str, Any]] | None) -> list[Any]:
        # A page where somebody waits for an answer stays where it is.
        stay = document_id if any(turn.is_open for turn in page.app.chat.turns(conversation_id)) else ""
        return page.guarded(lambda: on_upload(page, files or [], document_id, stay, search))

    def act(document_id: str, conversation_id: str, search: str, event: gr.EventData) -> list[Any]:
        return page.guarded(lambda: on_act(page, document_id, conversation_id, search, event._data or {}))

    def open_document(document_id: str, conversation_id: str, search: str, event: gr.EventData) -> list[Any]:
        return page.guarded(lambda: on_open(page, document_id, conversation_id, search, event._data or {}))

    def ask_several(search: str, event: gr.EventData) -> list[Any]:
        return page.guarded(lambda: on_several(page, str((event._data or {}).get("documents", "")).split(), search))

    def delete(document_id: str, conversation_id: str, search: str, event: gr.EventData) -> list[Any]:
        chosen = str(event._data.get("documents") or event._data.get("document", "")).split()
        return page.guarded(lambda: on_delete(page, chosen, document_id, conversation_id, search))

    def look(document_id: str, conversation_id: str, search: str, awaited: str, seen: Mapping[str, int]) -> list[Any]:
        try:
            view = on_tick(page, document_id, conversation_id, search, awaited, seen)
        except Exception as error:
            view = {"notices": library.notices([("", explain(error))]), "timer": RESTING}
        return page.values(view)

    outputs = page.outputs
    ids = [page["document_id"], page["conversation_id"], page["search"]]
    files = [*ids, page["upload"]]
    page["upload"].upload(upload, files, outputs, preprocess=False, api_name="upload", concurrency_limit=4, **QUIET)
    sources = {"documents": "act", "history": "act_welcome", "head": "act_head", "order": "act_order"}
    for source, name in sources.items():
        page[source].click(act, ids, outputs, api_name=name, **AT_ONCE)
    leaving = {"cancels": page.answering, **AT_ONCE}
    page["documents"].select(open_document, ids, outputs, api_name="open", **leaving | LAST_WINS)
    page["several"].select(ask_several, page["search"], outputs, api_name="several", **leaving | LAST_WINS)
    for source, name in (("documents", "delete"), ("several", "delete_several")):
        page[source].delete(delete, ids, outputs, api_name=name, **leaving)
    looks = [*ids, page["awaited"], page["seen"]]
    # Gradio's `input` is for keys that write something: it misses the others, and what is pasted.
    searching = {"trigger_mode": "always_last", **AT_ONCE}
    page["search"].change(look, looks, outputs, api_name="search", **searching)
    page["timer"].tick(look, looks, outputs, api_name="tick", **AT_ONCE)


def live(app: App, at: Open) -> View:
    """The list; the script marks in it what is open, so that it need not be drawn anew for that."""
    visiting = app.role == "visitor"
    queue = () if app.role != "owner" else app.library.queue.waiting(at.library)
    return {
        "order": "" if visiting else library.order(at.library, app.library.catalogue.sort),
        "documents": library.documents(at.found, at.search, at.hits, queue)
        + library.conversations(app.questions.conversations()),
        "several": library.several(at.found) if app.may_ask and not parted(at.search)[1].strip() else "",
    }


def opened(app: App, at: Open) -> View:
    """What was said before is over."""
    return {"notices": ""}


def on_open(page: Page, open_id: str, conversation_id: str, search: str, event: Mapping[str, Any]) -> View:
    """Opens a document, or what was found in it: a conversation, or a page with the words that were searched for."""
    document_id, number = str(event.get("document", "")), int(event.get("page", 0))
    if not number:
        return page.opened(document_id, event.get("conversation") or None, search)
    view = page.opened(document_id, conversation_id if document_id == open_id else None, search)
    found = page.app.search.cited(document_id, number, search)
    return {**view, "sheet": page_panel.best_sheet(page.app, document_id, [found] if found else [])}


def on_several(page: Page, chosen: Sequence[str], search: str) -> View:
    """Opens a conversation about the chosen documents, or about all that are shown."""
    ids = list(chosen) or [each.document_id for each in page.app.library.catalogue.entries(search)]
    if len(ids) == 1:
        return page.opened(ids[0], "", search)
    return page.opened(ids[0], page.app.chat.open(ids), search)


def on_upload(page: Page, files: Sequence[Mapping[str, Any]], open_id: str, stay: str, search: str) -> View:
    """Adds every file; the first of them is opened unless the page is to `stay` where it is. Refusals are named, and so
    is what was there already."""
    known = {each.document_id: each.name for each in page.app.library.catalogue.entries()}
    added: list[str] = []
    troubles: list[tuple[str, Trouble]] = []
    for file in files:
        path = Path(str(file["path"]))
        name = str(file.get("orig_name") or path.name).replace("\\", "/").rsplit("/", 1)[-1]
        try:
            for document_id in _add(page.app, path, name):
                if document_id in known:
                    there = t("It is in the library already, as “{document}”.", document=known[document_id])
                    troubles.append((name, Trouble(there, "")))
                known.setdefault(document_id, name)
                added.append(document_id)
        except Exception as error:
            troubles.append((name, explain(error)))
    stays = stay or not added
    view = page.after("", open_id, "", search) if stays else page.opened(added[0], None, search)
    return {**view, "notices": library.notices(troubles), "timer": POLLING}


def _add(app: App, path: Path, name: str) -> list[str]:
    """Moves one upload into the library; nothing of it stays in the upload folder, whatever happens."""
    claimed = path.with_name(uuid4().hex)
    try:
        os.replace(path, claimed)
    except FileNotFoundError:
        # The same bytes arrived twice at once and share one upload path: the other handler is adding them.
        return []
    try:
        return [app.library.add(claimed, name)]
    finally:
        claimed.unlink(missing_ok=True)
        # Another upload of the same bytes may still be in this folder, and will remove it.
        with suppress(OSError):
            path.parent.rmdir()


def on_act(page: Page, open_id: str, conversation_id: str, search: str, event: Mapping[str, Any]) -> View:
    """Carries out what a button says, on the document it names."""
    document_id = str(event.get("document", ""))
    verbs = page.app.library
    match event.get("act"):
        case "read" | "resume":
            verbs.read(document_id)
        case "ocr":
            verbs.recognise(document_id)
        case "pause":
            verbs.pause(document_id)
        case "cancel":
            verbs.cancel(document_id)
        case "unlock":
            verbs.unlock(document_id, str(event.get("password", "")))
        case "delete":
            verbs.delete(document_id)
        case "rename":
            verbs.rename(document_id, str(event.get("title", "")))
        case "tag":
            verbs.catalogue.tag(document_id, str(event.get("title", "")))
        case "move":
            verbs.queue.move(document_id, event["step"])
        case "sort":
            verbs.catalogue.sort_by(str(event.get("value", "")))
        case "attachment":
            added = verbs.add_attachment(document_id, int(event.get("number", 0)))
            return page.opened(added, None, search)
        case "sample":
            sample = verbs.sample()
            return page.opened(verbs.add(sample, sample.name), None, search)
    if not open_id:
        return page.opened("", None, search)
    return {**page.after(document_id, open_id, conversation_id, search), "notices": ""}


def on_delete(page: Page, chosen: Sequence[str], open_id: str, conversation_id: str, search: str) -> View:
    """Deletes the open document, or those that are chosen; if it is among them nothing is open afterwards."""
    for document_id in chosen:
        page.app.library.delete(document_id)
    return page.opened("" if open_id in chosen else open_id, conversation_id, search)


def on_tick(page: Page, open_id: str, conversation_id: str, search: str, awaited: str, seen: Mapping[str, int]) -> View:
    """Looks at what runs; sends only the regions that changed, and rests when nothing does and nothing runs.

    `awaited`: the document whose first page is shown as soon as it is known.
    """
    at = page.place(open_id, conversation_id, search)
    view = page.changed(at, seen)
    if at.entry and open_id == awaited and at.entry.pages:
        view = {**view, **page_panel.opened(page.app, at)}
    elif at.turns and at.turns[-1].state == "answering":
        # Whoever draws its words shows its page too; where nobody does, it is shown once they are whole.
        view["seen"]["marks"] = seen.get("marks", 0)
    elif at.turns and view["seen"]["marks"] != seen.get("marks"):
        view = {**view, "sheet": page_panel.best_sheet(page.app, open_id, at.turns[-1].answer.citations)}
    status = page.app.status()
    loading = status.state == "loading" or bool(status.doing)
    busy = loading or any(each.progress.stage in IN_QUEUE for each in at.library)
    return {**view, "timer": POLLING if busy or view["seen"] != seen else RESTING}
