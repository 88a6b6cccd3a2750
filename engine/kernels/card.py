"""The card that kernels are compiled for: whether Triton's kernels may run on it, and what their tiles must fit.

Knows nothing of Triton, so that a machine without it can ask.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

OLDEST = (8, 0)
"""Compute capability from which kernels were seen to be right: Ampere."""


@dataclass(frozen=True)
class Card:
    """What kernels are cut for: `shared_bytes` is the shared memory that one block may have."""

    capability: tuple[int, int]
    shared_bytes: int

    @property
    def ptx(self) -> bool:
        """Whether kernels may use PTX of NVIDIA GPUs; elsewhere they go without."""
        return self.capability >= OLDEST

    @property
    def pdl(self) -> bool:
        """Whether a launch may begin while the one before it ends: programmatic dependent launch, from Hopper on."""
        return self.capability >= (9, 0)


INTERPRETED = Card((0, 0), 101_376)
"""Where there is no GPU, and Triton interprets kernels: in tiles of the smallest card."""


@cache
def card_of(device: torch.device) -> Card:
    """The card that a device is."""
    if device.type != "cuda" or torch.version.hip is not None:
        return INTERPRETED
    properties: Any = torch.cuda.get_device_properties(device)
    return Card((properties.major, properties.minor), properties.shared_memory_per_block_optin)


def why_not_triton(device: torch.device) -> str:
    """Why Triton's kernels are not used on a device; empty where they are."""
    if device.type != "cuda":
        return f"Triton's kernels need an NVIDIA GPU, and this runs on {device.type}"
    if torch.version.hip is not None:
        return "Triton's kernels were never checked on AMD GPUs (ROCm)"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if (capability := torch.cuda.get_device_capability(device)) < OLDEST:
        has, needs = (f"{major}.{minor}" for major, minor in (capability, OLDEST))
        return f"Triton's kernels need compute capability {needs}, and this GPU has {has}"
    return ""
