"""Runs readers in processes of their own, so that a malicious or broken file costs at most a page."""

import base64
import json
import logging
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from threading import Timer
from typing import Any

from app import errors
from app.readers.base import DEFAULT_LIMITS, DocumentInfo, ParsedPage, ReaderLimits
from app.readers.formats import by_media_type
from app.readers.running_heads import without_running_heads

log = logging.getLogger(__name__)

_LIMITS = ("memory_bytes", "page_seconds", "convert_seconds", "batch_pages")
Mark = tuple[int, Sequence[tuple[float, float, float, float]], str]
"""A passage: its page (1-based), its boxes (fractions of the page as it is displayed, origin top-left), and a note."""
MAX_REPLY_BYTES = 64 << 20
_ERRORS = ("UnsupportedFile", "EmptyDocument", "DamagedDocument", "PasswordNeeded", "WrongPassword", "DocumentTooLarge")
"""What a reading process may say went wrong."""
_IMAGES = (b"\x89PNG\r\n", b"\xff\xd8\xff")
"""How pictures of pages begin."""
_START = "import sys; sys.path[:] = sys.argv[1:]; from app.readers.worker import main; main()"
"""The reading process finds what this one finds, from a source tree or installed, whatever the environment says."""


@dataclass(frozen=True)
class SandboxedDocument:
    """A document that is read by a process of its own; `pages` may be called again and starts anew."""

    path: Path
    media_type: str
    info: DocumentInfo
    limits: ReaderLimits

    def pages(self) -> Iterator[ParsedPage]:
        """Every page once and in order; one that stops its process or fails comes as 'unreadable'."""
        pages = self._pages()
        return without_running_heads(pages) if self.media_type == "application/pdf" else pages

    def _pages(self) -> Iterator[ParsedPage]:
        number = 1
        failures = 0
        while number <= self.info.num_pages:
            if failures < self.limits.max_failures:
                last = self.info.num_pages
                if not by_media_type(self.media_type).typeset:
                    # What is typeset is all there once it is open.
                    last = min(number + self.limits.batch_pages - 1, last)
                request = _request("pages", self.path, self.media_type, first=number, last=last)
                for page in _parsed(request, range(number, last + 1), self.limits):
                    yield page
                    number += 1
                if number > last:
                    continue
                failures += 1
            yield ParsedPage(number, str(number), "", "unreadable", 0.0, 0.0, ())
            number += 1


def open_document(path: Path, media_type: str, limits: ReaderLimits = DEFAULT_LIMITS) -> SandboxedDocument:
    """Open a file of a type that `sniff` gave.

    Raises PasswordNeeded, DamagedDocument, EmptyDocument, UnsupportedFile or DocumentTooLarge.
    """
    info: DocumentInfo | None = _valid(DocumentInfo, _one_reply(_request("info", path, media_type), limits))
    if info is None:
        raise _stopped()
    if info.num_pages > limits.max_pages:
        raise errors.DocumentTooLarge(
            f"The document has {info.num_pages:,} pages; the limit is {limits.max_pages:,}.",
            "Raise it with --max-pages, or split the document.",
        )
    return SandboxedDocument(path, media_type, info, limits)


def page_image(path: Path, media_type: str, number: int, width_px: int, limits: ReaderLimits = DEFAULT_LIMITS) -> bytes:
    """PNG or JPEG of a page (1-based), about `width_px` wide. Raises what `open_document` raises."""
    return _image(_request("image", path, media_type, number=number, width_px=width_px), limits)


def recognise(
    path: Path, media_type: str, widths_pt: Mapping[int, float], limits: ReaderLimits = DEFAULT_LIMITS
) -> Iterator[ParsedPage]:
    """Pages (1-based) read by OCR, in order, with their widths as they are known; 'unreadable' where that fails."""
    waiting = sorted(widths_pt)
    while waiting:
        pages = [(number, widths_pt[number]) for number in waiting]
        for page in _parsed(_request("ocr", path, media_type, pages=pages), tuple(waiting), limits):
            yield page
            waiting.pop(0)
        if waiting:
            number = waiting.pop(0)
            yield ParsedPage(number, str(number), "", "unreadable", 0.0, 0.0, ())


def typeset_image(text: str, width_px: int, limits: ReaderLimits = DEFAULT_LIMITS) -> bytes:
    """PNG or JPEG of a page that is typeset here, given by its text."""
    return _image(_request("draw", Path(), "", text=text, width_px=width_px), limits)


def confinement() -> str:
    """By what reading processes are held on this machine, or why they are not."""
    return str(_one_reply(_request("tell", Path(), ""), DEFAULT_LIMITS).get("held"))


def unlock(path: Path, password: str, out_path: Path, limits: ReaderLimits = DEFAULT_LIMITS) -> None:
    """Write a copy of an encrypted PDF that needs no password. Raises WrongPassword or DamagedDocument."""
    _write("unlock", path, out_path, limits, password=password)


