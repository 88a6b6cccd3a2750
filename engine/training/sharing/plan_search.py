"""The search for a model's sharing plans: samples of a text, how alike its layers look at them, blocks, files.

    python -m engine.training.sharing.plan_search --model embedded --models DIR --saving 0.35 --out DIR --plot FILE.svg

Needs no training and no question, and is done once for a model: minutes on a processor, less on a GPU.
"""

import argparse
import math
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from engine.compression.sample_text import sample_text
from engine.core.errors import CalibrationFailed, EngineError
from engine.kvcache.sharing_plan import SharingPlan
from engine.models import loader
from engine.models.loader import Model
from engine.runtime.runner import Runner
from engine.training.options import add_options, read_text
from engine.training.sharing import blocks
from engine.training.sharing.similarity import RowSample, measure
from engine.training.sharing.similarity_plot import draw

Facts = dict[str, str | float]


def draw_samples(model: Model, text: str, samples: int, tokens: int, seed: int) -> list[list[int]]:
    """Ids of `samples` pieces of the text that do not overlap, each of `tokens` tokens behind a prompt's head.

    The same seed draws the same pieces. Raises CalibrationFailed where the text or the model's window is too short.
    """
    if samples < 1 or tokens < 1:
        raise CalibrationFailed(f"{samples} samples of {tokens} tokens are nothing to read; take 1 or more of both")
    if tokens > model.window:
        raise CalibrationFailed(f"{model.name} reads {model.window} tokens at most; take --tokens {model.window}")
    head = model.tokenizer.user_turn()[0]
    body = tokens - len(head)
    if body < 1:
        raise CalibrationFailed(f"a prompt's head alone has {len(head)} tokens; take more than {tokens}")
    ids = model.tokenizer.encode(text)[0]
    if len(ids) < samples * body:
        raise CalibrationFailed(
            f"the text has {len(ids)} tokens, {samples} samples of {tokens} need {samples * body}; "
            "give more text, or take fewer or shorter samples (--samples, --tokens)"
        )
    pieces = random.Random(seed).sample(range(len(ids) // body), samples)
    return [head + ids[piece * body : (piece + 1) * body] for piece in pieces]


def make_plan(
    model: Model, strength: Tensor, facts: Facts, *, saving: float | None = None, threshold: float | None = None
) -> SharingPlan:
    """A model's plan from the strengths (G, L, L) of its layers, for a saving or else by a threshold."""
    if saving is not None:
        roots, exact = blocks.by_saving(strength, saving)
        # Never up: the threshold in the file gives the same blocks.
        threshold = math.floor(1e6 * exact) / 1e6
    elif threshold is not None:
        roots = blocks.by_threshold(strength, threshold)
    else:
        raise CalibrationFailed("a plan needs a saving or a threshold")
    plan = SharingPlan(model.name, model.digest, roots, {})
    asked: Facts = {} if saving is None else {"asked_saving": saving}
    return replace(plan, facts={**facts, **asked, "threshold": threshold, "saving": round(plan.saving, 4)})


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one line for what cannot be read, made or written."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _search(options, say)
    except (EngineError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _search(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    text = read_text(options.text) if options.text else sample_text()
    view = RowSample(options.queries, options.sinks, options.recent, options.whole_row, options.weakest)
    if min(view.queries, view.recent) < 1 or view.sinks < 0:
        raise CalibrationFailed("--queries and --recent must be 1 or more, --sinks 0 or more")
    options.out.mkdir(parents=True, exist_ok=True)
    model = loader.load(options.model, options.models, say)
    model.need_every_token()
    tokens = options.tokens or min(6144, model.window)
    samples = draw_samples(model, text, options.samples, tokens, options.seed)
    say(f"Reading {len(samples)} samples of {tokens} tokens.")
    started = time.monotonic()
    so_far = []
    for similarity in measure(Runner(model), samples, view):
        so_far.append(similarity)
        say(f"{len(so_far)} of {len(samples)} samples, {time.monotonic() - started:.0f} s")
    facts: Facts = {
        "text": f"{len(options.text)} given" if options.text else f"reference texts of Python {_PYTHON}",
        "samples": len(samples),
        "tokens": tokens,
        "seed": options.seed,
        "queries": view.queries,
        "scope": "whole row" if view.whole_row else f"distant tokens: sinks {view.sinks}, recent {view.recent}",
        "query_heads": "minimum" if view.weakest else "mean",
        "criterion": options.criterion,
        "excluded_layers": options.exclude,
    }
    strength = blocks.strengths(so_far[-1], options.criterion, excluded=options.exclude)
    wishes = [{"threshold": options.threshold}] if options.threshold is not None else None
    for wish in wishes or [{"saving": saving} for saving in options.saving]:
        plan = make_plan(model, strength, facts, **wish)
        path = plan.save(options.out, wish.get("saving"))
        say(f"{path}: leaves out {100 * plan.saving:.1f} % of keys and values, threshold {plan.facts['threshold']}")
        for head, column in enumerate(zip(*plan.roots, strict=True)):
            say(f"KV head {head:2d}  " + "".join("|" if root == layer else "." for layer, root in enumerate(column)))
    if options.plot:
        options.plot.write_text(draw(so_far[-1], plan), encoding="utf-8")
        say(f"{options.plot}: the similarity of the layers, and the blocks of the last plan")


_PYTHON = ".".join(platform.python_version_tuple()[:2])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine.training.sharing.plan_search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, 4, "the plans")
    wish = parser.add_mutually_exclusive_group()
    wish.add_argument("--saving", type=float, nargs="+", default=[0.35], help="share to leave out, 0.35 is 35 %%")
    wish.add_argument("--threshold", type=float, help="similarity that the layers of a block have at least")
    parser.add_argument("--criterion", choices=blocks.CRITERIA, default="block", help="what a joining layer must fit")
    parser.add_argument("--exclude", type=int, default=0, help="so many first layers neither share nor are shared")
    parser.add_argument("--whole-row", action="store_true", help="compare near tokens too")
    parser.add_argument("--weakest", action="store_true", help="a KV head is as similar as its weakest query head")
    parser.add_argument("--queries", type=int, default=64, help="tokens at a sample's end whose looks are compared")
    parser.add_argument("--sinks", type=int, default=16, help="first tokens that keep their own keys")
    parser.add_argument("--recent", type=int, default=256, help="last tokens that keep their own keys")
    parser.add_argument("--plot", type=Path, help="an SVG file for the picture")
    return parser


if __name__ == "__main__":
    main()
