"""What a reading process says is not believed: the file may be what speaks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.errors import AppError, DamagedDocument
from app.readers import open_document, page_image, sandbox
from app.readers.sandbox import SandboxedDocument

PAGE = {"number": 1, "label": "1", "text": "word", "state": "ok", "width_pt": 9.0, "height_pt": 9.0, "words": []}
INFO = {"title": "T", "num_pages": 1, "outline": [], "attachments": []}
SAYS = """
import json, sys
asked = json.loads(sys.stdin.readline())
for line in {replies!r}.get(asked["do"], []):
    print(line, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF")
    return path


@pytest.fixture
def speaks(monkeypatch: pytest.MonkeyPatch):
    """Has every reading process answer with these lines, by request."""

    def speak(**replies: list[object]) -> None:
        lines = {
            do: [each if isinstance(each, str) else json.dumps(each) for each in said] for do, said in replies.items()
        }
        monkeypatch.setattr(sandbox, "_START", SAYS.format(replies=lines))

    return speak


def open_at(path: Path) -> SandboxedDocument:
    return open_document(path, "application/pdf")


@pytest.mark.parametrize(
    "reply",
    [
        "no JSON",
        "[1, 2]",
        "null",
        "{" * 100_000,
        {},
        {**INFO, "num_pages": "many"},
        {**INFO, "num_pages": None},
        {**INFO, "outline": [[1]]},
        {**INFO, "outline": 5},
        {**INFO, "attachments": [{"name": "a"}]},
        {**INFO, "title": ["T"]},
        {"error": "AppError.__init__"},
        {"error": "OutOfMemory", "message": "m", "hint": "h"},
        {"error": ["x"]},
    ],
    ids=lambda reply: str(reply)[:40],
)
def test_what_opens_no_document_is_refused(speaks, path: Path, reply: object) -> None:
    speaks(info=[reply])
    with pytest.raises(DamagedDocument, match="stopped the process"):
        open_at(path)


def test_an_error_is_told_in_its_own_words(speaks, path: Path) -> None:
    speaks(info=[{"error": "EmptyDocument", "message": "m", "hint": "h"}])
    with pytest.raises(AppError) as raised:
        open_at(path)
    assert (type(raised.value).__name__, raised.value.message, raised.value.hint) == ("EmptyDocument", "m", "h")


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 2},
        {"number": "one"},
        {"text": 7},
        {"state": "splendid"},
        {"width_pt": float("nan")},
        {"words": [[0, 99, 0, 0, 1, 1]]},
        {"words": [[3, 1, 0, 0, 1, 1]]},
        {"words": [[0, 1, 0, 0]]},
        {"words": [[0, 1, 0, 0, 1, float("inf")]]},
        {"words": {"a": 1}},
        {"text": "\ud800"},
    ],
    ids=str,
)
def test_a_page_that_is_none_is_unreadable(speaks, path: Path, changes: Mapping[str, Any]) -> None:
    speaks(info=[INFO], pages=[{**PAGE, **changes}])
    (page,) = open_at(path).pages()
    assert (page.number, page.state, page.text) == (1, "unreadable", "")


def test_no_more_pages_come_than_were_announced(speaks, path: Path) -> None:
    speaks(info=[INFO], pages=[{**PAGE, "number": number} for number in range(1, 301)])
    assert [page.number for page in open_at(path).pages()] == [1]


@pytest.mark.parametrize("image", [5, None, "****", "aGVsbG8="], ids=str)
def test_a_picture_that_is_none_is_refused(speaks, path: Path, image: object) -> None:
    speaks(image=[{"image": image}])
    with pytest.raises(DamagedDocument):
        page_image(path, "application/pdf", 1, 100)
