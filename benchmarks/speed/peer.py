"""Beside llama.cpp on a processor: the same weights from one GGUF file, the same ids, equal threads, in turns.

llama.cpp comes from the prebuilt wheel `xllamacpp`. Nothing is timed while its log-probabilities differ from DocPod's.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.fidelity.work import hardware
from benchmarks.speed import gguf_file
from benchmarks.speed.clock import Clock
from benchmarks.speed.docpod import QUESTION_TOKENS, answer, ids_of
from benchmarks.speed.equivalence import NotEquivalent
from engine.core.errors import EngineError
from engine.kvcache.exact import GroupedPod, Pod
from engine.kvcache.suffix import SuffixCache
from engine.models import embedded
from engine.models.loader import Model
from engine.runtime.backend import runner_for
from engine.runtime.prefill.builder import PodBuilder, chunk_tokens
from engine.runtime.runner import Runner

_CHECKED_TOKENS = 256
_LIKELIEST = 20
_FORMATS = {embedded.NAME: "Q4_1", "embedded-135m": "Q4_1"}
"""Of linear layers: what the embedded model came in; else what llama.cpp is quickest at."""
_ALLOWED = 0.5
"""Root mean square of the differences of log-probabilities: llama.cpp rounds every input of a product to 8 bits, which
random weights make much of. Rows of a projection in the wrong order come to 3.5."""


class PeerMissing(EngineError):
    """The wheel is not installed."""


class PeerFailed(EngineError):
    """llama.cpp cannot be given this network, or gave no answer."""


@dataclass(frozen=True)
class PeerRow:
    """Tokens a second at one length, medians, and how many times as fast DocPod is."""

    length: int
    prefill_tok_s: float
    peer_prefill_tok_s: float
    prefill_ratio: float
    decode_tok_s: float
    peer_decode_tok_s: float
    decode_ratio: float


class LlamaCpp:
    """llama.cpp with one slot, asked by ids."""

    def __init__(self, path: Path, threads: int, window: int) -> None:
        """Raises PeerMissing where the wheel is not installed."""
        try:
            import xllamacpp
        except ImportError as error:
            raise PeerMissing("--peer needs llama.cpp: pip install -r requirements-dev.txt") from error
        options = xllamacpp.CommonParams()
        options.model.path = str(path)
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
        options.verbosity = -1
        options.n_ctx, options.n_parallel, options.cache_ram_mib = window, 1, 0
        self._server = xllamacpp.Server(options)

    def ask(self, ids: Sequence[int], tokens: int, reuse: bool, likeliest: int = 0) -> dict[str, Any]:
        """What its server says of a greedy answer; `reuse` keeps what was read. Raises PeerFailed."""
        asked = {"prompt": list(ids), "n_predict": tokens, "temperature": 0, "ignore_eos": True}
        said: dict[str, Any] = self._server.handle_completions(asked | {"cache_prompt": reuse, "n_probs": likeliest})
        if "timings" not in said:
            raise PeerFailed(f"llama.cpp answered {said}")
        return said


def report(
    model: Model, lengths: Sequence[int], tokens: int, repeats: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """All rows as the JSON line has them, after a line for each. Raises PeerMissing, PeerFailed, NotEquivalent."""
    threads = torch.get_num_threads()
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "peer.gguf"
        try:
            gguf_file.write(model.network, path, _FORMATS.get(model.name, "Q4_0"))
        except ValueError as error:
            raise PeerFailed(str(error)) from error
        runner = runner_for(model)
        peer = LlamaCpp(path, threads, max(*lengths, _CHECKED_TOKENS) + QUESTION_TOKENS + tokens + 8)
        say(f"{model.name}, {threads} threads, {runner.backend}; {check(runner, peer)}")
        rows = []
        for length in sorted(lengths):
            row = measure(runner, peer, length, tokens, repeats)
            say(
                f"{length:,} tokens: reading {row.prefill_tok_s:,.0f} against {row.peer_prefill_tok_s:,.0f} tok/s, "
                f"{row.prefill_ratio:.2f}x; decoding {row.decode_tok_s:.1f} against {row.peer_decode_tok_s:.1f} tok/s, "
                f"{row.decode_ratio:.2f}x"
            )
            rows.append(asdict(row))
    return {"bench": "peer", "hardware": hardware(), "shape": model.name, "threads": threads, "rows": rows}


def check(runner: Runner, peer: LlamaCpp) -> str:
    """That both find the same log-probabilities after the same ids. Raises NotEquivalent."""
    ids = ids_of(runner.model, _CHECKED_TOKENS, 2)
    said = peer.ask(ids, 1, False, _LIKELIEST)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    # In two calls: many rows and one go different ways.
    context = runner.context([], SuffixCache(runner.model.shape, len(ids), runner.model.device))
    runner.run(context, ids[:-1])
    ours = torch.log_softmax(runner.run(context, ids[-1:]).double(), -1)[[each["id"] for each in said]]
    off = float((ours - torch.tensor([each["logprob"] for each in said], dtype=torch.float64)).square().mean().sqrt())
    # False for NaN.
    if not off <= _ALLOWED:
        raise NotEquivalent(f"llama.cpp's log-probabilities are {off:.2f} off: nothing is timed while they differ")
    return f"log-probabilities of its {len(said)} likeliest off by {off:.1e}"


def measure(runner: Runner, peer: LlamaCpp, length: int, tokens: int, repeats: int) -> PeerRow:
    """Medians of what is read and answered in turns, after a turn that does not count."""
    read: list[float] = []
    peer_read: list[float] = []
    decoded: list[float] = []
    peer_decoded: list[float] = []
    question = ids_of(runner.model, QUESTION_TOKENS, 1)
    for turn in range(repeats + 1):
        ids = ids_of(runner.model, length, 3 + turn)
        pod, speed = _read(runner, ids)
        read.append(speed)
        peer_read.append(peer.ask(ids, 1, False)["timings"]["prompt_per_second"])
        decoded.append(answer(runner, pod, question, tokens)[1])
        peer_decoded.append(peer.ask([*ids, *question], tokens + 1, True)["timings"]["predicted_per_second"])
    ours, theirs = statistics.median(read[1:]), statistics.median(peer_read[1:])
    quick, peers = statistics.median(decoded[1:]), statistics.median(peer_decoded[1:])
    numbers = (ours, theirs, ours / theirs, quick, peers, quick / peers)
    return PeerRow(length, *(round(number, 3) for number in numbers))


def _read(runner: Runner, ids: Sequence[int]) -> tuple[Pod | GroupedPod, float]:
    """The pod of some ids in memory, and tokens a second."""
    clock = Clock(runner.model.device)
    builder = PodBuilder(runner, len(ids))
    chunk = chunk_tokens(runner.model.device)
    for start in range(0, len(ids), chunk):
        builder.feed(ids[start : start + chunk])
    pod = builder.finish()
    return pod, len(ids) / clock.seconds()
