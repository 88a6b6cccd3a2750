"""States: what layers without attention, or beside it, keep of a text, in and out of transformers' own cache."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from engine.core.kv_shape import LayerShape, StateShape
from engine.models.families.base import OTHERS, layer_types

_KINDS = ("conv_states", "recurrent_states")


class StateCache(DynamicCache):
    """transformers' cache of one call of a network, which goes on from copies of some states.

    Keys and values pass through it: they are kept elsewhere.
    """

    def __init__(self, config: Any, shapes: Sequence[StateShape], states: Sequence[Tensor]) -> None:
        """Without `states` a text begins."""
        super().__init__(config=config)
        for each, state in zip(shapes, states, strict=bool(states)):
            put = self.update_conv_state if each.kind == _KINDS[0] else self.update_recurrent_state
            put(state, each.layer, each.place)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Both as they are."""
        return key_states, value_states

    def held(self) -> dict[StateShape, Tensor]:
        """All states that there are by now, by their shapes."""
        return {
            StateShape(number, kind, place, tuple(state.shape), state.dtype): state
            for number, layer in enumerate(self.layers)
            for kind in _KINDS
            for place, state in getattr(layer, kind, {}).items()
            if state is not None
        }


def cached(network: Any, cache: StateCache) -> dict[str, StateCache]:
    """The argument by which a network takes it: transformers gave it another name."""
    known = inspect.signature(type(network).forward).parameters
    return {"cache" if "cache" in known else "past_key_values": cache}


@torch.inference_mode()
def found_states(network: Any) -> tuple[StateShape, ...]:
    """The states that a network keeps, seen behind one token."""
    config = network.config
    if not {*layer_types(config)} & {"hybrid", *OTHERS}:
        return ()
    cache, first = StateCache(config, (), ()), torch.zeros(1, 1, dtype=torch.long, device=network.device)
    network(input_ids=first, position_ids=first, use_cache=False, kv_context=_Nothing(), **cached(network, cache))
    return tuple(cache.held())


class _Nothing:
    """Attention to nothing."""

    def expect(self, layer: int, asked: LayerShape, sinks: Tensor | None) -> int:
        return layer

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        return torch.zeros_like(query)
