"""FAMILIES: which families there are. To add one, write its facts in a file and name it here.

The tests of equality with plain transformers take every family from here.
"""

from collections.abc import Mapping
from typing import Any

from engine.models.families.base import Family
from engine.models.families.llama import LLAMA, MISTRAL, QWEN2, QWEN3
from engine.models.families.phi3 import PHI3

FAMILIES: Mapping[str, Family] = {"llama": LLAMA, "mistral": MISTRAL, "phi3": PHI3, "qwen2": QWEN2, "qwen3": QWEN3}
"""By the model type of transformers' configs; all with rotary keys."""


def family_of(network: Any) -> Family | None:
    """The family that a network is exactly of; None where it is of none."""
    return next((each for each in FAMILIES.values() if type(network) is each.network), None)
