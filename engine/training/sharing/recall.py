"""Recall sequences: facts hidden in other text and asked at its end, so that a student keeps what it reads far away."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.tokenizer import Tokenizer
from engine.training.errors import AdaptationFailed

FACTS = (12, 28)
CHAT_SHARE = 0.6
LEAST_HAY = 0.25
"""Share of a sequence that stays other text; a short sequence holds fewer facts."""
WORD_TOKENS = 100_000
"""Tokens of the text that words for the facts are taken from."""

_SHAPES = (
    ("On the shelf marked {key} lies parcel {value}.", "Which parcel lies on the shelf marked {key}?"),
    ("Whoever rings for {key} is put through to line {value}.", "On which line does one reach {key}?"),
    ("{key} -> {value}", "{key} -> ?"),
    ("The ledger books {value} crowns against {key}.", "How many crowns does the ledger book against {key}?"),
    ("Our courier left {key} at {value}, earlier than planned.", "Where did the courier leave {key}?"),
    ("For {key} the inspector wrote down {value}.", "What did the inspector write down for {key}?"),
    ("Remember that {key} answers to the name {value}.", "To what name does {key} answer?"),
    ("The {key} sample was filed under {value}.", "Under what was the {key} sample filed?"),
)
_MONTHS = "January February March April May June July August September October November December".split()
_WORDS = (
    "amber anchor basin candle cedar copper ember falcon garnet harbor hazel island jasper ladder lantern linen maple "
    "marble meadow mirror needle orchard pepper quartz raven ribbon saddle silver timber velvet walnut willow"
).split()


@dataclass(frozen=True)
class Recall:
    """Ids of a whole sequence; `facts` are its planted sentences, `asked` the questions with their answers, in the
    order in which they are asked.
    """

    ids: list[int]
    facts: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]


class RecallMaker:
    """Makes recall sequences from one text; the same seed gives the same sequence."""

    def __init__(self, tokenizer: Tokenizer, text: NDArray[np.int32]) -> None:
        self._tokenizer = tokenizer
        self._text = text
        found = re.findall(r"\b[a-z]{4,9}\b", tokenizer.decode(text[:WORD_TOKENS].tolist()))
        self._words = sorted({*found, *_WORDS})
        mark = "\ue000"
        chat = tokenizer.chat([{"role": role, "content": mark} for role in ("user", "assistant", "user")]).split(mark)
        self._before, self._answer, self._again = (tokenizer.encode_template(part) for part in chat[:3])

    def make(self, length: int, seed: str) -> Recall:
        """A sequence of `length` tokens. Raises AdaptationFailed where not one fact fits."""
        rng = random.Random(seed)
        chat = rng.random() < CHAT_SHARE
        drawn = [self._fact(rng) for _ in range(rng.randint(*FACTS))]
        head = self._before if chat else []
        room = int(length * (1 - LEAST_HAY)) - len(head)
        facts: list[tuple[list[int], str]] = []
        suffixes: list[tuple[list[int], tuple[str, str]]] = []
        for sentence, question, answer in drawn:
            planted = self._plain(f"\n{sentence}\n")
            suffix = self._suffix(question, answer, chat, bool(suffixes))
            if len(planted) + len(suffix) > room:
                continue
            room -= len(planted) + len(suffix)
            facts.append((planted, sentence))
            suffixes.append((suffix, (question, answer)))
        if not facts:
            raise AdaptationFailed(f"sequences of {length} tokens are too short for a fact and its question")
        # What is asked first has another lead in the chat, so only the others change places.
        rest = suffixes[1:]
        rng.shuffle(rest)
        suffixes[1:] = rest
        rng.shuffle(facts)
        end = [token for suffix, _ in suffixes for token in suffix]
        body = self._hide([planted for planted, _ in facts], length - len(head) - len(end), rng)
        return Recall(
            head + body + end, tuple(sentence for _, sentence in facts), tuple(asked for _, asked in suffixes)
        )

    def _hide(self, facts: Sequence[list[int]], length: int, rng: random.Random) -> list[int]:
        """Running text of the corpus with the facts at random places: `length` tokens."""
        hay = length - sum(map(len, facts))
        start = rng.randint(0, max(len(self._text) - hay, 0))
        text = np.resize(self._text[start : start + hay], hay).tolist()
        body, last = [], 0
        for cut, fact in zip(sorted(rng.randint(0, hay) for _ in facts), facts, strict=True):
            body += text[last:cut] + fact
            last = cut
        return body + text[last:]

    def _fact(self, rng: random.Random) -> tuple[str, str, str]:
        """A sentence, its question, and the answer, which repeats the sentence."""
        sentence, question = rng.choice(_SHAPES)
        key = " ".join(rng.sample(self._words, rng.choice((2, 2, 3))))
        value = rng.choice(
            (
                str(rng.randint(10, 99_999)),
                str(rng.randint(1_000, 999_999)),
                f"{rng.choice(self._words)}-{rng.randint(1, 999)}",
                f"{rng.randint(1, 28)} {rng.choice(_MONTHS)}",
                " ".join(rng.sample(self._words, 2)),
            )
        )
        translate_oom = sentence.format(key=key, value=value)
        return translate_oom, question.format(key=key), translate_oom if rng.random() < 0.5 else value

    def _suffix(self, question: str, answer: str, chat: bool, later: bool) -> list[int]:
        """A question with its answer, as a turn of the chat or as plain lines."""
        if not chat:
            return self._plain(f"\nQ: {question}\nA: {answer}\n")
        lead = self._again if later else self._plain("\n\n")
        return lead + self._plain(question) + self._answer + self._plain(answer)

    def _plain(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)[0]
