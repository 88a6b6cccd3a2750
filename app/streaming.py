"""Streaming: the model's own words as they stream, and the end of them where they only repeat themselves."""

import re
from collections.abc import Iterable, Iterator

from engine.models.tokenizer import Tokenizer
from engine.runtime.generate import Step

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’.,-][^\W_]+)*")
"""A word; of scripts without spaces, a character."""
_LONGEST_LOOP = 40
"""Words of a phrase that is said over and over."""
_CLAUSE = 8
"""Words that are a loop at the second time in a row, or at the third time anywhere; shorter phrases need more."""


def stream(tokenizer: Tokenizer, steps: Iterable[Step]) -> Iterator[str]:
    """The newest piece of text, token by token, some empty; ends where the model begins to repeat itself."""
    tokens: list[int] = []
    shown = ""
    for step in steps:
        tokens.append(step.token_id)
        # A character of several tokens is shown once it is whole; one that is no text is kept by no database.
        text = tokenizer.decode(tokens).replace("\0", "").lstrip().rstrip("\ufffd")
        yield text[len(shown) :]
        shown = text
        if _echo(text) is not None:
            return


def without_echo(text: str) -> str:
    """The text up to where it begins to repeat itself, also where a last sentence only begins to say it again."""
    if (echo := _echo(text)) is not None:
        return text[:echo].strip()
    *earlier, last = _sentences(text) or [""]
    if any(each.startswith(last) for each in earlier):
        return text[: text.rindex(last)].strip()
    return text.strip()


def _sentences(text: str) -> list[str]:
    return [each.strip() for each in re.split(r"(?<=[.!?。！？])\s|\n", text) if each.strip()]


def _echo(text: str) -> int | None:
    """Where in a text its end begins to repeat what was said before; None where it does not."""
    sentences = _sentences(text)
    if len(sentences) > 1 and sentences[-1] in sentences[:-1] and sentences[-1][-1] in ".!?。！？":
        return text.rindex(sentences[-1])
    found = list(_WORD.finditer(text))[-_LONGEST_LOOP * 8 :]
    words = [each[0].lower() for each in found]
    for length in range(1, min(_LONGEST_LOOP, len(words) // 2) + 1):
        times = 2 if length >= _CLAUSE else max(3, -(-_CLAUSE // length))
        last = words[-length:]
        start = len(words) - times * length
        if start >= 0 and words[start:] == last * times:
            while start >= length and words[start - length : start] == last:
                start -= length
            return found[start + length].start()
    seen: dict[tuple[str, ...], int] = {}
    for start in range(len(words) - _CLAUSE + 1):
        clause = tuple(words[start : start + _CLAUSE])
        seen[clause] = seen.get(clause, 0) + 1
        if seen[clause] > 2:
            return found[start].start()
    return None
