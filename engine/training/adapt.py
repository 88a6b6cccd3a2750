"""Post-trains a model to live with shared keys, and writes an adapter.

    python -m engine.training.adapt --model embedded --models DIR --plan-saving 0.35 --mode A --text PATH --out DIR

Progress goes line by line; the last line is JSON. Interrupt it whenever you like: --resume goes on.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from engine.core.errors import EngineError, PlanMissing
from engine.kvcache import sharing_plan
from engine.kvcache.key_maps import KeyMaps
from engine.kvcache.layout import layout_of
from engine.kvcache.recipe import parse
from engine.kvcache.sharing_plan import SharingPlan
from engine.models import loader
from engine.models.loader import Model
from engine.training import adapter, corpus
from engine.training.adaptation import MODES, Adaptation, TrainingProgress
from engine.training.settings import Limits, TrainingSettings

SAY_EVERY_SECONDS = 5.0
DEFAULT_SECONDS = 90.0
STATE = "adapt.state.pt"


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _adapt(options, say)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _adapt(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    model = loader.load(options.model, options.models, say)
    model.need_every_token()
    mode = "dense" if options.dense else options.mode
    maps = _maps(options, model) if mode == "linear" else None
    plan = None if options.dense else _plan(options, model, maps)
    texts = list(corpus.read_texts(options.text))
    text = corpus.load(model.tokenizer, model.digest, texts, options.out, options.max_tokens)
    say(f"{len(text.train)} tokens to train on; {text.num_held} of {text.num_texts} texts are held out")
    settings = TrainingSettings(
        mode=mode,
        sinks=options.n_sinks,
        recent=options.n_recent,
        rank=options.rank,
        all_weights=options.all_weights,
        length=options.length,
        asked=options.length // 4 if options.asked is None else options.asked,
        ce_weight=options.ce_weight,
        learning_rate=options.learning_rate,
        recall_share=options.recall_share,
        rounded=options.rounded,
        seed=options.seed,
    )
    saving = plan.saving if plan else 0.0
    adaptation = Adaptation(model, plan.roots if plan else (), settings, text, maps)
    started: dict[str, Any] = {}
    if options.start:
        first = adapter.load(options.start)
        adaptation.start(first)
        started = {"started_from": first.digest, "started_after_steps": first.facts["steps"]}
    before = adaptation.held_out()
    say(f"held out, before: {_json(vars(before))}")
    state = options.out / STATE
    if options.resume and state.exists():
        adaptation.restore(state)
        say(f"going on after step {adaptation.step}, {adaptation.seconds:.0f} s")
    seconds = options.seconds or (0.0 if options.steps else DEFAULT_SECONDS)
    last = _train(adaptation, Limits(seconds, options.steps), options, state, say)
    after = adaptation.held_out()
    found: dict[str, Any] = {
        "tokens": adaptation.step * settings.sequences * settings.length,
        "held_before": vars(before),
        "held_after": vars(after),
        "plan": plan.facts if plan else {},
        "saving": round(saving, 4),
        "texts": text.num_texts,
        "device": str(model.device),
        "torch": torch.__version__,
        **started,
    }
    name = f"{model.name.replace('/', '--')}.{mode}{round(100 * saving) or ''}.safetensors"
    path = adaptation.adapter(found).save(options.out / name)
    result = {"steps": adaptation.step, "seconds": round(adaptation.seconds, 1), **found}
    result |= {"kl": last.kl, "ce": last.ce, "agreement": last.agreement} if last else {}
    say(_json({**result, "adapter": str(path), "bytes": path.stat().st_size}))


def read_plan(path: Path) -> SharingPlan:
    """A sharing plan from its file. Raises PlanMissing if it is none."""
    try:
        plan = json.loads(path.read_text())
        return SharingPlan(plan["model"], plan["digest"], tuple(map(tuple, plan["roots"])), plan["facts"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PlanMissing(f"{path} is no sharing plan: {error}") from error


def _plan(options: argparse.Namespace, model: Model, maps: KeyMaps | None) -> SharingPlan:
    """That of the maps, from --plan, or the shipped or calibrated one of the model; refuses one of other weights."""
    if maps is not None:
        roots = tuple((root,) * model.shape.kv_heads for root in maps.roots)
        return SharingPlan(model.name, model.digest, roots, dict(maps.facts))
    if options.plan:
        plan = read_plan(options.plan)
        if plan.digest != model.digest:
            raise PlanMissing(f"{options.plan} is a plan of {plan.model} with other weights than {model.name} here")
        return plan
    found = sharing_plan.find(model.name, model.digest, options.plan_saving, options.out)
    if found is None:
        raise PlanMissing(f"{model.name} has no sharing plan for a saving of {options.plan_saving:.0%}; give --plan")
    return found


def _maps(options: argparse.Namespace, model: Model) -> KeyMaps:
    layout = layout_of(model, parse(f"linear{round(100 * options.plan_saving)}"), (options.out, options.models))
    assert layout.maps is not None
    return layout.maps


def _train(
    adaptation: Adaptation, limits: Limits, options: argparse.Namespace, state: Path, say: Callable[[str], None]
) -> TrainingProgress | None:
    """All steps to the limit, with lines of progress, evaluations and saved states in between; the last step."""
    last, said = None, 0.0
    for last in adaptation.run(limits):
        if time.monotonic() - said > SAY_EVERY_SECONDS:
            said = time.monotonic()
            say(
                f"step {last.step}  {last.seconds:.0f} s  {last.tokens_per_second:.0f} tokens/s  "
                f"KL {last.kl:.4f}  CE {last.ce:.4f}  agreement {last.agreement:.3f}"
            )
        if options.save_every and last.step % options.save_every == 0:
            adaptation.save_state(state)
        if options.evaluate_every and last.step % options.evaluate_every == 0:
            say(f"held out, step {last.step}: {_json(vars(adaptation.held_out()))}")
    adaptation.save_state(state)
    return last


def _json(facts: dict[str, Any]) -> str:
    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(part) for key, part in value.items()}
        return round(value, 5) if isinstance(value, float) else value

    return json.dumps(rounded(facts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine.training.adapt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="embedded", help="embedded, a local folder or a hub id")
    parser.add_argument("--models", type=Path, required=True, help="folder of the embedded model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter, its state and the token cache")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="files or folders; none: Python's reference")
    parser.add_argument("--plan-saving", type=float, default=0.35, help="share of keys and values not stored")
    parser.add_argument("--plan", type=Path, help="file of a sharing plan, instead of the model's own")
    parser.add_argument("--mode", choices=MODES[:3], default="A", help="share scores (A), keys (B), or predict them")
    parser.add_argument("--dense", action="store_true", help="a control: the same recipe without sharing")
    parser.add_argument("--seconds", type=float, default=0.0, help="of training steps (90, unless --steps is given)")
    parser.add_argument("--steps", type=int, default=0, help="0: no limit")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--all-weights", action="store_true", help="train every weight instead of low-rank additions")
    parser.add_argument("--learning-rate", type=float, default=0.0, help="0: 1e-3, or 2e-4 for all weights")
    parser.add_argument("--length", type=int, default=8192, help="tokens of a sequence")
    parser.add_argument(
        "--asked",
        type=int,
        help="last tokens of a sequence, which ask what was read without sharing (a quarter of it); "
        "0: sharing acts while reading too, as in the paper",
    )
    parser.add_argument("--rounded", default="exact", help="far keys and values rounded as this recipe does: k4v4h")
    parser.add_argument("--ce-weight", type=float, default=0.1, help="of the next-token loss, beside a KL of weight 1")
    parser.add_argument("--recall-share", type=float, default=0.15, help="of sequences that hide facts and ask them")
    parser.add_argument("--start", type=Path, help="an adapter to go on from, with a training of its own")
    parser.add_argument("--n-sinks", type=int, default=16, help="first tokens that keep their own keys")
    parser.add_argument("--n-recent", type=int, default=256, help="last tokens that keep their own keys")
    parser.add_argument("--max-tokens", type=int, default=30_000_000, help="of text to train on")
    parser.add_argument("--save-every", type=int, default=50, help="steps between states; 0: only at the end")
    parser.add_argument("--evaluate-every", type=int, default=100, help="steps between evaluations; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the state in --out")
    return parser


if __name__ == "__main__":
    main()
