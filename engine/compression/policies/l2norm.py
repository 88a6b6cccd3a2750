"""Keep keys of small norm, which draw the most attention, but not in the first layers (L2-norm, arXiv 2406.11430).

In every layer l and head the ceil(r N) keys of smallest ||K_j||_2 stay, where l is none of those to skip: they keep
all. The authors recommend to skip layers 0 and 1, where norms say nothing (their code's default is to skip none, which
is the policy `norm`), and to prune from 2,048 tokens on. Here the recipe's share is of all slots, so that what layers
0 and 1 keep is missing in the others, which all keep equally many; a share below theirs leaves the others nothing.
"""

from collections.abc import Iterator

from engine.compression.policies.base import Subject
from engine.kvcache.blocks.scores import Scores

SKIPPED = 2
"""First layers that keep every slot."""


def l2norm(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """By their place among the norms of the head, which compares between heads."""
    far = subject.distant
    norms = subject.pod.keys[:, :, far.start : far.stop].float().norm(dim=-1)
    worth = -norms.argsort(stable=True).argsort()
    worth[:SKIPPED] = 1
    yield subject.scores(worth)
