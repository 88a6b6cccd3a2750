"""Tables as Markdown, with their heads on top."""

from collections.abc import Iterable, Sequence


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """A table whose first row is its heads; columns that are empty everywhere are left out."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    widest = max(map(len, cells), default=0)
    used = [column for column in range(widest) if any(column < len(row) and row[column] for row in cells)]
    lines = [f"| {' | '.join(row[column] if column < len(row) else '' for column in used)} |" for row in cells]
    return "\n".join([*lines[:1], f"|{' --- |' * len(used)}", *lines[1:]]) if used else ""
