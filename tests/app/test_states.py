"""Models whose layers keep a state, through the app: read in goes, kept, packed, carried, damaged, and asked again."""

from pathlib import Path

import pytest
import torch

from app.errors import NotRead
from app.main import App
from engine.evidence.heads import EvidenceHeads
from engine.models import loader
from storage import Block, Store
from tests import tiny_families
from tests.app import paper
from tests.app.conftest import OpenApp
from tests.app.test_sliding_window import read, read_half

QUESTION = "What is the access code of room 3?"

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture(params=["qwen3_5_text", "lfm2", "granitemoehybrid", "falcon_h1"])
def model(request: pytest.FixtureRequest, tmp_path: Path, settings, tiny_tokenizer) -> Path:
    return saved(request.param, 8192, tmp_path, settings, tiny_tokenizer)


def saved(family: str, window: int, tmp_path: Path, settings, tiny_tokenizer) -> Path:
    """A folder with a tiny model, whose evidence heads are known."""
    folder, network = tmp_path / "reader", tiny_families.build(family)
    network.config.max_position_embeddings = window
    network.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    loaded = loader.load(str(folder), settings.home / "models", lambda sentence: None)
    heads = EvidenceHeads(loaded.name, loaded.digest, ((0, 1), (1, 3)), (0.2, 0.1), "sections")
    heads.save(settings.home / "models")
    return folder


def blocks(store: Store, recipe: str) -> list[list[Block]]:
    """Of each section of the document's reading by a recipe."""
    (reading,) = (each for each in store.readings() if each.recipe == recipe)
    return [store.blocks(section.id) for section in store.sections(reading.id)]


def held(app: App, store: Store, recipe: str) -> tuple[torch.Tensor, ...]:
    """The states behind the section of a reading, as a question has them."""
    (reading,) = (each for each in store.readings() if each.recipe == recipe)
    recalled = app.model.wait().recaller.recall(store.sections(reading.id)[0])
    assert recalled is not None and recalled.pod.states
    return recalled.pod.states


def test_read_in_two_goes_and_asked_in_between_and_after_a_restart(
    model: Path, open_app: OpenApp, source: Path, store: Store, settings
) -> None:
    app = open_app(model=str(model))
    document = read_half(app, source)
    app.close()

    app = open_app(model=str(model))
    read(app, document.id)
    (reading,), memory = store.readings(document.id), app.model.wait()
    shape, sections = memory.loaded.runner.model.shape, store.sections(reading.id)
    pods = sum(shape.num_bytes(section.num_tokens) for section in sections)
    assert memory.planner.num_bytes(sections, "exact") == pods < reading.num_bytes < 1.2 * pods
    ((behind, *chunks),) = blocks(store, "exact")
    assert (behind.position, behind.start_token, behind.stop_token) == (-2, 0, 0)
    assert shape.state_bytes < behind.num_bytes < shape.state_bytes + 2000
    assert len(chunks) > 5 and chunks[-1].stop_token == reading.num_tokens
    # Nothing is left of the states behind other chunks.
    assert {path.name for path in (settings.home / "pods").iterdir()} == {each.file_name for each in (behind, *chunks)}
    answer = paper.last(app.questions.ask(document.id, QUESTION))
    assert answer.found and answer.answer and (answer.coverage, answer.recipe) == ("", "exact")
    assert answer.citations[0].quote == f"The access code of room 3 is {paper.code(3)}."
    # The first answer has not spoilt what the second one goes on from.
    assert paper.last(app.questions.ask(document.id, QUESTION)).answer == answer.answer
    app.close()

    whole = settings.home / "pods" / behind.file_name
    written = whole.read_bytes()
    again = open_app(model=str(model))
    assert paper.last(again.questions.ask(document.id, QUESTION)).answer == answer.answer
    again.close()

    # A flipped bit in a state is found, and the section read again to the same bytes.
    whole.write_bytes(written[:300] + bytes([written[300] ^ 1]) + written[301:])
    mended = open_app(model=str(model))
    with pytest.raises(NotRead):
        paper.last(mended.questions.ask(document.id, QUESTION))
    read(mended, document.id)
    assert paper.last(mended.questions.ask(document.id, QUESTION)).answer == answer.answer
    ((anew, *_),) = blocks(store, "exact")
    assert (settings.home / "pods" / anew.file_name).read_bytes() == written


def test_packed_memories_keep_the_states_exactly(model: Path, open_app: OpenApp, source: Path, store: Store) -> None:
    app = open_app(model=str(model))
    document_id = paper.read_here(app, source)
    memory = app.model.wait()
    shape = memory.loaded.runner.model.shape
    ((exact, *_),) = blocks(store, "exact")
    assert "a section for the states of its layers" in memory.loaded.recipes.costs(1000)["exact"]
    for recipe in ("k8v8h+near4,32", "k8v8s+near4,32", "keep60+k8v8h+near4,32"):
        app.library.choose(document_id, recipe)
        read(app, document_id)
        ((states, *_),) = blocks(store, recipe)
        assert states.num_bytes == exact.num_bytes == pytest.approx(shape.state_bytes, abs=2000)
        answer = paper.last(app.questions.ask(document_id, QUESTION, recipe=recipe))
        kept = held(app, store, recipe)
        assert "s+" in recipe or all(map(torch.equal, kept, held(app, store, "exact")))
        app.close()
        app = open_app(model=str(model))
        assert paper.last(app.questions.ask(document_id, QUESTION, recipe=recipe)).answer == answer.answer
        assert all(map(torch.equal, kept, held(app, store, recipe)))


def test_an_archive_carries_them(model: Path, open_app: OpenApp, source: Path, settings, tmp_path: Path) -> None:
    app = open_app(model=str(model))
    document_id = paper.read_here(app, source)
    answer = paper.last(app.questions.ask(document_id, QUESTION))
    app.library.export(document_id, tmp_path / "wing.docpod")
    app.close()
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / "models").symlink_to(settings.home / "models")
    there = open_app(home=home, model=str(model))
    imported = there.library.add(tmp_path / "wing.docpod", "wing.docpod", move=False)
    assert not [each for each in there.library.wait(imported) if each.stage == "reading" and each.done]
    assert paper.last(there.questions.ask(imported, QUESTION)).answer == answer.answer


@pytest.mark.parametrize("family", ["qwen3_5_moe_text", "smollm3"])
def test_of_several_sections_the_best_one_answers(
    family: str, open_app: OpenApp, source: Path, store: Store, settings, tiny_tokenizer, tmp_path: Path
) -> None:
    """Where all layers attend two do; the reader's status says where it is one."""
    app = open_app(model=str(saved(family, 1200, tmp_path, settings, tiny_tokenizer)))
    document_id, alone = paper.read_here(app, source), family != "smollm3"
    (reading,) = store.readings(document_id)
    sections = store.sections(reading.id)
    assert len(sections) > 2
    for room in (3, 7):
        answer = paper.last(app.questions.ask(document_id, QUESTION.replace("3", str(room))))
        assert answer.found and answer.citations[0].page == room
        (best,) = (each.position for each in sections if each.first_page <= room <= each.last_page)
        assert best in answer.sections and len(answer.sections) == (1 if alone else 2)
    assert ("answered from its best section alone" in app.model.status().why) == alone


def test_a_page_is_read_anew(model: Path, open_app: OpenApp, source: Path) -> None:
    """No part of a memory can be chosen that has a state of all of it."""
    app: App = open_app(model=str(model))
    document_id = paper.read_here(app, source)
    answer = paper.last(app.questions.ask(document_id, "What is on page 2?"))
    assert answer.found and answer.recomputed_tokens
