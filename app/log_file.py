"""The log: what happened and what went wrong, in a file of the home that stays small."""

import json
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


class _AsJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """An object with the time in seconds since 1970, and what a plain entry says."""
        facts = {"time": record.created, "level": record.levelname, "name": record.name, "message": record.getMessage()}
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False)


@contextmanager
def log_file(home: Path, level: str = "info", as_json: bool = False) -> Iterator[None]:
    """Keep a log of this `level` and above, of the threads' bugs too; where no file can be written, do without.

    `as_json`: each entry is one line of JSON, for programs that gather logs.
    """
    path = home / NAME
    try:
        path.touch(mode=0o600)
        handler = _LogFile(path, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8")
    except OSError as error:
        log.warning("no log is written: %s", error)
        yield
        return
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_AsJson() if as_json else plain)
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
