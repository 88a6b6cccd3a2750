"""Compiled kernels: where they are kept, that the oldest go, and that none is run but as it was written."""

import os
from pathlib import Path

import pytest

from engine.core.compile_cache import keep_compiled, seal_numba


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRITON_CACHE_DIR", "TRITON_CACHE_MANAGER", "NUMBA_CACHE_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


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


def test_what_numba_compiles_is_kept_by_the_version_of_its_sources(tmp_path: Path) -> None:
    keep_compiled(tmp_path, "cpu", "1f")
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "1f")
    keep_compiled(tmp_path, "mps")


def test_what_numba_compiled_is_used_only_as_it_was_sealed(tmp_path: Path) -> None:
    """A flipped bit, a lost or a further file, or an end before the seal: all is compiled anew."""

    def start() -> bool:
        """Whether anything that was compiled is still there."""
        keep_compiled(tmp_path, "cpu", "1f")
        return bool([path for path in (tmp_path / "1f").rglob("*") if path.is_file()])

    def compiled() -> Path:
        start()
        code = tmp_path / "1f" / "cpu_0" / "step.1.nbc"
        code.parent.mkdir(parents=True)
        code.write_bytes(bytes(range(200)))
        code.with_suffix(".nbi").write_bytes(b"index")
        return code

    compiled()
    assert not start(), "never sealed"
    code = compiled()
    seal_numba()
    assert start() and code.exists()
    code.write_bytes(bytes(200))
    assert not start()
    code = compiled()
    seal_numba()
    code.unlink()
    assert not start()
    code = compiled()
    seal_numba()
    code.with_suffix(".2.nbc").write_bytes(b"")
    assert not start()


def test_triton_takes_a_kernel_only_as_it_was_written(tmp_path: Path) -> None:
    """Every single bit of a small file; and cut, lost, or without its checksum."""
    pytest.importorskip("triton")
    from triton.runtime.cache import get_cache_manager

    keep_compiled(tmp_path, "cuda")
    cache = get_cache_manager("abcd")
    kernel = Path(cache.put(b"cubin", "kernel.cubin"))
    cache.put_group("kernel.json", {"kernel.cubin": str(kernel)})
    assert kernel.is_relative_to(tmp_path)

    def found() -> set[bool]:
        return set(map(bool, (cache.get_file("kernel.cubin"), cache.get_group("kernel.json"))))

    assert found() == {True}
    whole = kernel.read_bytes()
    for bit in range(8 * len(whole)):
        kernel.write_bytes((int.from_bytes(whole) ^ 1 << bit).to_bytes(len(whole)))
        assert found() == {False}
    kernel.write_bytes(whole[:-1])
    assert found() == {False}
    cache.put(whole, "kernel.cubin")
    assert found() == {True}, "compiled anew"
    (group,) = kernel.parent.glob("__grp__*.json")
    group.write_text(group.read_text().replace("cubin", "cubim"))
    assert cache.get_group("kernel.json") is None
    kernel.with_name("kernel.cubin.blake3").unlink()
    assert found() == {False}
