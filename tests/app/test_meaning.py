"""Meaning: pages get vectors in the background, and come near a question that uses other words."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app import meaning as module
from app.meaning import Meaning, nearest
from app.routing import Route
from app.windows import windows
from engine.core.errors import ModelMissing
from engine.models.text_encoder import NAME, SIZE
from storage import Document, Page, Store, pack_words

A = "a" * 64
TEXTS = ("The boat left at dawn.", "", "Its cargo was timber. " * 40, "The vessel was painted grey.")
ALIKE = {"vessel": "boat", "ship": "boat", "colour": "painted"}


class FakeEncoder:
    """One number for each word, which words of one meaning share."""

    def __init__(self, folder: Path) -> None:
        self.known: dict[str, int] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), SIZE), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in text.lower().replace(".", "").replace("?", "").split():
                row[self.known.setdefault(ALIKE.get(word, word), len(self.known))] += 1
            row /= np.linalg.norm(row)
        return vectors


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path / 'test.sqlite3'}")
    save(store, TEXTS)
    yield store
    store.close()


@pytest.fixture
def meaning(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meaning:
    monkeypatch.setattr(module, "ensure", lambda *_: tmp_path)
    monkeypatch.setattr(module, "TextEncoder", FakeEncoder)
    return Meaning(store, tmp_path)


def save(store: Store, texts: Sequence[str]) -> None:
    store.add_document(Document(id=A, title="t", file_name="f", media_type="text/plain", num_bytes=1))
    pages = [
        Page(number=n, label="", text=text, state="ok", width_pt=1.0, height_pt=1.0, words=pack_words([]))
        for n, text in enumerate(texts, 1)
    ]
    store.save_pages(A, "t", [], pages)


def test_a_page_is_found_by_other_words(store: Store, meaning: Meaning) -> None:
    question = "Which colour has the ship?"
    assert meaning.near(A, question) == {}
    meaning.complete(A)
    assert next(nearest(meaning.near(A, question), 1)) == 4
    found = Route(question, A, store, meaning).candidates
    assert (found[0].passage.page, found[0].meaning > 0) == (4, True)
    assert Route(question, A, store).candidates[0].meaning == 0


def test_every_page_is_looked_at_once_and_one_that_changed_anew(store: Store, meaning: Meaning) -> None:
    assert [number for _, number in store.pages_without_vectors(NAME, 9)] == [1, 2, 3, 4]
    meaning.complete(A)
    assert store.pages_without_vectors(NAME, 9) == []
    assert set(meaning.near(A, "boat")) == {1, 3, 4}
    save(store, ("A ship.",))
    assert store.count_vectors(A, NAME) == 0
    meaning.complete(A)
    assert set(meaning.near(A, "boat")) == {1}


def test_the_background_does_what_is_left(store: Store, meaning: Meaning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    meaning.start()
    while store.count_vectors(A, NAME) < len(TEXTS):
        pass
    meaning.close()
    assert store.pages_without_vectors(NAME, 9) == []


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("ensure", ModelMissing("The text encoder could not be fetched: no network.")),
        ("TextEncoder", RuntimeError("unable to open file <model.safetensors>: Too many open files (24)")),
    ],
)
def test_without_the_encoder_words_alone_decide(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
    error: Exception,
) -> None:
    def refused(*_: object) -> Path:
        raise error

    monkeypatch.setattr(module, "ensure", lambda *_: tmp_path)
    monkeypatch.setattr(module, step, refused)
    meaning = Meaning(store, tmp_path)
    meaning.complete(A)
    assert meaning.near(A, "boat") == {}
    assert "words alone" in caplog.text
    assert Route("boat", A, store, meaning).candidates[0].passage.page == 1


def test_windows_end_at_lines_and_stand_below_the_title() -> None:
    text = "Rents\n" + "\n".join(f"yard {number} pays ten crowns" for number in range(60))
    found = windows(text)
    assert len(found) > 3
    assert all(part.startswith("Rents\n") and 0 < len(part.split()) < 130 for _, part in found)
    assert all(start == 0 or text[start - 1] == "\n" for start, _ in found)
    assert windows(" \n ") == []
