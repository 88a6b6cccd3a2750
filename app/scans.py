"""Scans: pages that are pictures of text, or whose text cannot be read, and how they come by it."""

from collections.abc import Generator, Sequence
from importlib.util import find_spec

from app.errors import EmptyDocument
from app.events import Progress
from app.intake import Intake, page_row, storing
from app.readers import recognise
from app.settings import Settings
from storage import Document, PageState, Store

INSTALL = "pip install rapidocr onnxruntime"
"""What the extra `ocr` is, for an environment that DocPod was installed into in whichever way."""
WITHOUT_TEXT: tuple[PageState, ...] = ("scanned", "unreadable")
"""States of pages that OCR may help."""


def ocr_installed() -> bool:
    """Whether the extra `ocr` is there."""
    return bool(find_spec("rapidocr") and find_spec("onnxruntime"))


class Scans:
    """Reads pages by OCR, one by one; each that is done is kept."""

    def __init__(self, store: Store, intake: Intake, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._intake = intake

    def read(self, document: Document) -> Generator[Progress, None, bool]:
        """Look at every page that has no text; whether any came by it. Does nothing where the extra is not installed.

        A page on which nothing is found is empty from now on, and not looked at again.
        """
        waiting = [number for number, state in self._store.page_states(document.id) if state in WITHOUT_TEXT]
        found = False
        if not waiting or not ocr_installed():
            return found
        yield Progress(document.id, "ocr", 0, len(waiting))
        known = {page.number: page for page in self._store.pages(document.id, waiting)}
        sizes = {number: page.width_pt for number, page in known.items()}
        with self._intake.opened(document) as path:
            for done, page in enumerate(recognise(path, document.media_type, sizes, self._intake.limits), 1):
                before = known[page.number]
                row = page_row(page)
                row.label = before.label
                if before.width_pt:
                    row.width_pt, row.height_pt = before.width_pt, before.height_pt
                if page.state != "unreadable":
                    found = found or page.state == "ok"
                    with storing():
                        self._store.replace_page(document.id, row)
                yield Progress(document.id, "ocr", done, len(waiting))
        return found

    def refuse_silent(self, document_id: str) -> None:
        """Raises EmptyDocument, with what can be done, where no page has text."""
        states = [state for _, state in self._store.page_states(document_id)]
        if states and "ok" not in states:
            raise EmptyDocument(*why_silent(states, self._settings.ocr))


def why_silent(states: Sequence[PageState], wanted: bool) -> tuple[str, str]:
    """What to say of a document without text: message and hint."""
    pictures = sum(state in WITHOUT_TEXT for state in states)
    said = f"None of the {len(states)} pages has text" + (f"; {pictures} are pictures of text." if pictures else ".")
    if not pictures:
        return said, "OCR found no words on them either."
    if ocr_installed() and not wanted:
        return said, "OCR is switched off: switch it on in the settings, then try again."
    if ocr_installed():
        return said, "They could not be read by OCR: try again, or scan them anew."
    return said, f"Install OCR to read them, then try again: {INSTALL}"
