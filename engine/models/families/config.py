"""The config of a model's folder, and which models are refused by it."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from engine.core.errors import ModelDamaged, ModelUnsupported
from engine.models.families.base import ATTENDING, OTHERS, layer_types
from engine.models.families.general import GENERAL
from engine.models.families.registry import FAMILIES, reads

MOVING_ROPES = ("dynamic",)
"""Rotary positions whose frequencies depend on how long the text is."""

UNPACKED = ("fp8", "mxfp4")
"""Forms of weights in few bits that are unpacked as they are loaded: Ministral 3's and gpt-oss's files have them."""

TEXT_WEIGHTS = {r"^language_model\.(model|lm_head)\.": r"\1.", r"^model\.language_model\.": "model."}
"""How weights of text are called in models that also see and hear, and in those that only read."""


def config_of(folder: Path, name: str) -> Any:
    """The model's config, or of one that also sees and hears that of its text, once it is sure that pods hold it.

    Raises ModelUnsupported, and ModelDamaged where it cannot be read.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
    except ValueError as error:
        raise ModelUnsupported(f"{name} could not be loaded: {error}") from error
    except OSError as error:
        raise ModelDamaged(f"{name} could not be loaded: {error}") from error
    text = config.get_text_config(decoder=True)
    _refuse_unsupported(text, name, config.model_type)
    # What is said of all weights is true of these.
    text.tie_word_embeddings = text.tie_word_embeddings or config.tie_word_embeddings
    if packed := getattr(config, "quantization_config", None):
        unpacks = {"dequantize": True} if packed.get("quant_method") in UNPACKED else {}
        text.quantization_config = {**packed, **unpacks}
    return text


def is_unpacked(config: Any) -> bool:
    """Whether the files of a config have weights in few bits, which become 16 or 32 as they are loaded."""
    return "dequantize" in (getattr(config, "quantization_config", None) or {})


def _refuse_unsupported(config: Any, name: str, whole: str) -> None:
    """`whole`: the model type of everything, of which the config is that of the text."""
    rope = getattr(config, "rope_parameters", None) or {}
    # Layers of several kinds have positions of their own.
    ropes = {each.get("rope_type") for each in (rope, *rope.values()) if isinstance(each, dict)}
    if moving := [each for each in MOVING_ROPES if each in ropes]:
        raise ModelUnsupported(
            f"{name} has {moving[0]!r} rotary positions, which change with the length of the text: "
            "what DocPod keeps of one length would not fit another"
        )
    known = reads(whole, None if whole == config.model_type else config.model_type)
    strange = sorted({*layer_types(config)} - {*ATTENDING, *OTHERS}) if known else []
    if not known or strange:
        layers = f" with {', '.join(strange)} layers" if strange else ""
        raise ModelUnsupported(
            f"{name} is a {whole!r} model{layers}; DocPod reads with models of the families "
            f"{', '.join((*FAMILIES, *GENERAL))}, whose layers see everything or a sliding window, or keep a state"
        )
    if not {*layer_types(config)} & {*ATTENDING}:
        raise ModelUnsupported(f"{name} has no layer that attends, and DocPod shows where layers look")
    if getattr(config, "use_bidirectional_attention", None) not in (None, False, "vision"):
        raise ModelUnsupported(f"{name} sees what is still to come, as an encoder does: it does not answer")
