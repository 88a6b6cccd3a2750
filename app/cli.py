"""The command line: the same library, questions and errors as the page, printed for people or as JSON."""

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.doctor import examine
from app.errors import AppError, BadSetting, Busy, NotRead, PasswordNeeded
from app.events import Answer, DocumentEntry, Evidence, Progress, TextDelta, Working
from app.log_file import log_file
from app.main import App
from app.readers import NAMES
from app.remarks import remarks
from app.scans import INSTALL, ocr_installed
from app.settings import Settings
from engine.core.errors import RecipeUnknown
from engine.kvcache import recipe as recipes

_STEP_SECONDS = 0.2
"""Between two looks at what goes on in the background."""
log = logging.getLogger(__name__)

Serve = Callable[[App], None]
PROGRAM = "docpod" if Path(sys.argv[0]).stem == "docpod" else "run_app.py"
"""What the user types: the installed command, or the file of a source tree."""
_MAY_BE_ZERO = ("port", "memory-mb", "memory_mb", "threads", "chunk-tokens", "chunk_tokens")


def main(arguments: Sequence[str], serve: Serve) -> int:
    """Run one command; returns the exit code. `serve` shows the page until it is closed."""
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", handlers=[terminal])
    options = _parser().parse_args(arguments)
    try:
        app = App(_settings(options))
    except AppError as error:
        return _report(error, getattr(options, "json", False))
    with log_file(app.settings.home):
        log.info("DocPod begins: %s", options.command or "serve")
        return _run(app, options, serve)


def _run(app: App, options: argparse.Namespace, serve: Serve) -> int:
    as_json = getattr(options, "json", False)
    try:
        if options.command in (None, "serve"):
            app.start()
            serve(app)
            return 0
        result = _COMMANDS[options.command](app, options)
    except AppError as error:
        return _report(error, as_json)
    except KeyboardInterrupt:
        print("\nStopped. What was read so far is kept.", file=sys.stderr)
        return 130
    finally:
        app.close()
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    return 0


