"""One page of the document as an image, with the passages of an answer marked on it."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from app.events import DocumentEntry
from ui.render.icons import icon
from ui.render.words import text
from ui.trouble import Trouble

MOST_MARKS = 64
"""Marks taken from a browser's event; an answer has far fewer."""


@dataclass(frozen=True)
class Mark:
    """A passage on a page: boxes are fractions of the page, origin top left."""

    mark: int
    page: int
    label: str
    boxes: tuple[tuple[float, float, float, float], ...]
    document: str = ""
    """Of several documents, the one that it is in."""


def parse_marks(carried: str) -> tuple[Mark, ...]:
    """Reads what `citations_json` wrote back from the browser; anything malformed means no marks."""
    try:
        return tuple(
            Mark(
                int(mark),
                int(page),
                str(label),
                tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in boxes),
                *map(str, document),
            )
            for mark, page, label, boxes, *document in json.loads(carried)[:MOST_MARKS]
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()


def empty(words: str = "The page appears here.") -> str:
    """The pane before there is a page."""
    return f'<p class="quiet empty">{text(words)}</p>'


def failed(trouble: Trouble) -> str:
    """A page that cannot be drawn."""
    return (
        f'<div class="trouble" role="alert"><strong>{text(trouble.message)}</strong> '
        f"<span>{text(trouble.hint)}</span></div>"
    )


def sheet(entry: DocumentEntry, number: int, image: bytes, marks: Sequence[Mark], chosen: int) -> str:
    """The page with its marks and the way to its neighbours; `chosen` is the mark to look at, 0 for none."""
    here = [mark for mark in marks if mark.page == number and mark.document in ("", entry.document_id)]
    printed = next((mark.label for mark in here if mark.label and mark.label != str(number)), "")
    carried = text(json.dumps([[m.mark, m.page, m.label, m.boxes, m.document] for m in marks], separators=(",", ":")))
    boxes = "".join(_box(box, mark.mark == chosen or not chosen) for mark in here for box in mark.boxes)
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "png"
    return (
        f'<div class="leaf" data-citations="{carried}" data-document="{text(entry.document_id)}">'
        f"{_of(entry) if any(mark.document for mark in marks) else ''}{_toolbar(entry, number, printed, chosen)}"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Page {number}"><figure class="sheet">'
        f'<img src="data:image/{kind};base64,{b64encode(image).decode()}" alt="Page {number} of {text(entry.title)}">'
        f"{boxes}</figure></div></div>"
    )


def _of(entry: DocumentEntry) -> str:
    """Which of several documents the page is of."""
    return f'<p class="of" dir="auto">{text(entry.name)}</p>'


def _box(box: tuple[float, float, float, float], strong: bool) -> str:
    x0, y0, x1, y1 = (min(1.0, max(0.0, edge)) for edge in box)
    return (
        f'<span class="mark{" chosen" if strong else ""}" style="left:{x0:.2%};top:{y0:.2%};'
        f'width:{max(0.0, x1 - x0):.2%};height:{max(0.0, y1 - y0):.2%}"></span>'
    )


def _toolbar(entry: DocumentEntry, number: int, printed: str, chosen: int) -> str:
    def turn(label: str, drawing: str, target: int) -> str:
        off = "" if 1 <= target <= entry.pages else " disabled"
        return (
            f'<button class="quiet-button" data-event="select" data-page="{target}" data-mark="{chosen}"'
            f' aria-label="{label}" title="{label}"{off}>{icon(drawing)}</button>'
        )

    def zoom(label: str, act: str, face: str) -> str:
        return f'<button class="quiet-button" data-do="{act}" aria-label="{label}" title="{label}">{face}</button>'

    note = f'<span class="printed">printed “{text(printed)}”</span>' if printed else ""
    return (
        f'<div class="toolbar">{turn("Previous page", "left", number - 1)}'
        f'<form data-event="select" data-mark="{chosen}"><input name="page" inputmode="numeric" value="{number}"'
        f' aria-label="Go to page" autocomplete="off"><span>of {entry.pages:,}</span></form>'
        f'{turn("Next page", "right", number + 1)}{note}<span class="zoom">'
        f"{zoom('Zoom out', 'smaller', icon('minus'))}{zoom('Fit width', 'fit', 'Fit')}"
        f"{zoom('Zoom in', 'larger', icon('plus'))}</span></div>"
    )


def outline(entry: DocumentEntry) -> str:
    """The document's own table of contents, folded."""
    if not entry.outline:
        return ""
    lines = "".join(
        f'<li style="--level:{min(max(level, 0), 6)}"><button data-event="select" data-page="{page}" data-mark="0"'
        f' data-do="fold"><span class="title" dir="auto">{text(title)}</span><span>{page}</span></button></li>'
        for level, title, page in entry.outline
    )
    return f'<details class="outline"><summary>Contents</summary><ol>{lines}</ol></details>'
