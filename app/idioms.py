"""Idioms: what a question says in other words than a document does, such as who runs a place for its director."""

import re
from collections.abc import Callable

from app.words import telling_stems

_IDIOMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"(?<=\bwho )(?:runs?|leads?|heads?|manages?|directs?)\b|(?<=\bwho is )(?:in charge|the boss)\b|\bceo\b",
        ("chief executive officer", "ceo", "director", "president", "manager", "head"),
    ),
    (r"\b(?:went|go|goes|gone) wrong\b", ("damage", "failure", "failed", "broken", "fault", "problems", "wrong")),
    # What is measured: by the word itself where the document has it.
    *(
        (rf"(?<=\bhow ){words[0]}\b", words)
        for words in (
            ("tall", "high", "height"),
            ("high", "tall", "height"),
            ("long", "length", "lasts", "duration"),
            ("wide", "width", "broad"),
            ("broad", "wide", "width"),
            ("deep", "depth"),
            ("big", "large", "size"),
            ("large", "big", "size"),
            ("heavy", "weighs", "weight"),
            ("old", "age"),
            ("far", "distance"),
            ("fast", "speed"),
        )
    ),
    *(
        (rf"(?<=\bwie ){row.split()[0]}\b", tuple(row.split()))
        for row in (
            "hoch höhe beträgt betrug",
            "lange dauer dauert",
            "lang länge",
            "breit breite",
            "tief tiefe",
            "groß größe fläche",
            "schwer wiegt gewicht",
            "alt alter",
            "teuer kostet preis",
            "weit entfernung",
            "schnell geschwindigkeit",
        )
    ),
)


def other_words(question: str) -> str:
    """All that a document may say in place of words of the question; empty where nothing is known."""
    return " ".join(other for idiom, others in _IDIOMS if re.search(idiom, question, re.I) for other in others)


def said_as(question: str, is_held: Callable[[str], bool]) -> str:
    """The question in the words of a document, which holds some stems: the first of each idiom that it has."""
    for idiom, others in _IDIOMS:
        known = (other for other in others if all(map(is_held, telling_stems(other))))
        question = re.sub(idiom, lambda match, known=known: next(known, match[0]), question, flags=re.I)  # type: ignore[misc]
    return question
