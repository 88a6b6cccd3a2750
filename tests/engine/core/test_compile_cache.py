"""Compiled kernels: where Triton keeps them, and that the oldest go."""

import os
from pathlib import Path

import pytest

from engine.core.compile_cache import keep_compiled


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    monkeypatch.delenv("TRITON_CACHE_DIR")


def test_the_oldest_go(tmp_path: Path) -> None:
    for age, name in enumerate("cba"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kernel.cubin").write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    keep_compiled(tmp_path, "cuda", most_bytes=250)
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]


def test_another_folder_that_is_named_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "own"))
    keep_compiled(tmp_path / "kernels", "cuda", most_bytes=0)
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "own")
    assert not (tmp_path / "kernels").exists()


def test_what_numba_compiles_is_kept_by_the_version_of_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    keep_compiled(tmp_path, "cpu", "1f")
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "1f")
    keep_compiled(tmp_path, "mps")
