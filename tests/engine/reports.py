"""Sixty short reports, as a corpus to post-train tiny models on."""

import random
from pathlib import Path

from benchmarks.evidence.prose import report
from engine.models.tokenizer import Tokenizer
from engine.training import corpus
from engine.training.corpus import Corpus
from tests import tiny


def some_text(number: int) -> str:
    """One report of about two thousand characters."""
    heading, paragraphs = report(random.Random(number), number)
    return "\n\n".join([heading, *map(" ".join, paragraphs)])


TEXTS = [some_text(number) for number in range(60)]


def report_corpus(folder: Path) -> Corpus:
    """All reports in tokens of the tiny models, of which some are held out."""
    return corpus.load(Tokenizer(tiny.tokenizer()), "tiny", TEXTS, folder, 1_000_000)
