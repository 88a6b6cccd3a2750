"""cuDNN's attention, which on recent GPUs reads a long chunk faster than PyTorch's flash attention does.

It plans every shape anew and keeps the plan, so it gets few shapes: the chunk's own square, and runs of a power of two
of the tokens before it. A chunk that is a little shorter than a power of two, as the last one of a long section often
is, is filled up. Letters as in engine.attention.sdpa.
"""

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

LEAST_TOKENS = 1024
"""A shorter chunk, or run before it, is not worth a plan."""
_FILLED = 8
"""Of a chunk's tokens, so many bring one more that nobody asked for: less than what cuDNN is faster by."""
_PROBE = (512, 4, 2, 128)
"""Tokens, query heads, KV heads and head size of the probe."""

_Attention = Callable[[Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]


def suits(query: Tensor) -> bool:
    """Whether a chunk's queries (H,Q,D) are long enough, nearly of a length that comes again, and of heads as tried."""
    chunk = query.shape[1]
    filled = _filled(chunk)
    return query.shape[2] <= _PROBE[3] and filled >= LEAST_TOKENS and filled - chunk <= chunk // _FILLED


def parts(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: bool, otherwise: _Attention
) -> list[tuple[Tensor, Tensor]]:
    """A chunk's queries (H,Q,D) over keys and values (G,T,D): outputs and log-sum-exps to merge.

    Causal, they end with the chunk's own. A rest too short for cuDNN goes to `otherwise`.
    """
    heads, chunk, dim = query.shape
    groups, past = len(keys), keys.shape[1] - (chunk if causal else 0)
    repeats = heads // groups
    filled = _filled(chunk)
    # Copies, because the strides of a buffer as long as the document would make every document's plans its own.
    query, asked = query.contiguous(), _up_to(query, filled)
    found = []
    if causal:
        # Nobody sees keys behind itself, and so none that only fill up.
        new_keys, new_values = (_up_to(rows[:, past:].repeat_interleave(repeats, 0), filled) for rows in (keys, values))
        out, lse = attend(asked, new_keys, new_values, scale, True)
        found.append((out[:, :chunk], lse[:, :chunk]))
    # The query heads of a group are so many more queries of the same keys.
    grouped = asked.view(groups, repeats * filled, dim)
    for start, stop in runs(past):
        run_keys, run_values = (rows[:, start:stop].contiguous() for rows in (keys, values))
        if stop - start < LEAST_TOKENS:
            found.append(otherwise(query, run_keys, run_values, scale, False))
        else:
            out, lse = attend(grouped, run_keys, run_values, scale, False)
            found.append((out.reshape(heads, filled, dim)[:, :chunk], lse.reshape(heads, filled)[:, :chunk]))
    return found


def runs(tokens: int, most: int = sys.maxsize) -> Iterator[tuple[int, int]]:
    """The tokens as (start, stop) of runs: powers of two up to `most`, the longest first, then what is left."""
    start = 0
    while start < tokens:
        left = min(tokens - start, most)
        size = left if left < LEAST_TOKENS else 1 << left.bit_length() - 1
        yield start, start + size
        start += size


def _filled(tokens: int) -> int:
    """The power of two that so many tokens are filled up to."""
    return 1 << (tokens - 1).bit_length()


def _up_to(rows: Tensor, tokens: int) -> Tensor:
    """Rows (n, T, D), contiguous, with zeros behind them up to so many tokens."""
    more = tokens - rows.shape[1]
    return nn.functional.pad(rows, (0, 0, 0, more)) if more else rows.contiguous()


def attend(query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """Output (H,Q,D) and log-sum-exp (H,Q) of as many query heads as KV heads; a causal one needs T = Q."""
    operands = query[None], keys[None], values[None]
    attention = torch.ops.aten._scaled_dot_product_cudnn_attention
    out, lse = attention(*operands, None, True, 0.0, causal, False, scale=scale)[:2]
    return out[0], lse.reshape(query.shape[:2]).float()


def works(device: torch.device, dtype: torch.dtype, reference: _Attention) -> bool:
    """Whether cuDNN has this attention here and says the same as the reference does."""
    tokens, heads, groups, dim = _PROBE
    generator = torch.Generator(device).manual_seed(0)
    made = torch.randn(heads + 2 * groups, tokens, dim, generator=generator, device=device).to(dtype)
    query, keys, values = made[:heads], made[heads:-groups], made[-groups:]
    for causal in (True, False):
        own_keys, own_values = (rows.repeat_interleave(heads // groups, 0) for rows in (keys, values))
        try:
            out, lse = attend(query, own_keys, own_values, dim**-0.5, causal)
        except RuntimeError:
            return False
        wanted, wanted_lse = reference(query, keys, values, dim**-0.5, causal)
        if not (torch.allclose(out, wanted, atol=2e-2, rtol=2e-2) and torch.allclose(lse, wanted_lse, atol=2e-3)):
            return False
    return True
