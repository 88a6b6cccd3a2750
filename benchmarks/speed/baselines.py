"""transformers under the clock, eager and in a CUDA graph, over a memory of random numbers in the model's dtype."""

import statistics
from collections.abc import Iterator
from itertools import islice

import torch

from benchmarks.speed.clock import Clock, forget_peak, peak_gb
from benchmarks.speed.docpod import QUESTION_TOKENS, Task, ids_of
from benchmarks.speed.plain import Graph, dynamic, plain, static
from benchmarks.speed.report import FirstToken, Row
from benchmarks.speed.subject import weight_bytes
from engine.models.loader import Model

_SPARE_TOKENS = 64


def eager(model: Model, task: Task) -> Row:
    """One row of transformers call by call, over the cache that it takes by itself: one that grows."""
    device, question = model.device, ids_of(model, QUESTION_TOKENS, 1)
    with plain(model), torch.inference_mode():
        speed = None
        if task.prefill:
            ids = ids_of(model, task.length)
            dynamic(model, 0).logits(ids[:QUESTION_TOKENS])
            clock, memory = Clock(device), dynamic(model, 0)
            memory.logits(ids)
            speed = task.length / clock.seconds()
            del memory
        forget_peak(device)
        memory = dynamic(model, task.length)
        firsts, rates = [], []
        for _ in range(task.repeats + 1):
            clock = Clock(device)
            tokens = memory.tokens(question)
            next(tokens)
            firsts.append(clock.seconds())
            rates.append(_rate(tokens, task.tokens, device))
        peak = peak_gb(device)
    return _row("transformers", model, task, speed, firsts, rates, peak)


def graph(model: Model, task: Task) -> Row:
    """One row of transformers' forward over a cache of fixed size, captured in a CUDA graph."""
    device, question = model.device, ids_of(model, QUESTION_TOKENS, 1)
    room = (task.repeats + 1) * (task.tokens + QUESTION_TOKENS) + _SPARE_TOKENS
    forget_peak(device)
    with plain(model), torch.inference_mode():
        memory = static(model, task.length, room)
        firsts = []
        for _ in range(task.repeats + 1):
            clock = Clock(device)
            token = int(memory.logits(question).argmax())
            firsts.append(clock.seconds())
        captured = Graph(model, memory, token).tokens()
        rates = [_rate(captured, task.tokens, device) for _ in range(task.repeats + 1)]
        peak = peak_gb(device)
    return _row("transformers-graph", model, task, None, firsts, rates, peak)


def _rate(tokens: Iterator[int], count: int, device: torch.device) -> float:
    clock = Clock(device)
    for _ in islice(tokens, count):
        pass
    return count / clock.seconds()


def _row(
    system: str,
    model: Model,
    task: Task,
    speed: float | None,
    firsts: list[float],
    rates: list[float],
    peak: float,
) -> Row:
    here = 1e3 * statistics.median(firsts[1:])
    on_gpu = model.device.type == "cuda"
    return Row(
        system=system,
        kv=task.kv,
        length=task.length,
        prefill_tok_s=speed,
        decode_tok_s=statistics.median(rates[1:]),
        # It has no way to keep what it read: from anywhere else it must read again.
        first_token_ms=FirstToken(here if on_gpu else None, None if on_gpu else here, None),
        peak_gb=peak,
        kv_bytes=task.length * model.shape.token_bytes,
        weight_bytes=weight_bytes(model.network),
    )
