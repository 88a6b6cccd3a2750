"""Fallbacks: what goes a slower way than it could, and why."""

import logging

log = logging.getLogger(__name__)


class Fallbacks:
    """Reasons, each logged once, and kept for whoever asks what is slow here and why."""

    def __init__(self) -> None:
        self._reasons: dict[str, None] = {}

    def note(self, what: str, why: object) -> None:
        """Something goes a slower way: `what` says which, `why` is an error or words."""
        detail = str(why).strip().partition("\n")[0]
        if isinstance(why, Exception):
            detail = f"{type(why).__name__}: {detail}" if detail else type(why).__name__
        reason = f"{what}: {detail}"
        if reason not in self._reasons:
            self._reasons[reason] = None
            log.warning("%s", reason)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything noted so far, oldest first."""
        return tuple(self._reasons)
