"""Finds the evidence heads of a model: which heads look at the asked fact, among facts of many shapes.

The facts are invented and varied in wording, kind and value; each document holds distractors of the same shape.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from engine.core.sampling import SamplingParams
from engine.evidence.heads import EvidenceHeads
from engine.kvcache.quantized import AnyPod
from engine.runtime.context import Head
from engine.runtime.generate import attention_probs, generate
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner

NUM_HEADS = 6
LEAD_TOKENS = 96
"""Tokens before a fact that stay in view when the model answers from the passage alone."""

_PLACES = "Alden Birchport Corvale Dunmore Eastwick Fenholt Garrow Hythe Inverlea Jessop Kelby Larkfield".split()
_PEOPLE = (
    "Ada Whitlock|Bruno Castell|Chidi Amadi|Dora Lindqvist|Emil Novak|Farah Siddiqui|Greta Holm|Hugo Marchetti".split(
        "|"
    )
)
_THINGS = (
    "ferry|turbine|archive|greenhouse|observatory|sawmill|clinic|quarry|lighthouse|tannery|bakery|reservoir".split("|")
)
_MONTHS = "January|March|April|June|July|September|October|December".split("|")
_SHAPES = (
    (
        "The entry code of the {place} {thing} is {number}.",
        "What is the entry code of the {place} {thing}?",
        "{number}",
    ),
    (
        "{person} was appointed keeper of the {place} {thing}.",
        "Who was appointed keeper of the {place} {thing}?",
        "{person}",
    ),
    (
        "Repairs to the {thing} in {place} cost {amount} euros.",
        "How much did the repairs to the {place} {thing} cost?",
        "{amount}",
    ),
    ("The {thing} at {place} opened on {date}.", "When did the {thing} at {place} open?", "{date}"),
    ("The {place} {thing} employs {small} people.", "How many people work at the {place} {thing}?", "{small}"),
    (
        "The spare key of the {thing} in {place} hangs behind the {colour} door.",
        "Where does the spare key of the {place} {thing} hang?",
        "{colour} door",
    ),
    (
        "In {place} the {thing} is inspected every {small} days.",
        "How often is the {thing} in {place} inspected?",
        "{small} days",
    ),
    ("The {thing} of {place} was sold to {person}.", "To whom was the {thing} of {place} sold?", "{person}"),
)
_FILLER = (
    "The committee for {thing} matters met in {place} and heard a long report on the weather of the season.",
    "Visitors to {place} often remark on the quiet of the streets and the smell of the sea in the morning.",
    "It was agreed that the matter of the {thing} should be taken up again once the survey had been returned.",
    "Nothing in the letters from {place} suggests that anyone had expected the change in the timetable.",
    "A second opinion on the {thing} was asked for, and the answer came with the evening post.",
    "The paint had faded on the side that faces {place}, but the timber below was found to be sound.",
    "Those who had walked from {place} reached the {thing} tired, in good spirits, and rather late for supper.",
    "As in earlier years, the minutes record thanks to all who had helped with the {thing} and its garden.",
)


@dataclass(frozen=True)
class Fact:
    """A planted sentence with its question and the words that answer it."""

    sentence: str
    question: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """A document of planted facts, read once; `spans` are the slots (first, last) of each fact."""

    pod: AnyPod
    head_tokens: int
    facts: Sequence[Fact]
    spans: Sequence[tuple[int, int]]


def calibrate(
    runner: Runner, samples: int = 6, seed: int = 0, pause: Callable[[float], None] = lambda share: None
) -> EvidenceHeads:
    """Rank all heads on planted facts, and see whether the model answers better from the passage or from everything.

    `pause` gets the share that is done in front of every chunk, question and answer: it may wait, or raise to end this.
    """
    model = runner.model
    config = model.network.config
    every = [(layer, head) for layer in range(model.shape.layers) for head in range(config.num_attention_heads)]
    scores = torch.zeros(len(every), dtype=torch.float32)
    rng = random.Random(seed)
    right = {"passage": 0, "sections": 0}
    asked = 0
    for number in range(samples):
        sample = _read_sample(runner, rng, partial(pause, number / samples))
        for index in range(0, len(sample.facts), 2):
            (first, last), share = sample.spans[index], (number + index / len(sample.facts)) / samples
            pause(share)
            scores += _score(runner, sample, index, every)
            if model.shape.divisible:
                # A window does not reach back to a passage, nor a state: such a model answers from sections.
                part = passage(sample.pod, sample.head_tokens, first - LEAD_TOKENS, last)
                pause(share)
                right["passage"] += _answers(runner, [part], sample.facts[index])
            pause(share)
            right["sections"] += _answers(runner, [sample.pod], sample.facts[index])
            asked += 1
    best = (scores / asked).topk(min(NUM_HEADS, len(every)))
    # Whole sections carry more than one passage does, so they win ties.
    source = "passage" if right["passage"] > right["sections"] else "sections"
    heads = tuple(every[int(i)] for i in best.indices)
    return EvidenceHeads(model.name, model.digest, heads, tuple(round(float(v), 3) for v in best.values), source)


def passage(pod: AnyPod, head_tokens: int, first: int, last: int) -> AnyPod:
    """The pod restricted to the prompt's head and slots first..last, which lead up to a passage and end with it.

    What is asked then stands right behind the passage: a small model copies from there what it would lose far away.
    """
    keep = torch.cat([torch.arange(head_tokens), torch.arange(max(head_tokens, first), last + 1)])
    return pod.select(keep)


def _read_sample(runner: Runner, rng: random.Random, pause: Callable[[], None]) -> Sample:
    """A document of about 1,500 tokens: facts of every shape, two of each, between filler."""
    tokenizer = runner.model.tokenizer
    facts = [_fact(shape, rng) for shape in _SHAPES for _ in range(2)]
    rng.shuffle(facts)
    ids = runner.model.tokenizer.user_turn()[0]
    head_tokens, spans = len(ids), []
    for fact in facts:
        for _ in range(rng.randint(2, 4)):
            ids += tokenizer.encode(rng.choice(_FILLER).format(**_names(rng)) + " ")[0]
        planted = tokenizer.encode(fact.sentence + " ")[0]
        spans.append((len(ids), len(ids) + len(planted) - 1))
        ids += planted
    ids = ids[: runner.model.window // 2]
    kept = [span for span in spans if span[1] < len(ids)]
    builder = PodBuilder(runner, len(ids))
    for start in range(0, len(ids), 512):
        pause()
        builder.feed(ids[start : start + 512])
    return Sample(builder.finish(), head_tokens, facts[: len(kept)], kept)


def _names(rng: random.Random) -> dict[str, str]:
    return {
        "place": rng.choice(_PLACES),
        "person": rng.choice(_PEOPLE),
        "thing": rng.choice(_THINGS),
        "number": str(rng.randint(10_000, 99_999)),
        "amount": f"{rng.randint(2, 900)},{rng.randint(1, 9)}00",
        "date": f"{rng.randint(1, 28)} {rng.choice(_MONTHS)} {rng.randint(1900, 2020)}",
        "small": str(rng.randint(11, 99)),
        "colour": rng.choice("red|green|blue|yellow|grey|white".split("|")),
    }


def _fact(shape: tuple[str, str, str], rng: random.Random) -> Fact:
    names = _names(rng)
    return Fact(*(part.format(**names) for part in shape))


def _question(runner: Runner, question: str) -> list[int]:
    tokenizer = runner.model.tokenizer
    return tokenizer.encode("\n\n" + question)[0] + tokenizer.user_turn()[1]


def _score(runner: Runner, sample: Sample, index: int, heads: Sequence[Head]) -> torch.Tensor:
    """Per head: attention mass on the asked fact, less the mass on the fact that draws most beside it."""
    ids = _question(runner, sample.facts[index].question)
    seen = attention_probs(runner, [sample.pod], ids, heads)
    mass = torch.stack([seen[head][0].amax(0) for head in heads]).cpu()
    on = torch.stack([mass[:, first : last + 1].sum(1) for first, last in sample.spans])
    others = torch.cat([on[:index], on[index + 1 :]]).amax(0)
    return on[index].clamp(max=1) - others.clamp(max=1)


def _answers(runner: Runner, pods: Sequence[AnyPod], fact: Fact) -> bool:
    ids = _question(runner, fact.question)
    tokens = [step.token_id for step in generate(runner, pods, ids, SamplingParams(max_tokens=24))]
    return fact.answer.lower() in runner.model.tokenizer.decode(tokens).lower()
