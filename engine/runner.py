"""Runner: one model on one device, behind one lock that is held for a chunk or a token at a time."""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from engine import attention
from engine.context import Context, Head
from engine.errors import WindowExceeded
from engine.models import Model
from engine.packed_pod import AnyPod
from engine.stepper import Stepper
from engine.tail import Tail


class Runner:
    """Runs the model on new tokens in a context. Several threads may share it; their calls take turns."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.attention, self.backend = attention.choose(model.device, model.shape.dtype)
        self._lock = threading.Lock()
        self.stepper: Stepper | None = None
        """Runs answers on the device, where it fits one; whoever makes it gives it the runner's lock."""

    @property
    def lock(self) -> threading.Lock:
        """Held by whoever calls the model, for a chunk or a token at a time."""
        return self._lock

    def context(self, pods: Sequence[AnyPod], tail: Tail, heads: Sequence[Head] = ()) -> Context:
        """A context of this runner's attention."""
        return Context(pods, tail, self.attention, heads)

    def run(self, context: Context, ids: Sequence[int]) -> Tensor:
        """Feed tokens behind everything in the context; logits (V,) of the last one. Raises WindowExceeded."""
        return self.score(context, ids, 1)[0]

    def score(self, context: Context, ids: Sequence[int], last: int) -> Tensor:
        """Feed tokens as `run` does; logits (last, V) of the last ones."""
        first = context.position
        if first + len(ids) > self.model.window:
            raise WindowExceeded(f"{first + len(ids)} positions are needed, {self.model.window} are there")
        device = self.model.device
        with self._lock, torch.inference_mode():
            logits: Tensor = self.model.network(
                input_ids=torch.tensor([ids], device=device),
                position_ids=torch.arange(first, first + len(ids), device=device)[None],
                use_cache=False,
                logits_to_keep=last,
                memory=context,
            ).logits
            context.tail.advance(len(ids))
        return logits[0]
