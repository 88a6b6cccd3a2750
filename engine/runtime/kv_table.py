"""KVTable: pods and a growing tail behind addresses that never change, for a decode step recorded as a CUDA graph.

It implements attention.Memory with this folder's kernels. Which pods are attended is written into tables on the device,
so a recorded graph goes on to be valid when they change, as long as `bucket` stays the same.
"""

import weakref
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from engine.core.errors import WindowExceeded
from engine.core.kv_shape import KVShape
from engine.core.quant import Packed
from engine.core.rope import HeadNorms, Rotary
from engine.core.weak_cache import WeakCache
from engine.kernels.attention import append, probs, rope_append, split_kv
from engine.kernels.attention.kv_ranges import ASKER, LAYER, KVRanges, Rows
from engine.kernels.attention.rope_append import Places
from engine.kernels.attention.split_kv import Tiling
from engine.kernels.attention.split_plan import SplitPlan
from engine.kvcache.exact import Pod
from engine.kvcache.quantized import AnyPod, QuantizedPod
from engine.runtime.pod_ranges import ranges_of

NARROW = 16
"""Rows of a KV head (query heads that share it x new tokens) up to which a step counts as decoding."""
_ON_CPU = 8
"""Programs where there is no GPU, and kernels are interpreted."""
_TILING = Tiling()
MAX_PODS = 16
"""That can be attended at once; tables have room for their near and distant slots in each KV head."""


