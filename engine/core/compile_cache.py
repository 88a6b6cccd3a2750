"""Kernels that were compiled once, kept for the next start; Triton finds them again by what they were made of."""

import os
import shutil
from pathlib import Path

MOST_BYTES = 512 << 20
"""Of all kernels; a model has some tens of megabytes of them."""
_VARIABLE = "TRITON_CACHE_DIR"


def keep_compiled(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Have Triton keep its kernels in a folder, of which the oldest go where they are too many.

    Nothing where the environment names another folder.
    """
    if os.environ.setdefault(_VARIABLE, str(folder)) != str(folder):
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
