"""Recoding: exact documents become coded ones by themselves, and none is ever without a memory that answers."""

import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from app.block_store import BlockStore
from app.document_reader import DocumentReader
from app.main import App
from app.presets import USUAL
from app.settings import Settings
from engine.compression import basis_fit
from engine.kvcache.blocks import coded
from engine.kvcache.exact import Pod
from engine.models import loader
from engine.runtime.prefill.builder import Builder
from engine.runtime.runner import Runner
from storage import Store
from tests.app import paper
from tests.app.conftest import OpenApp

pytestmark = pytest.mark.usefixtures("in_this_process")

FLIPS = 300
QUESTION = "What is the access code of room 3?"
KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from app.main import App
from app.settings import Settings

home, model, module, owner, step = sys.argv[1:]
app = App(Settings(home=Path(home), model=model, chunk_tokens=128, meaning=False))
app.model.wait()
setattr(getattr(importlib.import_module(module), owner), step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
app.library._recoding.one(lambda: False)
"""


@pytest.fixture(scope="module")
def basis_file(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the model that all tests here read with."""
    folder = tmp_path_factory.mktemp("basis")
    runner = Runner(loader.load(str(tiny_model_dir), folder, lambda _: None))
    return basis_fit.prepare(runner, folder, "", lambda _: None, 3)


def prepared(open_app: OpenApp, basis_file: Path) -> App:
    app = open_app()
    shutil.copy(basis_file, app.settings.home / "models")
    return app


def recoded(app: App) -> None:
    app.library._recoding.one(lambda: False)


def recipes(store: Store, document_id: str) -> list[tuple[str, str]]:
    return [(each.recipe, each.state) for each in store.readings(document_id)]


def answered(app: App, document_id: str) -> str:
    answer = paper.last(app.questions.ask(document_id, QUESTION))
    assert answer.citations[0].page == 3
    return answer.recipe


def test_what_nobody_chose_is_coded_once_the_reader_is_prepared(
    open_app: OpenApp, read_document: str, store: Store, tmp_path: Path, basis_file: Path
) -> None:
    app = open_app()
    recoded(app)
    assert recipes(store, read_document) == [("exact", "ready")]
    app = prepared(open_app, basis_file)
    app.settings.coded = False
    recoded(app)
    assert recipes(store, read_document) == [("exact", "ready")]
    app.settings.coded = True
    app.library._recoding.one(lambda: True)
    assert ("exact", "ready") in recipes(store, read_document) and answered(app, read_document) == "exact"
    recoded(app)
    assert recipes(store, read_document) == [(USUAL, "ready")] and answered(app, read_document) == USUAL
    files = {path.name for path in (app.settings.home / "pods").iterdir()}
    assert app.verify()[1] == [] and set(store.all_block_files()) == files
    other = paper.read_here(app, paper.text(tmp_path / "other.txt", 5))
    assert recipes(store, other) == [(USUAL, "ready")]


def test_what_was_read_is_gone_before_it_comes_back_coded(
    open_app: OpenApp, store: Store, tmp_path: Path, basis_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No document is in memory twice."""
    app = prepared(open_app, basis_file)
    builders: list[weakref.ref[Builder]] = []
    held: list[bool] = []
    resume, restored = BlockStore.resume, coded.restored

    def resumed(*arguments: Any) -> Builder:
        builder = resume(*arguments)
        builders.append(weakref.ref(builder))
        return builder

    def come_back(*arguments: Any) -> Pod:
        held.append(builders[-1]() is not None)
        return restored(*arguments)

    monkeypatch.setattr(BlockStore, "resume", resumed)
    monkeypatch.setattr(coded, "restored", come_back)
    document = paper.read_here(app, paper.text(tmp_path / "other.txt", 5))
    assert recipes(store, document) == [(USUAL, "ready")] and held and not any(held)


def test_what_was_chosen_stays(open_app: OpenApp, read_document: str, store: Store, basis_file: Path) -> None:
    app = prepared(open_app, basis_file)
    store.choose_recipe(read_document, "exact")
    recoded(app)
    assert recipes(store, read_document) == [("exact", "ready")]
    store.choose_recipe(read_document, "")
    store.prefer("recipe", "exact")
    recoded(app)
    assert recipes(store, read_document) == [("exact", "ready")]


def test_what_does_not_come_back_from_the_disk_replaces_nothing(
    open_app: OpenApp,
    read_document: str,
    store: Store,
    settings: Settings,
    basis_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, whole = prepared(open_app, basis_file), DocumentReader.is_whole

    def damaged(*arguments: object) -> bool:
        (reading,) = (each for each in store.readings(read_document) if each.recipe == USUAL)
        blocks = [block for section in store.sections(reading.id) for block in store.blocks(section.id)]
        path = settings.home / "pods" / blocks[-1].file_name
        data = bytearray(path.read_bytes())
        data[-5] ^= 4
        path.write_bytes(data)
        return whole(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(DocumentReader, "is_whole", damaged)
        recoded(app)
    assert ("exact", "ready") in recipes(store, read_document) and answered(app, read_document) == "exact"
    recoded(app)
    assert recipes(store, read_document) == [(USUAL, "ready")] and app.verify()[1] == []


@pytest.mark.parametrize(
    "step",
    [
        ("app.block_store", "BlockStore", "finish"),
        ("app.document_reader", "DocumentReader", "is_whole"),
        ("app.retention", "Retention", "delete"),
    ],
)
def test_killed_at_any_step_it_answers_and_goes_on(
    open_app: OpenApp,
    read_document: str,
    store: Store,
    settings: Settings,
    basis_file: Path,
    step: tuple[str, str, str],
) -> None:
    app = prepared(open_app, basis_file)
    app.close()
    command = [sys.executable, "-c", KILLED, str(settings.home), settings.model, *step]
    assert subprocess.run(command, check=False).returncode == -9
    app = open_app()
    assert ("exact", "ready") in recipes(store, read_document)
    assert answered(app, read_document) in ("exact", USUAL)
    recoded(app)
    assert recipes(store, read_document) == [(USUAL, "ready")] and answered(app, read_document) == USUAL
    assert app.verify()[1] == []


def test_a_flipped_bit_of_what_is_coded_is_noticed_or_changes_nothing(
    open_app: OpenApp,
    read_document: str,
    store: Store,
    settings: Settings,
    basis_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = prepared(open_app, basis_file)
    recoded(app)
    monkeypatch.setattr(BlockStore, "drop", lambda *_: None)
    engine, (reading,) = app.model.wait(), store.readings(read_document)
    layout, load = engine.loaded.recipes[reading.recipe].layout, engine.recaller._block_store.load
    sections = store.sections(reading.id)
    whole = {each.id: load(each, store.blocks(each.id), layout) for each in sections}
    random, noticed = Random(14), 0
    for flip in range(FLIPS):
        section = random.choice(sections)
        blocks = store.blocks(section.id)
        path = settings.home / "pods" / random.choice(blocks).file_name
        data = path.read_bytes()
        spoilt = bytearray(data)
        spoilt[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(spoilt)
        found, before = load(section, blocks, layout), whole[section.id]
        assert isinstance(before, Pod)
        if found is None:
            noticed += 1
        else:
            assert isinstance(found, Pod), f"flip {flip}"
            assert torch.equal(found.keys, before.keys) and torch.equal(found.values, before.values), f"flip {flip}"
        path.write_bytes(data)
    assert noticed > FLIPS // 2
