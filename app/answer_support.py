"""Answer support: does a passage hold what the model's own words say?"""

import re

from app.words import stems, terms

_FIGURE = re.compile(r"\d[\d.,:/-]*")
_ENOUGH = 0.6


def supports(answer: str, quote: str) -> bool:
    """Whether a quote holds every number of the answer's first sentence, or most of its words if it has none."""
    first = re.split(r"(?<=[.!?])\s", answer.strip(), maxsplit=1)[0]
    figures = {figure.rstrip(".,:/-") for figure in _FIGURE.findall(first)}
    if figures:
        held = {figure.rstrip(".,:/-") for figure in _FIGURE.findall(quote)}
        return figures <= held
    said = {stem for term in terms(first) for stem in stems(term)}
    return bool(said) and len(said & stems(quote)) >= _ENOUGH * len(said)