def extract(path: Path, number: int, out_path: Path, max_bytes: int, limits: ReaderLimits = DEFAULT_LIMITS) -> None:
    """Write a copy of a file that is attached to a PDF, by its 1-based number. Raises DocumentTooLarge or
    DamagedDocument."""
    _write("extract", path, out_path, limits, number=number, max_bytes=max_bytes)


def highlight(path: Path, marks: Sequence[Mark], out_path: Path, limits: ReaderLimits = DEFAULT_LIMITS) -> None:
    """Write a copy of a PDF with highlight annotations. Raises what `open_document` raises."""
    _write("highlight", path, out_path, limits, marks=list(marks))


def _write(do: str, path: Path, out_path: Path, limits: ReaderLimits, **details: object) -> None:
    """Have a reading process write a copy of a PDF, of which nothing stays where that fails."""
    is_new = not out_path.exists()
    try:
        _one_reply(_request(do, path, "application/pdf", out_path=str(out_path.resolve()), **details), limits)
    except errors.AppError:
        if is_new:
            out_path.unlink(missing_ok=True)
        raise


def _request(do: str, path: Path, media_type: str, **details: object) -> dict[str, object]:
    return {"do": do, "path": str(path.resolve()), "media_type": media_type, **details}


def _one_reply(request: dict[str, object], limits: ReaderLimits) -> dict[str, Any]:
    for reply in _replies(request, limits):
        return _checked(reply)
    raise _stopped()


def _stopped() -> errors.DamagedDocument:
    """Of a process that ended, or did not keep to what is agreed, which a file may have made it do."""
    return errors.DamagedDocument(
        "The file stopped the process that reads it.", "Open it in another program and save or print it as PDF again."
    )


def _image(request: dict[str, object], limits: ReaderLimits) -> bytes:
    try:
        image = base64.b64decode(_one_reply(request, limits).get("image", ""), validate=True)
    except (TypeError, ValueError) as error:
        raise _stopped() from error
    if not image.startswith(_IMAGES):
        raise _stopped()
    return image


def _parsed(request: dict[str, object], numbers: Sequence[int], limits: ReaderLimits) -> Iterator[ParsedPage]:
    """The pages of these numbers, in order, up to the first that is not as agreed."""
    with closing(_replies(request, limits)) as replies:
        for number, reply in zip(numbers, replies, strict=False):
            page: ParsedPage | None = _valid(ParsedPage, _checked(reply))
            if page is None or page.number != number or not _has_words(page):
                return
            yield page


@cache
def _adapter(kind: Any) -> Any:
    # Not imported by the reading processes, which import this module too.
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _valid(kind: Any, reply: dict[str, Any]) -> Any:
    """A reply as the class that it should be; None where it is not."""
    try:
        return _adapter(kind).validate_python(reply)
    except ValueError:
        # Whose words are the document's, and so not for the log.
        log.warning("a reading process gave no %s", kind.__name__)
        return None


def _has_words(page: ParsedPage) -> bool:
    """Whether the words are parts of the page's text, at places and of sizes that are numbers."""
    measures = [page.width_pt, page.height_pt, *(each for word in page.words or () for each in word[2:])]
    inside = all(0 <= word.start <= word.end <= len(page.text) for word in page.words or ())
    return inside and all(map(isfinite, measures))


def _replies(request: dict[str, object], limits: ReaderLimits) -> Generator[dict[str, Any]]:
    """What a fresh reading process answers, until it ends, hangs or breaks the protocol."""
    from pydantic_core import from_json

    with subprocess.Popen(
        [sys.executable, "-c", _START, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Ctrl-C is for the program: a page must not turn unreadable by it.
        start_new_session=True,
    ) as process:
        assert process.stdin and process.stdout
        try:
            request |= {each: getattr(limits, each) for each in _LIMITS}
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.close()
            while True:
                # The process limits its own processor time; wall time is for one that sleeps, or cannot limit itself.
                guard = Timer(max(10 * limits.page_seconds, 5 * limits.convert_seconds), process.kill)
                guard.start()
                line = process.stdout.readline(MAX_REPLY_BYTES)
                guard.cancel()
                reply = from_json(line) if line.endswith(b"\n") else None
                if not isinstance(reply, dict):
                    return
                yield reply
        except (BrokenPipeError, ValueError) as error:
            # It ended before it read the request, or what it says is no JSON.
            log.warning("a reading process was ended: %s", error)
        finally:
            process.kill()


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply, unless it carries an error of `app.errors`, which is raised."""
    if "error" in reply:
        if reply["error"] not in _ERRORS:
            raise _stopped()
        raise getattr(errors, reply["error"])(str(reply.get("message")), str(reply.get("hint")))
    return reply
