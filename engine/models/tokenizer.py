"""Text to token ids and back: plain text can never become a control token, and every id knows its characters."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase


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

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The messages in the model's chat template, ready for the assistant's turn."""
        return str(
            self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        )

    def user_turn(self) -> tuple[list[int], list[int]]:
        """Ids in front of and behind what a user says in a conversation of one message."""
        mark = "\ue000"
        before, after = self.chat([{"role": "user", "content": mark}]).split(mark)
        return self.encode_template(before), self.encode_template(after)
