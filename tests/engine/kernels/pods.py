"""Random pods of every kind for the kernels' tests, and what attention makes of them by the specification."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.attention import sdpa
from engine.attention.sdpa import SegmentAttention
from engine.compression.compress import pack_pod
from engine.core import lse
from engine.core.kv_shape import KVShape
from engine.core.quant import Packed
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod, DistantLayer, OpenPod, QuantizedPod
from engine.kvcache.recipe import parse
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.kv_table import KVTable
from tests.engine.shapes import uniform

LAYERS = 2


@dataclass(frozen=True)
class Model:
    """What there is of a model here: its shape, its query heads, and where it runs."""

    shape: KVShape
    heads: int
    device: torch.device

    def random(self, generator: torch.Generator, *sizes: int) -> Tensor:
        """Random numbers (*sizes, D) in the model's dtype."""
        numbers = torch.randn(*sizes, self.shape.head_dim, generator=generator)
        return numbers.to(self.device, self.shape.dtype)


def model(groups: int, share: int, dim: int, dtype: torch.dtype, device: torch.device) -> Model:
    return Model(uniform(LAYERS, groups, dim, dtype), groups * share, device)


def pod(
    of: Model, recipe: str, tokens: int, proximal: str = "near4,32", offsets: Sequence[float] = ()
) -> Pod | QuantizedPod:
    """A random pod, exact or of a recipe; where it keeps some slots, KV heads keep different numbers of them.

    `offsets` are added to the first channels of all keys: as real ones have them.
    """
    shape, generator = of.shape, torch.Generator().manual_seed(tokens)
    pair = of.random(generator, 2, LAYERS, shape.kv_heads, tokens).cpu()
    pair[0, ..., : len(offsets)] += torch.tensor(offsets, dtype=pair.dtype)
    exact = Pod(pair[0].clone(), pair[1].clone(), torch.arange(tokens), tokens)
    if recipe == "exact":
        return placed(exact, of.device)
    parsed = parse(f"{recipe}+{proximal}")
    # Shared keys in all KV heads but the last, or in the only one.
    shared = max(1, shape.kv_heads - 1) if parsed.sharing.mode else 0
    rows = [[0 if head < shared else layer for head in range(shape.kv_heads)] for layer in range(LAYERS)]
    scores = None
    if parsed.selection.drops:
        worth = torch.rand(LAYERS, shape.kv_heads, tokens, generator=generator)
        scores = Scores(tokens, worth * torch.linspace(0.3, 1, shape.kv_heads)[:, None])
    return placed(pack_pod(exact, Layout(parsed, tuple(map(tuple, rows))), scores), of.device)


def placed(pod: Pod | QuantizedPod, device: torch.device) -> Pod | QuantizedPod:
    """The same on a device."""
    if isinstance(pod, Pod):
        return Pod(pod.keys.to(device), pod.values.to(device), pod.positions.to(device), pod.num_tokens)

    def put(packed: Packed | None) -> Packed | None:
        names = ("codes", "scales", "zeros")
        return packed and replace(packed, **{name: getattr(packed, name).to(device) for name in names})

    distant = (
        DistantLayer(
            tuple(map(put, each.keys)),
            tuple(map(put, each.values)),
            None if each.kept is None else each.kept.to(device),
        )
        for each in pod.distant
    )
    return QuantizedPod(pod.layout, placed(pod.proximal, device), tuple(distant), pod.num_tokens)


def widened(pod: AnyPod) -> AnyPod:
    """The same numbers, to be computed with in float32."""
    if isinstance(pod, OpenPod):
        assert pod.keys.dtype == torch.float32
        return pod
    if isinstance(pod, Pod):
        return Pod(pod.keys.float(), pod.values.float(), pod.positions, pod.num_tokens)

    def wide(packed: Packed | None) -> Packed | None:
        return packed if packed is None or packed.bits < 16 else replace(packed, codes=packed.codes.float())

    distant = tuple(
        DistantLayer(tuple(map(wide, each.keys)), tuple(map(wide, each.values)), each.kept) for each in pod.distant
    )
    return QuantizedPod(pod.layout, widened(pod.proximal), distant, pod.num_tokens)


class Conversation:
    """Steps of new tokens over some pods, the same through a table and through contexts."""

    def __init__(self, of: Model, pods: list[AnyPod], capacity: int = 48, table: KVTable | None = None) -> None:
        self.of = of
        self.table = table or KVTable(of.shape, of.heads, capacity, of.device, max_new=32)
        assert not self.table.why_not(pods)
        self.table.set(pods)
        shape = replace(of.shape, dtype=torch.float32)
        self.truth = Context([widened(pod) for pod in pods], SuffixCache(shape, capacity, of.device), lse.reference)
        plain: SegmentAttention = sdpa.select_backend(of.device, of.shape.dtype)[0]
        self.plain = Context(pods, SuffixCache(of.shape, capacity, of.device), plain)
        self._generator = torch.Generator().manual_seed(5)

    def put(self, count: int) -> None:
        """Fill empty tails with so many tokens, without attending to them."""
        for part, suffix in enumerate(self.table.suffix):
            new = self.of.random(self._generator, LAYERS, self.of.shape.kv_heads, count)
            for other in (suffix, *((each.keys, each.values)[part] for each in (self.plain.suffix, self.truth.suffix))):
                other[:, :, :count] = new
        self._count(count)

    def step(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Feed so many tokens; outputs (L, H, Q, D) by the table, by plain attention, and in float32."""
        outputs: list[list[Tensor]] = [[], [], []]
        groups, scale = self.of.shape.kv_heads, self.of.shape.head_dim**-0.5
        positions = self.table.positions(count).tolist()
        assert positions == [self.truth.position + number for number in range(count)]
        for layer in range(LAYERS):
            query = self.of.random(self._generator, self.of.heads, count)
            keys, values = self.of.random(self._generator, 2, groups, count)
            new = query, keys, values
            wide = [each.float() for each in new]
            outputs[0].append(self.table.attend(layer, *new, scale))
            outputs[1].append(self.plain.attend(layer, *new, scale))
            outputs[2].append(self.truth.attend(layer, *wide, scale))
        self._count(count)
        got, plain, truth = (torch.stack(each) for each in outputs)
        return got, plain, truth

    def _count(self, count: int) -> None:
        self.table.advance(count)
        self.table.length += count
        self.plain.suffix.advance(count)
        self.truth.suffix.advance(count)
