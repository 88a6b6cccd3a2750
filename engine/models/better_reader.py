"""Which better reader a machine could run, by the memory that is free."""

import torch

from engine.core import oom

_READERS = (
    ("Qwen/Qwen3-4B-Instruct-2507", 12),
    ("Qwen/Qwen3-1.7B", 6),
    ("Qwen/Qwen3-0.6B", 3),
)
"""By how well they read, and from how many GB of free memory on: their weights in 16 bits, and room for a document."""


def better_reader() -> str:
    """A sentence for the user; empty where the memory is too small for any."""
    free = oom.free_bytes(torch.device("cpu")) / 1e9
    name = next((name for name, needed in _READERS if free >= needed), "")
    return f"This machine has {free:.0f} GB of memory free and could run --model {name}" if name else ""
