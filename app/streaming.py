"""Streaming: the model's own words as they stream, and the end of them where they only repeat themselves."""

import re
import threading
from collections.abc import Iterator, Sequence

from app.reader_model import Loaded
from engine.core.sampling import SamplingParams
from engine.kvcache.quantized import AnyPod
from engine.runtime.generate import generate


def stream(
    loaded: Loaded, pods: Sequence[AnyPod], ids: Sequence[int], params: SamplingParams, stop: threading.Event
) -> Iterator[str]:
    """The newest piece of text, token by token, some empty; ends where the model begins to repeat itself."""
    tokens: list[int] = []
    shown = ""
    for step in generate(loaded.runner, pods, ids, params, stop.is_set):
        tokens.append(step.token_id)
        # A character of several tokens is shown once it is whole.
        text = loaded.runner.model.tokenizer.decode(tokens).lstrip().rstrip("\ufffd")
        if _echoes(text):
            return
        yield text[len(shown) :]
        shown = text


def without_echo(text: str) -> str:
    """The text without a last sentence that only begins to say what was said before."""
    *earlier, last = _sentences(text) or [""]
    if any(each.startswith(last) for each in earlier):
        return text[: text.rindex(last)].strip()
    return text.strip()


def _sentences(text: str) -> list[str]:
    return [each.strip() for each in re.split(r"(?<=[.!?])\s|\n", text) if each.strip()]


def _echoes(text: str) -> bool:
    """Whether the last sentence of a text, if it is finished, has been said before."""
    sentences = _sentences(text)
    return len(sentences) > 1 and sentences[-1] in sentences[:-1] and sentences[-1][-1] in ".!?"
