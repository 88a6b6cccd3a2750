"""Before anything is timed: what is timed must say what transformers says, on a small model of the same family.

A document is read, compressed and asked through the calls that are timed. transformers gets the same memory, unpacked,
under its own attention, and must find the same logits and agree that the tokens chosen are the likeliest.
"""

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks.speed.plain import Plain, plain
from engine.compression.compress import pack_pod
from engine.core.errors import EngineError
from engine.core.quant import rotated
from engine.core.sampling import SamplingParams
from engine.kvcache.exact import Pod
from engine.kvcache.layout import layout_of
from engine.kvcache.quantized import AnyPod
from engine.kvcache.recipe import Recipe
from engine.kvcache.suffix import SuffixCache
from engine.models.loader import Model
from engine.runtime.generate import generate
from engine.runtime.prefill.builder import PodBuilder, builder_for
from engine.runtime.runner import Runner

DOCUMENT_TOKENS = 1300
"""Several groups of scales, and more than what stays exact."""
QUESTION_TOKENS = 32
ANSWER_TOKENS = 24
SPREAD = 0.08
"""Of the small model's random weights: wide enough for tokens that differ by more than rounding."""
_ALLOWED = {torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 1e-2}
"""Root mean square of the differences of logits, as a share of the logits' own. Dtypes round alike on both sides."""


class NotEquivalent(EngineError):
    """What would be timed does not say what transformers says."""


def check(model: Model, recipes: dict[str, Recipe]) -> list[str]:
    """A line for each recipe that holds. Raises NotEquivalent."""
    runner = Runner(model, graphs=model.device.type == "cuda")
    generator = torch.Generator().manual_seed(1)
    count = DOCUMENT_TOKENS + QUESTION_TOKENS
    ids: list[int] = torch.randint(2, model.network.config.vocab_size, (count,), generator=generator).tolist()
    document, question = ids[:DOCUMENT_TOKENS], ids[DOCUMENT_TOKENS:]
    builder = PodBuilder(runner, len(document))
    # In unequal chunks, the first long enough for the way that long chunks go.
    for start, stop in ((0, 1024), (1024, len(document))):
        builder.feed(document[start:stop])
    exact = builder.finish()
    return [_check(runner, name, recipe, exact, document, question) for name, recipe in recipes.items()]


def _check(runner: Runner, name: str, recipe: Recipe, exact: AnyPod, document: list[int], question: list[int]) -> str:
    model = runner.model
    pod = _kept(runner, recipe, exact, document)
    context = runner.context([pod], SuffixCache(model.shape, len(question), model.device))
    first = runner.score(context, question, len(question))
    steps = list(generate(runner, [pod], question, SamplingParams(ANSWER_TOKENS)))
    answer = [step.token_id for step in steps]
    with plain(model):
        # transformers reads the document itself where it can: that checks our reading too.
        before = [] if recipe.exact else document
        memory = Plain(model, DynamicCache() if recipe.exact else unpacked(pod, model))
        fed = [*(document if not before else []), *question, *answer[:-1]]
        theirs = memory.logits(fed, len(question) + len(answer) - 1).float()
    off = _difference(first, theirs[: len(question)])
    rows, spread = theirs[len(question) - 1 :], float(theirs.std())
    tokens = torch.tensor(answer, device=rows.device)[:, None]
    behind = float((rows.amax(1) - rows.gather(1, tokens).squeeze(1)).max())
    said = torch.tensor([step.logprob for step in steps], device=rows.device)
    drift = float((said - torch.log_softmax(rows, -1).gather(1, tokens).squeeze(1)).square().mean().sqrt())
    top1 = float((rows.argmax(1) == tokens.squeeze(1)).float().mean())
    allowed = _ALLOWED[model.shape.dtype]
    facts = f"logits off by {off:.1e}, top-1 {top1:.1%}, log-probabilities off by {drift:.1e}"
    # A token that is not the likeliest there must be as likely, but for rounding; so must what was said of it. These
    # comparisons are false for NaN.
    if not (off <= allowed and behind <= 4 * allowed * spread and drift <= allowed * spread):
        raise NotEquivalent(
            f"kv {name}: {facts}, where transformers is the measure and {allowed:.0e} is allowed: "
            "nothing is timed while the answers differ"
        )
    return f"checked on {model.name}: kv {name}, {facts}"


def _kept(runner: Runner, recipe: Recipe, exact: AnyPod, document: list[int]) -> AnyPod:
    """The document as the recipe keeps it."""
    layout = layout_of(runner.model, recipe)
    if not recipe.precision.while_reading:
        return pack_pod(exact, layout) if isinstance(exact, Pod) and not recipe.exact else exact
    builder = builder_for(runner, len(document), layout)
    while builder.num_read < len(document):
        builder.feed(document[builder.num_read : builder.cut(1024)])
    return builder.finish()


def unpacked(pod: AnyPod, model: Model) -> DynamicCache:
    """A pod's memory as plain keys and values in transformers' cache. Every head must have kept every token."""
    cache, opened = DynamicCache(), pod.open()
    shape = model.shape
    for layer in range(shape.layers):
        keys = torch.zeros(shape.kv_heads, pod.num_tokens, shape.head_dim, dtype=shape.dtype, device=model.device)
        values = torch.zeros_like(keys)
        for segment in opened.segments(layer):
            for head in range(shape.kv_heads):
                places = segment.places(head)
                keys[head, places] = _straight(segment.keys[head], segment.rotation)
                values[head, places] = _straight(segment.values[head], segment.rotation)
        cache.update(keys[None], values[None], layer)
    return cache


def _straight(rows: Tensor, turn: Tensor | None) -> Tensor:
    return rows if turn is None else rotated(rows, turn)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square of the difference as a share of that of `theirs`."""
    return float((ours.float() - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())
