"""Warm-up of reading: kernels are compiled and attention is planned before the first document is read.

It reads a section that holds nothing, in chunks of every length that a reading ends with.
"""

import logging
from collections.abc import Iterator, Sequence

import torch

from engine.attention.cudnn import LEAST_TOKENS
from engine.attention.rotation import select_rotation
from engine.core.errors import EngineError
from engine.core.quant import hadamard
from engine.kernels.card import why_not_triton
from engine.kvcache.layout import Layout
from engine.runtime.prefill.builder import builder_for, tapered
from engine.runtime.runner import Runner

_MOST_RUNS = 6
"""Powers of two, and what is left, that the past of most sections is cut into."""

log = logging.getLogger(__name__)


def prepare_reading(runner: Runner, layouts: Sequence[Layout], chunk: int, num_tokens: int) -> Iterator[None]:
    """Read a little by each layout, in chunks of about `chunk` tokens, and plan attention for `num_tokens` of them.

    Step by step, so that who wants to read need not wait for the next one; no step leaves anything large on the device.
    Each is to be taken in the thread that will read, since cuDNN's plans belong to one. Nothing on a CPU. A failure
    costs only the time that it would have saved.
    """
    if why_not_triton(runner.model.device):
        return
    # Needs Triton, which not every machine has.
    from triton.errors import TritonError

    try:
        yield from _plan(runner, chunk, num_tokens)
        for layout in layouts:
            # Kernels differ by whether a length is a multiple of 16.
            for more in (0, 3) if layout.recipe.precision.while_reading else (3,):
                _read(runner, layout, chunk, min(num_tokens, 2 * chunk + 3 * chunk // 4 - more))
                yield
                if layout.recipe.precision.while_reading:
                    yield from _merge(runner, layout, chunk - more)
    except (TritonError, RuntimeError, OSError, EngineError) as error:
        # Memory may be short, or the compiler of this machine fails; PyTorch's errors are RuntimeErrors.
        log.warning("The first reading will take longer: %s: %s", type(error).__name__, error)


def _read(runner: Runner, layout: Layout, chunk: int, count: int) -> None:
    builder = builder_for(runner, count, layout)
    while (left := count - builder.num_read) > 0:
        builder.feed([0] * (builder.cut(tapered(chunk, left)) - builder.num_read))


def _merge(runner: Runner, layout: Layout, size: int) -> Iterator[None]:
    """What a chunk sees of the past, in every number of runs: a kernel is made for each."""
    shape, device = runner.model.shape, runner.model.device
    rotation = hadamard(shape.head_dim, device) if layout.recipe.precision.rotate else None
    heads = runner.model.network.config.num_attention_heads
    out = torch.zeros(heads, size, shape.head_dim, dtype=shape.dtype, device=device)
    part = out, torch.zeros(heads, size, dtype=torch.float32, device=device)
    for count in range(1, _MOST_RUNS + 1):
        select_rotation(device, shape.dtype).merge_rotated([part] * 2, [part] * count, rotation)
        yield


@torch.inference_mode()
def _plan(runner: Runner, chunk: int, num_tokens: int) -> Iterator[None]:
    """Attention of every long chunk over every run of the tokens before it."""
    shape, device = runner.model.shape, runner.model.device
    heads = runner.model.network.config.num_attention_heads
    kinds = {(each.kv_heads, each.head_dim) for each in shape.per_layer if each.window is None}
    for kv_heads, dim in kinds:
        run = LEAST_TOKENS
        while run < num_tokens:
            keys = torch.zeros(kv_heads, run, dim, dtype=shape.dtype, device=device)
            size = chunk
            while size >= LEAST_TOKENS:
                query = torch.zeros(heads, size, dim, dtype=shape.dtype, device=device)
                runner.attention(query, keys, keys, 1.0, False)
                size //= 2
            del keys, query
            yield
            run *= 2
