"""Kernels that were compiled once, kept for the next start; found again by what they were made of."""

import os
import shutil
from pathlib import Path

MOST_BYTES = 512 << 20
"""Of all kernels; a model has some tens of megabytes of them."""
VARIABLES = {"cuda": "TRITON_CACHE_DIR", "cpu": "NUMBA_CACHE_DIR"}


def keep_compiled(folder: Path, device: str, version: str = "", most_bytes: int = MOST_BYTES) -> None:
    """Have the compiler of a kind of device keep its kernels in a folder, of which the oldest go where they are too
    many; those of each `version` apart, for a compiler that does not see all that a kernel was made of.

    Nothing where the environment names another folder.
    """
    variable, place = VARIABLES.get(device, ""), str(folder / version)
    if not variable or os.environ.setdefault(variable, place) != place:
        return
    folder.mkdir(parents=True, exist_ok=True)
    kept = sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime)
    sizes = [sum(path.stat().st_size for path in each.rglob("*") if path.is_file()) for each in kept]
    total = sum(sizes)
    for each, size in zip(kept, sizes, strict=True):
        if total <= most_bytes:
            return
        shutil.rmtree(each, ignore_errors=True)
        total -= size
