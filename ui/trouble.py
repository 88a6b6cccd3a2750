"""The rim: turns whatever went wrong into two sentences for the user, and a bug into a line of the log."""

import logging
from dataclasses import dataclass
from uuid import uuid4

from app.log_file import NAME
from app.refusals import as_app_error

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trouble:
    """What happened, and what to do about it."""

    message: str
    hint: str


def explain(error: Exception) -> Trouble:
    """What a user can act on in its own words; anything else is logged under a short id, which is shown."""
    if (known := as_app_error(error)) is not None:
        return Trouble(known.message, known.hint)
    bug_id = uuid4().hex[:4]
    log.error("bug %s", bug_id, exc_info=error)
    hint = f"Please try again; {NAME} in the home folder has the details under this id."
    return Trouble(f"Something went wrong (id {bug_id}).", hint)
