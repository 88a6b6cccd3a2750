"""The words around a document and a question: document first, question last.

The document's prefix never moves, whatever is asked: its ids are the same for every question, so its memory is reused.
"""

from engine.models.tokenizer import Tokenizer

PROMPT_VERSION = 1
SYSTEM = "You answer questions about the document, briefly and only from what it says."
_DOCUMENT, _QUESTION = "\ue000document\ue000", "\ue000question\ue000"


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

    def suffix(self, question: str) -> list[int]:
        """Ids behind the section: the question, and the start of the assistant's turn."""
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": _DOCUMENT + _QUESTION}]
        _, behind = self._tokenizer.around(messages, _DOCUMENT)
        before, after = behind.split(_QUESTION)
        asked = self._tokenizer.encode("\n\n" + question.replace("\ue000", ""))[0]
        return [
            *(self._tokenizer.encode_template(before) if before else []),
            *asked,
            *self._tokenizer.encode_template(after),
        ]
