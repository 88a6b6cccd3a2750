"""Originals: whether the files of the documents are still what was added, looked at in the background."""

import logging
import threading

from app.intake import Intake
from app.refusals import TOLD
from storage import Document

log = logging.getLogger(__name__)


class Originals:
    """Compares every file with its digest once, and then those that changed."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="originals", daemon=True)
        self._damaged: list[tuple[Document, str]] = []

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End after the file at hand."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def sentence(self) -> str:
        """Which documents have a damaged file that was not added again since; empty where none has."""
        names = [document.name for document, stamp in self._damaged if self._intake.stamp(document) == stamp]
        return f"The original file of {', '.join(names)} is damaged or gone: add it again." if names else ""

    def _run(self) -> None:
        try:
            for document in self._intake.damaged(self._closed.is_set):
                log.warning("the file of %s is not what was added", document.id)
                self._damaged.append((document, self._intake.stamp(document)))
        except TOLD as error:
            log.warning("the original files were not looked at: %s", error)
