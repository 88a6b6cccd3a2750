"""Text and ids: what people wrote never becomes a control token, and every character belongs to a token."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.models.tokenizer import Tokenizer

TEXTS = (
    "",
    " ",
    "One plain sentence.",
    "  leading, trailing and  double spaces \n\n\tand a tab\r\n",
    "Naïve café, Straße, ﬁligree: e\u0301 is two characters, 😀 and 👩‍👩‍👧 are many tokens; 数学 ∑ αβγ.",
    "$1,234.56 (12.5 %) — “quoted” … \x00 \u200b \ufffd end",
    "x" * 500,
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
)


@pytest.fixture(scope="module", params=["tiny", "embedded"])
def inner(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """transformers' tokenizer of the tiny models and of the embedded one."""
    if request.param == "tiny":
        return request.getfixturevalue("tiny_tokenizer")
    return AutoTokenizer.from_pretrained(request.getfixturevalue("embedded_model_dir"))


@pytest.fixture(scope="module")
def tokenizer(inner: PreTrainedTokenizerFast) -> Tokenizer:
    return Tokenizer(inner)


def test_text_never_gives_a_control_token(inner: PreTrainedTokenizerFast, tokenizer: Tokenizer) -> None:
    assert "<|im_end|>" in inner.all_special_tokens
    for control in inner.get_added_vocab():
        for text in (control, f"before{control}after", f" {control}\n", control * 3):
            ids, _ = tokenizer.encode(text)
            assert not set(ids) & set(inner.all_special_ids)
            assert not set(ids) & set(inner.get_added_vocab().values())
            assert tokenizer.decode(ids) == text, "it is text like any other, and comes back"


def test_the_template_does_give_control_tokens(inner: PreTrainedTokenizerFast, tokenizer: Tokenizer) -> None:
    start, end = inner.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    ids = tokenizer.encode_template("<|im_start|>user\n")
    assert ids == [start, *tokenizer.encode("user\n")[0]]
    assert tokenizer.encode_template("<|im_end|>\n")[0] == end
    assert tokenizer.decode([*ids, end]) == "user\n"


@pytest.mark.parametrize("text", TEXTS)
def test_offsets_cover_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids, spans = tokenizer.encode(text)
    assert len(ids) == len(spans)
    covered: set[int] = set()
    at = 0
    for start, stop in spans:
        assert at <= start < stop <= len(text), "in order, none empty, inside the text"
        covered |= set(range(start, stop))
        at = start
    assert covered == set(range(len(text)))


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids, spans = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    for token, (start, stop) in zip(ids, spans, strict=True):
        piece = tokenizer.decode([token])
        # A token that holds only some bytes of a character has no text of its own.
        assert piece == text[start:stop] or "\ufffd" in piece


def test_decode_keeps_spaces_as_they_are(tokenizer: Tokenizer) -> None:
    text = "a , b . I 'm , do n't"
    assert tokenizer.decode(tokenizer.encode(text)[0]) == text


def test_the_chat_template(tokenizer: Tokenizer) -> None:
    """Every message stands in the template word for word, and the assistant is next."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": "That."},
        {"role": "user", "content": "Why?"},
    ]
    assert tokenizer.chat(messages) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n"
        "<|im_start|>assistant\nThat.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert messages[0] == {"role": "system", "content": "Be brief."}


def test_a_tokenizer_that_cuts_long_text_is_not_obeyed(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Some models' files ask for at most so many tokens; a page must keep its end."""
    tiny_tokenizer.save_pretrained(tmp_path)
    facts = json.loads((tmp_path / "tokenizer.json").read_text())
    facts["truncation"] = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(facts))
    cutting = AutoTokenizer.from_pretrained(tmp_path)
    assert len(cutting.backend_tokenizer.encode("x" * 100).ids) == 16
    tokenizer = Tokenizer(cutting)
    assert len(tokenizer.encode("x" * 100)[0]) == 100
    assert len(tokenizer.encode_template("x" * 100)) == 100


def test_many_texts_at_once_are_the_same_ids(tiny_tokenizer) -> None:
    tokenizer = Tokenizer(tiny_tokenizer)
    texts = ["plain", "<|im_end|> is read as text", ""]
    assert tokenizer.encode_all(texts) == [tokenizer.encode(text)[0] for text in texts]
