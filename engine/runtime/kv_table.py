"""KVTable: pods and a growing tail behind addresses that never change, for a decode step recorded as a CUDA graph.

It implements sdpa.KVContext with this folder's kernels. Which pods are attended is written into tables on the device,
so a recorded graph goes on to be valid when they change, as long as `bucket` stays the same.
"""

import weakref
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from engine.core.errors import WindowExceeded
from engine.core.kv_shape import KVShape
from engine.core.quant import Packed
from engine.core.rope import HeadNorms, Rotary
from engine.core.weak_cache import WeakCache
from engine.kernels.attention import rope_append, split_kv
from engine.kernels.attention.kv_ranges import ASKER, KEY_BITS, LAYER, ROTATED, STOP, VALUE_BITS, KVRanges, Rows
from engine.kernels.attention.rope_append import Places
from engine.kernels.attention.split_kv import Tiling
from engine.kernels.attention.split_plan import Plan, SplitPlan
from engine.kvcache.exact import Pod
from engine.kvcache.quantized import AnyPod, OpenPod, QuantizedPod
from engine.runtime.attention_probe import AttentionProbe
from engine.runtime.pod_ranges import ranges_of

NARROW = 16
"""Rows of a KV head (query heads that share it x new tokens) up to which a step counts as decoding."""
_ON_CPU = 8
"""Programs where there is no GPU, and kernels are interpreted."""
MAX_PODS = 16
"""That can be attended at once; tables have room for their near and distant slots in each KV head."""
_PLANS = 4
"""Pods whose plans are kept: those of a question, and the passage that it is answered from, come in turns."""


