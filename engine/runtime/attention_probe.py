"""AttentionProbe: where a question looks, summed up on the device while its tokens go through the model.

Letters: Q new tokens, H query heads, G KV heads, K slots, T tokens of all pods.
"""

from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor

from engine.core.weak_cache import WeakCache
from engine.kernels.attention.split_plan import SplitPlan
from engine.kvcache.exact import Pod
from engine.kvcache.quantized import AnyPod, OpenPod, QuantizedPod
from engine.runtime.context import EarlyExit, Head

_LEAST_TOKENS = 4096
"""That there is room for at least, so that a captured step seldom needs another one."""


class AttentionProbe:
    """The attention probabilities of some heads on every token of the pods: the mean over the heads, of which the
    largest over a question's tokens counts. Its tensors stay where they are until `bucket` changes.
    """

    def __init__(self, share: int, most: int, device: torch.device) -> None:
        """`share`: query heads of a KV head. `most`: new tokens of a step."""
        self.heads: tuple[Head, ...] = ()
        """What is observed; without any, nothing is."""
        self.ends = False
        """Whether a step ends behind the last layer of the heads, by EarlyExit."""
        self._share, self._device = share, device
        self._sum = torch.zeros(most, 0, dtype=torch.float32, device=device)
        """Of the step at hand (Q, T)."""
        self._peak = torch.zeros(0, dtype=torch.float32, device=device)
        """Of the steps so far (T,)."""
        self._places: dict[Head, Tensor] = {}
        """Per head the token of each slot (K,)."""
        self._rows = torch.arange(most, device=device)
        self._lengths: list[int] = []
        self._made = 0
        """How often they were."""
        self._positions: WeakCache[AnyPod, dict[tuple[int, int], Tensor]] = WeakCache(lambda pod: {})
        """Per pod, (layer, KV head): the position of each slot."""

    @property
    def bucket(self) -> Hashable:
        """What a captured step depends on."""
        return (self.heads, self.ends, self._made) if self.heads else None

    @property
    def kept(self) -> Tensor:
        """What a step that is tried out must not change."""
        return self._peak

    def watch(self, pods: Sequence[AnyPod], heads: Sequence[Head], ends: bool) -> None:
        """Observe these heads from the next step on, on the tokens of these pods; nothing was seen yet."""
        self.heads, self.ends = tuple(heads), ends
        if not heads:
            return
        self._lengths = [pod.num_tokens for pod in pods]
        tokens = max(_LEAST_TOKENS, sum(self._lengths))
        if tokens > len(self._peak) or self._places.keys() != set(heads):
            self._made += 1
            room = max(len(self._peak), 1 << (tokens - 1).bit_length())
            self._sum = torch.zeros(len(self._rows), room, dtype=torch.float32, device=self._device)
            self._peak = torch.zeros(room, dtype=torch.float32, device=self._device)
            self._places = {head: torch.zeros(room, dtype=torch.int32, device=self._device) for head in heads}
        self._peak.zero_()
        for layer, head in self.heads:
            places = list(self._tokens(pods, layer, head // self._share))
            if places:
                found = torch.cat(places)
                self._places[layer, head][: len(found)] = found

    def start(self) -> None:
        """Begin a step."""
        if self.heads:
            self._sum.zero_()

    def record(self, work: SplitPlan, layer: int, queries: Tensor, count: int, lse: Tensor, scale: float) -> None:
        """Add what the heads of a layer see, whose queries have just been attended; `lse` (H, Q) over everything."""
        # Needs Triton, which not every machine has.
        from engine.kernels.attention import probs

        for each in self.heads:
            if each[0] == layer:
                places, share = self._places[each], 1 / len(self.heads)
                probs.add_probs(work, layer, each[1], queries, count, lse, scale, places, share, self._sum)
        if self.ends and self.heads and layer == max(self.heads)[0]:
            raise EarlyExit

    def finish(self, count: int, last: int | Tensor) -> None:
        """End a step of `count` tokens, of which those behind place `last` (1,) are padding."""
        if self.heads:
            seen = self._sum[:count]
            if isinstance(last, Tensor):
                seen = seen * (self._rows[:count] <= last)[:, None]
            torch.maximum(self._peak, seen.amax(0), out=self._peak)

    def read(self) -> list[Tensor]:
        """Per pod the probability (T,) of each token, on the host; waits for the steps."""
        return list(torch.split(self._peak[: sum(self._lengths)].cpu(), self._lengths))

    def _tokens(self, pods: Sequence[AnyPod], layer: int, group: int) -> Iterable[Tensor]:
        """The token of each slot of a KV head, by pod and range, counted through all pods."""
        first = 0
        for pod in pods:
            known = self._positions(pod)
            if (layer, group) not in known:
                known[layer, group] = torch.cat(_positions(pod, layer, group)).int()
            yield known[layer, group] + first
            first += pod.num_tokens


def _positions(pod: AnyPod, layer: int, group: int) -> list[Tensor]:
    """The positions (K,) of a KV head's slots, in the order of its ranges."""
    if isinstance(pod, Pod):
        return [pod.positions]
    if isinstance(pod, OpenPod):
        return [segment.places(group) for segment in pod.segments(layer)]
    assert isinstance(pod, QuantizedPod)
    return [pod.proximal.positions, pod.distant_positions(layer, group)]
