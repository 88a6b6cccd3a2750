"""Keep what gets the most attention under noise that stands for what was dropped (Keyformer, arXiv 2403.09054).

Slot j of a head is worth f_j = sum over queries i of softmax_j((x_ij + z_j) / t), where x are the logits and z is
Gumbel noise. The last w tokens stay, and the best others, k in all.
Defaults: w = 0.3 k, z ~ Gumbel(0, 1), t from 1 to 2 over the steps of an answer. Here the section's own queries are
the only ones, as for a prompt in the authors' code, so that t stays at its first value; k counts the recipe's exact
tokens too, so that the window reaches into distant ones only where it is longer than they are; noise is seeded by the
layer, so that the same section keeps the same slots. KV heads sum over the query heads that share them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.compression.policies.base import Subject
from engine.compression.policies.own_attention import own_attention
from engine.kvcache.blocks.scores import Scores

TEMPERATURE = 1.0
WINDOW = 0.3
"""Share of all that is kept."""


def keyformer(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """One more reading; the window comes with the last step."""
    num_tokens, near = len(subject.ids), len(subject.ids) - len(subject.distant)
    noise: dict[int, Tensor] = {}

    def add(layer: int, logits: Tensor, scores: Tensor) -> None:
        if layer not in noise:
            noise[layer] = gumbel(layer, logits.shape[:2].numel(), num_tokens).to(logits.device)
        shift = noise[layer].view(*logits.shape[:2], 1, -1)[..., : logits.shape[-1]]
        scores += ((logits + shift) / TEMPERATURE).softmax(-1).sum((1, 2))

    for scores in own_attention(subject, known, add):
        if scores.done == num_tokens:
            window = round(WINDOW * (near + subject.slots))
            scores.values[:, :, num_tokens - window :] += scores.values.max() + 1
        yield scores


def gumbel(layer: int, heads: int, num_tokens: int) -> Tensor:
    """Noise (H, T) of a layer, always the same."""
    generator = torch.Generator().manual_seed(layer)
    return torch.empty(heads, num_tokens, dtype=torch.float32).exponential_(generator=generator).log_().neg_()
