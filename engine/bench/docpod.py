"""DocPod under the clock, through the calls that the app uses: PodBuilder, pack_pod, pods and generate."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.bench.clock import Clock, forget_peak, peak_gb
from engine.bench.places import Folder, to_device, to_host
from engine.bench.random_pods import random_pod
from engine.bench.report import FirstToken, Row
from engine.compress import pack_pod, score
from engine.decode import generate
from engine.errors import EngineError
from engine.layout import Layout
from engine.models import Model
from engine.packed_pod import PackedPod
from engine.pod import Pod
from engine.prefill import PodBuilder, chunk_tokens
from engine.runner import Runner
from engine.sampling import SamplingParams

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
            from_disk = _from_disk(task, Path(scratch))
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
    )


def read(runner: Runner, task: Task, folder: Folder, say: Callable[[str], None]) -> tuple[Pod | PackedPod, float]:
    """Read, write every chunk, compress, write what is kept; the pod, and tokens per second over all of it."""
    model, device = runner.model, runner.model.device
    ids, chunk = ids_of(model, task.length), chunk_tokens(runner.model.device)
    warm = PodBuilder(runner, min(chunk, task.length), task.layout)
    warm.read(ids[:chunk])
    del warm
    whole, part = Clock(device), Clock(device)
    writing = 0.0
    builder = PodBuilder(runner, task.length, task.layout)
    for start in range(0, task.length, chunk):
        block = builder.feed(ids[start : start + chunk])
        part.start()
        folder.write(block)
        writing += part.seconds()
    pod: Pod | PackedPod = builder.finish()
    reading = whole.seconds() - writing
    packing = 0.0
    if not task.layout.recipe.exact:
        part.start()
        steps = list(score(runner, ids, pod, task.layout)) if isinstance(pod, Pod) else []
        pod = pack_pod(builder.finish(), task.layout, steps[-1] if steps else None)
        del builder
        packing = part.seconds()
        part.start()
        folder.clear()
        folder.write_pod(pod)
        writing += part.seconds()
    total = whole.seconds()
    say(
        f"docpod, kv {task.kv}, {task.length:,} tokens read in {total:.2f} s: {reading:.2f} s in the model and to the "
        f"host ({task.length / reading:,.0f} tok/s), {packing:.2f} s to compress, {writing:.2f} s to write"
    )
    return pod, task.length / total


def answer(runner: Runner, pod: Pod | PackedPod, question: Sequence[int], tokens: int) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second after it."""
    clock = Clock(runner.model.device)
    steps = generate(runner, [pod], question, SamplingParams(tokens + 1))
    next(steps)
    first = clock.seconds()
    clock.start()
    count = sum(1 for _ in steps)
    return first, count / clock.seconds()


def _from_host(runner: Runner, host: Pod | PackedPod, question: Sequence[int]) -> float:
    clock = Clock(runner.model.device)
    pod = to_device(host, runner.model.device)
    steps = generate(runner, [pod], question, SamplingParams(2))
    next(steps)
    seconds = clock.seconds()
    list(steps)
    return seconds


def _from_disk(task: Task, folder: Path) -> float:
    """Milliseconds to the first token in a process of its own, in which the model is loaded and warm."""
    asked = [*task.loading, "--recipe", str(task.layout.recipe), "--length", str(task.length), "--folder", str(folder)]
    command = [sys.executable, "-m", "engine.bench.fresh", *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no word"]
        raise Failed(f"the fresh process ended with {last[0]}")
    return float(json.loads(done.stdout.splitlines()[-1]))
