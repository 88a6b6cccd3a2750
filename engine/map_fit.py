"""Fits the key maps of a model for one of its sharing plans.

python -m engine.map_fit --model embedded --models DIR --saving 0.35 --out DIR
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import models, sharing
from engine.errors import EngineError, PlanMissing
from engine.key_maps import fit
from engine.plan_search import draw_samples
from engine.prefill import PodBuilder, chunk_tokens
from engine.runner import Runner
from engine.sample_text import read_text, sample_text


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _fit(options, say)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _fit(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    runner = Runner(models.load(options.model, options.models, say))
    model = runner.model
    plan = sharing.find(model.name, model.digest, options.saving, options.out, options.models)
    if plan is None:
        raise PlanMissing(f"{model.name} has no plan for this saving: make one with python -m engine.sharing")
    text = read_text(options.text) if options.text else sample_text()
    tokens = options.tokens or min(6144, model.window)
    keys = []
    for number, ids in enumerate(draw_samples(model, text, options.samples, tokens, options.seed), 1):
        builder = PodBuilder(runner, len(ids))
        for start in range(0, len(ids), chunk := chunk_tokens(model.device)):
            builder.read(ids[start : start + chunk])
        keys.append(builder.finish().keys)
        say(f"{number} of {options.samples} samples")
    path = fit(plan, keys).save(options.out, plan, options.saving)
    say(f"{path}: {path.stat().st_size:,} bytes")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine.map_fit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded", help="embedded, a local folder or a hub id")
    parser.add_argument("--models", type=Path, required=True, help="folder of the embedded model, and of plans")
    parser.add_argument("--saving", type=float, default=0.35, help="which of the model's plans, 0.35 is 35 %%")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="text files, or folders of them (UTF-8)")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=0, help="tokens of a sample; 0: 6144 or the model's window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for the maps")
    return parser


if __name__ == "__main__":
    main()
