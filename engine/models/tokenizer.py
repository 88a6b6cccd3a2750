"""Text to token ids and back: plain text can never become a control token, and every id knows its characters."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from engine.core.errors import ModelUnsupported

PINNED_DATE = datetime(2024, 7, 26)
"""What a chat template that asks for the date is told, every day: the one that Llama's templates fall back to."""
_DIRECTIVES = "".join(f"|replace('%{each}', '{PINNED_DATE.strftime('%' + each)}')" for each in "aAbBdHIjmMpSyY")
# As a macro, since transformers hands no functions to a template; it goes before the global of the same name. Templates
# are rendered with trim_blocks: the line's end is no part of what is said.
_PINNED_CLOCK = f"{{% macro strftime_now(format) %}}{{{{ format{_DIRECTIVES} }}}}{{% endmacro %}}\n"


def read_tokenizer(load: Callable[..., Any], source: Path | str, **options: Any) -> Any:
    """A tokenizer by a function of transformers or tokenizers, which raise anything, plain `Exception` too, for files
    that are spoilt or cannot be opened. Raises ImportError and OSError as they do, and ValueError for all else.
    """
    try:
        return load(source, **options)
    except (ImportError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"its tokenizer cannot be read: {error!r}") from error


class Tokenizer:
    """A transformers tokenizer, narrowed to what a reader needs."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._marked: Any = copy.deepcopy(tokenizer.backend_tokenizer)
        # Some models' files ask for it; a page would lose its end without a word.
        self._marked.no_truncation()
        # A document that contains "<|im_end|>" must not be able to end its own message.
        self._plain = copy.deepcopy(self._marked)
        self._plain.encode_special_tokens = True

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of plain text and the characters (start, end) that each covers; control tokens are read as text."""
        encoding = self._plain.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several plain texts, on every processor thread, without offsets."""
        encodings = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_template(self, text: str) -> list[int]:
        """Ids of a piece of the chat template, control tokens included."""
        ids: list[int] = self._marked.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without control tokens."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def save(self, folder: Path) -> None:
        """Write the files that it can be loaded from."""
        self._tokenizer.save_pretrained(folder)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The messages in the model's chat template, ready for the assistant's turn; the same on every day.

        Where the template has no system role, the system's words begin the first user turn. Raises ModelUnsupported
        for a template that cannot be used.
        """
        first, *rest = messages
        if first["role"] == "system":
            with suppress(ModelUnsupported):
                rendered = self._render(messages)
                if first["content"] in rendered:
                    return rendered
            messages = [{"role": "user", "content": f"{first['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
        return self._render(messages)

    def around(self, messages: Sequence[Mapping[str, str]], mark: str) -> tuple[str, str]:
        """The chat template in front of and behind a text that stands in one of the messages.

        Raises ModelUnsupported for a template that cannot be used.
        """
        parts = self.chat(messages).split(mark)
        if len(parts) != 2:
            raise ModelUnsupported(f"the chat template says {len(parts) - 1} times what a user says once")
        return parts[0], parts[1]

    def user_turn(self) -> tuple[list[int], list[int]]:
        """Ids in front of and behind what a user says in a conversation of one message."""
        mark = "\ue000"
        before, after = self.around([{"role": "user", "content": mark}], mark)
        return self.encode_template(before), self.encode_template(after)

    def _render(self, messages: Sequence[Mapping[str, str]]) -> str:
        try:
            template = self._tokenizer.get_chat_template()
            if "strftime_now" in template:
                template = _PINNED_CLOCK + template
            rendered = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # A template is a program of the model's makers, and may fail as programs do.
            raise ModelUnsupported(f"the chat template cannot be used: {type(error).__name__}: {error}") from error
        return str(rendered)
