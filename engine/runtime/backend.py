"""The fastest runner of a model that works on this machine, found out by asking it once."""

from engine.core.sampling import SamplingParams
from engine.kernels.card import why_not_triton
from engine.models.loader import Model
from engine.runtime.generate import generate
from engine.runtime.graph_runner import BUCKETS
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner

_TRIED_TOKENS = 128
"""More than go the way of few rows."""


def runner_for(model: Model) -> Runner:
    """With Triton's kernels and CUDA graphs on a GPU, if an answer can be had that way; else without, which is noted.
    On a processor with Numba's kernels, where it is installed and they fit the model.

    Without graphs alone where only those are refused; see engine.runtime.cuda_graphs.
    """
    device = model.device
    if device.type == "cpu":
        return Runner(model, steps=True)
    why: object = why_not_triton(device)
    if not why:
        try:
            runner = Runner(model, graphs=True)
            try_out(runner)
            return runner
        except Exception as error:
            # Triton compiles here and now, with a compiler of the machine: there are many ways to fail.
            why = error
    plain = Runner(model)
    plain.fallbacks.note("Everything goes without Triton's kernels", why)
    return plain


def try_out(runner: Runner) -> None:
    """Read a little, and answer two tokens to questions of every bucket's length.

    Raises whatever goes wrong, and ValueError for what is no probability.
    """
    builder = PodBuilder(runner, _TRIED_TOKENS)
    builder.feed([0] * _TRIED_TOKENS)
    pod = builder.finish()
    for bucket in BUCKETS:
        steps = generate(runner, [pod], [0] * bucket, SamplingParams(max_tokens=2))
        if not all(step.logprob <= 0 for step in steps):
            raise ValueError("an answer's probabilities are no numbers")
