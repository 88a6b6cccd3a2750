"""What the engine refuses, in its own words; the app turns these into messages with hints."""


class EngineError(Exception):
    """A request that the engine cannot serve; the text says why, with the facts."""


class ModelRefused(EngineError):
    """A model that cannot be used; `hint` says what to do about it."""

    hint = "Choose another model: --model FOLDER."

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or self.hint


class ModelMissing(ModelRefused):
    """The model cannot be found or fetched."""

    hint = "Check the network once, or choose a model that is on this disk: --model FOLDER."


class ModelDamaged(ModelRefused):
    """The model's files are incomplete, broken, or hold what is no number."""

    hint = "Copy or download the model's folder again, or choose another model: --model FOLDER."


class ModelUnsupported(ModelRefused):
    """The model is whole, but of a kind that DocPod does not read with."""


class WindowExceeded(EngineError):
    """More positions than the model's window has."""


class PodMismatch(EngineError):
    """Blocks that do not make up the pod they claim to be."""


class RecipeUnknown(EngineError):
    """A text that names no recipe; the error says which there are."""


class ReaderUnknown(EngineError):
    """A text that names no reader; the error says which there are."""


class PlanMissing(EngineError):
    """A recipe needs a sharing plan that this model has none of."""


class CalibrationFailed(EngineError):
    """Texts or settings that a model cannot be calibrated with; the error says what to change."""


class OutOfMemory(EngineError):
    """Memory that is not there: bytes that were asked for (0: unknown), and bytes that are free."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        asked = f"{needed_bytes / 1e9:.2f} GB" if needed_bytes else "more"
        super().__init__(f"{asked} of memory is needed at once, {free_bytes / 1e9:.2f} GB are free")
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
