"""Finds which layers of a model must keep their keys, and fits the maps that predict those of all others.

    python -m engine.training.sharing.map_fit --model embedded --models DIR --saving 0.35 --out DIR

Needs no training. A few layers look back for what was read, and err as soon as their keys are a little off; so each
layer's keys are predicted alone, and those whose prediction changes what the model says next most keep their own.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from engine.compression.sample_text import sample_text
from engine.core.errors import CalibrationFailed, EngineError
from engine.core.rope import Angles
from engine.kvcache.exact import Pod
from engine.kvcache.key_maps import KeyMaps, inputs, value_layers
from engine.kvcache.recipe import Recipe
from engine.kvcache.suffix import SuffixCache
from engine.models import loader
from engine.models.families.registry import angles_of
from engine.runtime.prefill.builder import read
from engine.runtime.runner import Runner
from engine.training.options import add_options, read_text
from engine.training.sharing.plan_search import draw_samples
from engine.training.sharing.recall import RecallMaker

RIDGE = 1e-4
"""Regularisation, as a share of the mean square of the inputs."""
ASKED_SHARE = 4
"""One token of so many asks what was read, where the worth of a layer's keys is measured."""


@dataclass(frozen=True)
class Trial:
    """A text that was read up to some token, and the tokens (Q,) that follow."""

    pod: Pod
    asked: Sequence[int]


def fit(roots: Sequence[int], samples: Sequence[Pod], angles: Angles) -> dict[int, Tensor]:
    """Least squares over exact pods of different texts: the maps of all layers that are not their own root."""
    weights = {}
    for layer, root in enumerate(roots):
        if root == layer:
            continue
        products = []
        for pod in samples:
            values = [pod.values[each] for each in value_layers(layer)]
            known = inputs(angles.undo(pod.keys[root], pod.positions), values).double()
            wanted = angles.undo(pod.keys[layer], pod.positions).transpose(0, 1).flatten(1)
            products.append((known.T @ known, known.T @ wanted.double()))
        inner, outer = (torch.stack(each).sum(0) for each in zip(*products, strict=True))
        ridge = RIDGE * inner.diagonal().mean() * torch.eye(len(inner), dtype=inner.dtype, device=inner.device)
        # Through the precision of the file, so that what is fitted is what is found again.
        weights[layer] = torch.linalg.solve(inner + ridge, outer).half().float()
    return weights


def costs(runner: Runner, maps: KeyMaps, trials: Sequence[Trial]) -> Iterator[tuple[int, float]]:
    """For each layer that has a map: KL in nats that its predicted distant keys alone cost the tokens that follow."""
    exact = [_logits(runner, trial.pod, trial.asked) for trial in trials]
    for layer in maps.weights:
        cost = 0.0
        for trial, truth in zip(trials, exact, strict=True):
            guess = _logits(runner, _with_prediction(trial.pod, maps, layer), trial.asked)
            cost += float((truth.exp() * (truth - guess)).sum(-1).mean()) / len(trials)
        yield layer, cost


def cheapest_roots(found: Mapping[int, float], layers: int, saving: float) -> tuple[int, ...]:
    """Each layer's root, so that at least `saving` of keys and values is left out: layer 0 keeps its keys, and so do
    those whose prediction costs most. Raises CalibrationFailed where nothing could be left out."""
    predicted = -int(-2 * saving * layers // 1)
    if not 0 < predicted < layers:
        raise CalibrationFailed(f"a saving of {saving:.0%} leaves {layers - predicted} of {layers} layers their keys")
    kept = {0, *sorted(found, key=lambda layer: -found[layer])[: layers - predicted - 1]}
    return tuple(max(own for own in kept if own <= layer) for layer in range(layers))


def _with_prediction(pod: Pod, maps: KeyMaps, layer: int) -> Pod:
    sinks, recent = Recipe().sinks, Recipe().recent
    distant = slice(sinks, pod.num_tokens - recent)
    values = [pod.values[each, :, distant] for each in value_layers(layer)]
    keys = pod.keys.clone()
    keys[layer, :, distant] = maps.predict(
        layer, pod.keys[maps.roots[layer], :, distant], values, pod.positions[distant]
    )
    return replace(pod, keys=keys)


def _logits(runner: Runner, pod: Pod, asked: Sequence[int]) -> Tensor:
    """Log-probabilities (Q, V) behind each of the tokens (Q,)."""
    context = runner.context([pod], SuffixCache(runner.model.shape, len(asked), runner.model.device))
    return runner.score(context, asked, len(asked)).float().log_softmax(-1)


def _read(runner: Runner, ids: Sequence[int]) -> Pod:
    pod = read(runner, ids)
    assert isinstance(pod, Pod)
    return pod


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _make(options, say)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _make(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    runner = Runner(loader.load(options.model, options.models, say))
    model, started = runner.model, time.monotonic()
    model.need_every_token()
    angles, layers = angles_of(model.network, model.shape.head_dim), model.shape.layers
    for saving in options.saving:
        # What cannot be had is said before minutes are spent.
        cheapest_roots({}, layers, saving)
    text = read_text(options.text) if options.text else sample_text()
    tokens = options.tokens or min(6144, model.window)
    # One more than is fitted to: what a layer's keys are worth is measured on a text that no map has seen.
    *seen, unseen = draw_samples(model, text, options.samples + 1, tokens, options.seed)
    recall = RecallMaker(model.tokenizer, np.array(unseen, dtype=np.int32)).make(tokens, str(options.seed)).ids
    samples = []
    for ids in seen:
        # The first tokens have keys of their own kind, and are never predicted.
        samples.append(_read(runner, ids).select(torch.arange(Recipe().sinks, tokens)))
        say(f"{len(samples)} of {len(seen)} samples read, {time.monotonic() - started:.0f} s")
    asked = tokens // ASKED_SHARE
    trials = [Trial(_read(runner, ids[:-asked]), ids[-asked:]) for ids in (unseen, recall)]
    neighbours = tuple(max(0, layer - 1) for layer in range(layers))
    alone = KeyMaps(neighbours, fit(neighbours, samples, angles), angles, {})
    found = {}
    for layer, cost in costs(runner, alone, trials):
        found[layer] = cost
        say(f"layer {layer}: without its own keys KL {cost:.4f}, {time.monotonic() - started:.0f} s")
    facts = {"samples": len(seen), "tokens": tokens, "seed": options.seed, "costs": found}
    for saving in options.saving:
        roots = cheapest_roots(found, layers, saving)
        maps = KeyMaps(roots, fit(roots, samples, angles), angles, facts)
        path = maps.save(options.out, model, saving)
        kept = [layer for layer, root in enumerate(roots) if root == layer]
        say(f"{path}: {path.stat().st_size:,} bytes; the layers {', '.join(map(str, kept))} keep their keys")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine.training.sharing.map_fit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, 8, "the maps")
    parser.add_argument("--saving", type=float, nargs="+", default=[0.35], help="share left out, 0.35 is 35 %%")
    return parser


if __name__ == "__main__":
    main()
