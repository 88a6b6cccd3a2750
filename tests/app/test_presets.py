"""The dial: another recipe for a document that was read, while the old memory answers, and nothing lost in silence."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import cli
from app.errors import Busy, DocumentNotFound, ModelUnavailable, NotRead, RecipeNotThere
from app.idle import Idle
from app.main import App
from app.recall import Recaller
from app.recipe_registry import kept_by, named
from app.settings import Settings
from engine.compression import basis_fit
from engine.kvcache.recipe import NAMED
from engine.runtime.prefill.builder import PodBuilder
from engine.training import basis
from storage import Reading, StorageFull, Store
from tests.app import paper
from tests.app.conftest import OpenApp
from tests.app.test_library import Turns, with_a_turn

pytestmark = pytest.mark.usefixtures("in_this_process")

QUESTION = "What is the access code of room 3?"


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    turns = Turns(monkeypatch)
    yield turns
    turns.give_all()


@pytest.fixture
def app(open_app: OpenApp) -> App:
    """A running app."""
    app = open_app()
    app.start()
    app.model.wait()
    return app


@pytest.fixture
def document_id(read_document: str) -> str:
    """A document that is read."""
    return read_document


def by_recipe(store: Store, document_id: str) -> dict[str, str]:
    return {each.recipe: each.state for each in store.readings(document_id)}


def answered_by(app: App, document_id: str) -> str:
    answer = paper.last(app.questions.ask(document_id, QUESTION))
    assert answer.found and answer.citations[0].page == 3
    return answer.recipe


def choose(app: App, document_id: str, recipe: str) -> None:
    app.library.choose(document_id, recipe)
    paper.wait_for(app, document_id, "ready")
    # What is replaced goes right after the new one is there.
    paper.wait_until(
        lambda: not app.library.presets(document_id).goes or app.library.presets(document_id).goes == (recipe,)
    )


def test_the_dial_says_what_each_recipe_costs_and_keeps(app: App, document_id: str, store: Store) -> None:
    state = app.library.presets(document_id)
    assert (state.chosen, state.answers_from, state.ready, state.kept, state.goes) == ("exact", "exact", True, (), ())
    assert [each.name for each in state.steps] == list(NAMED)
    assert [each.parts for each in state.steps][1:] == list(NAMED.values())[1:]
    exact, light, *coded = state.steps
    assert len({each.why_not for each in coded}) == 1 and "docpod readers prepare" in coded[0].why_not
    (reading,) = store.readings(document_id)
    assert exact.disk_bytes == reading.num_bytes and exact.seconds == 0.0
    assert exact.share == pytest.approx(1.0, abs=0.01), "what is there counts as it is, with the heads of its files"
    assert not light.needs_text and not light.ready and not light.why_not
    assert light.share == pytest.approx(light.disk_bytes / exact.disk_bytes, rel=0.02) and light.share < 1
    choose(app, document_id, "light")
    made = app.library.presets(document_id).steps[1]
    # The forecast knows the pods; their files have heads too.
    assert light.disk_bytes < made.disk_bytes < 1.2 * light.disk_bytes
    assert made.share / light.share == pytest.approx(made.disk_bytes / light.disk_bytes)


def test_what_a_recipe_keeps_in_words() -> None:
    assert [kept_by(name) for name in NAMED] == [
        "everything, as it was read",
        "40 % of the tokens in 4 bits",
        "every token, rounded finely, which is nearest to exact; unpacked when it is asked",
        "every token, rounded less finely; unpacked when it is asked",
        "every token, rounded coarsely; unpacked when it is asked",
        "every token, rounded most coarsely, which takes the least; unpacked when it is asked",
    ]
    assert kept_by("A35+k4v3") == "every token in 3 and 4 bits, with keys shared between layers"
    assert [named(text) for text in ("coded16+near4,1", "keep40+k4v4h", "faithful", "k4v4")] == [
        "faithful", "light", "faithful", "k4v4"
    ]  # fmt: skip


def test_another_recipe_is_made_from_the_exact_memory_which_stays(
    app: App,
    open_app: OpenApp,
    document_id: str,
    store: Store,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = paper.blocks(settings.home)
    with monkeypatch.context() as patch:
        patch.setattr(PodBuilder, "begin", lambda *_: pytest.fail("the text was read again"))
        for recipe in ("keep27+k4v4h+near4,32", "keep60+k8v4h"):
            choose(app, document_id, recipe)
            assert answered_by(app, document_id) == recipe
            assert by_recipe(store, document_id) == {"exact": "ready", recipe: "ready"}
            assert app.library.presets(document_id).kept == (("exact", sum(map(len, written.values()))),)
    assert paper.blocks(settings.home).items() > written.items()
    app.close()

    again = open_app()
    again.start()
    again.model.wait()
    assert again.library.presets(document_id).chosen == "keep60+k8v4h"
    assert answered_by(again, document_id) == "keep60+k8v4h"
    again.library.drop(document_id, "exact")
    assert not written.keys() & paper.blocks(settings.home).keys()
    assert again.library.presets(document_id).kept == ()
    assert all(each.needs_text or each.ready for each in again.library.presets(document_id).steps)
    assert again.verify()[1] == []


def test_without_the_exact_memory_the_text_is_read_while_the_old_memory_answers(
    open_app: OpenApp, turns: Turns, store: Store, source: Path
) -> None:
    app = open_app(recipe="keep60+k8v4h")
    app.start()
    turns.give_all()
    document_id = app.library.add(source, "a.txt")
    paper.wait_for(app, document_id, "ready")
    turns.take_all()
    app.library.choose(document_id, "light")
    turns.give(2)
    paper.wait_for(app, document_id, "reading")
    entry = app.library.catalogue.entry(document_id)
    assert (entry.recipe, entry.answers_from) == ("light", "keep60+k8v4h")
    assert answered_by(app, document_id) == "keep60+k8v4h"
    state = app.library.presets(document_id)
    assert (state.chosen, state.answers_from, state.kept) == ("light", "keep60+k8v4h", ())
    assert set(state.goes) == {"keep60+k8v4h", "light"}
    assert isinstance(failure_of(lambda: app.library.drop(document_id, "keep60+k8v4h")), Busy)
    turns.give_all()
    paper.wait_for(app, document_id, "ready")
    paper.wait_until(lambda: by_recipe(store, document_id) == {"light": "ready"})
    assert answered_by(app, document_id) == "light"
    assert app.library.catalogue.entry(document_id).answers_from == ""


def failure_of(verb: object) -> Exception:
    with pytest.raises(Exception) as caught:
        verb()
    return caught.value


def test_cancelling_the_change_goes_back_to_what_was_there(
    open_app: OpenApp, turns: Turns, store: Store, settings: Settings, source: Path
) -> None:
    app = open_app(recipe="keep60+k8v4h")
    app.start()
    turns.give_all()
    document_id = app.library.add(source, "a.txt")
    paper.wait_for(app, document_id, "ready")
    # The chunks that were packed go right after.
    paper.wait_until(lambda: {path.name for path in (settings.home / "pods").iterdir()} == store.all_block_files())
    written = paper.blocks(settings.home)
    turns.take_all()
    begun = turns.begun
    app.library.choose(document_id, "exact")
    turns.give()
    paper.wait_until(lambda: turns.begun == begun + 2)
    with_a_turn(app, turns, app.library.cancel, document_id)
    assert by_recipe(store, document_id) == {"keep60+k8v4h": "ready"}
    assert paper.blocks(settings.home) == written
    assert app.library.catalogue.entry(document_id).progress.stage == "ready"
    assert app.library.presets(document_id).chosen == "keep60+k8v4h"


def test_choosing_the_old_one_again_while_the_new_one_is_made_is_done_at_once(
    app: App, turns: Turns, store: Store, settings: Settings, source: Path
) -> None:
    turns.give_all()
    document_id = app.library.add(source, "a.txt")
    paper.wait_for(app, document_id, "ready")
    written = paper.blocks(settings.home)
    choose(app, document_id, "keep27+k4v4h+near4,32")
    choose(app, document_id, "exact")
    assert by_recipe(store, document_id) == {"exact": "ready"}
    assert paper.blocks(settings.home) == written


def test_a_recipe_that_is_chosen_half_way_begins_anew_and_what_is_read_answers_meanwhile(
    app: App, turns: Turns, store: Store, source: Path
) -> None:
    document_id = app.library.add(source, "a.txt")
    turns.give(8)
    paper.wait_until(lambda: turns.begun == 9)
    with_a_turn(app, turns, lambda each: app.library.choose(each, "keep60+k8v4h"), document_id)
    assert app.library.presets(document_id).goes == ("exact",)
    assert answered_by(app, document_id) == "exact"
    turns.give_all()
    paper.wait_for(app, document_id, "ready")
    paper.wait_until(lambda: by_recipe(store, document_id) == {"keep60+k8v4h": "ready"})
    assert answered_by(app, document_id) == "keep60+k8v4h"


def test_a_document_that_waits_for_its_users_word_still_does(
    app: App, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ingest.ASK_FIRST_SECONDS", 0)
    document_id = app.library.add(source, "a.txt")
    before = paper.wait_for(app, document_id, "waiting").forecast
    app.library.choose(document_id, "keep27+k4v4h+near4,32")
    other = app.library.add(paper.text(source.with_name("b.txt"), 1), "b.txt")
    paper.wait_for(app, other, "waiting")
    assert by_recipe(store, document_id) == {"keep27+k4v4h+near4,32": "paused"}
    after = app.library.catalogue.entry(document_id)
    assert (after.progress.stage, after.recipe) == ("waiting", "keep27+k4v4h+near4,32")
    assert after.forecast.seconds > before.seconds
    app.library.read(document_id)
    paper.wait_for(app, document_id, "ready")
    assert answered_by(app, document_id) == "keep27+k4v4h+near4,32"


def test_new_documents_are_kept_as_was_chosen_last(
    app: App, open_app: OpenApp, document_id: str, tmp_path: Path
) -> None:
    choose(app, document_id, "light")
    second = app.library.add(paper.text(tmp_path / "b.txt", 2), "b.txt")
    assert paper.wait_for(app, second, "ready").recipe == "light"
    app.close()

    again = open_app()
    again.start()
    third = again.library.add(paper.text(tmp_path / "c.txt", 3), "c.txt")
    assert paper.wait_for(again, third, "ready").recipe == "light"
    again.close()

    given = open_app(recipe="keep60+k8v4h")
    given.start()
    fourth = given.library.add(paper.text(tmp_path / "d.txt", 4), "d.txt")
    assert paper.wait_for(given, fourth, "ready").recipe == "keep60+k8v4h"
    held = given.preferences.state("recipe")
    assert (held.value, held.saved, bool(held.given_by)) == ("keep60+k8v4h", "light", True)
    # Those that were read stay as they are, and a later choice is the last one.
    assert given.library.catalogue.entry(third).recipe == "light"
    choose(given, fourth, "keep27+k4v4h+near4,32")
    held = given.preferences.state("recipe")
    assert (held.value, held.saved, held.given_by) == ("keep27+k4v4h+near4,32", "keep27+k4v4h+near4,32", "")
    fifth = given.library.add(paper.text(tmp_path / "e.txt", 5), "e.txt")
    assert paper.wait_for(given, fifth, "ready").recipe == "keep27+k4v4h+near4,32"


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ("A35+k4v4", "has no plan to share 35 %"),
        ("no such", "is no part of a recipe"),
    ],
)
def test_a_recipe_that_is_not_there_says_why_and_changes_nothing(
    app: App, document_id: str, store: Store, recipe: str, why: str
) -> None:
    with pytest.raises(RecipeNotThere, match=why):
        app.library.choose(document_id, recipe)
    assert app.library.presets(document_id).chosen == "exact"
    assert by_recipe(store, document_id) == {"exact": "ready"}
    # As when another model, which had it, was used before.
    store.choose_recipe(document_id, recipe)
    store.prefer("recipe", recipe)
    assert app.library.catalogue.entry(document_id).progress.stage == "ready"
    assert answered_by(app, document_id) == "exact"


def test_a_recipe_of_the_start_is_a_step_of_its_own(open_app: OpenApp, source: Path) -> None:
    app = open_app(recipe="keep50:norm+k8v8h")
    assert app.library.presets(paper.read_here(app, source)) is not None
    state = app.library.presets(app.library.catalogue.entries()[0].document_id)
    assert [each.name for each in state.steps] == [*NAMED, "keep50:norm+k8v8h"]
    assert state.chosen == "keep50:norm+k8v8h" and state.ready


def test_a_change_that_fails_leaves_the_old_memory_at_work(
    app: App, document_id: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFull(2_000_000_000, 1_000)

    with monkeypatch.context() as patch:
        patch.setattr("app.block_store.write_block", full)
        app.library.choose(document_id, "keep60+k8v4h")
        entry = paper.wait_for(app, document_id, "failed")
    assert (entry.recipe, entry.answers_from) == ("keep60+k8v4h", "exact")
    assert answered_by(app, document_id) == "exact"
    choose(app, document_id, "light")
    assert by_recipe(store, document_id) == {"exact": "ready", "light": "ready"}


@pytest.mark.parametrize(("owner", "step"), [(Recaller, "recall"), (Store, "reading"), (Store, "touch_reading")])
def test_a_question_that_crosses_the_replacement_is_answered_from_the_new_memory(
    app: App, open_app: OpenApp, document_id: str, monkeypatch: pytest.MonkeyPatch, owner: type, step: str
) -> None:
    choose(app, document_id, "keep60+k8v4h")
    app.close()
    app = open_app()
    app.start()
    app.model.wait()
    go_on = getattr(owner, step)
    crossed: list[int] = []

    def change_first(itself: object, *arguments: object) -> object:
        if not crossed:
            crossed.append(1)
            choose(app, document_id, "light")
        return go_on(itself, *arguments)

    monkeypatch.setattr(owner, step, change_first)
    # As another process reads, which does not make way for questions of this one.
    monkeypatch.setattr(Idle, "make_way", lambda *_: None)
    assert answered_by(app, document_id) == "light"
    assert crossed


def test_a_document_that_is_not_there_has_no_dial(app: App, document_id: str) -> None:
    app.library.delete(document_id)
    assert app.library.presets(document_id) is None
    for verb in (app.library.choose, app.library.drop):
        with pytest.raises(DocumentNotFound):
            verb(document_id, "keep60+k8v4h")


def test_each_named_recipe_from_the_command_line(
    settings: Settings,
    source: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(basis_fit, "SAMPLES", 4)
    options = ["--home", str(settings.home), "--model", settings.model, "--chunk-tokens", "128", "--json"]

    def run(*arguments: str) -> tuple[int, dict[str, object]]:
        code = cli.main([*arguments, *options], lambda _: None)
        return code, json.loads(capsys.readouterr().out)

    code, refused = run("read", str(source), "--recipe", "archive")
    assert code and "docpod readers prepare" in str(refused["message"])
    code, made = run("readers", "prepare")
    assert code == 0 and made["reader"] == Path(settings.model).name
    sizes = {}
    for recipe in NAMED:
        assert run("ask", "a.txt", QUESTION, "--recipe", recipe)[1]["error"] in ("NotRead", "DocumentNotFound")
        code, facts = run("read", str(source), "--recipe", recipe)
        assert code == 0 and not facts["already_read"]
        sizes[recipe] = facts["bytes_per_token"]
    exact, light, *coded = sizes.values()
    # Of four layers there is little in common.
    assert light < exact > coded[0] and coded == sorted(coded, reverse=True)
    for recipe in NAMED:
        code, answer = run("ask", "a.txt", QUESTION, "--recipe", recipe)
        assert (code, answer["recipe"], answer["citations"][0]["page"]) == (0, recipe, 3)
    # The last one that was read is the document's, and none was removed.
    assert run("ask", "a.txt", QUESTION)[1]["recipe"] == "archive"
    document_id = store.documents()[0].id
    assert by_recipe(store, document_id) == dict.fromkeys(NAMED, "ready")


def test_only_the_recipe_that_is_asked_for_answers(open_app: OpenApp, document_id: str) -> None:
    app = open_app()
    assert isinstance(paper.failure(app.questions.ask(document_id, QUESTION, recipe="keep27+k4v4h+near4,32")), NotRead)


def test_of_readings_without_a_choice_the_one_that_is_ready_counts(
    open_app: OpenApp, store: Store, document_id: str
) -> None:
    """As an earlier version left them, when the recipe of the start was that of every document."""
    app = open_app()
    planned: Reading = app.model.wait().planner.plan(document_id, "keep60+k8v4h")
    store.set_reading_state(planned.id, "paused")
    assert app.library.catalogue.entry(document_id).progress.stage == "ready"
    assert answered_by(app, document_id) == "exact"


def test_coded_across_layers_it_answers_alike_after_a_restart(
    settings: Settings, open_app: OpenApp, source: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of random weights little can be told.
    monkeypatch.setattr(basis_fit, "MOST_DIVERGENCE", 9.0)
    with pytest.raises(ModelUnavailable, match=r"is not prepared for it yet.*docpod readers prepare"):
        open_app(recipe="coded5").model.wait()
    models = str(settings.home / "models")
    drawn = ("--samples", "2", "--tokens", "600", "--out", models)
    basis.main(["--model", settings.model, "--models", models, *drawn], lambda _: None)
    answers = []
    for _ in range(2):
        app = open_app(recipe="coded5")
        document_id = paper.read_here(app, source)
        answers.append(paper.last(app.questions.ask(document_id, QUESTION)))
        app.close()
    first, second = answers
    assert first.recipe == "coded5" and first.citations[0].page == 3
    assert (first.answer, first.citations) == (second.answer, second.citations)
    (reading,) = store.readings(document_id)
    blocks = [block for section in store.sections(reading.id) for block in store.blocks(section.id)]
    assert any(b"coded" in (settings.home / "pods" / each.file_name).read_bytes()[:4000] for each in blocks)
    # A damaged block is never answered from.
    path = settings.home / "pods" / blocks[1].file_name
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    app = open_app(recipe="coded5")
    list(app.questions.ask(document_id, QUESTION))
    assert by_recipe(store, document_id) == {"coded5": "queued"}
    paper.read_here(app, source)
    assert paper.last(app.questions.ask(document_id, QUESTION)).citations == first.citations
