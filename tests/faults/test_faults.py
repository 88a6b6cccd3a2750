"""A sample of the trials of `make faults`: nothing is lost, and no answer comes from damage."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.conftest import ROOT
from tests.faults.power import Disk
from tests.faults.seam import Kind, Step


@pytest.mark.parametrize("options", [["--rounds", "2"], ["--rounds", "1", "--encrypted"]])
def test_a_few_faults_of_each_kind_do_no_harm(options: list[str]) -> None:
    command = [sys.executable, "-m", "tests.faults", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"'kills': {options[1]}" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("synced", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_loss_of_power_leaves_what_was_made_durable(tmp_path: Path, synced: bool, named: bool) -> None:
    old, scratch = tmp_path / "file", tmp_path / ".file.partial"
    old.write_bytes(b"old")
    disk = Disk(tmp_path)
    steps = [Step(Kind.CREATE, 7, 0, str(scratch), b""), Step(Kind.WRITE, 7, 0, str(scratch), b"new one")]
    steps += [Step(Kind.SYNC, 7, 0, str(scratch), b"")] if synced else []
    steps += [Step(Kind.RENAME, 7, 0, str(scratch), str(old).encode())]
    steps += [Step(Kind.SYNC, 9, 0, str(tmp_path), b"")] if named else []
    for step in steps:
        disk.do(step)
    found = set()
    for random in (None, *map(Random, range(20))):
        old.unlink()
        disk.write(random)
        found.add(old.read_bytes())
    new = b"new one" if synced else b""
    assert (
        found
        == {
            (False, False): {b"old", b"", b"new one"},
            (True, False): {b"old", b"new one"},
            (False, True): {b"", b"new one"},
            (True, True): {new},
        }[synced, named]
    )