class KVTable:
    """Keys and values of several pods and of at most `suffix_tokens` tokens behind them.

    A step adds up to `max_new` tokens: `attend` once per layer, then `advance`. `probe` observes chosen heads.
    """

    def __init__(
        self,
        shape: KVShape,
        query_heads: int,
        suffix_tokens: int,
        device: torch.device,
        max_new: int = 64,
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
        self._plans: list[tuple[tuple[weakref.ref[AnyPod], ...], tuple[Plan, Plan]]] = []
        """What the tables held for the last pods, newest first, whether or not those are still held."""
        self._rows: WeakCache[AnyPod, Rows | str] = WeakCache(self._read)
        self._refused: dict[Hashable, str] = {}
        """Why pods of some formats are not taken."""
        self._tiling = tiling = Tiling()
        self._heads = query_heads
        self._queries = self._query_room(1)
        processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 0
        share = query_heads // shape.kv_heads
        self.probe = AttentionProbe(share, max_new, device)
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
        kept = self._queries.shape[1]
        return *(each.grid for each in lists), self._narrow.formats, self._narrow.rotated, kept, self.probe.bucket

    def why_not(self, pods: Sequence[AnyPod]) -> str:
        """Why the kernels cannot attend these pods, which then go the way of engine.runtime.context; empty if they
        can."""
        if len(pods) > MAX_PODS:
            return f"{len(pods)} pods at once are more than {MAX_PODS}"
        every = [self._rows(pod) for pod in pods]
        reasons = (rows if isinstance(rows, str) else self._refused.get(_format(rows), "") for rows in every)
        return next(filter(None, reasons), "")

    def refuse(self, pods: Sequence[AnyPod], reason: str) -> None:
        """Have a reason not to take pods of the formats that these are in, as where their kernels do not compile."""
        for rows in map(self._rows, pods):
            if not isinstance(rows, str):
                self._refused[_format(rows)] = reason

    def set(self, pods: Sequence[AnyPod]) -> None:
        """Attend these pods from now on, with an empty tail. `why_not` must have nothing against them."""
        self._plans = [(of, plans) for of, plans in self._plans if all(each() is not None for each in of)]
        same = (each for each in self._plans if len(each[0]) == len(pods))
        known = next((each for each in same if all(a() is b for a, b in zip(each[0], pods, strict=True))), None)
        if known is None:
            self._fill(pods)
            known = tuple(map(weakref.ref, pods)), (self._narrow.plan, self._wide.plan)
        else:
            self._plans = [each for each in self._plans if each is not known]
            for work, plan in zip((self._narrow, self._wide), known[1], strict=True):
                work.show(plan)
        self._plans = [known, *self._plans][:_PLANS]
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
        rows = [each for each in map(self._rows, pods) if not isinstance(each, str)]
        assert len(rows) == len(pods)
        if self._queries.shape[1] == 1 and any((each[..., ASKER] != each[..., LAYER]).any() for each in rows):
            # Layers ask with the queries of their root: those of all layers are kept.
            self._queries = self._query_room(self.shape.layers)
            # Plans say where queries stand.
            self._plans = []
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
        return self.attend_fused(layer, torch.cat((query, keys, values)).transpose(0, 1).flatten(1), None, None, scale)

    def attend_fused(
        self, layer: int, rows: Tensor, rotary: Rotary | None, norms: HeadNorms | None, scale: float
    ) -> Tensor:
        """`attend`, from a layer's fused projection (Q, (H + 2 G) * D) without norms of heads and rotary positions yet,
        unless there is no `rotary`."""
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
        out, lse = split_kv.attend(work, layer, self._queries, count, self.suffix_length, scale, self._tiling)
        self.probe.record(work, layer, self._queries, count, lse, scale)
        return out

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

    def _query_room(self, layers: int) -> Tensor:
        """Room for queries (2, layers, H * max_new, D), as they are and rotated."""
        rows = self._heads * self.max_new
        return torch.zeros(2, layers, rows, self.shape.head_dim, dtype=torch.float32, device=self.device)

    def _read(self, pod: AnyPod) -> Rows | str:
        """The pod's ranges, or why the kernels cannot read it."""
        if not isinstance(pod, Pod | QuantizedPod | OpenPod):
            return f"kernels do not know the ranges of a {type(pod).__name__}"
        held = _proximal(pod).keys
        if held.dtype != self.shape.dtype or held.device.type != self.device.type:
            return f"a pod of {held.dtype} on {held.device.type} is beside a model of {self.shape.dtype}"
        if isinstance(pod, QuantizedPod) and pod.summary:
            return "a summary gives sums of its own, which only the plain path merges"
        if isinstance(pod, QuantizedPod) and pod.layout.maps is not None:
            return "kernels predict no keys"
        return ranges_of(pod) if all(map(_can_be_read, _tensors(pod))) else "rows are not aligned to 16 bytes"


def _format(rows: Rows) -> Hashable:
    """Bits of keys and of values, and whether anything is rotated: what kernels are compiled for."""
    held = rows[rows[..., STOP] > 0]
    return frozenset(map(tuple, np.unique(held[:, [KEY_BITS, VALUE_BITS, ROTATED]], axis=0).tolist()))


def _tensors(pod: Pod | QuantizedPod | OpenPod) -> Iterable[Tensor]:
    """Rows that kernels read of a pod, one KV head at a time."""
    proximal = _proximal(pod)
    yield from (proximal.keys[0, 0], proximal.values[0, 0])
    if isinstance(pod, OpenPod):
        yield from (pod.keys, pod.values)
    for layer in pod.distant if isinstance(pod, QuantizedPod) else ():
        for packed in (*layer.keys, *layer.values):
            if isinstance(packed, Packed):
                yield from (packed.codes, packed.scales, packed.zeros) if packed.bits < 16 else (packed.codes,)


def _proximal(pod: Pod | QuantizedPod | OpenPod) -> Pod:
    return pod if isinstance(pod, Pod) else pod.proximal


def _can_be_read(rows: Tensor) -> bool:
    """Whether rows lie one behind the other, and are read 16 bytes at a time."""
    return not rows.numel() or (rows.is_contiguous() and rows.data_ptr() % 16 == 0)
