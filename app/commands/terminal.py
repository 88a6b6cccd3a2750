"""The terminal: what people see while something goes on, and what a command calls itself."""

import sys
from collections.abc import Callable
from pathlib import Path

from app.errors import BadSetting
from app.events import Evidence, Progress
from app.main import App

PROGRAM = "docpod" if Path(sys.argv[0]).stem == "docpod" else "run_app.py"
"""What the user types: the installed command, or the file of a source tree."""
_STEP_SECONDS = 0.2
"""Between two looks at what goes on in the background."""


def wait(ended: Callable[[float], bool], sentence: Callable[[], str]) -> None:
    """Wait for what goes on in the background, on a terminal with a line on stderr that says what that is."""
    while not ended(_STEP_SECONDS):
        _write_over(sentence())
    _write_over("")


def follow(app: App, document_id: str) -> bool:
    """Read to the end, on a terminal with one line on stderr that is written over; whether anything had to be read."""
    read = False
    for progress in app.library.wait(document_id):
        read = read or progress.stage == "reading"
        _write_over(app.status().why if progress.stage == "queued" else _line(progress))
    _write_over("")
    return read


def _write_over(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def save(path: Path, content: bytes) -> None:
    """Write what a command was asked for, and say where. Raises BadSetting."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadSetting(f"{path} cannot be written: {error.strerror}.", "Choose another with --out.") from error
    print(path)


def show_evidence(evidence: Evidence) -> None:
    """Passages with their pages."""
    if evidence.understood:
        print(f"Understood as: {evidence.understood}\n")
    for each in evidence.citations:
        print(f"[{each.mark}] {each.title and f'{each.title}, '}p. {each.label}: “{each.quote}”")
    print()


def _line(progress: Progress) -> str:
    if progress.stage == "parsing":
        return f"parsing page {progress.done} of {progress.total}"
    if progress.stage == "ocr":
        return f"reading pictures of text by OCR, {progress.done} of {progress.total}"
    left = f", {progress.seconds_left:.0f} s left" if progress.seconds_left is not None else ""
    speed = f"{progress.tokens_per_second:,.0f} tokens/s{left}"
    return f"reading page {progress.pages_done} of {progress.pages_total}, {speed}"
