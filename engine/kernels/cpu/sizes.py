"""How much is done at once; and what kernels are made of. Needs no Numba."""

import hashlib
from pathlib import Path

ROWS = 64
"""Of a matrix, multiplied side by side: each is a lane of the vectors, so that no sum runs across them."""
BLOCK = 32
"""Numbers of a row that share a scale and an offset."""
SLOTS = 256
"""Of keys and values, attended to by one task at most."""


def kernels_version() -> str:
    """A digest of all sources: Numba keeps what it compiled by the one file that a function stands in."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
