"""Sets of questions whose right pages and answers are known: planted reports, and folders of PDFs with questions."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence.planted import Shape, planted_absent, planted_report

_DASHES = re.compile("[\u2010-\u2015]")


@dataclass(frozen=True)
class KnownQuestion:
    """A question about a document of a set; `pages` are 1-based, and empty where the document does not answer it."""

    question_set: str
    path: Path
    question: str
    answer: str
    pages: frozenset[int]


def folder(path: Path) -> Iterator[KnownQuestion]:
    """The questions of a folder with a questions.jsonl: one PDF a line, with the pages of each answer.

    FinanceBench counts pages from 0 and gives the evidence's text, MMLongBench-Doc counts them from 1.
    """
    for line in (path / "questions.jsonl").read_text().splitlines():
        document = json.loads(line)
        for each in document["questions"]:
            answered = str(each["answer"]) != "Not answerable"
            first = 1 if "evidence" in each else 0
            pages = frozenset(page + first for page in each["pages"] if answered)
            yield KnownQuestion(path.name, path / document["pdf"], each["question"], str(each["answer"]), pages)


def planted(home: Path, shape: Shape, limit: int) -> Iterator[KnownQuestion]:
    """Twenty facts of one shape in a report of 60 pages, and ten near misses that nothing answers."""
    path = home / f"planted-{shape}.pdf"
    for fact in planted_report(path, pages=60, facts=shape, seed=1)[:limit]:
        yield KnownQuestion(f"planted {shape}", path, fact.question, fact.answer, frozenset({fact.page}))
    for question in planted_absent(shape)[:limit]:
        yield KnownQuestion(f"planted {shape}", path, question, "", frozenset())


def holds(text: str, answer: str) -> bool:
    """Whether a text holds an answer, apart from case, spacing and the kinds of dashes; or every part of a list."""
    parts = re.findall(r"'([^']+)'", answer) if answer.startswith("[") else [answer]
    said = _plain(text)
    return bool(answer) and all(_plain(part) in said for part in parts)


def _plain(text: str) -> str:
    return " ".join(_DASHES.sub("-", text.lower()).split())
