"""The baselines: the same network as transformers runs it, call by call, and captured in a CUDA graph."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from benchmarks.speed.random_pods import fill
from engine.attention import sdpa
from engine.models.loader import Model

IMPLEMENTATION = "sdpa"


class Plain:
    """One memory of one document under transformers' own attention; use it within `with plain(...)`."""

    def __init__(self, model: Model, cache: Any) -> None:
        self._model = model
        self._cache = cache
        self._name = cache_argument(model.network)

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], last: int = 1) -> Tensor:
        """Feed tokens behind the memory; logits (last, V) of the last ones."""
        return self.forward(torch.tensor([ids], device=self._model.device), last)[0]

    def forward(self, ids: Tensor, last: int = 1) -> Tensor:
        """The network's call, ids (1, Q) to logits (1, last, V)."""
        options = {self._name: self._cache, "use_cache": True, "logits_to_keep": last}
        logits: Tensor = self._model.network(input_ids=ids, **options).logits
        return logits

    @torch.inference_mode()
    def tokens(self, ids: Sequence[int]) -> Iterator[int]:
        """The likeliest token after these, and after itself, without end."""
        token = int(self.logits(ids).argmax())
        while True:
            yield token
            token = int(self.logits([token]).argmax())


class Graph:
    """The forward of one token over a static cache, with the choice of the next token, in one CUDA graph."""

    @torch.inference_mode()
    def __init__(self, model: Model, plain: Plain, token: int) -> None:
        self._token = torch.tensor([[token]], device=model.device)
        self._plain = plain
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._step()

    def tokens(self) -> Iterator[int]:
        """Token after token, each read on the host as a streaming answer needs it."""
        while True:
            self._graph.replay()
            yield int(self._token)

    def _step(self) -> None:
        self._token.copy_(self._plain.forward(self._token)[:, -1].argmax(-1, keepdim=True))


@contextmanager
def plain(model: Model) -> Iterator[Any]:
    """The model's network under transformers' own attention, as long as the block lasts."""
    model.network.set_attn_implementation(IMPLEMENTATION)
    try:
        yield model.network
    finally:
        model.network.set_attn_implementation(sdpa.NAME)


def cache_argument(network: Any) -> str:
    """The name by which the network's call takes its cache, which has changed."""
    return "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"


def dynamic(model: Model, num_tokens: int) -> Plain:
    """A cache that grows, filled with random numbers."""
    cache = DynamicCache()
    if num_tokens:
        fill(cache, model, num_tokens)
    return Plain(model, cache)


def static(model: Model, num_tokens: int, room: int) -> Plain:
    """A cache of fixed size, filled with random numbers up to its last `room` tokens."""
    cache = StaticCache(config=model.network.config, max_cache_len=num_tokens + room)
    fill(cache, model, num_tokens)
    return Plain(model, cache)
