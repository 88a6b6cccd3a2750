"""Commands about documents: they come in, are read, looked at, kept by a recipe, and go."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from app.commands.parsers import Parsers, document
from app.commands.terminal import PROGRAM, follow, save, wait
from app.errors import BadSetting, Busy, NotRead, PasswordNeeded
from app.events import DocumentEntry
from app.listing import SORTS, TAG
from app.main import App
from app.portable import SUFFIX
from app.readers import NAMES
from app.scans import INSTALL, ocr_installed

_PASSWORD = "of an encrypted PDF"


def add(commands: Parsers) -> None:
    """Adds the commands."""
    reading = commands.add("read", _read)
    reading.add_argument("file", nargs="*", help=f"files: {NAMES}")
    reading.add_argument("--sample", action="store_true", help="read the sample document")
    reading.add_argument("--password", help=_PASSWORD)
    listing = commands.add("ls", _ls)
    listing.add_argument("search", nargs="?", default="", help="words of the title or file name, and #tags")
    listing.add_argument("--tag", action="append", default=[], help="only what has this tag")
    listing.add_argument("--sort", choices=SORTS, help="otherwise as on the page")
    for name, run in (("show", _show), ("ocr", _ocr), ("pause", _pause), ("cancel", _cancel), ("delete", _delete)):
        document(commands.add(name, run))
    document(commands.add("export", _export)).add_argument(
        "--out", type=Path, help="otherwise DOCUMENT.docpod beside you"
    )
    importing = commands.add("import", _import)
    importing.add_argument("file", nargs="+", help="archives of `export`")
    importing.set_defaults(sample=False, password=None)
    document(commands.add("rename", _rename)).add_argument("title", help="what it is called from now on")
    attached = document(commands.add("attachments", _attachments))
    attached.add_argument("number", nargs="?", type=int, help="add and read this one")
    attached.add_argument("--password", help=_PASSWORD)
    page = document(commands.add("page", _page))
    page.add_argument("number", type=int, help="1-based")
    page.add_argument("--out", type=Path, help="the picture's file; otherwise DOCUMENT-NUMBER beside you")
    page.add_argument("--width", type=int, default=1100, help="in pixels")
    recipe = document(commands.add("recipe", _recipe))
    recipe.add_argument("name", nargs="?", help="keep it by this recipe from now on, and new documents too")
    recipe.add_argument("--remove", metavar="NAME", help="remove the memory kept by this recipe beside it")


def _read(app: App, options: argparse.Namespace) -> Any:
    """Add files and read them; reading what is known already takes no time."""
    paths = [Path(each) for each in options.file] + ([app.library.sample()] if options.sample else [])
    if not paths:
        raise BadSetting("There is nothing to read.", "Name a file, or give --sample.")
    for path in paths:
        if not path.is_file() or not os.access(path, os.R_OK):
            raise BadSetting(f"There is no file {path} that can be read.", "Check the path.")
    facts = [_read_one(app, options, path) for path in paths]
    if doing := app.status().doing:
        print(f"{doing} Ctrl-C leaves it for another time.", file=sys.stderr)
        wait(app.model.calibrated, lambda: app.status().doing)
    return facts[0] if len(facts) == 1 else facts


def _read_one(app: App, options: argparse.Namespace, path: Path) -> dict[str, Any]:
    return _read_added(app, options, app.library.add(path, path.name, move=False))


def _read_added(app: App, options: argparse.Namespace, document_id: str) -> dict[str, Any]:
    try:
        had_to_read = follow(app, document_id)
    except PasswordNeeded:
        if options.password is None:
            raise
        app.library.unlock(document_id, options.password)
        had_to_read = follow(app, document_id)
    entry = app.library.catalogue.entry(document_id)
    readings = app.library.catalogue.readings(document_id)
    if not readings or (reading := readings[-1]).state != "ready":
        raise Busy("Another DocPod process paused or cancelled this reading.", "Read the file again to go on.")
    facts = {
        "document_id": document_id,
        "title": entry.title,
        "pages": entry.pages,
        "pages_without_text": entry.pages_without_text,
        "note": entry.note,
        "tokens": reading.num_tokens,
        "sections": entry.forecast.sections if entry.forecast else 0,
        "seconds": round(reading.seconds, 3),
        "tokens_per_second": round(reading.num_tokens / reading.seconds, 1) if reading.seconds else 0.0,
        "pod_bytes": reading.num_bytes,
        "bytes_per_token": round(reading.num_bytes / max(1, reading.num_tokens), 1),
        "already_read": not had_to_read,
    }
    silent = f", {entry.pages_without_text} of them without text" if entry.pages_without_text else ""
    before = "" if had_to_read else " (read before)"
    print(f"{entry.title}{before}\n{entry.pages} pages{silent}, {reading.num_tokens:,} tokens")
    if entry.note:
        print(entry.note)
    if entry.attachments:
        names = ", ".join(name for name, _ in entry.attachments)
        print(f"Attached to it and not read with it: {names}. Add them: {PROGRAM} attachments {document_id[:8]}")
    if entry.pages_for_ocr:
        way = f"Read them: {PROGRAM} ocr {document_id[:8]}" if ocr_installed() else f"OCR reads them: {INSTALL}"
        print(f"{entry.pages_for_ocr} pages are pictures of text. {way}")
    print(f'Ask: {PROGRAM} ask {document_id[:8]} "..."', flush=True)
    return facts


def _ls(app: App, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List the library."""
    search = " ".join([options.search, *(TAG + each.lstrip(TAG) for each in options.tag)]).strip()
    entries = app.library.catalogue.entries(search, options.sort or app.library.catalogue.sort)
    for entry in entries:
        tags = "".join(f"  {TAG}{each}" for each in entry.tags)
        print(f"{entry.document_id[:8]}  {entry.progress.stage:9}  {entry.pages:5} pages  {entry.title}{tags}")
    if not entries and search:
        print("Nothing matches.")
    elif not entries:
        print(f"The library is empty. Add a document: {PROGRAM} read FILE")
    return [_facts(entry) for entry in entries]


