"""Warm-up: questions over long sections that hold nothing, so that whatever happens only once has happened before the
first real one: kernels compiled and tuned, steps captured.

What a captured step depends on does not change from one long section to another; see engine.runtime.kv_table.
"""

from collections.abc import Sequence

import torch

from engine.core.kv_shape import KVShape
from engine.core.quant import Packed, pack, scale_shape
from engine.core.sampling import SamplingParams
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod, DistantLayer, QuantizedPod
from engine.runtime.context import Head
from engine.runtime.generate import Question
from engine.runtime.graph_runner import BUCKETS
from engine.runtime.runner import Runner

_SECTIONS = 2
"""That a question is asked over."""
_FEW_TOKENS = 256
"""Of a passage, and of a section where no steps are captured, whose length does not matter then."""


def warm_up(runner: Runner, layout: Layout, num_tokens: int, heads: Sequence[Head], whole: bool) -> None:
    """Ask questions of every bucket's length over sections of so many tokens, and observe these heads; answer from the
    `whole` sections or from a passage.

    Where a kernel fails, or gives no numbers, pods of that format go the plain way from then on, which is noted.
    Raises WindowExceeded where the sections leave no room for a question.
    """
    if layout.recipe.sharing.mode or runner.model.shape.peculiarity or runner.model.shape.states:
        # Keys would be predicted from zeros; and no kernels are made for layers that are not plain, or keep a state.
        return
    length = num_tokens if runner.graph_runner else min(num_tokens, _FEW_TOKENS)
    pod = zero_pod(runner.model.shape, layout, length, runner.model.device)
    sections = [pod] * _SECTIONS
    params = SamplingParams(max_tokens=2)
    for bucket in BUCKETS if runner.graph_runner else BUCKETS[1:2]:
        with Question(runner, sections, [0] * bucket, heads, params if whole else None) as looked:
            looked.attention()
            if whole:
                _answer(looked, sections, runner)
        if not whole:
            passage = pod.select(torch.arange(min(_FEW_TOKENS, length)))
            with Question(runner, [passage], [0] * bucket, params=params) as asked:
                _answer(asked, [passage], runner)


def _answer(question: Question, pods: Sequence[AnyPod], runner: Runner) -> None:
    """Take an answer, and refuse the pods where it is none."""
    if not all(step.logprob <= 0 for step in question.steps()) and runner.graph_runner is not None:
        reason = "an answer's probabilities are no numbers"
        runner.graph_runner.refuse(pods, ArithmeticError(reason))
        runner.fallbacks.note("Pods of a format go the slow way", reason)


def zero_pod(shape: KVShape, layout: Layout, num_tokens: int, device: torch.device) -> Pod | QuantizedPod:
    """A pod of zeros in which all layers and KV heads look at the memory of one; keys that layers share have none."""
    recipe, dim = layout.recipe, shape.head_dim
    # What is coded is so on the disk alone.
    exact = recipe.exact or recipe.coding.step > 0
    positions = list(range(num_tokens)) if exact else layout.proximal(num_tokens)
    row = torch.zeros(len(positions), dim, dtype=shape.dtype, device=device)
    rows = row.expand(shape.layers, shape.kv_heads, *row.shape)
    proximal = Pod(rows, rows, torch.tensor(positions, dtype=torch.long, device=device), num_tokens)
    if exact:
        return proximal
    distant = num_tokens - len(positions)
    count = recipe.selection.slots(distant)

    def packed(bits: int, per: str) -> tuple[Packed, ...]:
        dtype, width = (shape.dtype, dim) if bits == 16 else (torch.uint8, dim * bits // 8)
        codes = torch.zeros(count, width, dtype=dtype, device=device)
        scales = torch.zeros(scale_shape(count, dim, per) if bits < 16 else (0,), dtype=torch.float16, device=device)
        return (Packed(bits, per, codes, scales, scales),) * shape.kv_heads

    kept = None
    if recipe.selection.drops:
        bits = torch.zeros(1, distant + -distant % 8, dtype=torch.uint8, device=device)
        bits[:, :count] = 1
        kept = pack(bits, 1).expand(shape.kv_heads, -1)
    keys, values = (packed(bits, per) for _, bits, per in recipe.precision.parts)
    layer = DistantLayer(keys, values, kept)
    return QuantizedPod(layout, proximal, (layer,) * shape.layers, num_tokens)
