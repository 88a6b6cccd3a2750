"""GraphRunner: an answer as steps that run on the device alone, each in a CUDA graph where there are such.

Every tensor that a step reads or writes stands at an address of its own for ever, so a step is captured once per bucket
and replayed for every token of every document. What a step chose is the next one's input without a word from the host,
which reads it one step later.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.attention.sdpa import KVContext
from engine.core.errors import WindowExceeded
from engine.core.sampling import SamplingParams, draw, likeliest, store_token, uniforms
from engine.core.weak_cache import WeakCache
from engine.kvcache.quantized import AnyPod, QuantizedPod
from engine.runtime.attention_probe import AttentionProbe
from engine.runtime.context import EarlyExit, Head
from engine.runtime.cuda_graphs import WARM_UPS, CudaGraphs
from engine.runtime.fallbacks import Fallbacks

BUCKETS = (1, 8, 32, 64)
"""Tokens of one step; the last run of a question is padded up to one of them."""
_PATIENCE_SECONDS = 0.5
"""How long a question waits for one that ends, or is tried out in the background: the plain way takes longer."""
_SLOTS = 2
"""Steps whose choice the host may not have read yet."""

Forward = Callable[[Tensor, Tensor, KVContext, int | Tensor], Tensor]
"""(ids (Q,), positions (Q,), memory, last) -> logits (last, V) of the last tokens, or of those at places `last` (R,),
without a word to the host."""


class Table(KVContext, Protocol):
    """Pods and a tail at fixed addresses. What `attend` and `positions` do can be captured in a CUDA graph."""

    length: int
    """Tokens in the tail, as the host knows it: whoever advances adds to it."""

    probe: AttentionProbe
    """What observes where heads look, in the steps that `attend` is called in."""

    @property
    def bucket(self) -> Hashable:
        """What a captured step depends on besides the contents of the tables: another bucket, another capture."""

    def why_not(self, pods: Sequence[AnyPod]) -> str:
        """Why these pods cannot be put into the tables; empty where they can."""

    def refuse(self, pods: Sequence[AnyPod], reason: str) -> None:
        """Have a reason not to take pods of the formats that these are in."""

    def set(self, pods: Sequence[AnyPod]) -> None:
        """Attend to these pods from now on, with an empty tail."""

    def forget(self) -> None:
        """Let go of the pods: nothing is attended before the next `set`."""

    def positions(self, count: int) -> Tensor:
        """Positions (count,) of the tokens behind everything there, until `advance`."""

    def advance(self, count: int) -> None:
        """Count tokens as held in the tail, on the device."""


def through(network: Any) -> Forward:
    """The forward of a transformers model whose attention is ours; what else it takes is handed on."""

    def forward(ids: Tensor, positions: Tensor, kv_context: KVContext, last: int | Tensor, **more: Any) -> Tensor:
        inputs = {"input_ids": ids[None], "position_ids": positions[None], "use_cache": False, **more}
        logits: Tensor = network(**inputs, logits_to_keep=last, kv_context=kv_context).logits
        return logits[0]

    return forward


class GraphRunner:
    """Serves one answer at a time, over whatever pods it brings; `claim` says whether it is free.

    `suffix_tokens`: room in the table's tail. `window`: positions that the model knows. `lock`: the runner's, held
    while a step is launched. `ahead`: whether a step is launched before the host has read what the one before it chose;
    by default where launching does not mean waiting. `failures`: what a compiler of kernels raises.
    """

    def __init__(
        self,
        forward: Forward,
        table: Table,
        suffix_tokens: int,
        window: int,
        device: torch.device,
        lock: threading.Lock,
        ahead: bool | None = None,
        fallbacks: Fallbacks | None = None,
        failures: tuple[type[Exception], ...] = (),
    ) -> None:
        on_gpu = device.type == "cuda"
        self.failures = failures
        """What is raised where kernels cannot be compiled for some pods, which must go the plain way then."""
        self.graphs = CudaGraphs(device, fallbacks, failures)
        self._forward, self._table, self._lock = forward, table, lock
        self._tail_tokens, self._window = suffix_tokens, window
        self._ahead = on_gpu if ahead is None else ahead
        self._busy = threading.Lock()
        self._predicted: WeakCache[QuantizedPod, QuantizedPod] = WeakCache(QuantizedPod.with_all_keys)
        self._params: SamplingParams | None = None
        """Of the answer at hand; None where a question is only looked at."""
        self._start = 0
        """Position of the tail's first token."""
        self._ids = torch.zeros(BUCKETS[-1], dtype=torch.long, device=device)
        """A step's tokens; the one that it chose takes the first place."""
        self._last = torch.zeros(1, dtype=torch.long, device=device)
        """Where the last real token of a padded step stands."""
        self._drawn = torch.zeros(1, dtype=torch.long, device=device)
        """Tokens of the answer drawn so far."""
        self._uniforms = torch.zeros(suffix_tokens + WARM_UPS, dtype=torch.float32, device=device)
        self._temperature, self._top_p = (torch.ones((), dtype=torch.float32, device=device) for _ in range(2))
        self._chosen = torch.zeros(2, dtype=torch.float64, device=device)
        """The token chosen, which float64 holds exactly, and its log-probability: one copy brings both to the host."""
        self._slots = torch.zeros(_SLOTS, 2, dtype=torch.float64, pin_memory=on_gpu)
        event: Any = torch.cuda.Event
        self._events = [event() for _ in range(_SLOTS)] if on_gpu else []

    def claim(self, pods: Sequence[AnyPod], question_tokens: int, max_tokens: int) -> str:
        """Take it for a question and its answer, in a moment if it is not free; or why that cannot be.

        Who took it must `release` it.
        """
        needed = question_tokens + max(max_tokens, BUCKETS[-1])  # the question's last run may be padded
        if not question_tokens or needed > self._tail_tokens:
            return f"a question and its answer are longer than the {self._tail_tokens} tokens that fit"
        if not self._busy.acquire(timeout=_PATIENCE_SECONDS):
            return "another question is being answered"
        reason = "its pods could not be looked into"
        try:
            reason = self._table.why_not(pods)
        finally:
            if reason:
                self._busy.release()
        return reason

    def release(self) -> None:
        """Leave it to the next answer, and its pods to whoever needs their memory."""
        self._table.forget()
        self._busy.release()

    def readable(self, pods: Sequence[AnyPod]) -> list[AnyPod]:
        """The pods with every key that kernels would have to predict, which is worked out once a pod."""
        return [self._predicted(pod) if isinstance(pod, QuantizedPod) and pod.layout.maps else pod for pod in pods]

    def refuse(self, pods: Sequence[AnyPod], error: Exception) -> str:
        """Leave pods of these formats to the plain way from now on, where a kernel for them failed; says so."""
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        self._table.refuse(pods, reason)
        return reason

    def ask(
        self, pods: Sequence[AnyPod], ids: Sequence[int], heads: Sequence[Head], params: SamplingParams | None
    ) -> None:
        """Feed a question, and observe where these heads look meanwhile. Raises WindowExceeded.

        With `params` its last step chooses the answer's first token; without, steps end behind the last of the heads.
        """
        self._begin(pods, ids, heads, params)
        for start in range(0, len(ids), BUCKETS[-1]):
            self._feed(ids[start : start + BUCKETS[-1]])
        # What follows is the answer.
        self._table.probe.watch(pods, (), False)
        if params is not None:
            self._send(0)

    def attention(self) -> list[Tensor]:
        """Per pod the attention probability (T,) of each token, on the host: the mean over the heads that were
        observed, of which the largest over the question's tokens counts."""
        return self._table.probe.read()

    def tokens(self, stopped: Callable[[], bool]) -> Iterator[tuple[int, float]]:
        """The answer's tokens with their log-probabilities until `max_tokens` or `stopped()`. Raises WindowExceeded.

        A step more than was asked for may have been launched when it ends: the next answer's tail begins empty.
        """
        assert self._params is not None
        most, launched = self._params.max_tokens, 1
        for number in range(most):
            if stopped():
                return
            if launched == number:
                self._need(1)
                self._launch(launched)
                launched += 1
            if self._ahead and launched < most and self._room(1):
                self._launch(launched)
                launched += 1
            yield self._read(number)

    def _launch(self, number: int) -> None:
        """Launch the step that chooses the answer's token of this number, and its way to the host."""
        with self._lock, torch.inference_mode():
            self._run(1, 1)
        self._send(number)

    def _send(self, number: int) -> None:
        """Let the token that the last step chose go to the host."""
        slot = number % _SLOTS
        self._slots[slot].copy_(self._chosen, non_blocking=True)
        if self._events:
            self._events[slot].record()

    def _read(self, number: int) -> tuple[int, float]:
        """Wait for the answer's token of this number: the only time that the host waits."""
        slot = number % _SLOTS
        if self._events:
            self._events[slot].synchronize()
        token, logprob = self._slots[slot].tolist()
        return int(token), logprob

    def _begin(
        self, pods: Sequence[AnyPod], ids: Sequence[int], heads: Sequence[Head], params: SamplingParams | None
    ) -> None:
        """Put pods, and what an answer's choices depend on, where the steps look for them."""
        with self._lock, torch.inference_mode():
            self._params = params
            self._table.set(pods)
            self._table.probe.watch(pods, heads, params is None)
            self._start = max((pod.num_tokens for pod in pods), default=0)
            self._need(len(ids))
            if params is not None:
                self._temperature.fill_(params.temperature)
                self._top_p.fill_(params.top_p)
            if params is not None and params.temperature > 0:
                self._uniforms[: params.max_tokens].copy_(uniforms(params))

    def _feed(self, ids: Sequence[int]) -> None:
        """One run of a question. Tokens of an older step stand behind it where it is shorter than its bucket.

        No real token sees those; what they leave in the tail is not counted, and is written over.
        """
        count = len(ids)
        bucket = next(each for each in BUCKETS if each >= count)
        with self._lock, torch.inference_mode():
            # So few bytes leave pageable memory at once: the host need not wait for what was launched before.
            self._ids[:count].copy_(torch.tensor(ids), non_blocking=True)
            self._last.fill_(count - 1)
            # Each run chooses a token, which only the last one's matters of: the first of the answer.
            self._drawn.zero_()
            self._run(bucket, count)

    def _need(self, count: int) -> None:
        """Raise WindowExceeded where so many more tokens have no position."""
        stop = self._start + self._table.length + count
        if stop > self._window:
            raise WindowExceeded(f"{stop} positions are needed, {self._window} are there")

    def _room(self, count: int) -> bool:
        return self._start + self._table.length + count <= self._window

    def _run(self, bucket: int, count: int) -> None:
        """One step, in its graph where there is one, of which so many tokens are real."""
        sampled = self._params is not None and self._params.temperature > 0
        # Trying a step out before it is captured chooses tokens, which may be observed then.
        touched = (self._ids, self._drawn, self._table.probe.kept)
        self.graphs.run((bucket, sampled, self._table.bucket), lambda: self._step(bucket, sampled), touched)
        self._table.advance(count)
        self._table.length += count

    def _step(self, bucket: int, sampled: bool) -> None:
        """Feed the first tokens of `_ids`, choose the next one and put it there; everything stays on the device.

        A step that ends early chooses none.
        """
        ids, positions, last = self._ids[:bucket], self._table.positions(bucket), 1 if bucket == 1 else self._last
        if bucket > 1:
            # Padding may stand where the model knows no position.
            positions = positions.clamp(max=self._window - 1)
        self._table.probe.start()
        with suppress(EarlyExit):
            (row,) = self._forward(ids, positions, self._table, last)
            if sampled:
                uniform = self._uniforms.index_select(0, self._drawn)[0]
                choice = draw(row, self._temperature, self._top_p, uniform)
                self._drawn.add_(1)
            else:
                choice = likeliest(row)
            store_token(choice, self._ids, self._chosen)
        self._table.probe.finish(bucket, last)
