"""What a training refuses, in its own words."""

from engine.core.errors import EngineError


class AdapterMismatch(EngineError):
    """An adapter's file that is damaged, or was trained for other weights than these."""


class AdaptationFailed(EngineError):
    """Post-training cannot start or go on: no text, other settings than the state was made with, a loss that is no
    number."""
