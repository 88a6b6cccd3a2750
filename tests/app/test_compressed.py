"""Documents kept by every recipe: compressed once they are read, the same after a restart, made from what is there."""

import re
import time
from pathlib import Path

import pytest

from app.errors import DiskFull, ModelUnavailable, QuestionRejected
from app.main import App
from app.settings import Settings
from engine.compression.policies import reread
from engine.kvcache.blocks import by_layer
from engine.runtime.prefill.builder import PodBuilder
from engine.training import less_fit
from storage import StorageFull, Store
from tests.app import paper
from tests.app.conftest import PAGES, OpenApp
from tests.app.test_memory import flip_a_byte, read_some

pytestmark = pytest.mark.usefixtures("in_this_process")

QUESTION = "What is the access code of room 3?"
RECIPES = ("keep60+k8v4h", "light", "keep27+k4v4h+near4,32", "keep50:norm+k8v8h")


@pytest.mark.parametrize(
    "recipe",
    [
        *RECIPES,
        "keep60:keyformer+k8v8h",
        "keep60:chunk20+k8v8h",
        "keep60:elastic+k8v8h",
        "keep30:subgen",
        "keep30:less",
    ],
)
def test_a_recipe_survives_a_restart(
    open_app: OpenApp, store: Store, settings: Settings, source: Path, recipe: str
) -> None:
    if recipe.endswith("less"):
        models = str(settings.home / "models")
        drawn = ["--samples", "1", "--tokens", "600", "--epochs", "1"]
        less_fit.main(["--model", settings.model, "--models", models, "--out", models, *drawn], lambda _: None)
    app = open_app(recipe=recipe)
    document_id = paper.read_here(app, source)
    (reading,) = store.readings(document_id)
    assert (reading.state, reading.recipe) == ("ready", recipe)
    written = paper.blocks(settings.home)
    # The exact chunks are gone, and what is left is smaller.
    assert all("-l" in name for name in written)
    assert reading.num_bytes == sum(map(len, written.values()))
    model = app.model.wait().loaded.runner.model
    assert reading.num_bytes < 0.7 * reading.num_tokens * model.shape.token_bytes
    before = paper.last(app.questions.ask(document_id, QUESTION))
    app.close()

    again = open_app(recipe=recipe)
    after = paper.last(again.questions.ask(document_id, QUESTION))
    assert (after.answer, after.citations, after.recipe) == (before.answer, before.citations, recipe)
    assert after.found and after.citations[0].page == 3
    assert after.reused_tokens == reading.num_tokens
    assert paper.blocks(settings.home) == written
    assert again.verify() == (len(written), [])


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_section_that_is_packed_while_a_question_loads_it_is_no_damage(
    open_app: OpenApp, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The question sees the rows of the exact chunks, or just the section, from before."""
    app = open_app(recipe="light")
    reading = paper.planned(app, source)
    first = store.sections(reading.id)[0]
    read_some(app, reading, -(-first.num_tokens // 128))
    section, chunks = store.section(first.id), store.blocks(first.id)
    assert section is not None and chunks[-1].stop_token == first.num_tokens
    blocks = Store.blocks
    seen = [chunks] if moment == "after" else []
    for _ in app.library.wait(reading.document_id):
        pass
    app.model.wait().recaller.forget(reading.id)
    monkeypatch.setattr(Store, "blocks", lambda self, section_id: seen.pop() if seen else blocks(self, section_id))
    recalled = app.model.wait().recaller.recall(section)
    assert recalled is not None and recalled.pod.num_tokens == section.num_tokens
    assert store.reading(reading.id).state == "ready"
    assert app.verify() == (len(paper.blocks(settings.home)), [])


def test_a_reader_answers_alike_after_a_restart(open_app: OpenApp, settings: Settings, source: Path) -> None:
    app = open_app(reader="recycled:30")
    document_id = paper.read_here(app, source)
    written = paper.blocks(settings.home)
    before = [paper.last(app.questions.ask(document_id, QUESTION)).answer for _ in range(2)]
    app.close()
    again = open_app(reader="recycled:30")
    assert [*before, paper.last(again.questions.ask(document_id, QUESTION)).answer] == 3 * before[:1]
    assert paper.blocks(settings.home) == written
    again.close()


def test_a_reader_refuses_what_heads_keep_differently(open_app: OpenApp, source: Path) -> None:
    app = open_app(reader="hip", recipe="keep50:norm+k8v8h")
    with pytest.raises(QuestionRejected, match="exact or faithful"):
        paper.last(app.questions.ask(paper.read_here(app, source), QUESTION))


def test_layers_that_are_stored_by_heads_survive_a_restart(
    open_app: OpenApp, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_layer, "BLOCK_BYTES", 1)
    monkeypatch.setattr(by_layer, "MOST_BYTES", 1)
    app = open_app(recipe="light")
    document_id = paper.read_here(app, source)
    shape = app.model.wait().loaded.runner.model.shape
    written = paper.blocks(settings.home)
    assert len(written) == 2 * shape.layers * shape.kv_heads
    before = paper.last(app.questions.ask(document_id, QUESTION))
    app.close()
    again = open_app(recipe="light")
    after = paper.last(again.questions.ask(document_id, QUESTION))
    assert (after.answer, after.citations) == (before.answer, before.citations)
    assert again.verify() == (len(written), [])


def test_a_recipe_is_made_from_the_exact_memory_without_reading(
    open_app: OpenApp, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = open_app(recipe="light", home=settings.home)
    document_id = paper.read_here(direct, source)
    from_text = sorted(paper.blocks(settings.home).values())
    direct.library.delete(document_id)
    direct.close()

    exact = open_app()
    paper.read_here(exact, source)
    exact_blocks = paper.blocks(settings.home)
    exact.close()
    for section in store.sections(store.readings(document_id)[0].id):
        # As on a slow machine.
        store.add_section_seconds(section.id, 1_000.0)
    again = open_app(recipe="light")
    again.model.wait()
    monkeypatch.setattr(PodBuilder, "begin", lambda *_: pytest.fail("the text was read again"))
    began = time.perf_counter()
    paper.read_here(again, source)
    reading, balanced = store.readings(document_id)
    assert reading.seconds > 2_000
    assert 0 < balanced.seconds <= time.perf_counter() - began, "what making it took"
    made = {name: data for name, data in paper.blocks(settings.home).items() if name not in exact_blocks}
    assert paper.blocks(settings.home).items() >= exact_blocks.items()
    # The section's number in the database is part of a block's facts, nothing else differs.
    assert sum(map(len, made.values())) == sum(map(len, from_text))
    answer = paper.last(again.questions.ask(document_id, QUESTION))
    assert answer.citations[0].page == 3
    read = store.sections(reading.id)
    assert answer.reading_seconds == pytest.approx(sum(read[position].seconds for position in answer.sections))


@pytest.mark.parametrize("recipe", ["exact", "keep60+k8v4h", "light", "keep27+k4v4h+near4,32"])
def test_what_the_doctor_says_of_a_recipe_is_what_is_stored(recipe: str, open_app: OpenApp, tmp_path: Path) -> None:
    """Of short documents too, of which the exact tokens at the ends are the greater part."""
    app = open_app(recipe=recipe)
    loaded = app.model.wait().loaded
    cost = loaded.recipes.costs(loaded.section_tokens)[recipe]
    said = re.search(r": ([\d,]+) bytes a token(?:, and ([\d,]+) a section for the (\d+) at its ends)?", cost)
    assert said is not None
    rate, at_ends, ends = (int((number or "0").replace(",", "")) for number in said.groups())
    assert (ends > 0) == (recipe != "exact")
    lengths = []
    for pages in (2, 4, PAGES):
        document_id = paper.read_here(app, paper.text(tmp_path / f"{pages}.txt", pages))
        reading = app.model.wait().presets.plan(document_id)
        sections = app._store.sections(reading.id)
        lengths += [each.num_tokens for each in sections]
        for section in sections:
            stored = app.model.wait().recaller.recall(section).pod.nbytes
            assert at_ends + rate * (section.num_tokens - ends) == pytest.approx(stored, rel=0.02)
    assert max(lengths) > 1.5 * min(lengths)


def test_scoring_that_was_interrupted_goes_on_and_gives_the_same_bytes(
    open_app: OpenApp, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reread, "CHUNK_TOKENS", 128)
    whole = open_app(recipe="light", home=settings.home.with_name("whole"))
    paper.read_here(whole, source)
    whole.close()

    app = open_app(recipe="light")
    reading = paper.planned(app, source)
    first = store.sections(reading.id)[0]
    chunks = -(-first.num_tokens // 128)
    # All chunks are read, and two of them have been said again.
    read_some(app, reading, chunks + 2)
    scores = [block for block in store.blocks(first.id) if block.position < 0]
    assert [block.file_name.split("-")[2] for block in scores] == ["s00000256"]
    # What is read so far can be asked meanwhile, exactly.
    assert paper.last(app.questions.ask(reading.document_id, QUESTION)).reused_tokens == first.num_tokens
    app.close()
    again = open_app(recipe="light")
    for _ in again.library.wait(reading.document_id):
        pass
    assert paper.blocks(settings.home) == paper.blocks(settings.home.with_name("whole"))


def test_a_damaged_compressed_block_is_made_again(
    open_app: OpenApp, store: Store, settings: Settings, source: Path
) -> None:
    app = open_app(recipe="keep27+k4v4h+near4,32")
    document_id = paper.read_here(app, source)
    written = paper.blocks(settings.home)
    app.close()
    flip_a_byte(settings.home / "pods" / store.blocks(store.sections(store.readings()[0].id)[0].id)[0].file_name)
    again = open_app(recipe="keep27+k4v4h+near4,32")
    assert paper.last(again.questions.ask(document_id, QUESTION)).sections == (1,)
    for _ in again.library.wait(document_id):
        pass
    assert paper.blocks(settings.home) == written


PACKING = "k4v4hs"
"""Packed while it is read. The tiny model's sections are long enough for distant tokens."""


def test_what_is_packed_while_reading_is_written_once(
    open_app: OpenApp, store: Store, settings: Settings, source: Path
) -> None:
    app = open_app(recipe=PACKING)
    document_id = paper.read_here(app, source)
    (reading,) = store.readings(document_id)
    assert (reading.state, reading.recipe) == ("ready", PACKING)
    written = paper.blocks(settings.home)
    sections = store.sections(reading.id)
    for section in sections:
        stops = [block.stop_token for block in store.blocks(section.id)]
        assert stops == [*range(16 + 128, section.num_tokens, 128), section.num_tokens]
    assert not any("-l" in name for name in written) and reading.num_bytes == sum(map(len, written.values()))
    model = app.model.wait().loaded.runner.model
    assert reading.num_bytes < 0.7 * reading.num_tokens * model.shape.token_bytes
    before = paper.last(app.questions.ask(document_id, QUESTION))
    app.close()

    again = open_app(recipe=PACKING)
    after = paper.last(again.questions.ask(document_id, QUESTION))
    assert (after.answer, after.citations, after.recipe) == (before.answer, before.citations, PACKING)
    assert after.found and after.citations[0].page == 3
    assert after.reused_tokens == reading.num_tokens
    assert paper.blocks(settings.home) == written
    assert again.verify() == (len(written), [])
    again.library.delete(document_id)
    assert paper.blocks(settings.home) == {}


def test_packing_that_was_interrupted_goes_on_to_the_same_bytes(
    open_app: OpenApp, store: Store, settings: Settings, source: Path
) -> None:
    whole = open_app(recipe=PACKING, home=settings.home.with_name("whole"))
    paper.read_here(whole, source)
    whole.close()
    app = open_app(recipe=PACKING)
    reading = paper.planned(app, source)
    app.close()
    for chunks in (2, 3):
        app = open_app(recipe=PACKING)
        read_some(app, store.reading(reading.id), chunks)
        app.close()
        held = 16 + 128 * len(paper.blocks(settings.home))
        # What is read so far can be asked, by a process that finds it on the disk too.
        asked = open_app(recipe=PACKING)
        assert paper.last(asked.questions.ask(reading.document_id, QUESTION)).reused_tokens == held
        asked.close()
    again = open_app(recipe=PACKING)
    for _ in again.library.wait(reading.document_id):
        pass
    assert paper.blocks(settings.home) == paper.blocks(settings.home.with_name("whole"))


@pytest.mark.parametrize("recipe", ["exact", PACKING])
def test_a_chunk_that_is_written_while_the_next_is_read(
    open_app: OpenApp, store: Store, settings: Settings, source: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes; only what is on the disk is reported; and a disk that fills up ends the reading."""
    whole = open_app(recipe=recipe, home=settings.home.with_name("whole"))
    paper.read_here(whole, source)
    app = open_app(recipe=recipe)
    reading = paper.planned(app, source)
    app.model.wait().reader._section_reader.ahead = True
    for done, progress in enumerate(app.model.wait().reader.read(reading), 1):
        assert progress.done == sum(each.tokens_read for each in store.read_so_far(reading.id))
        assert len(paper.blocks(settings.home)) == done
        if done == 4:
            break
    begun = paper.blocks(settings.home)

    def full(*_: object) -> None:
        raise StorageFull(2_000_000_000, 1_000)

    with monkeypatch.context() as patch:
        patch.setattr("app.block_store.write_block", full)
        assert isinstance(paper.failure(app.library.wait(reading.document_id)), DiskFull)
    assert paper.blocks(settings.home) == begun
    # A stop waits for what is under way.
    store.set_reading_state(reading.id, "queued")
    stops = iter([False, False, False, True, True])
    assert len(list(app.model.wait().reader.read(store.reading(reading.id), lambda: next(stops)))) == 2
    assert len(paper.blocks(settings.home)) == 6
    for _ in app.library.wait(reading.document_id):
        pass
    assert paper.blocks(settings.home) == paper.blocks(settings.home.with_name("whole"))


def test_packing_starts_from_the_text_also_beside_an_exact_memory(
    open_app: OpenApp, store: Store, source: Path
) -> None:
    exact = open_app()
    document_id = paper.read_here(exact, source)
    exact.close()
    app = open_app(recipe=PACKING)
    assert app.model.wait().planner.needs_text(app._store.readings(document_id), PACKING)
    paper.read_here(app, source)
    assert [each.recipe for each in store.readings(document_id)] == ["exact", PACKING]
    assert paper.last(app.questions.ask(document_id, QUESTION)).recipe == PACKING


def test_a_damaged_chunk_that_was_packed_is_read_again(
    open_app: OpenApp, store: Store, settings: Settings, source: Path
) -> None:
    app = open_app(recipe=PACKING)
    document_id = paper.read_here(app, source)
    written = paper.blocks(settings.home)
    app.close()
    flip_a_byte(settings.home / "pods" / store.blocks(store.sections(store.readings()[0].id)[0].id)[2].file_name)
    again = open_app(recipe=PACKING)
    assert paper.last(again.questions.ask(document_id, QUESTION)).sections == (1,)
    for _ in again.library.wait(document_id):
        pass
    assert paper.blocks(settings.home) == written


def test_a_recipe_that_the_model_was_not_calibrated_for_says_how(open_app: OpenApp, source: Path) -> None:
    app: App = open_app(recipe="A35+k4v4")
    with pytest.raises(ModelUnavailable, match=r"no plan to share 35 %.*engine\.training\.sharing"):
        paper.read_here(app, source)
