"""Finds the basis of a model: reads texts of several kinds, and takes the principal components of what is kept of them.

The more texts, and the nearer to what will be read, the better.
"""

import hashlib
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.compression.sample_text import texts_of_kinds
from engine.core.atomic import atomic_write
from engine.core.errors import CalibrationFailed
from engine.core.rope import Angles
from engine.core.system_errors import as_os_errors
from engine.kvcache import tensor_file
from engine.kvcache.basis import Basis, Transform
from engine.kvcache.blocks import coded
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout, expected_bytes
from engine.kvcache.recipe import parse
from engine.kvcache.suffix import SuffixCache
from engine.models.families.registry import angles_of
from engine.models.loader import Model
from engine.runtime.graph_runner import through
from engine.runtime.prefill.builder import read
from engine.runtime.runner import Runner

Observed = dict[str, Tensor]

SINKS = 4
"""The first tokens of a text have keys and values of their own kind."""
LEAST_SPREAD = 0.02
"""Directions along which less varies are left out: they serve no step that is coarser than .1."""
SAMPLES, TOKENS = 60, 512
"""Many short texts say more of what will be read than a few long ones of as many tokens."""
LONG_TOKENS, LONG_BYTES = 4096, 4 << 30
"""Where reading costs little, on a GPU, texts are so long, or as long as all samples take so many bytes: they say more
of what stands far from a question."""
MOST_NUMBERS = 8_192
"""Of a vector, which is of a group of layers: its covariance takes the square of that, four bytes each."""
MOST_SHARE, LEAST_BYTES = 0.03, 128 << 20
"""Of a model's weights that its basis may take, in two bytes each; and what is given to any model."""
ASKED = 64
"""Tokens at the end of a text, which say what matters of those before."""
MOST_DIVERGENCE = 0.1
"""Nats: ten times what is found of models that can be coded well."""
FORMAT = 1
"""Of what is observed."""
SAMPLES_SUFFIX = ".samples"
_CHARACTERS = 6
"""Of which a token is hardly ever made; text that is sparser is left out."""
_COLUMNS = 1024
_SECONDS = 60.0
"""Of finding directions of 5,760 numbers, on two cores."""
_RIDGE, _OWN_RIDGE = 1e-2, 2e-2
"""Shares of the mean information, of all heads and of a head's own."""


class _Frozen:
    """A pod as leaves of the graph of gradients, one a layer; implements sdpa.KVContext for `count` tokens behind."""

    def __init__(self, pod: Pod, count: int) -> None:
        self.keys, self.values = ([each.clone().requires_grad_() for each in side] for side in (pod.keys, pod.values))
        known = pod.num_tokens
        self._seen = torch.ones(count, known + count, dtype=torch.bool, device=pod.keys.device).tril(known)

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """See sdpa.KVContext."""
        known, held = torch.cat([self.keys[layer], keys], 1), torch.cat([self.values[layer], values], 1)
        attention = nn.functional.scaled_dot_product_attention
        return attention(query[None], known[None], held[None], self._seen, scale=scale, enable_gqa=True)[0]


