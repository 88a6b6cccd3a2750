"""Finds the basis of a model: reads texts of several kinds, and takes the principal components of what is kept of them.

The more texts, and the nearer to what will be read, the better; `--text` adds to those that every machine has.

python -m engine.sharing.basis_fit --model embedded --models DIR --out DIR
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.core.errors import EngineError, ModelUnsupported
from engine.core.rope import Angles
from engine.kvcache.basis import Basis, Transform
from engine.kvcache.exact import Pod
from engine.models import loader
from engine.models.families.registry import angles_of
from engine.models.loader import Model
from engine.runtime.graph_runner import through
from engine.runtime.prefill.builder import read
from engine.runtime.runner import Runner
from engine.sharing.plan_search import draw_samples
from engine.sharing.sample_text import add_options, read_text, texts_of_kinds

SINKS = 4
"""The first tokens of a text have keys and values of their own kind."""
LEAST_SPREAD = 0.02
"""Directions along which less varies are left out: they serve no step that is coarser than .1."""
SAMPLES = 36
MOST_NUMBERS = 12_288
"""Of a vector: its covariance takes the square of that, four bytes each."""
ASKED = 256
"""Tokens at the end of a text, which say what matters of those before."""
_RIDGE, _OWN_RIDGE = 1e-2, 2e-2
"""Shares of the mean information, of all heads and of a head's own."""


class _Frozen:
    """A pod as leaves of the graph of gradients; implements sdpa.KVContext for tokens behind it."""

    def __init__(self, pod: Pod) -> None:
        self.keys, self.values = (each.clone().requires_grad_() for each in (pod.keys, pod.values))

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """See sdpa.KVContext."""
        known, held = torch.cat([self.keys[layer], keys], 1), torch.cat([self.values[layer], values], 1)
        seen = torch.ones(query.shape[1], known.shape[1], dtype=torch.bool, device=query.device)
        seen = seen.tril(self.keys.shape[2])
        attention = nn.functional.scaled_dot_product_attention
        return attention(query[None], known[None], held[None], seen, scale=scale, enable_gqa=True)[0]


