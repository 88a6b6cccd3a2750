"""The language of whoever caused the running event, and what the English of the code is in it (`ui/locales`)."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

CATALOGUES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (Path(__file__).parent / "locales").glob("*.json")
}
"""By language: English sentences and what they are there; counted things by the CLDR's plural forms."""
i18n: Any = gr.I18n(**CATALOGUES)
"""For Gradio's own parts, and for the script, which finds the catalogues in Gradio's settings of the page."""
_BETWEEN_SENTENCES = re.compile(r"(?<=[.…]) (?=[^\W\d_a-z]|“)")
_language: ContextVar[str] = ContextVar("language", default="en")


@contextmanager
def speaking(accepted: str) -> Iterator[None]:
    """What runs inside speaks the first language of an Accept-Language header, or English, as Gradio's own parts do."""
    wanted = re.split("[-,;]", accepted.strip().lower())[0]
    before = _language.set(next((each for each in CATALOGUES if each.split("-")[0] == wanted), "en"))
    try:
        yield
    finally:
        _language.reset(before)


def language() -> str:
    """As HTML has it: `en`, `zh-CN`."""
    return _language.get()


def direction() -> str:
    """In which it is written: `ltr` or `rtl`."""
    return "rtl" if language() == "ar" else "ltr"


def t(words: str, /, **values: object) -> str:
    """An English sentence in the language, `values` in the place of its `{names}`."""
    said = str(_entries().get(words, words))
    # Each value is an island in what runs to the left.
    held = "\u2068{}\u2069" if direction() == "rtl" else "{}"
    return said.format(**{name: held.format(value) for name, value in values.items()}) if values else said


def translated(words: str) -> str:
    """What the app says, its values in it already: each sentence as the catalogue has it, or as it is."""
    return " ".join(map(_translated, _BETWEEN_SENTENCES.split(words)))


def count(number: int, one: str) -> str:
    """`1 page`, `12,800 tokens`: the catalogue has such a thing as `{n} page`."""
    forms = _entries().get(f"{{n}} {one}", {"one": f"{{n}} {one}", "other": f"{{n}} {one}s"})
    return str(forms[_plural(number)]).format(n=figure(number))


def figure(value: float, form: str = ",") -> str:
    """A number with the language's own separators."""
    return f"{value:{form}}".translate(str.maketrans(",.", t(",.")))


def _entries() -> dict[str, Any]:
    return CATALOGUES.get(language(), {})


def _plural(number: int) -> str:
    """The CLDR's plural category of a whole number."""
    if language() != "ar":
        return "one" if number == 1 and language() != "zh-CN" else "other"
    rest = number % 100
    few = "few" if 3 <= rest <= 10 else "many" if rest > 10 else "other"
    return {0: "zero", 1: "one", 2: "two"}.get(number, few)


def _translated(words: str) -> str:
    if words in _entries():
        return t(words)
    found = ((pattern.fullmatch(words), said) for pattern, said in _patterns(language()))
    return next((said.format(*map(_translated, match.groups())) for match, said in found if match), words)


@cache
def _patterns(language: str) -> list[tuple[re.Pattern[str], str]]:
    entries = CATALOGUES.get(language, {})
    return [
        (re.compile("(.+?)".join(map(re.escape, each.split("{}")))), entries[each]) for each in entries if "{}" in each
    ]
