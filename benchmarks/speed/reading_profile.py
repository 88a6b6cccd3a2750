"""Where the time of reading goes: the last chunk of a document, by kinds of kernels, beside the plain clock."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType

from benchmarks.speed import profile
from benchmarks.speed.clock import median_seconds
from benchmarks.speed.docpod import Task, ids_of
from benchmarks.speed.places import Folder
from benchmarks.speed.profile import FAILURES, Kernel
from engine.runtime.prefill.builder import builder_for, chunk_tokens
from engine.runtime.runner import Runner

_KINDS = {
    "attention": r"fmha|flash|sdpa|cudnn_attention|cudnn_generated|attention",
    "unpacking weights": r"^_unpack|kDequantize|dequantize_4bit|dequantize_blockwise",
    "products": r"gemm|cutlass|nvjet|xmma|cublas|splitK|::mm$|::addmm$|::linear$|::bmm$",
    "unpacking the past": r"^_dequantize",
    "packing": r"^_quantize",
    "turning and merging": r"^_turn|^_merge",
    "norms, gates, rotary positions": r"^_norm|^_gate|^_rope|rms_norm",
    "copies": r"memcpy|memset|copy|CatArray|::cat$|::clone$",
}
"""Kinds of kernels by their names, on a GPU and on a processor; the first that fits counts."""
_LONG_GAP = 20.0
"""Microseconds without work from which on the device waits for the host, and not for the next launch."""


@dataclass(frozen=True)
class Span:
    """Something that the device did, from when to when in microseconds."""

    name: str
    start: float
    stop: float


def report(runner: Runner, task: Task, say: Callable[[str], None]) -> None:
    """Say where the time of the last chunk goes; a profiler that fails costs only this."""
    device, ids = runner.model.device, ids_of(runner.model, task.length)
    size = task.chunk or chunk_tokens(device)
    builder = builder_for(runner, task.length, task.layout)
    while (stop := builder.cut(size)) < task.length:
        builder.read(ids[builder.num_read : stop])
    start = builder.num_read
    where = f"profile of reading, kv {task.kv}, tokens {start:,} to {task.length:,}"

    def read() -> None:
        builder.context.suffix.crop(start)
        builder.read(ids[start:])

    def feed() -> None:
        builder.context.suffix.crop(start)
        builder.feed(ids[start:])

    alone, whole = (1e6 * median_seconds(device, work, 3) for work in (read, feed))
    builder.context.suffix.crop(start)
    block = builder.feed(ids[start:])
    with tempfile.TemporaryDirectory() as scratch:
        written = 1e6 * median_seconds(device, lambda: Folder(Path(scratch)).write(block), 3)
    speed = (task.length - start) / alone * 1e6
    say(
        f"{where}: {alone / 1e3:.1f} ms ({speed:,.0f} tok/s), {(whole - alone) / 1e3:.1f} ms more to the host; "
        f"{len(block.payload) / 1e6:.0f} MB are written in {written / 1e3:.1f} ms"
    )
    try:
        spans = seen(device, read)
    except FAILURES as error:
        say(f"{where}: no profile, {type(error).__name__}: {(str(error).splitlines() or ['no word'])[0]}")
        return
    for line in lines(spans, alone):
        say(f"{where}: {line}")


def seen(device: torch.device, work: Callable[[], None]) -> list[Span]:
    """What the device does: kernels and copies of a GPU, or operations of a processor, less those within them."""
    on_gpu = device.type == "cuda"
    kind = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[kind]) as profiler:
        work()
        if on_gpu:
            torch.cuda.synchronize()
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    events: list[Any] = [
        each
        for each in profiler.events() or ()
        if each.device_type == wanted and not getattr(each, "is_user_annotation", False)
    ]
    if on_gpu:
        return [Span(each.name, each.time_range.start, each.time_range.end) for each in events]
    return [Span(each.name, each.time_range.start, each.time_range.start + each.self_cpu_time_total) for each in events]


def lines(spans: Sequence[Span], wall: float) -> Iterator[str]:
    """The report on a chunk that takes `wall` microseconds by the clock."""
    busy, gaps = _covered(spans)
    long = [gap for gap in gaps if gap >= _LONG_GAP]
    yield (
        f"the device works for {busy / 1e3:.1f} ms ({busy / wall:.0%}) in {len(spans):,} launches; between them "
        f"{sum(gaps) / 1e3:.1f} ms, of which {sum(long) / 1e3:.1f} in {len(long)} gaps of {_LONG_GAP:.0f} us and more"
    )
    yield from _table("by kind", spans, _kind, wall)
    yield from _table("by name", spans, lambda name: name, wall)


def _table(title: str, spans: Sequence[Span], key: Callable[[str], str], wall: float) -> Iterator[str]:
    found: dict[str, list[float]] = {}
    for each in spans:
        found.setdefault(key(each.name), []).append(each.stop - each.start)
    kernels = [Kernel(name, len(times), sum(times)) for name, times in found.items()]
    yield f"{title}:"
    _, *rows = profile.lines(sorted(kernels, key=lambda each: -each.microseconds), wall)
    yield from rows


def _kind(name: str) -> str:
    return next((kind for kind, names in _KINDS.items() if re.search(names, name, re.IGNORECASE)), "the rest")


def _covered(spans: Sequence[Span]) -> tuple[float, list[float]]:
    """Microseconds in which something runs, and the gaps between."""
    joined: list[tuple[float, float]] = []
    for each in sorted(spans, key=lambda each: each.start):
        if joined and each.start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], each.stop)
        else:
            joined.append((each.start, each.stop))
    return sum(stop - start for start, stop in joined), [b[0] - a[1] for a, b in pairwise(joined)]
