"""The rim: turns whatever went wrong into two sentences for the user, and a bug into a line of the log."""

import logging
from dataclasses import dataclass
from uuid import uuid4

from app.errors import AppError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trouble:
    """What happened, and what to do about it."""

    message: str
    hint: str


def explain(error: Exception) -> Trouble:
    """The words of an AppError as they are; anything else is logged under a short id, which is shown."""
    if isinstance(error, AppError):
        return Trouble(error.message, error.hint)
    bug_id = uuid4().hex[:4]
    log.error("bug %s", bug_id, exc_info=error)
    hint = "Please try again; the log has the details under this id."
    return Trouble(f"Something went wrong (id {bug_id}).", hint)
