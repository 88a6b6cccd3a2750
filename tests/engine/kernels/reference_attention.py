"""What the kernels of this folder compute, in plain PyTorch and float32 (float64 stays): the specification."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.core.lse import merge, reference
from engine.core.quant import Packed, dequantize, hadamard
from engine.kernels.attention.split_plan import SplitPlan
from engine.kvcache.exact import Pod
from engine.kvcache.quantized import AnyPod, QuantizedPod


@dataclass(frozen=True)
class Stretch:
    """Slots of one KV head of a layer that are stored alike: rows (K, D), exact or packed.

    `asker`: the layer whose queries meet the keys. `rotated`: keys and values are, by the Hadamard matrix.
    """

    head: int
    keys: Packed | Tensor
    values: Packed | Tensor
    asker: int
    rotated: bool = False


def attend(
    work: SplitPlan,
    layer: int,
    queries: Tensor,
    count: int,
    suffix_length: Tensor,
    scale: float,
    tiling: object,
) -> tuple[Tensor, Tensor]:
    """See decode_attention.attend."""
    keys, values = (each[layer] for each in work.suffix)
    heads = len(keys)
    rows = queries[:, :, : heads * work.share * count].reshape(2, -1, heads, work.share, count, keys.shape[2])
    own = layer if queries.shape[1] > 1 else 0
    length = int(suffix_length)
    outputs, sums = [], []
    for head in range(heads):
        parts = [
            _of(each, rows, scale)
            for pod in work.pods
            for each in kv_ranges(pod, layer)
            if each.head == head and _slots(each.keys)
        ]
        ask = rows[0, own, head]
        for stop, causal in ((length, False), (length + count, True)):
            first = 0 if not causal else length
            if stop > first:
                held = keys[head : head + 1, first:stop].float(), values[head : head + 1, first:stop].float()
                parts.append(reference(ask, *held, scale, causal))
        out, lse = merge(parts)
        outputs.append(out)
        sums.append(lse)
    return torch.cat(outputs).to(keys.dtype), torch.cat(sums)


def kv_ranges(pod: AnyPod, layer: int) -> Iterable[Stretch]:
    """What a layer meets in a pod, per KV head: proximal slots, then distant ones."""
    assert isinstance(pod, Pod | QuantizedPod)
    proximal = pod if isinstance(pod, Pod) else pod.proximal
    pairs = zip(proximal.keys[layer].unbind(), proximal.values[layer].unbind(), strict=True)
    for head, (exact_keys, exact_values) in enumerate(pairs):
        yield Stretch(head, exact_keys, exact_values, layer)
    if isinstance(pod, QuantizedPod):
        recipe = pod.layout.recipe
        for head, (root, values) in enumerate(zip(pod.layout.roots[layer], pod.distant[layer].values, strict=True)):
            keys = pod.distant[root].keys[head]
            assert keys is not None
            yield Stretch(head, keys, values, root if recipe.sharing.mode == "A" else layer, recipe.precision.rotate)


def _of(stretch: Stretch, rows: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Output (H / G, Q, D) and log-sum-exp of a stretch, of queries (2, L, G, H / G, Q, D)."""
    asker = stretch.asker if rows.shape[1] > 1 else 0
    keys, values = (
        dequantize(each, torch.float32) if isinstance(each, Packed) else each for each in (stretch.keys, stretch.values)
    )
    query = rows[int(stretch.rotated), asker, stretch.head]
    out, lse = reference(query, keys[None].float(), values[None].float(), scale, False)
    return (out @ hadamard(out.shape[-1], out.device) if stretch.rotated else out), lse


def _slots(rows: Packed | Tensor) -> int:
    return len(rows.codes if isinstance(rows, Packed) else rows)
