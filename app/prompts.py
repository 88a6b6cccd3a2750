"""The words around a document and a question: document first, conversation after it, question last.

The document's prefix never moves, whatever is asked: its ids are the same for every question, so its memory is reused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.models.tokenizer import Tokenizer

PROMPT_VERSION = 1
SYSTEM = "You answer questions about the document, briefly and only from what it says."
_DOCUMENT = "\ue000document\ue000"


@dataclass(frozen=True)
class Exchange:
    """An earlier question of the conversation and the model's words on it."""

    question: str
    answer: str


class Prompts:
    """Builds ids from the model's own chat template; what people wrote can never become a control token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises ModelUnsupported for a template that cannot be used."""
        self._tokenizer = tokenizer
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": _DOCUMENT}]
        before, after = tokenizer.around(messages, _DOCUMENT)
        self.template = before + _DOCUMENT + after
        """The rendered template around a document: part of a pod's identity, and the same on every day."""
        self._head = tokenizer.encode_template(before) + tokenizer.encode("Document:\n")[0]

    def head(self) -> list[int]:
        """Ids in front of every section's text."""
        return list(self._head)

    def suffix(self, question: str, history: Sequence[Exchange] = ()) -> list[int]:
        """Ids behind the section: the conversation so far, the question, and the start of the assistant's turn."""
        messages = [{"role": "system", "content": SYSTEM}]
        contents: list[str] = []
        for exchange in history:
            contents += [exchange.question, exchange.answer]
        contents.append(question)
        for index in range(len(contents)):
            role = "assistant" if index % 2 else "user"
            mark = f"\ue000{index}\ue000"
            messages.append({"role": role, "content": _DOCUMENT + mark if index == 0 else mark})
        _, behind = self._tokenizer.around(messages, _DOCUMENT)
        ids: list[int] = []
        for part in re.split("(\ue000\\d+\ue000)", behind):
            if part.startswith("\ue000"):
                index = int(part.strip("\ue000"))
                text = contents[index] if index else "\n\n" + contents[index]
                ids += self._tokenizer.encode(text.replace("\ue000", ""))[0]
            elif part:
                ids += self._tokenizer.encode_template(part)
        return ids
