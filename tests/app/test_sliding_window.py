"""Models whose layers have a sliding window, through the app: read, kept as a window, asked, and asked again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from app.errors import ModelUnavailable
from app.main import App
from engine.evidence.heads import EvidenceHeads
from engine.models import loader
from storage import Document, Store
from tests import tiny
from tests.app import paper
from tests.app.conftest import OpenApp

WINDOW = 96
QUESTION = "What is the access code of room 3?"


@pytest.fixture(params=tiny.windowed(WINDOW).items(), ids=lambda item: item[0])
def model(request: pytest.FixtureRequest, tmp_path: Path, settings, tiny_tokenizer) -> Path:
    """A folder with a windowed model, whose evidence heads are known."""
    build: Callable[[], PreTrainedModel] = request.param[1]
    folder = tmp_path / "windowed"
    build().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    loaded = loader.load(str(folder), settings.home / "models", lambda sentence: None)
    heads = EvidenceHeads(loaded.name, loaded.digest, ((0, 1), (2, 3)), (0.2, 0.1), "sections")
    heads.save(settings.home / "models")
    return folder


def read(app: App, document_id: str, most: int | None = None) -> None:
    """Read a document in this thread, to its end or until so many tokens are safe."""
    reading = app.library.wait(document_id)
    for progress in reading:
        if most is not None and progress.done >= most:
            reading.close()


def read_half(app: App, source: Path) -> Document:
    """A document of which 600 tokens or some more are read, and asked."""
    document = app.library.intake.keep(source, source.name, move=False)
    assert list(app.library.intake.parse(document))
    read(app, document.id, most=600)
    half = paper.last(app.questions.ask(document.id, QUESTION))
    assert half.coverage and 600 <= half.reused_tokens < 1000
    return document


def test_read_in_two_goes_and_asked_in_between_and_after_a_restart(
    model: Path, open_app: OpenApp, source: Path, store: Store
) -> None:
    app = open_app(model=str(model))
    document = read_half(app, source)
    app.close()

    app = open_app(model=str(model))
    read(app, document.id)
    (reading,) = store.readings(document.id)
    assert (reading.state, reading.recipe) == ("ready", "exact")
    memory = app.model.wait()
    shape = memory.loaded.runner.model.shape
    sections = store.sections(reading.id)
    pods = sum(shape.num_bytes(section.num_tokens) for section in sections)
    # Files have heads; a layer with a window has nothing else in them.
    assert pods < reading.num_bytes < 1.2 * pods < reading.num_tokens * shape.token_bytes
    assert memory.planner.num_bytes(sections, "exact") == pods
    # No part of a memory can be chosen that a window cut: a page is read anew.
    assert paper.last(app.questions.ask(document.id, "What is on page 2?")).recomputed_tokens
    answer = paper.last(app.questions.ask(document.id, QUESTION))
    assert answer.found and answer.answer and (answer.coverage, answer.recipe) == ("", "exact")
    assert answer.citations[0].quote == f"The access code of room 3 is {paper.code(3)}."
    app.close()

    again = paper.last(open_app(model=str(model)).questions.ask(document.id, QUESTION))
    assert (again.answer, again.citations, again.reused_tokens) == (answer.answer, answer.citations, reading.num_tokens)


def test_other_recipes_are_refused_in_a_sentence(model: Path, open_app: OpenApp, source: Path) -> None:
    app = open_app(model=str(model))
    document_id = paper.read_here(app, source)
    exact, *others = app.library.presets(document_id).steps
    assert exact.ready and not exact.why_not
    for step in others:
        assert step.why_not.startswith(f"windowed has layers that see the last {WINDOW} tokens only")
    with pytest.raises(ModelUnavailable, match="is read by the recipe exact") as refused:
        open_app(model=str(model), recipe="keep60+k8v4h").model.wait()
    assert "--recipe exact" in refused.value.hint
