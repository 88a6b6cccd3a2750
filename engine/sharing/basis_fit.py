"""Finds the basis of a model: reads some text, and takes the principal components of what is kept of it.

python -m engine.sharing.basis_fit --model embedded --models DIR --out DIR
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import EngineError
from engine.core.rope import Angles
from engine.kvcache.basis import Basis, Transform
from engine.kvcache.exact import Pod
from engine.kvcache.suffix import SuffixCache
from engine.models import loader
from engine.models.families.registry import angles_of
from engine.models.loader import Model
from engine.runtime.context import Context
from engine.runtime.prefill.builder import read
from engine.runtime.runner import Runner
from engine.sharing.plan_search import draw_samples
from engine.sharing.sample_text import add_options, read_text, sample_text

SINKS = 4
"""The first tokens of a text have keys and values of their own kind."""
LEAST_SPREAD = 0.04
"""Directions along which less varies are left out: at a step of .2 they always round to nothing."""
_ASKED = 512
"""Tokens whose queries are looked at."""
_RIDGE = 1e-4


class _Listening(Context):
    """A context that adds up the squares of all queries, (L, H, D)."""

    energy: Tensor

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        self.energy[layer] += query.float().square().mean(1)
        return super().attend(layer, query, keys, values, scale)


class Moments:
    """Sums over the vectors (T, N) of tokens, from which mean and covariance come."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._count = 0
        self._sum = torch.zeros(size, dtype=torch.float64, device=device)
        self._products = torch.zeros(size, size, device=device)

    def add(self, rows: Tensor) -> None:
        self._count += len(rows)
        self._sum += rows.double().sum(0)
        self._products.addmm_(rows.T, rows)

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """The mean (N,), the principal directions (N, R) as half precision holds them, and their spreads (R,)."""
        mean = self._sum / self._count
        covariance = self._products.double() / self._count - mean.outer(mean)
        variances, directions = torch.linalg.eigh(covariance.float())
        spread = variances.clamp_min(0).sqrt().flip(0)
        kept = int((spread >= LEAST_SPREAD).sum())
        return mean.float(), directions.flip(1)[:, :kept].half().contiguous(), spread[:kept].contiguous()


def weights(runner: Runner, pod: Pod, asked: Sequence[int]) -> tuple[Tensor, Tensor]:
    """What errors of keys and of values weigh, (L * G, D, D) each: mean queries on the diagonal, and the Cholesky
    factor of the output projection."""
    model, layers = runner.model, pod.keys.shape[0]
    heads, dim = pod.keys.shape[1], pod.keys.shape[3]
    attention = model.network.model.layers[0].self_attn
    query_heads = attention.o_proj.in_features // dim
    context = _Listening(
        [pod],
        SuffixCache(model.shape, len(asked), model.device),
        runner.context([pod], SuffixCache(model.shape, 1, model.device)).attention,
    )
    context.energy = torch.zeros(layers, query_heads, dim, device=model.device)
    runner.score(context, asked, 1)
    energy = context.energy.view(layers, heads, -1, dim).mean(2)
    # Both channels of a pair, which positions turn, weigh the same.
    pairs = energy.view(layers, heads, 2, dim // 2).mean(2)
    energy = torch.cat([pairs, pairs], -1)
    keys = (energy / energy.mean()).sqrt().clamp_min(1e-3)
    factors = []
    for layer in model.network.model.layers:
        out = layer.self_attn.o_proj(torch.eye(query_heads * dim, device=model.device, dtype=model.shape.dtype)).float()
        by_head = out.view(heads, -1, dim, out.shape[1])
        gram = torch.einsum("grde,grfe->gdf", by_head, by_head) / by_head.shape[1]
        ridge = _RIDGE * gram.diagonal(dim1=-2, dim2=-1).mean() * torch.eye(dim, device=gram.device)
        factors.append(torch.linalg.cholesky(gram + ridge))
    values = torch.cat(factors)
    values /= values.diagonal(dim1=-2, dim2=-1).square().mean().sqrt()
    return torch.diag_embed(keys.flatten(0, 1)), values


def fit(runner: Runner, samples: Iterable[Sequence[int]], angles: Angles, facts: dict[str, Any]) -> Basis:
    """The basis over texts, of which each is read by itself."""
    moments: list[Moments] = []
    scales: list[Tensor] = []
    for ids in samples:
        pod = read(runner, ids)
        assert isinstance(pod, Pod)
        if not moments:
            size = pod.keys.shape[0] * pod.keys.shape[1] * pod.keys.shape[3]
            scales = list(weights(runner, pod.select(torch.arange(len(ids) - _ASKED)), ids[-_ASKED:]))
            moments = [Moments(size, pod.device) for _ in scales]
        plain = angles.undo(pod.keys[:, :, SINKS:], pod.positions[SINKS:])
        for each, rows, scale in zip(moments, (plain, pod.values[:, :, SINKS:].float()), scales, strict=True):
            weighted = rows.flatten(0, 1) @ scale
            each.add(weighted.transpose(0, 1).flatten(1))
    keys, values = (_transform(each, scale) for each, scale in zip(moments, scales, strict=True))
    return Basis(keys, values, angles, facts)


def _transform(moments: Moments, scale: Tensor) -> Transform:
    mean, directions, spread = moments.components()
    plain = (mean.view(len(scale), 1, -1) @ torch.linalg.inv(scale)).flatten()
    return Transform(plain, scale, directions, spread)


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.sharing.basis_fit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, 8, "the basis")
    options = parser.parse_args(arguments)
    try:
        _make(loader.load(options.model, options.models, say), options, say)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _make(model: Model, options: argparse.Namespace, say: Callable[[str], None]) -> None:
    model.need_every_token()
    started = time.monotonic()
    text = read_text(options.text) if options.text else sample_text()
    tokens = options.tokens or min(6144, model.window)
    samples = draw_samples(model, text, options.samples, tokens, options.seed)
    facts = {"samples": options.samples, "tokens": tokens, "seed": options.seed}
    basis = fit(Runner(model), samples, angles_of(model.network, model.shape.head_dim), facts)
    path = basis.save(options.out, model)
    say(f"{path}: {path.stat().st_size:,} bytes, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
