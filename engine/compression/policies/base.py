"""Subject: what a policy may look at; and Score: what a policy is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import Pod
from engine.kvcache.recipe import Recipe
from engine.runtime.runner import Runner


@dataclass(frozen=True)
class Subject:
    """A section that was read: its token ids, its exact pod, the model that read it, and what is to become of it."""

    runner: Runner
    ids: Sequence[int]
    pod: Pod
    recipe: Recipe

    @property
    def distant(self) -> range:
        """The tokens of which only some stay."""
        return self.recipe.distant(len(self.ids))

    @property
    def slots(self) -> int:
        """How many of them stay, of every head where scores do not compare between heads."""
        return self.recipe.selection.slots(len(self.distant))

    def scores(self, distant: Tensor) -> Scores:
        """Whole scores, from those of F distant slots (L, G, F) or what expands to it; all others stay anyway."""
        values = torch.zeros(self.pod.keys.shape[:3], dtype=torch.float32, device=self.pod.device)
        values[:, :, self.distant.start : self.distant.stop] = distant
        return Scores(len(self.ids), values)


Score = Callable[[Subject, Scores | None], Iterator[Scores]]
"""The scores so far after every piece of work, the whole ones last; goes on from known ones, if any are given."""
