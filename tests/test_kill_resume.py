"""Reading survives `kill -9` at any moment: nothing is read twice, and the pod is the same to the byte.

`DOCPOD_KILLS` says how often the process is killed (3 without it); with `DOCPOD_KILL_MODEL=embedded` the embedded model
reads instead of a tiny random one.
"""

import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from app.settings import Settings
from engine.compression import basis_fit
from engine.models import loader
from engine.runtime.runner import Runner
from tests import tiny_families
from tests.app import paper
from tests.app.command import Command

SEED = 20_260_101
KILLS = int(os.environ.get("DOCPOD_KILLS", "3"))
EMBEDDED = os.environ.get("DOCPOD_KILL_MODEL") == "embedded"
WITH_STATES = "with-states"
PAGES = 200 if EMBEDDED else 40  # a page is fewer tokens to a model whose tokens are no single bytes


class Row(NamedTuple):
    """A committed block."""

    section_id: int
    start: int
    stop: int
    file_name: str
    checksum: str


def rows(settings: Settings, which: str = "position >= 0") -> list[Row]:
    """The blocks with tokens that are committed, in order; none before there is a database."""
    try:
        uri = f"file:{settings.home / 'docpod.sqlite3'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=60)) as database:
            wanted = "SELECT section_id, start_token, stop_token, file_name, checksum FROM blocks"
            return [Row(*row) for row in database.execute(f"{wanted} WHERE {which} ORDER BY 1, 2")]
    except sqlite3.OperationalError as error:
        assert "no such table" in str(error) or "unable to open" in str(error)
        return []


def unnamed(committed: list[Row]) -> list[Row]:
    """The blocks without the names of their files, each of which is given once ever."""
    return [row._replace(file_name="") for row in committed]


def named(settings: Settings) -> set[str]:
    """The files that any committed block stands for."""
    return {row.file_name for row in rows(settings, "true")}


def files(settings: Settings) -> set[str]:
    """Every file in the folder of pods, finished or not."""
    pods = settings.home / "pods"
    return {path.name for path in pods.iterdir()} if pods.exists() else set()


