"""Kernels that were compiled once, kept for the next start; found again by what they were made of.

They are run, so each is used as it was written only: Triton's are looked at when one is used (CheckedCache, in
engine.kernels.triton_cache), Numba's all at a start, which is why they are sealed once they are there.
"""

import hashlib
import os
import shutil
from pathlib import Path

MOST_BYTES = 512 << 20
"""Of all kernels; a model has some tens of megabytes of them."""
VARIABLES = {"cuda": "TRITON_CACHE_DIR", "cpu": "NUMBA_CACHE_DIR"}
_SEAL = "sealed"


def keep_compiled(folder: Path, device: str, version: str = "", most_bytes: int = MOST_BYTES) -> None:
    """Have the compiler of a kind of device keep its kernels in a folder, of which the oldest go where they are too
    many; those of each `version` apart, for a compiler that does not see all that a kernel was made of.

    Nothing where the environment names another folder.
    """
    variable, place = VARIABLES.get(device, ""), str(folder / version)
    if not variable or os.environ.setdefault(variable, place) != place:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if device == "cuda":
        os.environ.setdefault("TRITON_CACHE_MANAGER", "engine.kernels.triton_cache:CheckedCache")
    elif not _is_sealed(Path(place)):
        shutil.rmtree(place, ignore_errors=True)
    kept = sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime)
    sizes = [sum(path.stat().st_size for path in each.rglob("*") if path.is_file()) for each in kept]
    total = sum(sizes)
    for each, size in zip(kept, sizes, strict=True):
        if total <= most_bytes:
            return
        shutil.rmtree(each, ignore_errors=True)
        total -= size


def seal_numba() -> None:
    """Note what Numba keeps, now that all is compiled."""
    folder = Path(os.environ.get(VARIABLES["cpu"], ""))
    if folder.is_dir() and not _is_sealed(folder):
        (folder / _SEAL).write_text(_digest(folder))


def _is_sealed(folder: Path) -> bool:
    """Whether everything in a folder is as it was noted."""
    seal = folder / _SEAL
    return seal.exists() and seal.read_bytes() == _digest(folder).encode()


def _digest(folder: Path) -> str:
    """sha256 over the names and bytes of all files but the seal."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _SEAL):
        total.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return total.hexdigest()
