"""Readers: pods around pods, of which each token of an answer attends the slots that a published method chooses."""

import re
from collections.abc import Mapping, Sequence

from engine.core.errors import ReaderUnknown
from engine.kvcache.quantized import AnyPod
from engine.kvcache.readers.base import Reader
from engine.kvcache.readers.clusterkv import ClusterKV
from engine.kvcache.readers.hip import HiP
from engine.kvcache.readers.predictor import AttentionPredictor
from engine.kvcache.readers.promptdistill import PromptDistill
from engine.kvcache.readers.recycled import RecycledAttention
from engine.kvcache.readers.tidal import TidalDecode

READERS: Mapping[str, type[Reader]] = {
    "clusterkv": ClusterKV,
    "tidal": TidalDecode,
    "recycled": RecycledAttention,
    "hip": HiP,
    "predictor": AttentionPredictor,
    "promptdistill": PromptDistill,
}
PERCENT = 10
"""Of a layer's tokens, where nothing is said."""


def parse(text: str) -> tuple[type[Reader], float]:
    """The reader and its share of the tokens that `NAME` or `NAME:PERCENT` stands for. Raises ReaderUnknown."""
    found = re.fullmatch(r"(\w+)(?::(\d{1,3}))?", text)
    percent = int(found[2] or PERCENT) if found else 0
    if found is None or found[1] not in READERS or not 1 <= percent <= 100:
        raise ReaderUnknown(f"{text!r} is no reader; there are {', '.join(READERS)}, each with :1 to :100 percent")
    return READERS[found[1]], percent / 100


def over(pods: Sequence[AnyPod], text: str, layers: int) -> list[AnyPod]:
    """The pods as the reader of this name reads them, of a model of so many layers; as they are where it is empty.

    Raises ReaderUnknown, and PodMismatch for pods that it cannot choose from.
    """
    if not text:
        return list(pods)
    reader, share = parse(text)
    return [reader(pod, share, layers) for pod in pods]
