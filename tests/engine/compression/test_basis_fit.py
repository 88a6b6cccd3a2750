"""Finding a basis: what was observed before a kill is not read again, and the basis is the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.compression import basis_fit
from engine.core.errors import CalibrationFailed
from engine.kvcache import basis
from engine.kvcache.blocks import coded
from engine.kvcache.layout import Layout, expected_bytes
from engine.kvcache.recipe import parse
from engine.models import loader
from engine.runtime.runner import Runner
from tests.engine.reading import read

COUNT, TOKENS = 6, 160
KILLED = """
import os, signal, sys
from pathlib import Path
from engine.models import loader
from engine.runtime.runner import Runner
from engine.compression import basis_fit

def say(doing):
    if f"{sys.argv[3]} of" in doing:
        os.kill(os.getpid(), signal.SIGKILL)

out = Path(sys.argv[2])
runner = Runner(loader.load(sys.argv[1], out, lambda _: None))
basis_fit.prepare(runner, out, "", say, int(sys.argv[4]), int(sys.argv[5]))
"""


@pytest.fixture
def runner(tiny_model_dir: Path, tmp_path: Path) -> Runner:
    return Runner(loader.load(str(tiny_model_dir), tmp_path, lambda _: None))


def prepared(runner: Runner, out: Path) -> str:
    """The digest of the basis."""
    basis_fit.prepare(runner, out, "", lambda _: None, COUNT, TOKENS)
    found = basis.find(runner.model, out)
    assert found is not None and 0 <= found.facts["divergence"] < basis_fit.MOST_DIVERGENCE
    assert not basis_fit.samples_folder(out, runner.model).exists()
    return found.digest


def test_killed_it_goes_on_where_it_was(
    runner: Runner, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = prepared(runner, tmp_path / "undisturbed")
    out = tmp_path / "killed"
    for done in (2, 4):
        options = [str(tiny_model_dir), str(out), *map(str, (done, COUNT, TOKENS))]
        assert subprocess.run([sys.executable, "-c", KILLED, *options], check=False).returncode == -9
        files = sorted(basis_fit.samples_folder(out, runner.model).iterdir())
        assert len(files) == done and basis.find(runner.model, out) is None
    # Of one only a part had come to the disk.
    files[0].write_bytes(files[0].read_bytes()[:1000])
    seen, observe = [], basis_fit.observe

    def counted(*arguments: object) -> object:
        seen.append(1)
        return observe(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(basis_fit, "observe", counted)
    assert prepared(runner, out) == undisturbed
    assert len(seen) == COUNT - 3


def test_what_an_unseen_text_takes_is_foretold(runner: Runner, tmp_path: Path) -> None:
    """Of few samples the spreads alone say too little."""
    prepared(runner, tmp_path)
    found = basis.find(runner.model, tmp_path)
    assert found is not None
    pod = read(runner, runner.model.tokenizer.encode(basis_fit.__doc__ or "")[0][:400])
    for recipe in ("faithful", "compact"):
        plan = Layout(parse(recipe), (), basis=found)
        taken = sum(len(each.payload) for each in coded.to_blocks(pod, plan))
        foretold = expected_bytes(plan, runner.model.shape, pod.num_tokens)
        assert foretold == pytest.approx(taken, rel=0.15)


def test_a_basis_that_codes_badly_is_not_kept(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis_fit, "MOST_DIVERGENCE", -1.0)
    with pytest.raises(CalibrationFailed, match="cannot be coded well"):
        prepared(runner, tmp_path)
    assert basis.find(runner.model, tmp_path) is None


@pytest.mark.parametrize("tokens", [100, 5_000_000])
def test_samples_that_are_none_are_refused(runner: Runner, tmp_path: Path, tokens: int) -> None:
    with pytest.raises(CalibrationFailed, match="too short or too long"):
        basis_fit.prepare(runner, tmp_path, "", lambda _: None, COUNT, tokens)
