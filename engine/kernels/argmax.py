"""Argmax: the likeliest token and its log-probability in two small launches, as sampling does it, on a GPU."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Logits of one program of the first launch."""


@triton.jit
def _parts(logits, parts, tokens, count, stride, BLOCK: tl.constexpr):
    """Of each block of logits: the largest, the first token that has it, and the sum of exponentials below it."""
    number = tl.program_id(0)
    places = number * BLOCK + tl.arange(0, BLOCK)
    block = tl.load(logits + places, mask=places < count, other=float("-inf")).to(tl.float32)
    top = tl.max(block, 0)
    # Where all are impossible, any finite number keeps the differences from being NaN.
    base = tl.where(top == float("-inf"), 0.0, top)
    tl.store(parts + number, top)
    tl.store(parts + stride + number, tl.sum(tl.exp(block - base), 0))
    tl.store(tokens + number, tl.min(tl.where(block == top, places, count - 1), 0))


@triton.jit
def _whole(parts, tokens, ids, chosen, number, stride, COUNT: tl.constexpr):
    """The likeliest token of all blocks, to its places."""
    blocks = tl.arange(0, COUNT)
    inside = blocks < number
    tops = tl.load(parts + blocks, mask=inside, other=float("-inf"))
    sums = tl.load(parts + stride + blocks, mask=inside, other=0.0)
    top = tl.max(tops, 0)
    first = tl.min(tl.where(tops == top, blocks, number - 1), 0)
    token = tl.load(tokens + first).to(tl.int64)
    logprob = -tl.log(tl.sum(sums * tl.exp(tops - top), 0))
    tl.store(ids, token)
    tl.store(chosen, token.to(tl.float64))
    tl.store(chosen + 1, logprob.to(tl.float64))


def greedy(logits: Tensor, ids: Tensor, chosen: Tensor) -> None:
    """See sampling.greedy. Logits that are no numbers give some token, and a log-probability that is none either."""
    (count,) = logits.shape
    number = triton.cdiv(count, BLOCK)
    parts = torch.empty(2, number, device=logits.device)
    tokens = torch.empty(number, dtype=torch.int32, device=logits.device)
    assert logits.stride(0) == 1
    _parts[number,](logits, parts, tokens, count, number, BLOCK=BLOCK, num_warps=4)
    _whole[1,](parts, tokens, ids, chosen, number, number, COUNT=triton.next_power_of_2(number), num_warps=4)
