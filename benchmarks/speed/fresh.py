"""A process of its own that builds the model, and then takes a pod from files and says the first token of an answer.

Started by `benchmarks.speed.docpod`; its last line is the milliseconds from the first look at the files to the token,
after one that says where they went.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.speed.clock import Clock
from benchmarks.speed.docpod import QUESTION_TOKENS, answer, ids_of
from benchmarks.speed.places import Folder
from benchmarks.speed.random_pods import random_pod
from benchmarks.speed.subject import add_arguments, from_options
from engine.core.pinned_staging import Staging
from engine.core.sampling import SamplingParams
from engine.kvcache.layout import layout_of
from engine.kvcache.recipe import parse
from engine.runtime.generate import Question
from engine.runtime.runner import Runner
from engine.runtime.warmup import warm_up

_WARM_TOKENS = 512
_HEADS = ((0, 0),)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.fresh")
    add_arguments(parser)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args(arguments)
    print(first_token_ms(options, print))


def first_token_ms(options: argparse.Namespace, say: Callable[[str], None]) -> float:
    """What this process is for."""
    model = from_options(options, lambda _: None)
    runner = Runner(model, graphs=model.device.type == "cuda")
    layout = layout_of(model, parse(options.recipe))
    question = ids_of(model, QUESTION_TOKENS, 1)
    # As the app does while it loads a model: what happens only once has happened.
    answer(runner, random_pod(model, layout, _WARM_TOKENS), question, 2)
    warm_up(runner, layout, options.length, _HEADS, whole=True)
    staging = Staging(model.device)
    staging.warm()
    captured = _captures(runner)
    clock, start = Clock(model.device), time.perf_counter()
    pod = Folder(options.folder).load(model, layout, options.length, staging)
    loaded = time.perf_counter()
    asked = Question(runner, [pod], question, _HEADS, SamplingParams(2))
    next(asked.steps())
    ms, done = 1e3 * clock.seconds(), time.perf_counter()
    say(
        f"{pod.nbytes / 1e9:.2f} GB loaded in {1e3 * (loaded - start):.0f} ms, "
        f"asked in {1e3 * (done - loaded):.0f} ms with {_captures(runner) - captured} graphs captured"
    )
    return ms


def _captures(runner: Runner) -> int:
    return runner.graph_runner.graphs.captures if runner.graph_runner else 0


if __name__ == "__main__":
    main()
