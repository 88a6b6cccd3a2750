"""Memory that runs short, at every place: room is made, work goes on in smaller pieces, or the user is told.

The process and the journal stay whole.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app import section_reader
from app.block_store import BlockStore
from app.errors import ModelUnavailable, OutOfMemory
from app.main import App
from app.settings import Settings
from engine.compression.policies import reread
from engine.core.kv_shape import KVShape
from engine.kvcache.exact import Pod
from engine.offload.tiers import TieredCache
from engine.runtime import generate
from engine.runtime.context import Context
from engine.runtime.prefill import builder
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner
from storage import Store
from tests.app import paper
from tests.app.conftest import PAGES, OpenApp

pytestmark = pytest.mark.usefixtures("in_this_process")

QUESTION = "What is the access code of room 3?"
TOO_LITTLE = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8.00 GiB"

Fails = Callable[[int, tuple[Any, ...]], bool]
"""Whether a call fails, by its number from 0 and its arguments."""


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str, Fails], list[int]]:
    """Makes some calls of a function run out of memory; gives their numbers, as they come."""

    def into(owner: Any, name: str, fails: Fails) -> list[int]:
        real, failed = getattr(owner, name), []
        count = iter(range(1_000_000))
        lock = threading.Lock()

        def short(*arguments: Any, **options: Any) -> Any:
            with lock:
                number = next(count)
            if fails(number, arguments):
                failed.append(number)
                raise torch.OutOfMemoryError(TOO_LITTLE)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, short)
        return failed

    return into


def always(*_: object) -> bool:
    return True


def once(number: int, _: object) -> bool:
    return number == 0


def block_tokens(store: Store, document_id: str) -> list[int]:
    (reading,) = store.readings(document_id)
    sections = store.sections(reading.id)
    return [each.stop_token - each.start_token for section in sections for each in store.blocks(section.id)]


def test_chunks_become_smaller_until_they_fit(
    open_app: OpenApp, store: Store, source: Path, inject: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = open_app(chunk_tokens=512)
    app.model.wait()
    failed = inject(PodBuilder, "begin", lambda _, arguments: len(arguments[1]) > 200)
    document_id = paper.read_here(app, source)
    assert max(block_tokens(store, document_id)) == 128
    # 512 and 256 tokens were tried twice each, at the start of each section.
    assert len(failed) == 8
    assert "chunks of 128 tokens" in caplog.text
    assert paper.last(app.questions.ask(document_id, QUESTION)).found
    assert app.verify()[1] == []


def test_kept_pods_make_room_first(open_app: OpenApp, store: Store, tmp_path: Path, inject: Any) -> None:
    app = open_app()
    paper.read_here(app, paper.text(tmp_path / "first.txt", PAGES))
    tiers = app.model.wait().loaded.tiers
    assert len(tiers.keys[0]) == 2
    held: list[int] = []

    def fails(number: int, _: object) -> bool:
        held.append(len(tiers.keys[0]))
        return number == 0

    inject(PodBuilder, "begin", fails)
    document = app.library.intake.keep(paper.text(tmp_path / "b.txt", 2), "b.txt", move=False)
    assert list(app.library.intake.parse(document))
    next(app.library.wait(document.id))
    assert held == [2, 0]
    assert block_tokens(store, document.id) == [128]


def test_a_reading_that_cannot_go_on_says_so_and_keeps_what_was_read(
    app: App, store: Store, settings: Settings, source: Path, inject: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = app.library.intake.keep(source, source.name, move=False)
    assert list(app.library.intake.parse(document))
    app.model.wait()
    inject(PodBuilder, "begin", lambda number, _: number >= 3)
    error = paper.failure(app.library.wait(document.id))
    monkeypatch.undo()
    assert isinstance(error, OutOfMemory)
    assert "2.7 GB are needed at once" in error.message and "free" in error.message
    assert "--recipe light" in error.hint and "Close other programs" in error.hint
    entry = app.library.catalogue.entry(document.id)
    assert (entry.progress.stage, entry.progress.message) == ("failed", error.message)
    begun = paper.blocks(settings.home)
    assert len(begun) == 3
    assert paper.last(app.questions.ask(document.id, QUESTION)).reused_tokens == 3 * 128
    for _ in app.library.wait(document.id):
        pass
    assert paper.blocks(settings.home).items() > begun.items()
    assert store.readings(document.id)[0].state == "ready"


def test_room_for_a_section_is_made_before_it_is_read(app: App, store: Store, source: Path, inject: Any) -> None:
    app.model.wait()
    failed = inject(builder, "SuffixCache", once)
    document_id = paper.read_here(app, source)
    assert failed == [0] and store.readings(document_id)[0].state == "ready"


def test_the_background_survives_it(app: App, source: Path, tmp_path: Path, inject: Any) -> None:
    app.model.wait()
    short = True
    inject(PodBuilder, "begin", lambda *_: short)
    app.start()
    document_id = app.library.add(source, "a.txt")
    entry = paper.wait_for(app, document_id, "failed")
    assert "too little memory" in entry.progress.message
    short = False
    other = app.library.add(paper.text(tmp_path / "b.txt", 1), "b.txt")
    paper.wait_for(app, other, "ready")
    app.library.read(document_id)
    paper.wait_for(app, document_id, "ready")


PLACES = {
    "room for what is loaded": (KVShape, "empty"),
    "loading": (BlockStore, "_load"),
    "looking": (Runner, "score"),
    "looking, in a layer": (Context, "attend"),
    "choosing what to answer from": (Pod, "select"),
    "the tail of an answer": (generate, "SuffixCache"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_question_is_answered_once_there_is_room(
    app: App, open_app: OpenApp, source: Path, inject: Any, place: str
) -> None:
    document_id = paper.read_here(app, source)
    right = paper.last(app.questions.ask(document_id, QUESTION))
    app.close()
    again = open_app()
    again.model.wait()
    failed = inject(*PLACES[place], once)
    answer = paper.last(again.questions.ask(document_id, QUESTION))
    assert failed == [0]
    assert (answer.answer, answer.citations) == (right.answer, right.citations)


@pytest.mark.parametrize("place", PLACES)
def test_a_question_that_cannot_be_answered_says_so_and_costs_nothing_else(
    app: App, open_app: OpenApp, source: Path, inject: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = paper.read_here(app, source)
    right = paper.last(app.questions.ask(document_id, QUESTION))
    app.close()
    again = open_app()
    again.model.wait()
    kept = paper.blocks(again.settings.home)
    inject(*PLACES[place], always)
    error = paper.failure(again.questions.ask(document_id, QUESTION))
    assert isinstance(error, OutOfMemory) and "2.7 GB are needed at once" in error.message
    assert error.hint
    monkeypatch.undo()
    assert paper.blocks(again.settings.home) == kept
    assert again.library.catalogue.entry(document_id).progress.stage == "ready"
    answer = paper.last(again.questions.ask(document_id, QUESTION))
    assert (answer.answer, answer.citations) == (right.answer, right.citations)


def test_an_answer_that_is_cut_off_half_way_is_an_error_and_never_a_short_answer(
    app: App, source: Path, inject: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = paper.read_here(app, source)
    inject(Runner, "run", lambda number, _: number == 3)
    assert isinstance(paper.failure(app.questions.ask(document_id, QUESTION)), OutOfMemory)
    monkeypatch.undo()
    assert app.questions.conversations(document_id) == []
    assert paper.last(app.questions.ask(document_id, QUESTION)).found


@pytest.mark.parametrize("place", ["scoring", "packing"])
def test_compressing_goes_on_where_it_was(
    open_app: OpenApp, settings: Settings, source: Path, inject: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reread, "CHUNK_TOKENS", 128)
    whole = open_app(recipe="light", home=settings.home.with_name("whole"))
    paper.read_here(whole, source)
    whole.close()
    app = open_app(recipe="light")
    app.model.wait()
    failed = inject(reread, "_Rereading", lambda number, _: number == 2)
    if place == "packing":
        failed = inject(section_reader, "pack_pod", once)
    paper.read_here(app, source)
    assert len(failed) == 1
    assert paper.blocks(settings.home) == paper.blocks(settings.home.with_name("whole"))


def test_compressing_that_cannot_go_on_is_told(
    open_app: OpenApp, store: Store, source: Path, inject: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reread, "CHUNK_TOKENS", 128)
    app = open_app(recipe="light")
    document = app.library.intake.keep(source, source.name, move=False)
    assert list(app.library.intake.parse(document))
    app.model.wait()
    with pytest.MonkeyPatch.context() as patch:
        real = reread._Rereading
        calls = iter(range(1000))

        def short(*arguments: Any) -> Any:
            if next(calls) >= 2:
                raise torch.OutOfMemoryError(TOO_LITTLE)
            return real(*arguments)

        patch.setattr(reread, "_Rereading", short)
        assert isinstance(paper.failure(app.library.wait(document.id)), OutOfMemory)
    assert app.library.catalogue.entry(document.id).progress.stage == "failed"
    for _ in app.library.wait(document.id):
        pass
    assert store.readings(document.id)[0].state == "ready"


def test_a_model_that_does_not_fit_is_named_with_what_to_do(open_app: OpenApp, inject: Any) -> None:
    app = open_app()
    inject(PodBuilder, "begin", always)
    with pytest.raises(ModelUnavailable, match=r"does not fit: 2\.68 GB of memory is needed"):
        app.model.wait()
    assert "--model embedded" in app.status().better


def test_people_who_ask_at_once_load_each_section_once(
    app: App, open_app: OpenApp, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = paper.read_here(app, source)
    app.close()
    again = open_app()
    again.model.wait()
    loads: list[int] = []
    load = BlockStore.load
    monkeypatch.setattr(
        BlockStore,
        "load",
        lambda block_store, section, *about: loads.append(section.id) or load(block_store, section, *about),
    )
    threads = [
        threading.Thread(target=lambda: paper.last(again.questions.ask(document_id, QUESTION))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(loads) == sorted(set(loads)) and loads


def test_damage_in_the_last_block_publishes_nothing(
    app: App, open_app: OpenApp, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = paper.read_here(app, source)
    app.close()
    sections = store.sections(store.readings(document_id)[0].id)
    path = settings.home / "pods" / store.blocks(sections[0].id)[-1].file_name
    contents = bytearray(path.read_bytes())
    contents[-40] ^= 1
    path.write_bytes(contents)
    again = open_app()
    kept: list[object] = []
    keep = TieredCache._keep
    monkeypatch.setattr(TieredCache, "_keep", lambda tiers, key, *rest: kept.append(key) or keep(tiers, key, *rest))
    assert again.model.wait().recaller.recall(sections[0]) is None
    assert again.model.wait().recaller.recall(sections[1]) is not None
    assert kept == [sections[1].id] == again.model.wait().loaded.tiers.keys[0]
