"""A process of its own that builds the model, and then takes a pod from files and says the first token of an answer.

Started by `engine.bench.docpod`; its last line is the milliseconds from the first look at the files to the token.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine.bench.clock import Clock
from engine.bench.docpod import QUESTION_TOKENS, answer, ids_of
from engine.bench.places import Folder
from engine.bench.random_pods import random_pod
from engine.bench.subject import add_arguments, from_options
from engine.decode import generate
from engine.layout import layout_of
from engine.recipes import parse
from engine.runner import Runner
from engine.sampling import SamplingParams

_WARM_TOKENS = 512


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m engine.bench.fresh")
    add_arguments(parser)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args(arguments)
    print(first_token_ms(options))


def first_token_ms(options: argparse.Namespace) -> float:
    """What this process is for."""
    model = from_options(options, lambda _: None)
    runner = Runner(model, graphs=model.device.type == "cuda")
    layout = layout_of(model, parse(options.recipe))
    question = ids_of(model, QUESTION_TOKENS, 1)
    # As the app does while it loads a model: what happens only once has happened.
    for _ in range(2):
        answer(runner, random_pod(model, layout, _WARM_TOKENS), question, 2)
    clock = Clock(model.device)
    pod = Folder(options.folder).load(model, layout, options.length)
    steps = generate(runner, [pod], question, SamplingParams(2))
    next(steps)
    return 1e3 * clock.seconds()


if __name__ == "__main__":
    main()
