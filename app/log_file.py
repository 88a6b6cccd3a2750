"""The log: what happened and what went wrong, in a file of the home that stays small."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

NAME = "docpod.log"
MOST_BYTES = 1_000_000
"""Of the file; the one before it is kept beside it."""
_OWN = ("app", "engine", "storage", "ui")
"""Packages whose quieter words are kept too: other libraries say at that level which addresses they ask."""

log = logging.getLogger(__name__)


class _LogFile(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: a full disk must not spoil what a command prints."""


@contextmanager
def log_file(home: Path, level: str = "info") -> Iterator[None]:
    """Keep a log of this `level` and above, of the threads' bugs too; where no file can be written, do without."""
    path = home / NAME
    try:
        path.touch(mode=0o600)
        handler = _LogFile(path, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8")
    except OSError as error:
        log.warning("no log is written: %s", error)
        yield
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    before = {each: logging.getLogger(each).level for each in _OWN}
    hook = threading.excepthook
    threading.excepthook = _log_bug
    logging.getLogger().addHandler(handler)
    log_from(level)
    try:
        yield
    finally:
        for each, kept in before.items():
            logging.getLogger(each).setLevel(kept)
        logging.getLogger().removeHandler(handler)
        threading.excepthook = hook
        # What is not written yet is not, on a disk that fails.
        with suppress(OSError):
            handler.close()


def log_from(level: str) -> None:
    """From now on, log what is of this level and above: `debug`, `info`, `warning` or `error`."""
    for name in _OWN:
        logging.getLogger(name).setLevel(level.upper())


def _log_bug(report: threading.ExceptHookArgs) -> None:
    name = report.thread.name if report.thread else "unknown"
    log.critical("the thread %s ended", name, exc_info=report.exc_value)
