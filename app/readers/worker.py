"""The reading process: opens one untrusted file, answers one request, and ends.

The request is one JSON object on standard input, every reply one JSON line on standard output. The process limits
itself before it looks at the file: memory by RLIMIT_AS, processor time per page by a timer whose signal ends it, also
inside a library's C code, and in all by RLIMIT_CPU; and it gives up every right but to read that file (`confine`).
"""

import base64
import json
import os
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from app.errors import AppError
from app.readers.base import ParsedPage
from app.readers.confine import confine
from app.readers.formats import by_media_type

if sys.platform == "linux":
    import resource


def main() -> None:
    """Answer the request; a failure with a message travels as {"error", "message", "hint"}."""
    request = json.loads(sys.stdin.buffer.readline())
    # A library that prints must not be able to write into the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.platform == "linux":
        _limit(resource.RLIMIT_AS, request["memory_bytes"])
        _limit(resource.RLIMIT_CPU, int(request["convert_seconds"] + request["page_seconds"] * request["batch_pages"]))
    reads = [Path(request["path"])] if request["media_type"] else []
    held = confine(reads, [Path(request["out_path"])] if "out_path" in request else [])
    try:
        for reply in _answer(request) if request["do"] != "tell" else [{"held": held}]:
            replies.write(json.dumps(reply).encode() + b"\n")
            replies.flush()
    except AppError as error:
        failure = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        replies.write(json.dumps(failure).encode() + b"\n")
        replies.flush()


def _limit(which: int, number: int) -> None:
    """For good; a limit that was set from outside may be lower, and cannot be raised."""
    hard = resource.getrlimit(which)[1]
    limit = number if hard == resource.RLIM_INFINITY else min(hard, number)
    resource.setrlimit(which, (limit, limit))


def _answer(request: dict[str, Any]) -> Iterator[object]:
    """The replies to `request["do"]`: info, pages, ocr, image, draw, unlock, extract or highlight."""
    _restart_clock(request["page_seconds"])
    if request["do"] == "draw":
        yield _image(import_module("app.readers.typeset").draw(request["text"], request["width_px"]))
        return
    form = by_media_type(request["media_type"])
    if form.typeset:
        _restart_clock(request["convert_seconds"])
    module = import_module(form.module)
    path = Path(request["path"])
    match request["do"]:
        case "unlock":
            module.unlock(path, request["password"], Path(request["out_path"]))
            yield {}
            return
        case "extract":
            module.extract(path, request["number"], Path(request["out_path"]), request["max_bytes"])
            yield {}
            return
        case "highlight":
            module.highlight(path, request["marks"], Path(request["out_path"]))
            yield {}
            return
    reader = module.open_reader(path)
    match request["do"]:
        case "info":
            yield vars(reader.info)
        case "pages":
            for number in range(request["first"], request["last"] + 1):
                _restart_clock(request["page_seconds"])
                try:
                    page = reader.page(number)
                # Any failure of a third party's parser costs this page and no other.
                except Exception as error:
                    print(f"page {number}: {error!r}", file=sys.stderr)
                    page = ParsedPage(number, str(number), "", "unreadable", 0.0, 0.0, ())
                yield vars(page)
        case "ocr":
            ocr = import_module("app.readers.ocr")
            for number, width_pt in request["pages"]:
                _restart_clock(request["convert_seconds"])
                yield vars(ocr.read_page(number, reader.image(number, ocr.width_px(width_pt))))
        case "image":
            yield _image(reader.image(request["number"], request["width_px"]))


def _image(image: bytes) -> dict[str, str]:
    return {"image": base64.b64encode(image).decode()}


def _restart_clock(seconds: float) -> None:
    """End this process after so many more processor seconds, unless called again before."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
