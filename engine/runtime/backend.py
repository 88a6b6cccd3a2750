"""The fastest runner of a model that works on this machine, found out by asking it once."""

import logging

from engine.core.sampling import SamplingParams
from engine.kernels.card import why_not_triton
from engine.models.loader import Model
from engine.runtime.generate import generate
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner

_TRIED_TOKENS = 128
"""More than go the way of few rows."""

log = logging.getLogger(__name__)


def runner_for(model: Model) -> Runner:
    """With Triton's kernels and CUDA graphs on a GPU, if an answer can be had that way; else without."""
    device = model.device
    if why_not_triton(device):
        return Runner(model)
    try:
        runner = Runner(model, graphs=True)
        try_out(runner)
    except Exception as error:
        # Triton compiles here and now, with a compiler of the machine: there are many ways to fail.
        log.warning("Answers go without Triton's kernels, and are slower: %s: %s", type(error).__name__, error)
        return Runner(model)
    return runner


def try_out(runner: Runner) -> None:
    """Read a little and answer two tokens. Raises whatever goes wrong, and ValueError for what is no probability."""
    builder = PodBuilder(runner, _TRIED_TOKENS)
    builder.feed([0] * _TRIED_TOKENS)
    steps = list(generate(runner, [builder.finish()], [0], SamplingParams(max_tokens=2)))
    if not all(step.logprob <= 0 for step in steps):
        raise ValueError("an answer's probabilities are no numbers")
