"""DocPod under the clock, through the calls that the app uses: builders, pack_pod, pods and generate."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.speed.clock import Clock, forget_peak, peak_gb
from benchmarks.speed.places import Folder, to_device, to_host
from benchmarks.speed.random_pods import random_pod
from benchmarks.speed.report import FirstToken, Row
from benchmarks.speed.subject import read_bytes
from engine.compression.compress import pack_pod, score
from engine.core.errors import EngineError
from engine.core.sampling import SamplingParams
from engine.kvcache.exact import ExactPod, Pod, PodBlock
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod, QuantizedPod
from engine.models.loader import Model
from engine.runtime.generate import generate
from engine.runtime.prefill.builder import Builder, builder_for, chunk_tokens, reads_ahead, tapered
from engine.runtime.runner import Runner

QUESTION_TOKENS = 32


@dataclass(frozen=True)
class Task:
    """What a row is to hold."""

    kv: str
    layout: Layout
    length: int
    tokens: int
    """Decoded per run."""
    repeats: int
    prefill: bool
    """Read the document, instead of a random memory in its place."""
    stored: bool
    """Ask it from host memory and from files too."""
    loading: Sequence[str]
    """Arguments by which a fresh process builds the same model."""
    chunk: int = 0
    """Tokens to read at once; 0: as many as the app."""


class Failed(EngineError):
    """A part of the measurement did not come to an end."""


def ids_of(model: Model, count: int, seed: int = 0) -> list[int]:
    """Random token ids."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(2, model.network.config.vocab_size, (count,), generator=generator).tolist()
    return ids


