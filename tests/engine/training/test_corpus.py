"""Text to post-train on: what is read, what is held out, and facts that are told before they are asked."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from engine.models.tokenizer import Tokenizer
from engine.training import corpus
from engine.training.errors import AdaptationFailed
from engine.training.sharing.recall import RecallMaker
from tests import tiny
from tests.engine.reports import TEXTS, report_corpus

pytestmark = pytest.mark.slow


def test_what_is_held_out_depends_on_the_text_alone(tmp_path: Path) -> None:
    tokenizer = Tokenizer(tiny.tokenizer())
    held = {text for text in TEXTS if corpus.is_held_out(text)}
    for texts in (TEXTS[::-1], TEXTS * 2, TEXTS[: len(TEXTS) - 1]):
        found = corpus.load(tokenizer, "tiny", texts, tmp_path, 1_000_000)
        assert found.num_held == len(held & set(texts))
        assert found.num_texts == len(set(texts))
    one = corpus.load(tokenizer, "tiny", ["\n\n".join(TEXTS)], tmp_path, 1_000_000)
    assert 1 <= one.num_held < one.num_texts


def test_tokens_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(tiny.tokenizer())
    made = corpus.load(tokenizer, "tiny", TEXTS, tmp_path, 5000)
    assert len(made.train) == 5000
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "encode_all", None)
        again = corpus.load(tokenizer, "tiny", TEXTS, tmp_path, 5000)
    assert np.array_equal(made.train, again.train) and np.array_equal(made.held, again.held)
    corpus.load(tokenizer, "another", TEXTS, tmp_path, 5000)
    assert len(list(tmp_path.iterdir())) == 2


def test_texts_come_from_files_of_several_kinds(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.txt").write_text("plain")
    (tmp_path / "in" / "b.rst.gz").write_bytes(gzip.compress(b"packed"))
    page = "<html><head><title>no</title></head><body><script>no</script><h1>One &amp; two</h1><p>three <b>four</b>"
    (tmp_path / "in" / "c.HTML").write_text(page)
    (tmp_path / "in" / "d.png").write_bytes(b"\x89PNG")
    assert list(corpus.read_texts([tmp_path])) == ["plain", "packed", "One & two\n\nthree four"]
    assert list(corpus.read_texts([tmp_path / "a.txt"])) == ["plain"]
    assert len(next(corpus.read_texts([]))) > 100_000
    (tmp_path / "in" / "b.rst.gz").write_bytes(b"not packed")
    for path, reason in (("in", "cannot be read"), ("absent", "does not exist")):
        with pytest.raises(AdaptationFailed, match=reason):
            list(corpus.read_texts([tmp_path / path]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdaptationFailed, match="holds no files"):
        list(corpus.read_texts([tmp_path / "empty"]))


def test_facts_are_told_before_they_are_asked(tmp_path: Path) -> None:
    tokenizer = Tokenizer(tiny.tokenizer())
    maker = RecallMaker(tokenizer, report_corpus(tmp_path).train)
    chats = 0
    for seed in range(20):
        made = maker.make(6000, str(seed))
        assert made == maker.make(6000, str(seed))
        assert len(made.ids) == 6000
        assert 12 <= len(made.facts) <= 28 and len(made.asked) == len(made.facts)
        whole = tokenizer.decode(made.ids)
        first = min(whole.index(question) for question, _ in made.asked)
        assert all(0 < whole.index(f"\n{fact}\n") < first for fact in made.facts)
        place = first
        for question, answer in made.asked:
            place = whole.index(question, place)
            place = whole.index(answer, place + len(question))
            assert any(answer in fact for fact in made.facts)
        chat = 256 in made.ids
        chats += chat
        # One user's turn for each question, and one of the assistant.
        assert made.ids.count(256) == (2 * len(made.facts) if chat else 0)
    assert 0 < chats < 20
    assert maker.make(6000, "0") != maker.make(6000, "1")


def test_short_sequences_hold_fewer_facts(tmp_path: Path) -> None:
    maker = RecallMaker(Tokenizer(tiny.tokenizer()), report_corpus(tmp_path).train)
    made = maker.make(600, "0")
    assert len(made.ids) == 600 and 1 <= len(made.facts) < 12
    with pytest.raises(AdaptationFailed, match="too short"):
        maker.make(60, "0")
