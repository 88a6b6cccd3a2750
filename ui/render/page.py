"""One page of the document as an image, with the passages of an answer marked on it."""

import itertools
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.events import DocumentEntry
from ui.render.icons import icon
from ui.render.words import figure, t, text
from ui.trouble import Trouble

_DRAWN = itertools.count()
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


def empty(words: str = "", nothing_open: bool = False) -> str:
    """The pane before there is a page; where nothing is open, a wide window has no such pane."""
    return f'<p class="quiet empty{" nothing" if nothing_open else ""}">{words or t("The page appears here.")}</p>'


def failed(trouble: Trouble) -> str:
    """What went wrong in the place of a page or of an answer."""
    return (
        f'<div class="trouble" role="alert"><strong>{text(trouble.message)}</strong> '
        f"<span>{text(trouble.hint)}</span></div>"
    )


def sheet(
    entry: DocumentEntry,
    number: int,
    image: bytes | None,
    marks: Sequence[Mark],
    chosen: int,
    labels: Sequence[str] = (),
    note: str = "",
) -> str:
    """The page with its marks and the way to its neighbours; `chosen` is the mark to look at, 0 for none.

    Without an image it is a page of a PDF, which the frame shows. `labels`: what is printed on each page.
    """
    carried = _json([[m.mark, m.page, m.label, m.boxes, m.document] for m in marks])
    own = "" if all(label == str(at) for at, label in enumerate(labels, 1)) else labels
    data = f'data-citations="{carried}" data-document="{text(entry.document_id)}"'
    if image is None:
        data += (
            f' data-pdf="{entry.pages}" data-page="{number}" data-mark="{chosen}" data-labels="{_json([*own])}"'
            f' data-drawn="{next(_DRAWN)}"'
        )
        of_it = t("Pages of {document}", document=text(entry.name))
        shown = f'<iframe sandbox="allow-scripts" src="pdf-viewer/" title="{of_it}"></iframe>'
    else:
        shown = _picture(entry, number, image, marks, chosen)
    of = f'<p class="of" dir="auto">{text(entry.name)}</p>' if any(mark.document for mark in marks) else ""
    bar = _toolbar(entry, number, "".join(labels[number - 1 : number]), chosen, note, image is None)
    return f'<div class="leaf" {data}>{bar}{shown}{of}</div>'


def _json(value: list[Any]) -> str:
    return text(json.dumps(value, separators=(",", ":")))


def _picture(entry: DocumentEntry, number: int, image: bytes, marks: Sequence[Mark], chosen: int) -> str:
    here = [mark for mark in marks if mark.page == number and mark.document in ("", entry.document_id)]
    boxes = "".join(
        _box(box, mark.mark == chosen or not chosen, "" if place else f"{mark.mark}")
        for mark in here
        for place, box in enumerate(mark.boxes)
    )
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "png"
    alt = t("Page {page} of {document}", page=number, document=text(entry.title))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{t("Page {page}", page=number)}">'
        f'<figure class="sheet"><img src="data:image/{kind};base64,{b64encode(image).decode()}" alt="{alt}">'
        f"{boxes}</figure></div>"
    )


def _box(box: tuple[float, float, float, float], strong: bool, number: str) -> str:
    x0, y0, x1, y1 = (min(1.0, max(0.0, edge)) for edge in box)
    numbered = f'<span class="number" style="top:{y0:.2%}">{number}</span>' if number else ""
    return (
        f'<span class="mark{" chosen" if strong else ""}" style="left:{x0:.2%};top:{y0:.2%};'
        f'width:{max(0.0, x1 - x0):.2%};height:{max(0.0, y1 - y0):.2%}"></span>{numbered}'
    )


def _toolbar(entry: DocumentEntry, number: int, printed: str, chosen: int, note: str, is_pdf: bool) -> str:
    def turn(label: str, drawing: str, step: int) -> str:
        off = "" if 1 <= number + step <= entry.pages else " disabled"
        return (
            f'<button class="quiet-button" data-event="select" data-page="{number + step}" data-mark="{chosen}"'
            f' data-step="{step}" aria-label="{label}" title="{label}"{off}>{icon(drawing)}</button>'
        )

    def go(name: str, value: str, label: str, behind: str, hidden: str = "") -> str:
        return (
            f'<form data-event="select" data-at="{number}" data-mark="{chosen}"{hidden}><input name="{name}"'
            f' value="{text(value)}" aria-label="{label}" autocomplete="off"><span>{behind}</span></form>'
        )

    def do(label: str, act: str, face: str) -> str:
        return f'<button class="quiet-button" data-do="{act}" aria-label="{label}" title="{label}">{face}</button>'

    same = " hidden" if printed in ("", str(number)) else ""
    said = f'<span class="bad" role="status">{text(note)}</span>' if note else ""
    pdf_only = ""
    of, load = t("of {pages}", pages=figure(entry.pages)), t("Download the file")
    if is_pdf:
        # For a browser that cannot show it.
        pdf_only = (
            f"{do(t('Small pages'), 'thumbs', icon('thumbs'))}"
            f'{do(t("Find in this document"), "find", icon("search"))}<button hidden data-event="select"'
            f' data-page="{number}" data-mark="{chosen}" data-pictures="1"></button>'
        )
    return (
        f'<div class="toolbar">{turn(t("Previous page"), "left", -1)}'
        f"{go('printed', printed, t('Go to the page printed'), '·', same)}"
        f"{go('page', str(number), t('Go to page'), of)}{turn(t('Next page'), 'right', 1)}{said}"
        f'<span class="zoom">{pdf_only}{do(t("Zoom out"), "smaller", icon("minus"))}'
        f"{do(t('Fit width'), 'fit', t('Fit'))}{do(t('Zoom in'), 'larger', icon('plus'))}"
        f'<a class="quiet-button" href="original/{text(entry.document_id)}" download aria-label="{load}"'
        f' title="{load}">{icon("down")}</a></span></div>'
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
    return f'<details class="outline"><summary>{t("Contents")}</summary><ol>{lines}</ol></details>'