def measure(runner: Runner, task: Task, say: Callable[[str], None]) -> Row:
    """One row. The peak is that of reading and asking where it reads, else that of asking."""
    model, device = runner.model, runner.model.device
    question = ids_of(model, QUESTION_TOKENS, 1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Folder(Path(scratch))
        forget_peak(device)
        speed = None
        if task.prefill:
            pod, speed = read(runner, task, folder, say)
        else:
            pod = random_pod(model, task.layout, task.length)
            forget_peak(device)
        firsts, decoded = [], []
        for _ in range(task.repeats + 1):
            first, rate = answer(runner, pod, question, task.tokens)
            firsts.append(first)
            decoded.append(rate)
        peak, num_bytes = peak_gb(device), pod.nbytes
        # The first run compiles and captures what later ones use.
        here = 1e3 * statistics.median(firsts[1:])
        from_disk = from_host = None
        if task.stored:
            if not (task.prefill and task.layout.recipe.precision.while_reading):
                folder.clear()
                folder.write_pod(pod)
            if device.type == "cuda":
                host = to_host(pod)
                del pod
                from_host = 1e3 * statistics.median(_from_host(runner, host, question) for _ in range(task.repeats))
                del host
            else:
                del pod
            forget_peak(device)
            from_disk = _from_disk(task, Path(scratch), say)
    on_gpu = device.type == "cuda"
    return Row(
        system="docpod",
        kv=task.kv,
        length=task.length,
        prefill_tok_s=speed,
        decode_tok_s=statistics.median(decoded[1:]),
        first_token_ms=FirstToken(here if on_gpu else None, from_host if on_gpu else here, from_disk),
        peak_gb=peak,
        kv_bytes=num_bytes,
        weight_bytes=read_bytes(runner),
    )


def read(
    runner: Runner, task: Task, folder: Folder, say: Callable[[str], None]
) -> tuple[ExactPod | QuantizedPod, float]:
    """Read, write every chunk, compress, write what is kept; the pod, and tokens a second.

    On a GPU a chunk is written while the next one is read.
    Where chunks are packed as they are read, they are what is kept.
    """
    model, device = runner.model, runner.model.device
    ids, chunk = ids_of(model, task.length), task.chunk or chunk_tokens(device)
    whole, part = Clock(device), Clock(device)
    if device.type == "cuda":
        # Once before: kernels are compiled and attention makes its plans the first time that a length comes.
        for _ in _blocks(runner, task, ids, chunk):
            pass
        once = whole.seconds()
        say(f"docpod, kv {task.kv}, {task.length:,} tokens read for the first time in {once:.2f} s, unwritten")
    else:
        next(_blocks(runner, task, ids, chunk))
    whole.start()
    builder = builder_for(runner, task.length, task.layout)
    with ThreadPoolExecutor(1) as writer:
        written: Future[int] | None = None
        while builder.num_read < task.length:
            arrived = _next(runner, builder, ids, chunk)
            if written is not None:
                written.result()
            written = writer.submit(lambda arrived=arrived: folder.write(arrived()))  # type: ignore[misc]
            if not reads_ahead(device):
                written.result()
        reading = whole.seconds()
    if written is not None:
        written.result()
    waiting, packing = whole.seconds() - reading, 0.0
    pod = builder.finish()
    if isinstance(pod, Pod) and not task.layout.recipe.exact:
        part.start()
        steps = list(score(runner, ids, pod, task.layout))
        pod = pack_pod(pod, task.layout, steps[-1] if steps else None)
        packing = part.seconds()
        part.start()
        folder.clear()
        folder.write_pod(pod)
        waiting += part.seconds()
    del builder
    total = whole.seconds()
    say(
        f"docpod, kv {task.kv}, {task.length:,} tokens read in {total:.2f} s: {reading:.2f} s in the model and to the "
        f"host ({task.length / reading:,.0f} tok/s), {packing:.2f} s to compress, {waiting:.2f} s more to write"
    )
    return pod, task.length / total


def _blocks(runner: Runner, task: Task, ids: Sequence[int], chunk: int) -> Iterator[PodBlock]:
    builder = builder_for(runner, task.length, task.layout)
    while builder.num_read < task.length:
        yield _next(runner, builder, ids, chunk)()


def _next(runner: Runner, builder: Builder, ids: Sequence[int], chunk: int) -> Callable[[], PodBlock]:
    """Begin to read the next chunk."""
    size = tapered(chunk, len(ids) - builder.num_read) if reads_ahead(runner.model.device) else chunk
    return builder.begin(ids[builder.num_read : builder.cut(size)])


def answer(runner: Runner, pod: AnyPod, question: Sequence[int], tokens: int) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second after it. Raises Failed for what is no probability."""
    clock = Clock(runner.model.device)
    steps = generate(runner, [pod], question, SamplingParams(tokens + 1))
    logprobs = [next(steps).logprob]
    first = clock.seconds()
    clock.start()
    logprobs += [step.logprob for step in steps]
    seconds = clock.seconds()
    if not all(logprob <= 0 for logprob in logprobs):
        raise Failed(f"an answer over {pod.num_tokens:,} tokens has probabilities that are no numbers")
    return first, (len(logprobs) - 1) / seconds


def _from_host(runner: Runner, host: ExactPod | QuantizedPod, question: Sequence[int]) -> float:
    clock = Clock(runner.model.device)
    pod = to_device(host, runner.model.device)
    steps = generate(runner, [pod], question, SamplingParams(2))
    next(steps)
    seconds = clock.seconds()
    list(steps)
    return seconds


def _from_disk(task: Task, folder: Path, say: Callable[[str], None]) -> float:
    """Milliseconds to the first token in a process of its own, in which the model is loaded and warm."""
    asked = [*task.loading, "--recipe", str(task.layout.recipe), "--length", str(task.length), "--folder", str(folder)]
    command = [sys.executable, "-m", "benchmarks.speed.fresh", *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no word"]
        raise Failed(f"the fresh process ended with {last[0]}")
    *_, where, milliseconds = done.stdout.splitlines()
    say(f"docpod, kv {task.kv}, {task.length:,} tokens from files in a new process: {where}")
    return float(json.loads(milliseconds))
