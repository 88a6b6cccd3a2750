"""Measures how fast readers decode, beside the exact pod in CUDA graphs and without, in turns on the same pod.

    python -m benchmarks.readers.speed --lengths 32768,120000

A known model's shape with random weights, and a pod of random numbers, on the GPU; where there is a GPU, that in host
memory too for the reader that fetches ahead. Prints a table, and one JSON line.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.fidelity.work import hardware
from benchmarks.speed.docpod import QUESTION_TOKENS, answer, ids_of
from benchmarks.speed.places import to_host
from benchmarks.speed.random_pods import random_pod
from benchmarks.speed.subject import add_arguments, from_options
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from engine.kvcache.readers import READERS, over
from engine.kvcache.recipe import Recipe
from engine.models.loader import Model
from engine.runtime.backend import runner_for
from engine.runtime.runner import Runner


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readers.speed", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--lengths", default="32768,120000", help="tokens of the pods")
    parser.add_argument("--readers", default=",".join(READERS), help="names, separated by commas")
    parser.add_argument("--shares", default="5", help="percent of the tokens that each may attend where it chooses")
    parser.add_argument("--tokens", type=int, default=20, help="decoded at a time")
    parser.add_argument("--repeats", type=int, default=3, help="turns, of which the median counts")
    options = parser.parse_args(arguments)
    model = from_options(options, say)
    rows = [row for length in map(int, options.lengths.split(",")) for row in measure(model, length, options, say)]
    say(json.dumps({"model": model.name, "hardware": hardware(), "rows": rows}))


def measure(model: Model, length: int, options: argparse.Namespace, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row of every system at one length, which take turns."""
    shape = model.shape
    pod = random_pod(model, Layout(Recipe(), tuple((layer,) * shape.kv_heads for layer in range(shape.layers))), length)
    graphs, plain = runner_for(model), Runner(model)
    names = [f"{name}:{share}" for name in options.readers.split(",") for share in options.shares.split(",")]
    systems: list[tuple[str, Runner, AnyPod, str]] = [
        ("exact, graphs" if model.device.type == "cuda" else "exact, one call a token", graphs, pod, ""),
        ("exact, plain", plain, pod, ""),
        *((name, plain, pod, name) for name in names),
    ]
    if model.device.type == "cuda":
        host = to_host(pod)
        systems += [(f"{name}, host", plain, host, name) for name in names if name.startswith("predictor")]
    question = ids_of(model, QUESTION_TOKENS, 1)
    rates: dict[str, list[float]] = {name: [] for name, *_ in systems}
    firsts = {}
    for turn in range(options.repeats + 1):
        for name, runner, held, reader in systems:
            start = time.perf_counter()
            _, rate = answer(runner, over([held], reader, shape.layers)[0], question, options.tokens)
            if turn:
                rates[name].append(rate)
            else:
                # Kernels are compiled and clusters are found the first time.
                firsts[name] = time.perf_counter() - start
    rows = [
        {"system": name, "length": length, "tok_s": statistics.median(found), "first_s": firsts[name]}
        for name, found in rates.items()
    ]
    for row in rows:
        say(f"| {row['length']:,} | {row['system']} | {row['tok_s']:.1f} tok/s | first time {row['first_s']:.1f} s |")
    return rows


if __name__ == "__main__":
    main()
