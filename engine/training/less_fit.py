"""Trains the states of low rank that stand for evicted tokens (LESS, arXiv 2402.09398), once a model.

    python -m engine.training.less_fit --model embedded --models DIR --out DIR

Texts are read, heavy hitters kept, and the tokens behind ask. Layer by layer, the maps of engine.kvcache.summaries.less
learn to give with the kept tokens what attention gives with all of them: least squares over the outputs. Defaults of
the authors: 512 texts, 40 epochs, 2 texts a step, Adam at 1e-3. Here texts are fewer, and each asks 256 times.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.compression.compress import score
from engine.compression.sample_text import sample_text
from engine.compression.top_k import top_k
from engine.core.errors import EngineError
from engine.core.lse import AttentionState, merge, reference
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.recipe import parse
from engine.kvcache.segment import Segment
from engine.kvcache.suffix import SuffixCache
from engine.kvcache.summaries import less
from engine.models import loader
from engine.models.loader import Model
from engine.runtime.context import Context
from engine.runtime.prefill.builder import read
from engine.runtime.runner import Runner
from engine.training.options import add_options, read_text
from engine.training.sharing.plan_search import draw_samples

ASKED = 256
"""Tokens behind a text that ask."""
RATE, BATCH = 1e-3, 2


@dataclass(frozen=True)
class Lesson:
    """What a layer sees of one text: queries (H, Q, D), evicted keys and values (G, E, D), what attention to all other
    tokens comes to, and the output (H, Q, D) over everything."""

    query: Tensor
    keys: Tensor
    values: Tensor
    known: AttentionState
    target: Tensor


class _Asking(Context):
    """Also keeps the queries of every layer."""

    asked: dict[int, tuple[Tensor, float]]

    def _observe(
        self, layer: int, query: Tensor, lse: Tensor, scale: float, by_pod: Sequence[Sequence[Segment]]
    ) -> None:
        self.asked[layer] = query, scale


def lessons(runner: Runner, ids: Sequence[int], layout: Layout) -> Iterator[Lesson]:
    """What every layer sees of a text whose last tokens ask, a layer after the other."""
    section, asking = ids[:-ASKED], ids[-ASKED:]
    pod = read(runner, section)
    assert isinstance(pod, Pod)
    far = layout.recipe.distant(len(section))
    *_, scores = score(runner, section, pod, layout)
    kept = top_k(scores.values[:, :, far.start : far.stop], layout, False)
    context = _Asking([pod], SuffixCache(runner.model.shape, len(asking), pod.device), runner.attention)
    context.asked = {}
    runner.run(context, asking)
    near = torch.tensor(layout.proximal(len(section)), device=pod.device)
    for layer, (query, scale) in sorted(context.asked.items()):
        rows = [each[layer, :, far.start : far.stop] for each in (pod.keys, pod.values)]
        stay, go = ([_chosen(each, mask) for each in rows] for mask in (kept[layer], ~kept[layer]))
        states = [
            reference(query, pod.keys[layer, :, near], pod.values[layer, :, near], scale, False),
            reference(query, stay[0], stay[1], scale, False),
            reference(query, *context.suffix.segment(layer), scale, True),
        ]
        known = merge(states)
        target, _ = merge([known, reference(query, go[0], go[1], scale, False)])
        yield Lesson(query.clone().float(), go[0].float(), go[1].float(), (known[0].float(), known[1]), target.float())


def started(heads: int, groups: int, dim: int, seed: int, device: torch.device) -> dict[str, Tensor]:
    """The maps of one layer before training."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*dims: int) -> Tensor:
        first = torch.randn(*dims, generator=generator) / math.sqrt(dims[-2])
        return first.to(device).requires_grad_()

    def small() -> Tensor:
        return torch.full((groups, less.RANK), 1e-4, device=device, requires_grad=True)

    first, second, inner = (dim, less.HIDDEN), (less.HIDDEN, less.RANK), (less.RANK, less.RANK)
    maps = [drawn(heads, *first), drawn(heads, *second), drawn(groups, *first), drawn(groups, *second)]
    return dict(zip((*less.QUERY_MAPS, *less.KEY_MAPS), (*maps, drawn(groups, *inner), small(), small()), strict=True))


def error(maps: Mapping[str, Tensor], lesson: Lesson) -> Tensor:
    """Mean square of what the output misses with a state in the place of the evicted tokens."""
    into = less.psi(lesson.keys, *(maps[name] for name in less.KEY_MAPS))
    seen = less.phi(lesson.query, *(maps[name] for name in less.QUERY_MAPS))
    out, weight = less.looked_up(seen, into.mT @ lesson.values, into.sum(1))
    return (merge([lesson.known, (out, weight.clamp_min(1e-30).log())])[0] - lesson.target).square().mean()


def fit(seen: Sequence[Lesson], epochs: int, seed: int) -> dict[str, Tensor]:
    """The maps of one layer, from what it sees of several texts."""
    query, keys = seen[0].query, seen[0].keys
    with torch.inference_mode(False), torch.enable_grad():
        maps = started(len(query), len(keys), query.shape[2], seed, query.device)
        adam = torch.optim.Adam(maps.values(), RATE)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            order = torch.randperm(len(seen), generator=generator).tolist()
            for first in range(0, len(order), BATCH):
                adam.zero_grad()
                missed = torch.stack([error(maps, seen[number]) for number in order[first : first + BATCH]]).mean()
                torch.autograd.backward(missed)
                adam.step()
    return {name: each.detach() for name, each in maps.items()}


def _chosen(rows: Tensor, mask: Tensor) -> Tensor:
    """The rows (G, K, D) of (G, F, D) where a mask is true, equally often of each head."""
    return rows[mask].view(len(rows), -1, rows.shape[2])


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.training.less_fit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, 32, "the maps")
    parser.add_argument("--keep", type=float, default=10, help="percent of distant tokens that stay, 10 is 10 %%")
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args(arguments)
    try:
        _make(options, say)
    except EngineError as failure:
        parser.exit(2, f"{parser.prog}: {failure}\n")


def _make(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    runner = Runner(loader.load(options.model, options.models, say))
    model: Model = runner.model
    model.need_every_token()
    began, text = time.monotonic(), read_text(options.text) if options.text else sample_text()
    tokens = options.tokens or min(2048, model.window)
    heads = tuple((layer,) * each.kv_heads for layer, each in enumerate(model.shape.per_layer))
    layout = Layout(parse(f"keep{options.keep:g}:h2o"), heads)
    by_layer: list[list[Lesson]] = [[] for _ in range(model.shape.layers)]
    for ids in draw_samples(model, text, options.samples, tokens, options.seed):
        for seen, lesson in zip(by_layer, lessons(runner, ids, layout), strict=True):
            seen.append(lesson)
    say(f"{options.samples} texts read, {time.monotonic() - began:.0f} s")
    fitted = []
    for layer, seen in enumerate(by_layer):
        maps = fit(seen, options.epochs, options.seed + layer)
        fitted.append(maps)
        before = sum(float((each.known[0] - each.target).square().mean()) for each in seen)
        after = sum(float(error(maps, each)) for each in seen)
        say(f"layer {layer}: {after / before:.3f} of the error without a state, {time.monotonic() - began:.0f} s")
    tensors = {name: torch.stack([maps[name] for maps in fitted]) for name in fitted[0]}
    facts = {"texts": options.samples, "tokens": tokens, "keep": options.keep, "epochs": options.epochs}
    path = less.save(options.out, model, tensors, {**facts, "seed": options.seed})
    say(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
