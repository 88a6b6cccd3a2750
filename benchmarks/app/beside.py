"""The same network as transformers runs it by itself, over the same tokens."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.clock import forget_peak, peak_gb
from benchmarks.speed.plain import cache_argument
from engine.attention import sdpa
from engine.models.loader import Model

_CHUNK = 2048
_DECODED = 64


@dataclass(frozen=True)
class Transformers:
    """Tokens per second, and the most memory that both took."""

    attention: str
    read_tok_s: float
    decode_tok_s: float
    peak_gb: float


@torch.inference_mode()
def transformers(model: Model, ids: Sequence[int]) -> Transformers:
    """Read these tokens in chunks and say the next ones, each the likeliest, in the cache that the network makes.

    The first chunk is read twice, and the first time does not count.
    """
    network = model.network
    attention = _own_attention(network)
    try:
        tokens = torch.tensor([list(ids)], device=model.device)
        _read(network, tokens[:, :_CHUNK])
        forget_peak(model.device)
        start = time.perf_counter()
        cache, token = _read(network, tokens)
        read = time.perf_counter()
        for _ in range(_DECODED):
            cache, token = _read(network, token, cache)
        end = time.perf_counter()
        return Transformers(attention, len(ids) / (read - start), _DECODED / (end - read), peak_gb(model.device))
    finally:
        network.set_attn_implementation(sdpa.NAME)


def _own_attention(network: Any) -> str:
    """Transformers' attention by PyTorch, or its plain one where the family has no other."""
    try:
        network.set_attn_implementation("sdpa")
    except ValueError:
        network.set_attn_implementation("eager")
        return "eager"
    return "sdpa"


def _read(network: Any, tokens: Tensor, cache: Any = None) -> tuple[Any, Tensor]:
    """The cache with these tokens (1, T), and the likeliest token behind them (1, 1), once both are there."""
    name = cache_argument(network)
    for start in range(0, tokens.shape[1], _CHUNK):
        chunk = tokens[:, start : start + _CHUNK]
        found = network(input_ids=chunk, use_cache=True, logits_to_keep=1, **{name: cache})
        cache = found.past_key_values
    token = found.logits[:, -1:].argmax(-1)
    int(token)
    return cache, token
