"""Streaming: the model's own words as they stream, and the end of them where they only repeat themselves."""

import re
from collections.abc import Iterable, Iterator

from engine.models.tokenizer import Tokenizer
from engine.runtime.generate import Step


def stream(tokenizer: Tokenizer, steps: Iterable[Step]) -> Iterator[str]:
    """The newest piece of text, token by token, some empty; ends where the model begins to repeat itself."""
    tokens: list[int] = []
    shown = ""
    for step in steps:
        tokens.append(step.token_id)
        # A character of several tokens is shown once it is whole.
        text = tokenizer.decode(tokens).lstrip().rstrip("\ufffd")
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