def information(model: Model, pod: Pod, asked: Sequence[int], angles: Angles, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The Fisher information (L * G, D, D) that the tokens behind a pod have of its keys, without positions, and of
    its values: sums of the outer products of gradients of log p(y), for y drawn from what the model expects.

    Half an error's quadratic form with it is about the divergence that the error brings (Amari, Natural gradient).
    """
    frozen, device = _Frozen(pod), model.device
    positions = torch.arange(pod.num_tokens, pod.num_tokens + len(asked), device=device)
    logits = through(model.network)(torch.tensor(asked, device=device), positions, frozen, len(asked)).float()
    drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=torch.Generator(device).manual_seed(seed))
    loss = nn.functional.cross_entropy(logits, drawn[:, 0], reduction="sum")
    keys, values = torch.autograd.grad(loss, (frozen.keys, frozen.values))
    sides = angles.undo(keys, pod.positions), values.float()
    by_head = (side[:, :, SINKS:].flatten(0, 1).double() for side in sides)
    of_keys, of_values = (rows.mT @ rows for rows in by_head)
    return of_keys, of_values


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

    def transform(self, weights: Tensor) -> Transform:
        """The principal components of the weighted vectors, as half precision holds them."""
        mean, heads = self._sum / self._count, len(weights)
        covariance = (self._products / self._count).double() - mean.outer(mean)
        weighted = torch.einsum(
            "gdhe,gdx,hey->gxhy", covariance.view(heads, -1, heads, weights.shape[1]), *2 * [weights.double()]
        )
        variances, directions = torch.linalg.eigh(weighted.reshape(covariance.shape).float())
        spread = variances.clamp_min(0).sqrt().flip(0)
        kept = int((spread >= LEAST_SPREAD).sum())
        return Transform(
            mean.float(), weights, directions.flip(1)[:, :kept].half().contiguous(), spread[:kept].contiguous()
        )


def fit(runner: Runner, samples: Iterable[Sequence[int]], angles: Angles, facts: dict[str, Any]) -> Basis:
    """The basis over texts, of which each is read by itself."""
    moments: list[Moments] = []
    known: list[Tensor] = []
    for ids in samples:
        pod = read(runner, ids[:-ASKED])
        assert isinstance(pod, Pod)
        with runner.lock:
            found = information(runner.model, pod, ids[-ASKED:], angles)
        rows = [angles.undo(pod.keys[:, :, SINKS:], pod.positions[SINKS:]), pod.values[:, :, SINKS:].float()]
        flat = [each.permute(2, 0, 1, 3).flatten(1) for each in rows]
        moments = moments or [Moments(each.shape[1], each.device) for each in flat]
        for each, vectors in zip(moments, flat, strict=True):
            each.add(vectors)
        known = [each + more for each, more in zip(known, found, strict=True)] if known else list(found)
    keys, values = (each.transform(scale) for each, scale in zip(moments, _weights(known), strict=True))
    return Basis(keys, values, angles, facts)


def _weights(known: Sequence[Tensor]) -> list[Tensor]:
    """Cholesky factors (L * G, D, D) of the information, of a mean square of 1: of what few texts say nothing about a
    little is added."""
    factors = []
    for each in known:
        by_head = each.diagonal(dim1=-2, dim2=-1).mean(-1)
        ridge = _RIDGE * by_head.mean() + _OWN_RIDGE * by_head
        eye = torch.eye(each.shape[-1], dtype=each.dtype, device=each.device)
        factors.append(torch.linalg.cholesky(each + ridge[:, None, None] * eye))
    mean = torch.cat(factors).square().sum(1).mean()
    return [(each / mean.sqrt()).float() for each in factors]


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.sharing.basis_fit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, SAMPLES, "the basis")
    options = parser.parse_args(arguments)
    try:
        own = read_text(options.text) if options.text else ""
        runner = Runner(loader.load(options.model, options.models, say))
        path = prepare(runner, options.out, own, say, options.samples, options.tokens, options.seed)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    say(f"{path}: {path.stat().st_size:,} bytes")


def angles_of_codable(model: Model) -> Angles:
    """The positions of a model's keys. Raises ModelUnsupported and PlanMissing for one that no basis is found for."""
    model.need_every_token()
    size = model.shape.layers * model.shape.kv_heads * model.shape.head_dim
    if size > MOST_NUMBERS:
        raise ModelUnsupported(
            f"a token's keys of {model.name} are {size:,} numbers, and a basis is found for {MOST_NUMBERS:,} at most"
        )
    return angles_of(model.network, model.shape.head_dim)


def prepare(
    runner: Runner,
    out: Path,
    own: str,
    say: Callable[[str], None],
    count: int = 0,
    tokens: int = 0,
    seed: int = 0,
) -> Path:
    """Find a model's basis and write it for basis.find; returns its path. `say` hears how far it is.

    `count` samples (0: SAMPLES) of so many tokens (0: 4096, or the model's window) are read, a share of them of the
    `own` text of the model's user.

    Raises ModelUnsupported and CalibrationFailed.
    """
    model = runner.model
    angles = angles_of_codable(model)
    tokens = tokens or min(4096, model.window)
    texts = [own, *texts_of_kinds()]
    drawn: list[list[int]] = []
    for number, text in enumerate(texts):
        # Of each kind as many, as far as its text goes.
        wanted = ((count or SAMPLES) - len(drawn)) // (len(texts) - number)
        if there := min(wanted, len(model.tokenizer.encode(text)[0]) // tokens):
            drawn += draw_samples(model, text, there, tokens, seed)

    def samples() -> Iterator[list[int]]:
        for number, ids in enumerate(drawn):
            say(f"Finding out how the memory of {model.name} is coded, once: {number} of {len(drawn)} texts.")
            yield ids

    return fit(runner, samples(), angles, {"samples": len(drawn), "tokens": tokens, "seed": seed}).save(out, model)


if __name__ == "__main__":
    main()