def information(model: Model, pod: Pod, asked: Sequence[int], angles: Angles, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The Fisher information (L * G, D, D) that the tokens behind a pod have of its keys, without positions, and of
    its values: sums of the outer products of gradients of log p(y), for y drawn from what the model expects.

    Half an error's quadratic form with it is about the divergence that the error brings (Amari, Natural gradient).
    """
    frozen, device = _Frozen(pod, len(asked)), model.device
    positions = torch.arange(pod.num_tokens, pod.num_tokens + len(asked), device=device)
    logits = through(model.network)(torch.tensor(asked, device=device), positions, frozen, len(asked)).float()
    drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=torch.Generator(device).manual_seed(seed))
    loss = nn.functional.cross_entropy(logits, drawn[:, 0], reduction="sum")
    keys, values = torch.stack(torch.autograd.grad(loss, (*frozen.keys, *frozen.values))).chunk(2)
    sides = angles.undo(keys, pod.positions), values.float()
    of_keys, of_values = (rows.mT @ rows for rows in (side[:, :, SINKS:].flatten(0, 1) for side in sides))
    return of_keys, of_values


def observe(runner: Runner, ids: Sequence[int], angles: Angles) -> Observed:
    """What `fit` takes of a text: `keys` and `values` (L, G, T, D) but for the sinks, and what the last tokens tell of
    both, `of_keys` and `of_values`."""
    pod = _read(runner, ids)
    with runner.lock:
        of_keys, of_values = information(runner.model, pod, ids[-ASKED:], angles)
    keys, values = (side[:, :, SINKS:].contiguous() for side in (pod.keys, pod.values))
    return {"keys": keys, "values": values, "of_keys": of_keys, "of_values": of_values}


def _read(runner: Runner, ids: Sequence[int]) -> Pod:
    pod = read(runner, ids[:-ASKED])
    assert isinstance(pod, Pod)
    return pod


class Moments:
    """Sums over the vectors (T, N) of tokens, from which mean and covariance come."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._count = 0
        self._sum = torch.zeros(size, dtype=torch.float64, device=device)
        self._products = torch.zeros(size, size, device=device)

    def add(self, rows: Tensor) -> None:
        self._count += len(rows)
        self._sum += rows.double().sum(0)
        # Half of it says all.
        for start in range(0, rows.shape[1], _COLUMNS):
            stop = start + _COLUMNS
            self._products[start:stop, :stop].addmm_(rows[:, start:stop].T, rows[:, :stop])

    def transform(self, weights: Tensor) -> Transform:
        """The principal components of the weighted vectors, as half precision holds them."""
        mean = self._sum / self._count
        covariance = (self._products.tril() + self._products.tril(-1).T) / self._count
        covariance = (covariance.double() - mean.outer(mean)).float()
        for _ in range(2):
            # Of the rows, and then of the columns.
            covariance = (weights.mT @ covariance.view(*weights.shape[:2], -1)).flatten(0, 1).T.contiguous()
        variances, directions = torch.linalg.eigh(covariance)
        spread = variances.clamp_min(0).sqrt().flip(0)
        kept = int((spread >= LEAST_SPREAD).sum())
        return Transform(
            mean.float(), weights, directions.flip(1)[:, :kept].half().contiguous(), spread[:kept].contiguous()
        )


def fit(samples: Iterable[Observed], angles: Angles, facts: dict[str, Any], most_bytes: int = LEAST_BYTES) -> Basis:
    """The basis over texts, each as it was observed, in about so many bytes: the widest directions of all groups."""
    moments: list[Moments] = []
    known: list[Tensor] = []
    for each in samples:
        keys = each["keys"]
        positions = torch.arange(SINKS, SINKS + keys.shape[2], device=keys.device)
        sides = angles.undo(keys, positions).flatten(0, 1), each["values"].float().flatten(0, 1)
        groups = [part for side in sides for part in side.tensor_split(-(-len(side) * side.shape[2] // MOST_NUMBERS))]
        flat = [part.transpose(0, 1).flatten(1) for part in groups]
        moments = moments or [Moments(part.shape[1], part.device) for part in flat]
        for group, vectors in zip(moments, flat, strict=True):
            group.add(vectors)
        found = [each["of_keys"].double(), each["of_values"].double()]
        known = [old + new for old, new in zip(known, found, strict=True)] if known else found
    count = len(moments) // 2
    weights = [part for side in _weights(known) for part in side.tensor_split(count)]
    whole = [each.transform(part) for each, part in zip(moments, weights, strict=True)]
    spreads = torch.cat([each.spread for each in whole])
    sizes = torch.cat([torch.full_like(each.spread, 2 * len(each.mean)) for each in whole])
    falling = spreads.argsort(descending=True)
    kept = int((sizes[falling].double().cumsum(0) <= most_bytes).sum())
    least = float(spreads[falling[kept - 1]])
    cut = [each.first(each.within(least)) for each in whole]
    return Basis(tuple(cut[:count]), tuple(cut[count:]), angles, facts)


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


def angles_of_codable(model: Model) -> Angles:
    """The positions of a model's keys. Raises ModelUnsupported and PlanMissing for one that no basis is found for."""
    model.need_every_token()
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
    """Find a model's basis, try it out on texts that it was not found on, and write it for basis.find; returns its
    path. `say` hears how far it is.

    `count` samples (0: SAMPLES) of so many tokens (0: `sample_tokens`) are read, half of them of the
    `own` text of the model's user. What was observed of each stays in a folder until all is done: whoever is stopped,
    or killed, goes on from there.

    Raises ModelUnsupported and CalibrationFailed.
    """
    model = runner.model
    angles = angles_of_codable(model)
    tokens = tokens or sample_tokens(model)
    drawn, unseen = _drawn(model, own, count or SAMPLES, tokens, seed)
    if not drawn or tokens < 2 * ASKED:
        raise CalibrationFailed(f"samples of {tokens} tokens are too short or too long, or too few; 512 do well")
    folder = samples_folder(out, model)

    def samples() -> Iterator[Observed]:
        for number, ids in enumerate(drawn):
            say(f"Finding out how the memory of {model.name} is coded, once: {number} of {len(drawn)} texts.")
            path = folder / f"{hashlib.sha256(f'{FORMAT} {ids}'.encode()).hexdigest()[:16]}.safetensors"
            known = _known(path, model)
            if known is None:
                known = observe(runner, ids, angles)
                with atomic_write(path) as scratch:
                    save_file(known, scratch)
            yield known
        say(f"Finding out how the memory of {model.name} is coded, once: {len(drawn)} of {len(drawn)} texts.")

    most = max(LEAST_BYTES, int(2 * MOST_SHARE * model.network.num_parameters()))
    found = fit(samples(), angles, {"samples": len(drawn), "tokens": tokens, "seed": seed}, most)
    tried = [_tried(runner, ids, found) for ids in unseen]
    divergence, taken = (sum(each) / len(unseen) for each in zip(*tried, strict=True))
    found.facts.update(divergence=round(divergence, 4), taken=round(taken, 3))
    if divergence > MOST_DIVERGENCE:
        raise CalibrationFailed(
            f"the memory of {model.name} cannot be coded well: predictions diverge by {divergence:.2f} nats"
        )
    path = found.save(out, model)
    # It is gone already where a document was deleted meanwhile.
    shutil.rmtree(folder, ignore_errors=True)
    return path


def seconds_of(model: Model, reading: float) -> float:
    """About how long `prepare` takes where the model reads a sample in so many seconds."""
    numbers = model.shape.layers * model.shape.kv_heads * model.shape.head_dim
    groups = -(-numbers // MOST_NUMBERS)
    return 2 * SAMPLES * reading + groups * _SECONDS * (numbers / groups / 5760) ** 3


def passing_bytes(model: Model) -> int:
    """Of what `prepare` keeps until it has found the basis."""
    return SAMPLES * sample_tokens(model) * model.shape.token_bytes


def sample_tokens(model: Model) -> int:
    """Of a sample of a model, if nothing else is said."""
    held = LONG_BYTES // (SAMPLES * model.shape.token_bytes) if model.device.type == "cuda" else 0
    return min(max(TOKENS, min(held, LONG_TOKENS)), model.window)


def samples_folder(out: Path, model: Model) -> Path:
    """Where what was observed of texts stays until the basis is found."""
    return tensor_file.path_of(out, model.name, model.digest, "basis").with_suffix(SAMPLES_SUFFIX)


def _drawn(model: Model, own: str, count: int, tokens: int, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Samples, and others to try the basis out on: half of the user's own text, the rest of each kind as many, as far
    as they go."""
    drawn: list[list[int]] = []
    unseen: list[list[int]] = []
    texts = [own, *texts_of_kinds()]
    for number, text in enumerate(texts):
        wanted = (count - len(drawn)) // (len(texts) - number if number else 2) + 1
        aside, *more = [*islice(_pieces(model, text, tokens, seed), wanted)] or [[]]
        if more:
            drawn, unseen = drawn + more, [*unseen, aside]
    return drawn, unseen


def _pieces(model: Model, text: str, tokens: int, seed: int) -> Iterator[list[int]]:
    """Pieces of a text that do not overlap, in no order, each of so many tokens with the head of a prompt."""
    head, size = model.tokenizer.user_turn()[0], _CHARACTERS * tokens
    starts = [*range(0, len(text) - size + 1, size)]
    random.Random(seed).shuffle(starts)
    for start in starts:
        ids = [*head, *model.tokenizer.encode(text[start : start + size])[0]]
        if len(ids) >= tokens:
            yield ids[:tokens]


def _known(path: Path, model: Model) -> Observed | None:
    """What was observed of a sample before; None where it was not, or where that is damaged."""
    try:
        with as_os_errors():
            return load_file(path, str(model.device))
    except (FileNotFoundError, SafetensorError):
        return None


def _tried(runner: Runner, ids: Sequence[int], found: Basis) -> tuple[float, float]:
    """Of a text that is kept by the recipe compact: the mean KL, in nats, of what is predicted of its last tokens, and
    its coded bytes by those that `Basis.bits` foretells."""
    model, pod = runner.model, _read(runner, ids)
    plan = Layout(parse("compact"), (), basis=found)

    def predicted(pod: Pod) -> Tensor:
        context = runner.context([pod], SuffixCache(model.shape, ASKED, model.device))
        return runner.score(context, ids[-ASKED:], ASKED).float().log_softmax(-1)

    blocks = list(coded.to_blocks(pod, plan))
    exact, coded_ = predicted(pod), predicted(coded.restored(blocks, plan, model))
    near = len(plan.proximal(pod.num_tokens)) * model.shape.token_bytes
    taken = sum(len(each.payload) for each in blocks) - near
    foretold = expected_bytes(plan, model.shape, pod.num_tokens) - near
    return float(nn.functional.kl_div(coded_, exact, reduction="batchmean", log_target=True)), taken / foretold