@pytest.fixture(params=["plain", pytest.param("states", marks=pytest.mark.slow)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A home in which the model was used before, and chunks so small that there are hundreds of them."""
    home = tmp_path / "home"
    if EMBEDDED:
        folder: Path = request.getfixturevalue("embedded_model_dir")
        (home / "models").mkdir(parents=True)
        (home / "models" / folder.name).symlink_to(folder)
        return Settings(home=home, model="embedded", chunk_tokens=64, meaning=False, prepare=False)
    model: Path = request.getfixturevalue("tiny_model_dir")
    if request.param == "states":
        model = shutil.copytree(model, tmp_path / WITH_STATES)
        network = tiny_families.build("qwen3_5_text")
        network.config.max_position_embeddings = 32_768
        network.save_pretrained(model)
    paper.prepare_models(model, home / "models")
    return Settings(home=home, model=str(model), chunk_tokens=64, meaning=False, prepare=False)


def wait_for_blocks(process: Command, settings: Settings, count: int, seconds: float = 600.0) -> None:
    """Return once so many blocks are committed, after so many seconds, or where the process has ended."""
    ends = time.monotonic() + seconds
    while process.poll() is None and len(rows(settings)) < count and time.monotonic() < ends:
        time.sleep(0.002)


@pytest.mark.timeout(3600)
def test_a_reading_that_is_killed_again_and_again_ends_like_one_that_was_not(
    settings: Settings, tmp_path: Path
) -> None:
    source = paper.text(tmp_path / "a.txt", PAGES)
    undisturbed = replace(settings, home=tmp_path / "undisturbed")
    shutil.copytree(settings.home, undisturbed.home, symlinks=True)
    begun = time.monotonic()
    process = paper.start(undisturbed, "read", str(source), "--json")
    wait_for_blocks(process, undisturbed, 1)
    start_seconds = time.monotonic() - begun
    expected = json.loads(process.communicate()[0])
    total = len(rows(undisturbed))
    block_seconds = (time.monotonic() - begun - start_seconds) / total
    assert total > 5 * KILLS, "too few blocks to be killed between"

    random = Random(SEED)
    for kill in range(KILLS):
        before = rows(settings)
        share = max(1, (total - len(before)) // (KILLS - kill + 1))
        process = paper.start(settings, "read", str(source), "--json")
        if kill % 3 == 0:
            # While it starts, looks into the file, plans, or reads its first blocks.
            wait_for_blocks(process, settings, len(before) + share, random.uniform(0, 1.5 * start_seconds))
        else:
            wait_for_blocks(process, settings, len(before) + random.randint(1, share))
            time.sleep(random.uniform(0, 2 * block_seconds))
        process.kill()
        out, err = process.communicate()
        assert (process.returncode, out) == (-9, ""), f"ended before kill {kill} of seed {SEED}: {err}"

        after = rows(settings)
        assert after[: len(before)] == before, f"kill {kill} of seed {SEED} lost committed blocks"
        assert contiguous(after), f"kill {kill} of seed {SEED} left a gap"
        orphans = files(settings) - named(settings)
        # Of a chunk, and of the states behind it.
        assert len(orphans) <= (2 if Path(settings.model).name == WITH_STATES else 1), (
            f"kill {kill} of seed {SEED} lost more than a chunk"
        )
        assert named(settings) <= files(settings)

    process = paper.start(settings, "read", str(source), "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    kept = ("document_id", "title", "pages", "tokens", "sections", "pod_bytes", "already_read")
    assert {key: found[key] for key in kept} == {key: expected[key] for key in kept}
    assert unnamed(rows(settings)) == unnamed(rows(undisturbed))
    assert files(settings) == named(settings)
    assert paper.blocks(settings.home) == paper.blocks(undisturbed.home)
    assert [path.name for path in (settings.home / "documents").iterdir()] == [found["document_id"]]
    with closing(sqlite3.connect(settings.home / "docpod.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def contiguous(committed: list[Row]) -> bool:
    """Whether the blocks of every section follow each other from its first token on."""
    stops: dict[int, int] = {}
    for row in committed:
        if row.start != stops.get(row.section_id, 0):
            return False
        stops[row.section_id] = row.stop
    return True


def kills(settings: Settings, source: Path, patience: float, most_seconds: float) -> int:
    """Read again and again, each time killed at most so many seconds after its next block; how often it still ran."""
    random, killed = Random(SEED), 0
    for kill in range(KILLS):
        process = paper.start(settings, "read", str(source), "--json")
        wait_for_blocks(process, settings, len(rows(settings)) + 1, patience)
        time.sleep(random.uniform(0, most_seconds))
        process.kill()
        process.communicate()
        killed += process.returncode == -9
        # Whatever was committed can be read, and nothing else but one unfinished piece of work lies about.
        assert named(settings) <= files(settings), f"kill {kill} of seed {SEED}"
    return killed


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("recipe", ["light", "k4v4hs", pytest.param("coded16", marks=pytest.mark.slow)])
def test_a_compressed_reading_that_is_killed_ends_like_one_that_was_not(
    settings: Settings, tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it reads, says the text again, packs and swaps the exact blocks for the compressed ones; or while it
    reads and packs at once."""
    source = paper.text(tmp_path / "a.txt", PAGES // 4)
    prepared, undisturbed = settings.home, replace(settings, recipe=recipe, home=tmp_path / "undisturbed")
    if recipe.startswith("coded"):
        if Path(settings.model).name == WITH_STATES:
            pytest.skip("coded across layers that all attend alone")
        monkeypatch.setattr(basis_fit, "MOST_DIVERGENCE", 9.0)
        models = prepared / "models"
        runner = Runner(loader.load(settings.model, models, lambda _: None))
        basis_fit.prepare(runner, models, "", lambda _: None, 2, 600)
    shutil.copytree(prepared, undisturbed.home, symlinks=True)
    begun = time.monotonic()
    process = paper.start(undisturbed, "read", str(source), "--json")
    wait_for_blocks(process, undisturbed, 1)
    start_seconds = time.monotonic() - begun
    expected = json.loads(process.communicate()[0])
    work_seconds = time.monotonic() - begun - start_seconds

    for pace in (2.0, 1.0, 0.5, 0.25):
        settings = replace(undisturbed, home=tmp_path / f"killed-{pace}")
        shutil.copytree(prepared, settings.home, symlinks=True)
        if kills(settings, source, 2 * start_seconds, pace * work_seconds / KILLS) > KILLS // 2:
            break
    else:
        pytest.fail("the work is always done before it is killed often enough")

    process = paper.start(settings, "read", str(source), "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert {key: found[key] for key in ("tokens", "pod_bytes")} == {
        key: expected[key] for key in ("tokens", "pod_bytes")
    }
    assert unnamed(rows(settings)) == unnamed(rows(undisturbed))
    assert files(settings) == named(settings)
    assert paper.blocks(settings.home) == paper.blocks(undisturbed.home)
