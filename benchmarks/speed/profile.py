"""Where a decode step's time goes: the kernels of steps under torch.profiler, beside the clock without it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._C._autograd import DeviceType

from benchmarks.speed.docpod import QUESTION_TOKENS, Task, answer, ids_of
from benchmarks.speed.random_pods import random_pod
from engine.core.errors import EngineError
from engine.core.sampling import SamplingParams
from engine.kvcache.quantized import AnyPod
from engine.runtime.generate import generate
from engine.runtime.runner import Runner

FAILURES = (RuntimeError, EngineError, AssertionError, AttributeError, LookupError, TypeError, ValueError, OSError)
"""Of a profiler that is not built in, is in use, may not count, or is another version's."""
_SHOWN = 14
_NAME = 80
"""Letters of a kernel's name: templates have hundreds."""


@dataclass(frozen=True)
class Kernel:
    """Something that the device did, per token."""

    name: str
    times: float
    microseconds: float
    """Of all the times."""


def report(runner: Runner, task: Task, say: Callable[[str], None]) -> None:
    """Say where the time of a token goes over a memory of random numbers; a profiler that fails costs only this."""
    where = f"profile, kv {task.kv}, {task.length:,} tokens"
    try:
        pod = random_pod(runner.model, task.layout, task.length)
        question = ids_of(runner.model, QUESTION_TOKENS, 1)
        # The first answer compiles and captures; the second is the clock's.
        rate = [answer(runner, pod, question, task.tokens)[1] for _ in range(2)][1]
        kernels = seen(runner, pod, question, task.tokens)
    except FAILURES as error:
        say(f"{where}: none, {type(error).__name__}: {(str(error).splitlines() or ['no word'])[0]}")
        return
    for reason in runner.fallbacks.reasons:
        say(f"{where}: {reason}")
    for line in lines(kernels, 1e6 / rate):
        say(f"{where}: {line}")


def seen(runner: Runner, pod: AnyPod, question: Sequence[int], tokens: int) -> list[Kernel]:
    """What the device does for a token, the longest first: kernels and copies of a GPU, operations of a processor."""
    on_gpu = runner.model.device.type == "cuda"
    kind = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
    steps = generate(runner, [pod], question, SamplingParams(tokens + 2))
    next(steps)
    with torch.profiler.profile(activities=[kind]) as profiler:
        for _ in range(tokens):
            next(steps)
    list(steps)
    found: list[Any] = list(profiler.key_averages())
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    kernels = [
        Kernel(each.key, each.count / tokens, getattr(each, spent) / tokens)
        for each in found
        if each.device_type == wanted and not getattr(each, "is_user_annotation", False)
    ]
    return sorted(kernels, key=lambda each: -each.microseconds)


def lines(kernels: Sequence[Kernel], wall: float) -> list[str]:
    """The report on a token that takes `wall` microseconds by the clock."""
    total = sum(each.microseconds for each in kernels)
    times = sum(each.times for each in kernels)
    shown = [f"{wall:,.0f} us a token by the clock, {total:,.0f} us ({total / wall:.0%}) in {times:,.0f} launches"]
    for each in kernels[:_SHOWN]:
        mean = each.microseconds / max(each.times, 1e-9)
        share = each.microseconds / max(total, 1e-9)
        shown.append(
            f"{each.microseconds:8.1f} us {share:4.0%}  {each.times:6.1f} x {mean:7.2f} us  {each.name[:_NAME]}"
        )
    rest = kernels[_SHOWN:]
    if rest:
        spent, times = sum(each.microseconds for each in rest), sum(each.times for each in rest)
        shown.append(f"{spent:8.1f} us {spent / max(total, 1e-9):4.0%}  {times:6.1f} x          {len(rest)} others")
    return shown
