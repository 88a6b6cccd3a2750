"""Blocks of states: what layers with a state keep of all tokens so far, exactly as it is, beside the blocks of keys and
values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.kv_shape import KVShape, StateShape
from engine.core.pinned_staging import to_host
from engine.kvcache.exact import PodBlock

KIND = "states"


def leaving(states: Sequence[Tensor], done: int) -> Callable[[], PodBlock]:
    """The states behind `done` tokens on their way to plain bytes in host memory; the call that waits for them.

    The block spans no token.
    """
    arrived = to_host(torch.cat([each.contiguous().view(torch.uint8).flatten() for each in states]))
    meta = {"kind": KIND, "start": 0, "done": done, "shape": _facts(states)}
    return lambda: PodBlock(0, 0, meta, arrived().numpy().data.cast("B"))


def from_block(
    meta: Mapping[str, Any], payload: memoryview, shape: KVShape, done: int, device: torch.device
) -> tuple[Tensor, ...]:
    """The states behind `done` tokens from stored bytes. Raises PodMismatch on others."""
    wanted = {"kind": KIND, "done": done, "shape": _facts(shape.states)}
    found = {name: meta.get(name) for name in wanted}
    if found != wanted or len(payload) != shape.state_bytes:
        raise PodMismatch(f"{len(payload)} bytes of {found} do not fit {wanted}")
    parts = torch.split(torch.frombuffer(payload, dtype=torch.uint8), [each.nbytes for each in shape.states])
    # Copies, since a dtype begins at a multiple of its size.
    return tuple(
        part.clone().view(each.dtype).view(each.shape).to(device)
        for part, each in zip(parts, shape.states, strict=True)
    )


def _facts(states: Sequence[Tensor | StateShape]) -> list[Any]:
    """Dtype and dimensions of each."""
    return [[str(each.dtype), *each.shape] for each in states]