class KVTable:
    """Keys and values of several pods and of at most `suffix_tokens` tokens behind them.

    A step adds up to `max_new` tokens: `attend` once per layer, then `advance`. `watched` are layers to `look` at.
    """

    def __init__(
        self,
        shape: KVShape,
        query_heads: int,
        suffix_tokens: int,
        device: torch.device,
        max_new: int = 64,
        tiling: Tiling = _TILING,
        watched: Sequence[int] = (),
    ) -> None:
        self.shape = shape
        self.device = device
        self.max_new = max_new
        self.suffix = shape.empty(suffix_tokens, device), shape.empty(suffix_tokens, device)
        # One addition advances them all.
        self._next = torch.zeros(max_new + 1, dtype=torch.int32, device=device)
        """Positions of the next tokens, then the length of the tail."""
        self._ahead = torch.arange(max_new + 1, dtype=torch.int32, device=device)
        self._ahead[max_new] = 0
        self.suffix_length = self._next[max_new:]
        """Tokens in the tail, as kernels see it."""
        self.length = 0
        """The same on the host: whoever runs or replays `advance` adds to it."""
        self.pods: Sequence[AnyPod] = ()
        """What is attended; the tables point into it."""
        self._filled: Sequence[weakref.ref[AnyPod]] | None = None
        """What the tables were made for, whether or not it is still held."""
        self._rows: WeakCache[AnyPod, Rows | None] = WeakCache(self._read)
        self._tiling = tiling
        self._heads = query_heads
        # A look needs the queries of its layer after those above have had theirs.
        self._queries = self._query_room(shape.layers if watched else 1)
        self._lse = {layer: torch.zeros(query_heads, max_new, device=device) for layer in watched}
        processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 0
        share = query_heads // shape.kv_heads
        # Many new tokens come in several blocks of rows, each of which needs as few programs less.
        blocks = max(1, share * max_new // tiling.rows)
        wide = tiling.wide_programs * processors // blocks
        by_rows = ((tiling.programs * processors, tiling.exact_programs * processors), (wide, wide // 2))
        self._targets = [(packed or _ON_CPU, exact or _ON_CPU) for packed, exact in by_rows]
        """Pieces of a layer over packed slots, and over exact slots alone: of few rows, and of many."""
        room = 2 * MAX_PODS * shape.kv_heads
        self._narrow, self._wide = (SplitPlan(self.suffix, share, max(*both, room)) for both in self._targets)
        self.set(())

    @property
    def bucket(self) -> Hashable:
        """What a recorded graph depends on: where it changes, record again."""
        lists = (self._narrow, self._wide)
        return (*(each.grid for each in lists), self._narrow.formats, self._narrow.rotated, self._queries.shape[1])

    def fits(self, pods: Sequence[AnyPod]) -> bool:
        """Whether the kernels can attend these pods; others go the way of engine.runtime.context."""
        return len(pods) <= MAX_PODS and all(self._rows(pod) is not None for pod in pods)

    def set(self, pods: Sequence[AnyPod]) -> None:
        """Attend these pods from now on, with an empty tail. They must be such that `fits`."""
        filled = self._filled
        if filled is None or len(pods) != len(filled) or any(a is not b() for a, b in zip(pods, filled, strict=True)):
            self._filled = None
            self._fill(pods)
            self._filled = tuple(map(weakref.ref, pods))
        self._hold(pods)
        self.crop(0)

    def forget(self) -> None:
        """Let go of the pods, so that their memory can be freed: nothing is attended before the next `set`.

        The tables stay as they are, which costs nothing, and serves the same pods if they come again.
        """
        self._hold(())

    def _hold(self, pods: Sequence[AnyPod]) -> None:
        self.pods = tuple(pods)
        self._narrow.pods = self._wide.pods = self.pods

    def _fill(self, pods: Sequence[AnyPod]) -> None:
        """Point the tables at these pods."""
        rows = [each for each in map(self._rows, pods) if each is not None]
        assert len(rows) == len(pods)
        if self._queries.shape[1] == 1 and any((each[..., ASKER] != each[..., LAYER]).any() for each in rows):
            # Layers ask with the queries of their root: those of all layers are kept.
            self._queries = self._query_room(self.shape.layers)
        kept = self._queries.shape[1]
        stride = self._queries.stride(1) if kept > 1 else 0
        read = KVRanges(rows, self.suffix, stride, self._queries.stride(0))
        for work, (packed, exact) in zip((self._narrow, self._wide), self._targets, strict=True):
            work.fill(read, packed if read.formats else exact)

    def positions(self, count: int) -> Tensor:
        """Positions (Q,) of the next tokens: behind the longest pod and the tail. They move with `advance`."""
        return self._next[:count]

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Take the new tokens' query (H,Q,D), keys and values (G,Q,D) of a layer; give the output (H,Q,D)."""
        work = self._work(query.shape[1])
        append.append(work, layer, self._queries, query, keys, values, self.suffix_length, work.rotated)
        return self._attended(work, layer, query.shape[1], scale)

    def attend_fused(self, layer: int, rows: Tensor, rotary: Rotary, norms: HeadNorms | None, scale: float) -> Tensor:
        """`attend`, from a layer's fused projection (Q, (H + 2 G) * D) without rotary positions yet."""
        work, count = self._work(len(rows)), len(rows)
        query, rotated = self._queries[:, layer if self._queries.shape[1] > 1 else 0, : self._heads * count]
        dim = self.shape.head_dim
        places = Places(
            query.view(self._heads, count, dim),
            self.suffix[0][layer],
            self.suffix[1][layer],
            self.suffix_length,
            rotated.view(self._heads, count, dim) if work.rotated else None,
        )
        rope_append.rope(rows, rotary, norms, places)
        return self._attended(work, layer, count, scale)

    def look(self, layer: int, head: int, count: int, scale: float) -> list[Tensor]:
        """Attention (Q, T) of one query head on the tokens of each pod, in the last step of `count` tokens.

        As a share of everything attended. The layer must be `watched`, and the step's tokens not advanced over.
        """
        work = self._work(count)
        masses = probs.attention_probs(work, layer, head, self._queries, count, self._lse[layer][:, :count], scale)
        looks, first = [], 0
        for pod in self.pods:
            looks.append(torch.zeros(count, pod.num_tokens, device=self.device))
            for positions in _positions(pod, layer, head // work.share):
                looks[-1].index_copy_(1, positions, masses[:, first : first + len(positions)])
                first += len(positions)
        return looks

    def advance(self, count: int) -> None:
        """Count tokens as held, once every layer has attended them. The host's `length` is the caller's."""
        self._next += count

    def crop(self, length: int) -> None:
        """Forget everything in the tail behind the first `length` tokens."""
        self.length = min(self.length, length)
        longest = max((pod.num_tokens for pod in self.pods), default=0)
        torch.add(self._ahead, longest + self.length, out=self._next)
        self.suffix_length.fill_(self.length)

    def _work(self, count: int) -> SplitPlan:
        """The work list for so many new tokens. Raises WindowExceeded where they have no room."""
        if self.length + count > self.suffix[0].shape[2] or count > self.max_new:
            raise WindowExceeded(f"{count} more tokens do not fit a tail of {self.length} in {self.suffix[0].shape[2]}")
        return self._narrow if self._narrow.share * count <= NARROW else self._wide

    def _attended(self, work: SplitPlan, layer: int, count: int, scale: float) -> Tensor:
        """The output (H, Q, D) of queries, keys and values that are in their places."""
        out, lse = split_kv.attend(work, layer, self._queries, count, self.suffix_length, scale, self._tiling)
        if layer in self._lse:
            self._lse[layer][:, :count] = lse
        return out

    def _query_room(self, layers: int) -> Tensor:
        """Room for queries (2, layers, H * max_new, D), as they are and rotated."""
        rows = self._heads * self.max_new
        return torch.zeros(2, layers, rows, self.shape.head_dim, device=self.device)

    def _read(self, pod: AnyPod) -> Rows | None:
        """The pod's stretches; None where the kernels cannot read it."""
        return ranges_of(pod) if self._fits(pod) else None

    def _fits(self, pod: AnyPod) -> TypeGuard[Pod | QuantizedPod]:
        if isinstance(pod, QuantizedPod):
            known = pod.layout.maps is None and pod.layout.recipe.sharing.skip == 1
            proximal = pod.proximal
        elif isinstance(pod, Pod):
            known, proximal = True, pod
        else:
            return False
        if not known or proximal.keys.dtype != self.shape.dtype or proximal.device.type != self.device.type:
            return False
        return all(_can_be_read(tensor) for tensor in _tensors(pod))


def _positions(pod: AnyPod, layer: int, head: int) -> Iterable[Tensor]:
    """The positions (K,) of a KV head's slots, of each stretch."""
    assert isinstance(pod, Pod | QuantizedPod)
    yield pod.positions if isinstance(pod, Pod) else pod.proximal.positions
    if isinstance(pod, QuantizedPod):
        yield pod.distant_positions(layer, head)


def _tensors(pod: Pod | QuantizedPod) -> Iterable[Tensor]:
    """Rows that kernels read of a pod, one KV head at a time."""
    proximal = pod if isinstance(pod, Pod) else pod.proximal
    yield from (proximal.keys[0, 0], proximal.values[0, 0])
    for layer in pod.distant if isinstance(pod, QuantizedPod) else ():
        for packed in (*layer.keys, *layer.values):
            if isinstance(packed, Packed):
                yield from (packed.codes, packed.scales, packed.zeros) if packed.bits < 16 else (packed.codes,)


def _can_be_read(rows: Tensor) -> bool:
    """Whether rows lie one behind the other, and are read 16 bytes at a time."""
    return not rows.numel() or (rows.is_contiguous() and rows.data_ptr() % 16 == 0)
