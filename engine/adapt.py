"""Adapts a model to sharing: PoD's light post-training, by distillation from the same model without it.

    python -m engine.adapt --model embedded --models DIR --mode A --saving 0.35 --text FOLDER --seconds 90 --out DIR

Only low-rank additions to the attention projections are trained. What the dense model predicts at every position is the
target, plus a little of the text itself; some sequences ask for facts hidden in them. Ends with one JSON line.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from engine import models, recall, sharing
from engine.adaptation import Adaptation, Progress, Schedule
from engine.errors import EngineError, PlanMissing
from engine.layout import Layout
from engine.models import Model
from engine.recipes import parse


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _adapt(options, say)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _adapt(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    model = models.load(options.model, options.models, say)
    layout = _layout(model, options)
    corpus = recall.load(model.tokenizer, options.text)
    say(f"{len(corpus.train):,} tokens to train on, {len(corpus.held_out):,} held out")
    schedule = Schedule(options.seconds, options.steps, options.rate, options.length, seed=options.seed)
    training = Adaptation(model, layout, corpus, schedule, options.rank)
    state = options.out / f"{options.name}.state.pt"
    if options.resume and state.exists():
        training.resume(state)
        say(f"Goes on at step {training.step}.")
    before = training.evaluate()
    say(f"held out: {before}")
    curve: list[Progress] = []
    for progress in training.run():
        curve.append(progress)
        if progress.step % options.every == 0:
            training.keep(state)
            say(_line(progress))
    training.keep(state)
    after = training.evaluate()
    say(f"held out: {after}")
    facts = {
        "model": model.name,
        "model_digest": model.digest,
        "rank": options.rank,
        "recipe": str(layout.recipe) if layout else "dense",
        "roots": layout.roots if layout else [],
        "held_out_before": before,
        "held_out_after": after,
        "steps": training.step,
        "tokens": training.step * schedule.accumulated * schedule.length,
        "seconds": round(training.seconds, 1),
        "seed": options.seed,
        "curve": [[each.step, round(each.kl, 5), round(each.ce, 5)] for each in curve[:: max(1, len(curve) // 100)]],
    }
    path = options.out / f"{options.name}.safetensors"
    training.adapter.save(path, facts)
    told = {key: value for key, value in facts.items() if key not in ("roots", "curve")}
    last = asdict(curve[-1]) if curve else {}
    say(json.dumps({**told, **last, "file": str(path), "bytes": path.stat().st_size}))


def _layout(model: Model, options: argparse.Namespace) -> Layout | None:
    """What is shared while training; None for the dense control."""
    if options.dense:
        return None
    plan = sharing.find(model.name, model.digest, options.saving, options.out, options.models)
    if plan is None:
        raise PlanMissing(f"{model.name} has no plan to share so much: make one with python -m engine.sharing")
    recipe = parse(f"{options.mode}{round(100 * options.saving)}s+near{options.sinks},{options.recent}")
    return Layout(recipe, plan.roots)


def _line(progress: Progress) -> str:
    return (
        f"step {progress.step}, {progress.seconds:.0f} s, {progress.tokens_per_second:,.0f} tokens/s: "
        f"KL {progress.kl:.4f}, CE {progress.ce:.4f}, agrees {progress.agreement:.3f}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine.adapt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded", help="embedded, a local folder or a hub id")
    parser.add_argument("--models", type=Path, required=True, help="folder of the embedded model, and of plans")
    parser.add_argument("--mode", choices="AB", default="A")
    parser.add_argument("--saving", type=float, default=0.35, help="which of the model's plans, 0.35 is 35 %%")
    parser.add_argument("--dense", action="store_true", help="share nothing: the control that a fair comparison needs")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="text files, or folders of them (UTF-8)")
    parser.add_argument("--seconds", type=float, default=90.0, help="training time; --steps goes before it")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--length", type=int, default=8192, help="tokens of a sequence")
    parser.add_argument("--rank", type=int, default=32, help="of the additions; 0 trains all weights")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate at its highest")
    parser.add_argument("--sinks", type=int, default=16)
    parser.add_argument("--recent", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=20, help="steps between two lines and two saves")
    parser.add_argument("--resume", action="store_true", help="go on from the state that an earlier run left")
    parser.add_argument("--name", default="adapter", help="of the files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter and the state")
    return parser


if __name__ == "__main__":
    main()