def _show(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Everything known about a document."""
    facts = _facts(app.library.catalogue.entry(app.library.catalogue.find(options.document).id))
    for key, value in facts.items():
        print(f"{key:20} {value}")
    return facts


def _ocr(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Read the pages of a document that have no text by OCR, and then all of it anew."""
    found = app.library.catalogue.find(options.document)
    before = app.library.catalogue.entry(found.id).pages_for_ocr
    app.library.recognise(found.id)
    follow(app, found.id)
    entry = app.library.catalogue.entry(found.id)
    print(f"{entry.title}: {before} pages looked at, {entry.pages_without_text} of {entry.pages} without text now")
    return {"document_id": found.id, "pages": before, "pages_without_text": entry.pages_without_text}


def _attachments(app: App, options: argparse.Namespace) -> Any:
    """List the files that are attached to a document, or add and read one of them as a document of its own."""
    found = app.library.catalogue.find(options.document)
    if options.number is not None:
        return _read_added(app, options, app.library.add_attachment(found.id, options.number))
    for number, (name, num_bytes) in enumerate(found.attachments, 1):
        print(f"{number:3}  {name}" + (f"  {num_bytes / 1e6:,.1f} MB" if num_bytes else ""))
    if not found.attachments:
        print("Nothing is attached to this document.")
    return [{"name": name, "bytes": num_bytes} for name, num_bytes in found.attachments]


def _pause(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Stop reading a document; nothing read is lost, and `read` goes on."""
    app.library.pause(app.library.catalogue.find(options.document).id)
    return _show(app, options)


def _cancel(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Stop reading a document and forget what was read of it."""
    app.library.cancel(app.library.catalogue.find(options.document).id)
    return _show(app, options)


def _recipe(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Show how a document is kept and what other recipes cost, or choose one of them and make its memory."""
    found = app.library.catalogue.find(options.document)
    wait(app.model.settled, lambda: app.status().why)
    app.model.wait()
    if app.library.presets(found.id) is None:
        raise NotRead("This document has not been parsed yet.", "Use the command `read` first.")
    if options.name:
        app.library.choose(found.id, options.name)
        follow(app, found.id)
    if options.remove:
        app.library.drop(found.id, options.remove)
    state = app.library.presets(found.id)
    assert state is not None
    for step in state.steps:
        chosen = "*" if step.name == state.chosen else " "
        told = step.why_not or f"{step.disk_bytes / 1e6:8,.1f} MB  {step.keeps}"
        print(f"{chosen} {step.name:10} {told}")
    for name, num_bytes in state.kept:
        print(f"also kept: {name}, {num_bytes / 1e6:,.1f} MB")
    return dataclasses.asdict(state)


def _export(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Write a read document with its memory and conversations to an archive, to be imported elsewhere."""
    found = app.library.catalogue.find(options.document)
    path = options.out or Path(f"{Path(found.file_name).stem}{SUFFIX}")
    app.library.export(found.id, path)
    print(path)
    return {"document_id": found.id, "file": str(path), "bytes": path.stat().st_size}


def _import(app: App, options: argparse.Namespace) -> Any:
    """Add read documents from archives, without reading them again. Memory answers as whoever made it made it."""
    return _read(app, options)


def _rename(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Call a document otherwise; its file keeps its name."""
    found = app.library.catalogue.find(options.document)
    app.library.rename(found.id, options.title)
    return _show(app, argparse.Namespace(document=found.id))


def _delete(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Delete a document with its memory and conversations."""
    document = app.library.catalogue.find(options.document)
    app.library.delete(document.id)
    print(f"Deleted {document.title} with its pages, memory and conversations.")
    return {"document_id": document.id, "deleted": True}


def _page(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Write the picture of a page to a file."""
    found = app.library.catalogue.find(options.document)
    image = app.library.page_image(found.id, options.number, options.width)
    suffix = ".png" if image.startswith(b"\x89PNG") else ".jpg"
    path = options.out or Path(f"{Path(found.file_name).stem}-{options.number}{suffix}")
    save(path, image)
    return {"document_id": found.id, "page": options.number, "file": str(path), "bytes": len(image)}


def _facts(entry: DocumentEntry) -> dict[str, Any]:
    return {
        "document_id": entry.document_id,
        "title": entry.title,
        "file_name": entry.file_name,
        "pages": entry.pages,
        "pages_without_text": entry.pages_without_text,
        "note": entry.note,
        "tags": entry.tags,
        "attachments": [name for name, _ in entry.attachments],
        "file_bytes": entry.num_bytes,
        "pod_bytes": entry.pod_bytes,
        "state": entry.progress.stage,
        "tokens_read": entry.progress.done,
        "tokens": entry.progress.total,
        "message": entry.progress.message,
    }
