"""The list of files in docs/architecture.md, from their docstrings, and the table of docs/settings.md.

`python -m tests.architecture` renews both.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from app.settings import SETTINGS, Described

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
TOPS = ("app", "engine", "storage", "ui", "benchmarks")
_COLUMN = 30


def listing() -> str:
    """One line a file and a folder, each with what it is, folders after the files beside them."""
    return "\n".join([_line(ROOT / "run_app.py", 0), *(line for top in TOPS for line in _folder(ROOT / top, 0))])


def listed(page: str) -> str:
    """The list as it stands in the page, without the fences around it."""
    return page.partition("```text\n")[2].partition("\n```")[0]


def table() -> str:
    """One row a setting."""
    rows = (f"| `{each.option}` | {_default(each)} | {each.when} | {each.about} |" for each in SETTINGS.values())
    return "\n".join(("| option | default | when | meaning |", "| --- | --- | --- | --- |", *rows))


def _default(each: Described) -> str:
    if isinstance(each.default, bool):
        return "on" if each.default else "off"
    return f"{each.shown or f'`{each.default}`'} {each.unit}".strip()


def _folder(folder: Path, depth: int) -> Iterator[str]:
    yield _line(folder, depth)
    files = (path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py")
    yield from (_line(path, depth + 1) for path in files)
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").exists():
            yield from _folder(inner, depth + 1)


def _line(path: Path, depth: int) -> str:
    name = f"{'  ' * depth}{path.name}{'/' * path.is_dir()}"
    source = path / "__init__.py" if path.is_dir() else path
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"\.(?=\s|$)", " ".join(docstring.partition("\n\n")[0].split()))[0]
    return f"{name:{_COLUMN}}{sentence}"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, fence, rest = text.partition("```text\n")
    PAGE.write_text(f"{before}{fence}{listing()}\n```{rest.partition('```')[2]}", encoding="utf-8")
    intro = SETTINGS_PAGE.read_text(encoding="utf-8").partition("| option")[0]
    SETTINGS_PAGE.write_text(f"{intro}{table()}\n", encoding="utf-8")
