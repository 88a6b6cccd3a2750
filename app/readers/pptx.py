"""PowerPoint: each slide begins a page of its own, with its text, tables, charts and notes."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pptx import Presentation
from pptx.shapes.group import GroupShape
from pptx.slide import Slide

from app.readers.archive import unpacked
from app.readers.markdown import MarkdownDocument
from app.readers.table import markdown


def open_reader(path: Path) -> MarkdownDocument:
    """Raises EmptyDocument, DamagedDocument, DocumentTooLarge or UnsupportedFile."""
    with unpacked(path, "PowerPoint file"):
        slides = [_text(number, slide) for number, slide in enumerate(Presentation(str(path)).slides, 1)]
    return MarkdownDocument("\f".join(slides))


def _text(number: int, slide: Slide) -> str:
    title = slide.shapes.title
    heading = " ".join(title.text_frame.text.split()) if title is not None else ""
    shapes = [shape for shape in slide.shapes if title is None or shape.shape_id != title.shape_id]
    parts = [f"## {heading or f'Slide {number}'}", *_parts(shapes)]
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = slide.notes_slide.notes_text_frame.text.strip()
        parts += [f"Notes: {notes}"] if notes else []
    return "\n\n".join(parts)


def _parts(shapes: Iterable[Any]) -> Iterator[str]:
    """What stands on a slide, from top to bottom."""
    for shape in sorted(shapes, key=lambda each: (each.top or 0, each.left or 0)):
        if isinstance(shape, GroupShape):
            yield from _parts(shape.shapes)
        elif shape.has_table:
            yield markdown([cell.text for cell in row.cells] for row in shape.table.rows)
        elif shape.has_chart:
            yield from _chart(shape.chart)
        elif shape.has_text_frame:
            lines = (f"{'  ' * each.level}{each.text.strip()}" for each in shape.text_frame.paragraphs)
            text = "\n".join(line.replace("\v", "\n") for line in lines if line.strip())
            if text:
                yield text


def _chart(chart: Any) -> Iterator[str]:
    """The numbers of a chart, a row for each category."""
    if chart.has_title and chart.chart_title.has_text_frame:
        yield chart.chart_title.text_frame.text
    for plot in chart.plots:
        series = list(plot.series)
        columns = [["" if value is None else f"{value:.15g}" for value in each.values] for each in series]
        labels = [str(each) for each in plot.categories]
        yield markdown([["", *(each.name or "" for each in series)], *zip(labels, *columns, strict=False)])