def _read(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Add a file and read it; reading what is known already takes no time."""
    path = Path(options.file)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise BadSetting(f"There is no file {path} that can be read.", "Check the path.")
    document_id = app.library.add(path, path.name, move=False)
    try:
        had_to_read = _follow(app, document_id)
    except PasswordNeeded:
        if options.password is None:
            raise
        app.library.unlock(document_id, options.password)
        had_to_read = _follow(app, document_id)
    entry = app.library.catalogue.entry(document_id)
    *_, reading = app.library.catalogue.readings(document_id)
    if reading.state != "ready":
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
        "bytes_per_token": round(reading.num_bytes / reading.num_tokens, 1),
        "already_read": not had_to_read,
    }
    if not options.json:
        silent = f", {entry.pages_without_text} of them without text" if entry.pages_without_text else ""
        before = "" if had_to_read else " (read before)"
        print(f"{entry.title}{before}\n{entry.pages} pages{silent}, {reading.num_tokens:,} tokens")
        if entry.note:
            print(entry.note)
        if entry.pages_for_ocr:
            way = f"Read them: {PROGRAM} ocr {document_id[:8]}" if ocr_installed() else f"OCR reads them: {INSTALL}"
            print(f"{entry.pages_for_ocr} pages are pictures of text. {way}")
        print(f'Ask: {PROGRAM} ask {document_id[:8]} "..."', flush=True)
    if doing := app.status().doing:
        print(f"{doing} Ctrl-C leaves it for another time.", file=sys.stderr)
        _wait(app.model.calibrated, lambda: app.status().doing)
    return facts


def _ask(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Ask a document; the passages come first, the model's own words after them."""
    document = app.library.catalogue.find(options.document)
    _wait(app.model.settled, lambda: app.status().why)
    answer: Answer | None = None
    try:
        for event in app.questions.ask(document.id, options.question, recipe=app.settings.recipe):
            if isinstance(event, Answer):
                answer = event
            elif not options.json and isinstance(event, Evidence):
                _show_evidence(event)
            elif not options.json and isinstance(event, TextDelta):
                print(event.text, end="", flush=True)
            elif isinstance(event, Working):
                print(f"{event.doing} ({event.done} of {event.total})", file=sys.stderr, flush=True)
    except NotRead as error:
        recipe = f" --recipe {app.settings.recipe}" if app.settings.recipe else ""
        raise NotRead(error.message, f"Read it first: {PROGRAM} read{recipe} {document.file_name!r}") from error
    assert answer is not None
    if doing := app.status().doing:
        print(f"\n{doing}", file=sys.stderr)
    if not options.json:
        _show_end(answer)
    facts = dataclasses.asdict(answer)
    shown = ("page", "label", "quote", "boxes", "span")
    citations = [{key: each[key] for key in shown} for each in facts["citations"]]
    foreign = [answer.answer[start:end] for start, end in answer.unsupported]
    kept = {key: value for key, value in facts.items() if key not in ("conversation_id", "message_id", "stopped")}
    return {**kept, "citations": citations, "unsupported": foreign}


def _show_end(answer: Answer) -> None:
    """What is to be known about an answer whose words were printed as they came."""
    print(answer.answer if not answer.found and answer.model else "")
    for remark in remarks(answer):
        print(f"\n{remark}")
    if answer.reused_tokens:
        first_word, reading = answer.first_token_seconds, answer.reading_seconds
        print(f"\n{first_word:.1f} s to the first word; reading took {reading:.0f} s, once.")


def _ocr(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Read the pages of a document that have no text by OCR, and then all of it anew."""
    document = app.library.catalogue.find(options.document)
    before = app.library.catalogue.entry(document.id).pages_for_ocr
    app.library.recognise(document.id)
    _follow(app, document.id)
    entry = app.library.catalogue.entry(document.id)
    facts = {"document_id": document.id, "pages": before, "pages_without_text": entry.pages_without_text}
    if not options.json:
        print(f"{entry.title}: {before} pages looked at, {entry.pages_without_text} of {entry.pages} without text now")
    return facts


def _ls(app: App, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List the library."""
    entries = app.library.catalogue.entries(options.search)
    if not options.json:
        for entry in entries:
            print(f"{entry.document_id[:8]}  {entry.progress.stage:9}  {entry.pages:5} pages  {entry.title}")
        if not entries:
            print(f"The library is empty. Add a document: {PROGRAM} read FILE")
    return [_facts(entry) for entry in entries]


def _show_document(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Everything known about a document."""
    facts = _facts(app.library.catalogue.entry(app.library.catalogue.find(options.document).id))
    if not options.json:
        for key, value in facts.items():
            print(f"{key:20} {value}")
    return facts


def _delete(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Delete a document with its memory and conversations."""
    document = app.library.catalogue.find(options.document)
    app.library.delete(document.id)
    if not options.json:
        print(f"Deleted {document.title} with its pages, memory and conversations.")
    return {"document_id": document.id, "deleted": True}


def _doctor(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Say what this machine offers and whether everything stored is whole."""
    _wait(app.model.settled, lambda: app.status().why)
    facts = examine(app)
    if not options.json:
        for key, value in facts.items():
            print(f"{key:20} {value}")
    return facts


_COMMANDS: dict[str, Callable[[App, argparse.Namespace], Any]] = {
    "read": _read,
    "ask": _ask,
    "ocr": _ocr,
    "ls": _ls,
    "show": _show_document,
    "delete": _delete,
    "doctor": _doctor,
}


def _facts(entry: DocumentEntry) -> dict[str, Any]:
    return {
        "document_id": entry.document_id,
        "title": entry.title,
        "file_name": entry.file_name,
        "pages": entry.pages,
        "pages_without_text": entry.pages_without_text,
        "note": entry.note,
        "file_bytes": entry.num_bytes,
        "pod_bytes": entry.pod_bytes,
        "state": entry.progress.stage,
        "tokens_read": entry.progress.done,
        "tokens": entry.progress.total,
        "message": entry.progress.message,
    }


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    for field in dataclasses.fields(Settings):
        flag = f"--{field.name.replace('_', '-')}"
        if field.type is bool:
            shared.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS)
        else:
            shared.add_argument(flag, default=argparse.SUPPRESS, metavar=field.name.upper())
    output = argparse.ArgumentParser(add_help=False, parents=[shared])
    output.add_argument("--json", action="store_true", help="print one JSON value at the end")
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__, parents=[shared])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", parents=[shared], help="show the page (the default)")
    for name, run in _COMMANDS.items():
        command = commands.add_parser(name, parents=[output], help=run.__doc__)
        if name == "read":
            command.add_argument("file", help=f"a file: {NAMES}")
            command.add_argument("--password", help="of an encrypted PDF")
        if name in ("ask", "ocr", "show", "delete"):
            command.add_argument("document", help="the start of its id, its title or file name")
        if name == "ask":
            command.add_argument("question")
        if name == "ls":
            command.add_argument("search", nargs="?", default="", help="words of the title or file name")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    """Command line, then environment, then default. Raises BadSetting."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        variable = f"DOCPOD_{field.name.upper()}"
        if field.name in options:
            values[field.name] = _parse(f"--{field.name.replace('_', '-')}", getattr(options, field.name), field.type)
        elif os.environ.get(variable):
            values[field.name] = _parse(variable, os.environ[variable], field.type)
    return Settings(**values)


def _parse(source: str, value: Any, kind: Any) -> Any:
    if isinstance(value, bool):
        return value
    if not value:
        raise BadSetting(f"{source} is empty.", "Give it a value, or leave it out.")
    if source.lower().endswith("recipe"):
        try:
            recipes.parse(value)
        except RecipeUnknown as error:
            raise BadSetting(f"{source}: {error}.", f"Give one of {', '.join(recipes.NAMED)}.") from error
    if kind is str:
        return value
    if kind is Path:
        return Path(value).expanduser()
    if kind is bool:
        if value.lower() in ("0", "1", "false", "true", "no", "yes"):
            return value.lower() in ("1", "true", "yes")
        raise BadSetting(f"{source} is {value!r}.", "Give 1 or 0.")
    least = 0 if source.lower().endswith(_MAY_BE_ZERO) else 1
    if not value.isascii() or not value.isdigit() or int(value) < least:
        raise BadSetting(f"{source} is {value!r}.", f"Give a whole number, at least {least}.")
    return int(value)


def _wait(ended: Callable[[float], bool], sentence: Callable[[], str]) -> None:
    """Wait for what goes on in the background, on a terminal with a line on stderr that says what that is."""
    shown = sys.stderr.isatty()
    while not ended(_STEP_SECONDS):
        if shown:
            print(f"\r\033[K{sentence()}", end="", file=sys.stderr, flush=True)
    if shown:
        print("\r\033[K", end="", file=sys.stderr)


def _follow(app: App, document_id: str) -> bool:
    """Read to the end, on a terminal with one line on stderr that is written over; whether anything had to be read."""
    shown = sys.stderr.isatty()
    read = False
    for progress in app.library.wait(document_id):
        read = read or progress.stage == "reading"
        if shown:
            line = app.status().why if progress.stage == "queued" else _line(progress)
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    if shown:
        print("\r\033[K", end="", file=sys.stderr)
    return read


def _line(progress: Progress) -> str:
    if progress.stage == "parsing":
        return f"parsing page {progress.done} of {progress.total}"
    if progress.stage == "ocr":
        return f"reading pictures of text by OCR, {progress.done} of {progress.total}"
    left = f", {progress.seconds_left:.0f} s left" if progress.seconds_left is not None else ""
    speed = f"{progress.tokens_per_second:,.0f} tokens/s{left}"
    return f"reading page {progress.pages_done} of {progress.pages_total}, {speed}"


def _show_evidence(evidence: Evidence) -> None:
    if evidence.understood:
        print(f"Understood as: {evidence.understood}\n")
    for each in evidence.citations:
        print(f"[{each.mark}] p. {each.label}: “{each.quote}”")
    print()


def _report(error: AppError, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
    print(f"{error.message}\n{error.hint}", file=sys.stderr)
    return 2
