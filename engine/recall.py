"""Sequences to train on: plain text, and text with facts hidden in it that are asked for at the end.

Prose alone hardly teaches a model to point at what stands far away; these do. Their wording differs from what fidelity
is measured on.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from engine.errors import CalibrationFailed
from engine.sample_text import read_text, sample_text
from engine.tokenizer import Tokenizer

RECALL_SHARE = 0.15
"""Of all sequences, those that ask for hidden facts."""
HELD_OUT_SHARE = 0.1
"""Of the text, what is never trained on."""
_PASSAGE_CHARACTERS = 20_000
_MARK = "\ue000"
_FORMS = (
    (
        "The access word of {key} is {value}.",
        "What is the access word of {key}?",
        "The access word of {key} is {value}.",
    ),
    ("Note: {key} was assigned {value}.", "What was assigned to {key}?", "{key} was assigned {value}."),
    ("{key} = {value}", "{key} = ?", "{key} = {value}"),
    ("In the yearly report the {key} entry reads {value}.", "What does the {key} entry read?", "It reads {value}."),
    ("The {key} weighs {value} grams.", "How much does the {key} weigh?", "The {key} weighs {value} grams."),
    ("Mr {key} lives at number {value}.", "Where does Mr {key} live?", "Mr {key} lives at number {value}."),
)


@dataclass(frozen=True)
class Corpus:
    """Token ids to train on and to test on, and the words that facts are made of."""

    train: Sequence[int]
    held_out: Sequence[int]
    words: Sequence[str]


@dataclass(frozen=True)
class Fact:
    """A sentence to hide, what asks for it, and what answers."""

    sentence: str
    question: str
    answer: str


def load(tokenizer: Tokenizer, paths: Sequence[Path]) -> Corpus:
    """The user's text, or the built-in sample, in passages of which every tenth or so, by its hash, is held out.

    Raises CalibrationFailed where the text cannot be read.
    """
    text = read_text(paths) if paths else sample_text()
    passages = [text[start : start + _PASSAGE_CHARACTERS] for start in range(0, len(text), _PASSAGE_CHARACTERS)]
    train: list[int] = []
    held_out: list[int] = []
    for passage in passages:
        share = int(hashlib.sha256(passage.encode()).hexdigest()[:8], 16) / 2**32
        (held_out if share < HELD_OUT_SHARE else train).extend(tokenizer.encode(passage)[0])
    words = sorted(set(re.findall(r"\b[a-z]{4,9}\b", text)))
    if len(words) < 50 or not held_out:
        raise CalibrationFailed(f"{len(text)} characters are too little text to adapt a model; give more")
    return Corpus(train, held_out, words)


def sequence(corpus: Corpus, tokenizer: Tokenizer, length: int, seed: str) -> list[int]:
    """A sequence of `length` tokens to train on, the same for the same seed; now and then with facts to recall."""
    rng = random.Random(seed)
    if len(corpus.train) < length:
        raise CalibrationFailed(f"a sequence of {length} tokens needs more text than {len(corpus.train)} tokens")
    start = rng.randrange(len(corpus.train) - length + 1)
    piece = list(corpus.train[start : start + length])
    return with_facts(piece, corpus.words, tokenizer, rng) if rng.random() < RECALL_SHARE else piece


def with_facts(piece: Sequence[int], words: Sequence[str], tokenizer: Tokenizer, rng: random.Random) -> list[int]:
    """The piece with facts hidden in it and asked for behind it, cut to as many tokens as it had."""
    facts = [_fact(words, rng) for _ in range(max(1, min(rng.randint(12, 28), len(piece) // 250)))]
    asked = rng.sample(facts, len(facts))
    if rng.random() < 0.5:
        before = list(tokenizer.user_turn()[0])
        behind = tokenizer.encode("".join(f"\n\nQuestion: {each.question}\nAnswer: {each.answer}" for each in asked))[0]
    else:
        turns = [{"role": "user", "content": f"{_MARK}\n\n{asked[0].question}"}]
        for each, following in pairwise(asked):
            turns += [
                {"role": "assistant", "content": each.answer},
                {"role": "user", "content": following.question},
            ]
        head, rest = tokenizer.chat(turns).split(_MARK)
        before, behind = tokenizer.encode_template(head), tokenizer.encode_template(rest + asked[-1].answer)
    hidden = [tokenizer.encode(f"\n{each.sentence}\n")[0] for each in facts]
    room = len(piece) - len(before) - len(behind) - sum(map(len, hidden))
    if room < len(piece) // 4:
        return list(piece)
    cuts = sorted(rng.randrange(room + 1) for _ in hidden)
    ids, start = before, 0
    for cut, fact in zip(cuts, hidden, strict=True):
        ids += [*piece[start:cut], *fact]
        start = cut
    return [*ids, *piece[start:room], *behind]


def _fact(words: Sequence[str], rng: random.Random) -> Fact:
    value = rng.choice((str(rng.randint(10, 999_999)), f"{rng.choice(words)}-{rng.randint(1, 999)}"))
    names = {"key": " ".join(rng.sample(words, 2)), "value": value}
    return Fact(*(part.format(**names) for part in rng.choice(_FORMS)))
