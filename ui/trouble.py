"""The rim: turns whatever went wrong into two sentences for the user, and a bug into a line of the log."""

from dataclasses import dataclass

from app.refusals import report
from ui.language import translated


@dataclass(frozen=True)
class Trouble:
    """What happened, and what to do about it."""

    message: str
    hint: str


def explain(error: Exception) -> Trouble:
    """What a user can act on in its own words; anything else is logged under a short id, which is shown."""
    known = report(error)
    return Trouble(translated(known.message), translated(known.hint))
