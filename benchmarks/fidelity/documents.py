"""What fidelity is measured on: documents with questions whose answers are known, made by seed from any text."""

import gzip
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.fidelity.planting import Plant, plants
from engine.compression.sample_text import sample_text
from engine.core.errors import CalibrationFailed
from engine.models.tokenizer import Tokenizer
from engine.training.options import read_text

CONTINUED_TOKENS = 512
"""Tokens behind a document over which its continuation is judged."""
ANSWER_TOKENS = 64
TEXT_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Question:
    """Tokens fed behind the document, and the answer's tokens that should follow.

    `kind`: "text" for a continuation, "answer" for question data, "retrieval" for an inserted number, and the harder
    kinds of `planting`. `depth`: where the answer stands in the document, as a share of it; 0 where that is not known.
    """

    kind: str
    ids: tuple[int, ...]
    answer: tuple[int, ...]
    depth: float = 0.0


@dataclass(frozen=True)
class Document:
    """The tokens of a prompt's head and a text; `length` is what was asked for, 0 where texts have their own. `text` is
    what kind of text it is, where that is known."""

    name: str
    length: int
    ids: tuple[int, ...]
    questions: tuple[Question, ...]
    text: str = ""


class Shelf:
    """Makes documents for one tokenizer from a folder of texts, or from the built-in sample."""

    def __init__(self, tokenizer: Tokenizer, data: Path | None, seed: int, asked: int = 3) -> None:
        """`asked`: most questions of a document of the question data."""
        self._tokenizer = tokenizer
        self._seed = seed
        self._asked_each = asked
        self._head, self._end = tokenizer.user_turn()
        self._records = _records(data)
        self._ids = tokenizer.encode(_text(data, self._records))[0]
        self._kinds = {name: tokenizer.encode(text)[0] for name, text in _kinds(data).items()}

    def texts(self, length: int, count: int) -> Iterator[Document]:
        """Pieces of text, to be continued: of every kind in turn, where the folder tells kinds apart. Raises
        CalibrationFailed where there is too little text."""
        kinds = list(self._kinds.items()) or [("", self._ids)]
        for number in range(count):
            kind, ids = kinds[number % len(kinds)]
            body = self._piece(length - len(self._head) + CONTINUED_TOKENS, length, number, ids)
            first = len(body) - CONTINUED_TOKENS
            question = Question("text", tuple(body[first : first + 1]), tuple(body[first + 1 :]))
            yield Document(f"text {number} {kind}".strip(), length, (*self._head, *body[:first]), (question,), kind)

    def planted(self, length: int, count: int) -> Iterator[Document]:
        """Pieces of text with facts in them, asked for in the order in which they were drawn."""
        for number in range(count):
            rng = random.Random(f"{self._seed} {length} {number}")
            found = plants(rng)
            pieces = [(plant, self._tokenizer.encode(f"\n{piece}\n")[0]) for plant in found for piece in plant.pieces]
            left = length - len(self._head) - sum(len(ids) for _, ids in pieces)
            body = self._piece(left, length, number, self._ids)
            # Each kind at varied depth: the cuts are spread evenly, what is put there is shuffled.
            rng.shuffle(pieces)
            ids, start = list(self._head), 0
            depths = {}
            for index, (plant, planted) in enumerate(pieces):
                stop = int(len(body) * (index + rng.random()) / len(pieces))
                ids += body[start:stop]
                depths[plant] = len(ids) / length
                ids += planted
                start = stop
            ids += body[start:]
            asked = tuple(replace(self._asked(plant), depth=depths.get(plant, 0.0)) for plant in found)
            yield Document(f"planted {number}", length, tuple(ids), asked)

    def questions(self, most_tokens: int, count: int) -> Iterator[Document]:
        """Documents of the question data that fit, with their questions; none without such data."""
        rng = random.Random(self._seed)
        for record in rng.sample(self._records, len(self._records)):
            asked = [each for each in record["questions"] if 3 <= len(str(each["answer"])) <= 400]
            if not asked or len(record["text"]) > 8 * most_tokens:
                continue
            ids = (*self._head, *self._tokenizer.encode(record["text"])[0])
            if not 1024 <= len(ids) <= most_tokens:
                continue
            rng.shuffle(asked)
            chosen = tuple(
                self._question("answer", each["question"], str(each["answer"])) for each in asked[: self._asked_each]
            )
            yield Document(record["id"], 0, ids, chosen)
            count -= 1
            if not count:
                return

    def _asked(self, plant: Plant) -> Question:
        return self._question(plant.kind, plant.question, plant.answer, plant.lead)

    def _question(self, kind: str, question: str, answer: str, lead: str = "") -> Question:
        ids = [*self._tokenizer.encode(f"\n\n{question}")[0], *self._end, *self._tokenizer.encode(lead)[0]]
        return Question(kind, tuple(ids), tuple(self._tokenizer.encode(answer)[0][:ANSWER_TOKENS]))

    def _piece(self, tokens: int, length: int, number: int, ids: list[int]) -> list[int]:
        """A run of text that begins at a place of its own."""
        if tokens < 1:
            raise CalibrationFailed(f"what is planted does not fit into {length} tokens; take longer documents")
        if tokens > len(ids):
            raise CalibrationFailed(
                f"a document of {length} tokens needs {tokens} tokens of text, {len(ids)} are there"
            )
        places = random.Random(f"{self._seed} {length}")
        starts = [places.randrange(len(ids) - tokens + 1) for _ in range(number + 1)]
        return ids[starts[number] : starts[number] + tokens]


def _records(data: Path | None) -> list[dict[str, Any]]:
    """The question data of a folder; nothing without a folder, or where it has none."""
    path = data / "qa_dev.jsonl.gz" if data else None
    if path is None or not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _text(data: Path | None, records: Sequence[Mapping[str, Any]]) -> str:
    """What documents are made of: the .txt files of the folder, the texts of its question data, or the sample."""
    files = sorted(data.glob("*.txt")) if data else []
    if files:
        return read_text(files)[:TEXT_CHARACTERS]
    return "\n\n".join(record["text"] for record in records)[:TEXT_CHARACTERS] or sample_text()


def _kinds(data: Path | None) -> dict[str, str]:
    """Texts by kind: those of the files `kinds/KIND.txt` of the folder."""
    return {file.stem: read_text([file])[:TEXT_CHARACTERS] for file in sorted(data.glob("kinds/*.txt"))} if data else {}
