"""The library pane: adding documents, the list of them, and the quiet line about the reader."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr

from app.main import App
from ui import page_state
from ui.render import conversation, library, page
from ui.stops import Stops
from ui.trouble import Trouble, explain
from ui.view import POLLING, QUIET, RESTING, Regions, View, surface


@dataclass(frozen=True)
class Seen:
    """What the timer showed last, so that it only sends what changed: hashes of four regions."""

    reader: int = 0
    documents: int = 0
    head: int = 0
    presets: int = 0


@dataclass(frozen=True)
class LibraryPanel:
    """The components of the pane."""

    upload: gr.UploadButton
    search: gr.Textbox
    notices: gr.HTML
    documents: gr.HTML
    reader: gr.HTML
    seen: gr.State


def build(max_upload_mb: int) -> LibraryPanel:
    """Components only."""
    gr.HTML(library.brand(max_upload_mb), elem_id="brand", js_on_load=None, apply_default_css=False)
    upload = gr.UploadButton("Add documents", file_count="multiple", elem_id="upload")
    notices = surface("notices")
    search = gr.Textbox(
        placeholder="Search", label="Search the library", show_label=False, container=False, elem_id="search"
    )
    documents = surface("documents")
    reader = surface("reader")
    return LibraryPanel(upload, search, notices, documents, reader, gr.State(Seen()))


def bind(panel: LibraryPanel, regions: Regions, app: App, stops: Stops, answering: list[Any]) -> None:
    """Wires the pane; opening or deleting a document ends the answers in `answering`."""

    def upload(document_id: str, search: str, files: list[dict[str, Any]] | None, request: gr.Request) -> list[Any]:
        stay = document_id if stops.answering(request.session_hash or "") else ""
        return page_state.guarded(lambda: on_upload(app, files or [], document_id, stay, search))

    def act(document_id: str, conversation_id: str, search: str, event: gr.EventData) -> list[Any]:
        return page_state.guarded(lambda: on_act(app, document_id, conversation_id, search, event._data or {}))

    def open_document(search: str, event: gr.EventData, request: gr.Request) -> list[Any]:
        stops.stop(request.session_hash or "")
        return page_state.guarded(lambda: page_state.opened(app, str(event._data.get("document", "")), None, search))

    def delete(search: str, event: gr.EventData, request: gr.Request) -> list[Any]:
        stops.stop(request.session_hash or "")
        return page_state.guarded(lambda: on_delete(app, str(event._data.get("document", "")), search))

    def look(document_id: str, search: str) -> list[Any]:
        return page_state.guarded(lambda: View(documents=page_state.documents(app, document_id, search)))

    def tick(document_id: str, conversation_id: str, search: str, awaited: str, seen: Seen) -> list[Any]:
        try:
            view, seen = on_tick(app, document_id, conversation_id, search, awaited, seen)
        except Exception as error:
            view = View(notices=library.notices([("", explain(error))]), timer=RESTING)
        return [*view.values(), seen]

    outputs = regions.outputs()
    ids = [regions.document_id, regions.conversation_id, panel.search]
    files = [regions.document_id, panel.search, panel.upload]
    panel.upload.upload(upload, files, outputs, preprocess=False, api_name="upload", concurrency_limit=4, **QUIET)
    for source, name in ((panel.documents, "act"), (regions.history, "act_welcome"), (regions.head, "act_head")):
        source.click(act, ids, outputs, api_name=name, concurrency_limit=None, **QUIET)
    leaving = {"cancels": answering, "concurrency_limit": None, **QUIET}
    panel.documents.select(open_document, panel.search, outputs, api_name="open", **leaving)
    panel.documents.delete(delete, panel.search, outputs, api_name="delete", **leaving)
    panel.search.input(look, ids[::2], outputs, api_name="search", trigger_mode="always_last", queue=False, **QUIET)
    regions.timer.tick(
        tick, [*ids, regions.awaited, panel.seen], [*outputs, panel.seen], api_name="tick", queue=False, **QUIET
    )


def on_upload(app: App, files: Sequence[Mapping[str, Any]], open_id: str, stay: str, search: str) -> View:
    """Adds every file; the first of them is opened unless the page is to `stay` where it is. Refusals are named."""
    added: list[str] = []
    troubles: list[tuple[str, Trouble]] = []
    for file in files:
        path = Path(str(file["path"]))
        name = str(file.get("orig_name") or path.name).replace("\\", "/").rsplit("/", 1)[-1]
        try:
            added += _add(app, path, name)
        except Exception as error:
            troubles.append((name, explain(error)))
    stays = stay or not added
    view = (
        View(documents=page_state.documents(app, open_id, search))
        if stays
        else page_state.opened(app, added[0], None, search)
    )
    return replace(view, notices=library.notices(troubles), timer=POLLING)


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


def on_act(app: App, open_id: str, conversation_id: str, search: str, event: Mapping[str, Any]) -> View:
    """Carries out what a button says, on the document it names."""
    document_id = str(event.get("document", ""))
    verbs = app.library
    match event.get("act"):
        case "read" | "resume":
            verbs.read(document_id)
        case "pause":
            verbs.pause(document_id)
        case "cancel":
            verbs.cancel(document_id)
        case "unlock":
            verbs.unlock(document_id, str(event.get("password", "")))
        case "delete":
            verbs.delete(document_id)
        case "sample":
            sample = verbs.sample()
            return page_state.opened(app, verbs.add(sample, sample.name), None, search)
    if not open_id:
        return page_state.opened(app, "", None, search)
    view = View(documents=page_state.documents(app, open_id, search), notices="", timer=POLLING)
    if document_id != open_id:
        return view
    return replace(
        view, head=page_state.head(app, open_id, conversation_id), presets=page_state.presets_of(app, open_id)
    )


def on_delete(app: App, document_id: str, search: str) -> View:
    """Deletes the open document; nothing is open afterwards."""
    app.library.delete(document_id)
    return page_state.opened(app, "", None, search)


def on_tick(app: App, open_id: str, conversation_id: str, search: str, awaited: str, seen: Seen) -> tuple[View, Seen]:
    """Looks at what runs; sends only the regions that changed, and rests when nothing does and nothing runs.

    `awaited`: the document whose first page is shown as soon as it is known.
    """
    status = app.status()
    everything = app.library.catalogue.entries()
    reader = library.reader(status)
    documents = library.documents(app.library.catalogue.entries(search) if search else everything, open_id, search)
    head = page_state.head(app, open_id, conversation_id)
    presets = page_state.presets_of(app, open_id)
    opened = next((entry for entry in everything if entry.document_id == open_id), None)
    shown = Seen(hash(reader), hash(documents), hash(head), hash(presets))
    view = View(
        reader=gr.skip() if shown.reader == seen.reader else reader,
        documents=gr.skip() if shown.documents == seen.documents else documents,
        head=gr.skip() if shown.head == seen.head else head,
        presets=gr.skip() if shown.presets == seen.presets else presets,
    )
    if opened and open_id == awaited and opened.pages:
        view = replace(
            view,
            # Its title is known since then, too.
            history=gr.skip() if conversation_id else conversation.invitation(opened),
            sheet=page_state.sheet(app, open_id, 1, (), 0),
            outline=page.outline(opened),
            awaited="",
        )
    busy = status.state == "loading" or any(entry.progress.stage in library.BUSY_STAGES for entry in everything)
    return replace(view, timer=POLLING if busy or shown != seen else RESTING), shown
