"""Descend by halves to the chunks of keys that a query likes (HiP, arXiv 2406.09827, and InfiniteHiP, 2502.08910).

The tokens between the first and the last are cut into as many equal chunks as blocks may be attended. Each is halved;
of a half, the key in its middle speaks for all; the better half of all halves goes on, down to blocks of 8 tokens. A
token reads 2n keys a round, and there are log2(T / 8n) rounds, so T tokens take O(T log T).

    C_0 = n chunks;   C_{i+1} = top_n over halves c of C_i of max over heads h of q_h . k_mid(c);   softmax over C_r

Defaults as the authors': 256 first and 1,024 last tokens, blocks of 8, layers 0 to 3 and the last full. Different
here: first and last are a quarter of the budget at most; one stage with the whole budget in place of three, and found
anew for every token; each KV head descends by itself.
"""

import math

import torch
from torch import Tensor

from engine.kvcache.readers.base import Reader, protected
from engine.kvcache.segment import Segment

SINKS, WINDOW = 256, 1024
BLOCK = 8
FULL = 4


class HiP(Reader):
    """See the module."""

    def top_slots(self, layer: int, query: Tensor, far: Segment, budget: int) -> Tensor | None:
        assert isinstance(far.keys, Tensor)
        if layer < FULL or layer == self.layers - 1:
            return None
        groups, tokens, dim = far.keys.shape
        sinks, window = protected(SINKS, budget), protected(WINDOW, budget)
        leaves = (tokens - sinks - window) // BLOCK
        # What is no whole block is seen with the last tokens.
        window = tokens - sinks - leaves * BLOCK
        number = max(1, (budget - sinks - window) // BLOCK)
        first, rounds = descend(query.reshape(groups, -1, dim), far.keys, sinks, leaves, number)
        self.scanned += 2 * number * rounds
        every = torch.arange(tokens, device=query.device).expand(groups, -1)
        inside = first[..., None] + torch.arange(BLOCK, device=query.device)
        return torch.cat([every[:, :sinks], inside.flatten(1), every[:, tokens - window :]], 1)


def descend(query: Tensor, keys: Tensor, sinks: int, leaves: int, number: int) -> tuple[Tensor, int]:
    """The first slots (G, number) of the blocks that queries (G, h, D) come to among `leaves` blocks of keys (G, T, D)
    behind the first `sinks`; and the rounds that it took."""
    rounds = max(0, math.ceil(math.log2(leaves / number)))
    size = 2**rounds
    starts = (torch.arange(number, device=keys.device) * size).expand(len(keys), -1)
    for _ in range(rounds):
        size //= 2
        halves = torch.cat([starts, starts + size], 1)
        # The token in the middle of a half, which may be cut short by the end.
        middle = sinks + (BLOCK * (2 * halves + size).clamp(max=2 * leaves - 1)) // 2
        rows = keys.gather(1, middle[..., None].expand(-1, -1, keys.shape[2]))
        likes = (query @ rows.transpose(1, 2)).amax(1).masked_fill(halves >= leaves, -torch.inf)
        starts = halves.gather(1, likes.topk(number, 1).indices)
    return sinks + BLOCK * starts, rounds
