"""Fidelity: what is planted is there, what is measured is what a hand count gives, and the command's own words."""

import json
import os
import random
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from benchmarks.fidelity import __main__ as command
from benchmarks.fidelity.bench import Entry, measure
from benchmarks.fidelity.documents import CONTINUED_TOKENS, Document, Question, Shelf
from benchmarks.fidelity.measures import judge, mean, quantile
from benchmarks.fidelity.pareto import draw
from benchmarks.fidelity.planting import NUMBERS, plants
from benchmarks.fidelity.report import HARD, intervals, summarize, table
from benchmarks.fidelity.work import split_recipes, work
from benchmarks.fidelity.workers import Found
from engine.core.errors import CalibrationFailed
from engine.kvcache.layout import layout_of
from engine.kvcache.recipe import parse
from engine.models import loader
from engine.models.tokenizer import Tokenizer
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import plain_logits, some_ids


def test_planted_facts_answer_their_questions() -> None:
    for seed in range(5):
        made = plants(random.Random(seed))
        assert made == plants(random.Random(seed)) and made != plants(random.Random(seed + 100))
        kinds = Counter(plant.kind for plant in made)
        assert kinds == {"retrieval": NUMBERS, "multi_hop": 2, "aggregation": 2, "paraphrase": 2, "key_value": 4}
        everything = "\n".join(piece for plant in made for piece in plant.pieces)
        for plant in made:
            assert plant.answer in everything and plant.question not in everything
            if plant.kind == "retrieval":
                assert everything.count(plant.answer) >= 1 and plant.lead + plant.answer in everything
            if plant.kind == "multi_hop":
                given, room = plant.pieces
                person = given.removesuffix(".").split()[-1]
                assert room == f"{person} keeps everything in room {plant.answer}."
                assert person not in plant.question + plant.lead
            if plant.kind == "aggregation":
                paid = {piece.split()[0]: int(piece.split()[2]) for piece in plant.pieces}
                assert len(paid) == 3 and max(paid, key=paid.__getitem__) == plant.answer
            if plant.kind == "paraphrase":
                words = set(plant.question.lower().rstrip("?").split()) - {"the", "was", "to", "by", "in"}
                assert not words & set(plant.pieces[0].lower().split())
            if plant.kind == "key_value":
                assert f"\n{plant.lead}{plant.answer}" in everything


def test_documents_have_the_length_asked_for_and_hold_what_is_asked() -> None:
    tokenizer = Tokenizer(tiny.tokenizer())
    shelf = Shelf(tokenizer, None, 3)
    for length, made in ((3000, list(shelf.planted(3000, 2))), (500, list(shelf.texts(500, 2)))):
        assert [len(document.ids) for document in made] == [length, length]
        assert made[0].ids != made[1].ids
    head = tokenizer.user_turn()[0]
    for document in shelf.planted(3000, 1):
        assert list(document.ids[: len(head)]) == head
        text = tokenizer.decode(document.ids)
        for question in document.questions:
            assert tokenizer.decode(question.answer) in text
        # The numbers stand at varied depth.
        copies = [each for each in document.questions if each.kind == "retrieval"]
        depths = [text.index(tokenizer.decode(each.answer)) / len(text) for each in copies]
        assert max(depths) - min(depths) > 0.2
        assert [each.depth for each in copies] == pytest.approx(depths, abs=0.05)
    (document,) = shelf.texts(500, 1)
    (question,) = document.questions
    assert len(question.ids) == 1 and len(question.answer) == CONTINUED_TOKENS - 1
    assert list(shelf.questions(1000, 3)) == []


def test_kinds_of_text_are_continued_in_turn(tmp_path: Path) -> None:
    (tmp_path / "kinds").mkdir()
    for kind, line in (("code", "x = 1\n"), ("numbers", "12.5 7\n")):
        (tmp_path / "kinds" / f"{kind}.txt").write_text(line * 2000)
    tokenizer = Tokenizer(tiny.tokenizer())
    made = list(Shelf(tokenizer, tmp_path, 0).texts(200, 3))
    assert [each.text for each in made] == ["code", "numbers", "code"]
    assert all(word in tokenizer.decode(each.ids) for word, each in zip(("x = 1", "12.5"), made, strict=False))


def test_measures_against_a_count_by_hand() -> None:
    exact = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
    other = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    judged = judge("text", 9, exact, other, [0, 1])
    p, q = exact.double().softmax(-1), other.double().softmax(-1)
    assert judged.nll == pytest.approx(-(q[0, 0].log() + q[1, 1].log()).item() / 2)
    assert judged.exact_nll == pytest.approx(-(p[0, 0].log() + p[1, 1].log()).item() / 2)
    by_hand = sum(p[1, token] * (p[1, token] / q[1, token]).log() for token in range(3))
    assert judged.kl.tolist() == pytest.approx([0.0, by_hand.item()])
    assert (judged.top1, judged.right, judged.exact_right) == (0.5, False, True)
    assert quantile([judged], 0.999) == pytest.approx(by_hand.item()) and quantile([], 0.5) is None
    same = judge("text", 9, exact, exact, [0, 0])
    assert (same.kl == 0).all() and same.top1 == 1 and same.right is False


def test_intervals_hold_the_mean_and_narrow_with_more() -> None:
    rng = random.Random(0)
    logits = torch.zeros(1, 2)
    items = []
    for _ in range(200):
        other = torch.tensor([[rng.gauss(0, 1), 0.0]])
        items.append(judge("text", 9, logits, other, [0]))
    few, many = mean(items[:20], lambda each: each.nll, 1), mean(items, lambda each: each.nll, 1)
    assert few is not None and many is not None
    assert many.low < many.value < many.high
    assert many.high - many.low < few.high - few.low
    assert many == mean(items, lambda each: each.nll, 1) != mean(items, lambda each: each.nll, 2)
    assert mean([], lambda each: 0.0, 1) is None


def test_the_exact_memory_is_the_model_itself_and_others_are_measured_against_it(llama_runner: Runner) -> None:
    runner = llama_runner
    ids, question, answer = some_ids(runner, 300, 1), some_ids(runner, 7, 2), some_ids(runner, 5, 3)
    asked = Question("answer", tuple(question), tuple(answer))
    continued = Question("text", tuple(question[:1]), tuple(answer))
    document = Document("a", 300, tuple(ids), (asked, continued))
    names = ("exact", "k8v8+near4,32", "keep20:random+near4,32")
    entries = [Entry(name, parse(name), layout_of(runner.model, parse(name)), runner) for name in names]
    rows = measure(runner, entries, document)
    logits = plain_logits(runner, [*ids, *question, *answer]).double().log_softmax(-1)[-len(answer) - 1 : -1]
    truth = -logits[range(len(answer)), answer].mean().item()
    exact, eight, few = (rows[name].judged[0] for name in names)
    assert exact.nll == exact.exact_nll == pytest.approx(truth, abs=1e-3)
    assert (exact.kl == 0).all() and exact.top1 == 1
    assert 0 < eight.kl.mean() < few.kl.mean() and eight.exact_nll == exact.nll
    assert [rows[name].drift for name in names] == [0.0, 0.0, 0.0]
    found = summarize({name: parse(name) for name in names}, rows, 0)
    # The tiny models count in float32; pods are judged by the two bytes a number that they are kept in.
    assert 2 * found[0]["bytes_per_token"] == runner.model.shape.token_bytes
    assert [row["parts"] for row in found] == list(names)
    assert found[0]["answer_nll_delta"] == 0.0 and found[0]["counts"]["answer"] == 1
    assert found[0]["bytes_per_token"] > found[1]["bytes_per_token"] > found[2]["bytes_per_token"]
    assert table(found).count("\n") == intervals(found).count("\n") == 5
    picture = draw(found)
    assert picture.startswith("<svg") and all(name in picture for name in names)


def test_recipes_are_split_at_commas_that_are_not_their_own() -> None:
    assert split_recipes("exact,k4v4+near16,256,A35") == ["exact", "k4v4+near16,256", "A35"]


@pytest.mark.slow
def test_the_command_ends_with_one_json_line(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr("benchmarks.fidelity.planting.LIST_ROWS", 8)
    monkeypatch.delenv("DOCPOD_EVAL_DATA", raising=False)
    said: list[str] = []
    arguments = ["--model", str(tiny_model_dir), "--models", str(tmp_path), "--recipes", "k4v4+near4,32,k4v4s+near4,32"]
    window = loader.load(str(tiny_model_dir), tmp_path, lambda _: None).window
    arguments += ["--lengths", "1100", "--limit", "1", "--out", str(tmp_path / "out"), "--seed", "7"]
    assert window > 1100 + 512
    command.main(arguments, said.append)
    result = json.loads(said[-1])
    assert result.keys() >= {"model", "hardware", "seed", "rows"} and result["seed"] == 7
    exact, four, on_the_way = result["rows"]
    assert exact.keys() >= {
        "recipe", "parts", "bytes_per_token", "kl_mean", "kl_p999", "top1", "lm_delta", "answer_nll_delta",
        "answer_nll_ci", "retrieval", "hard",
    }  # fmt: skip
    assert (exact["recipe"], four["recipe"]) == ("exact", "k4v4+near4,32")
    assert on_the_way["bytes_per_token"] == four["bytes_per_token"] and on_the_way["kl_mean"] not in (
        0,
        four["kl_mean"],
    )
    assert exact["kl_mean"] == 0 < four["kl_mean"] and exact["answer_nll_delta"] is None
    assert exact["retrieval"].keys() == {"1100"} and set(exact["hard"]) == set(HARD)
    assert json.loads((tmp_path / "out" / "fidelity.json").read_text()) == result
    assert (tmp_path / "out" / "fidelity.md").read_text() in said


@pytest.mark.slow
def test_workers_find_what_one_process_finds(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.delenv("DOCPOD_EVAL_DATA", raising=False)
    arguments = ["--model", str(tiny_model_dir), "--models", str(tmp_path), "--recipes", "k4v4+near4,32"]
    arguments += ["--lengths", "1500", "--limit", "2"]
    said: list[str] = []
    command.main(arguments, said.append)
    alone = json.loads(said[-1])
    # As a command, since a process that is run as one has another name for what its workers must find again.
    run = [sys.executable, "-m", "benchmarks.fidelity", *arguments, "--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        run, capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    shared = json.loads(done.stdout.splitlines()[-1])
    for row in (*alone["rows"], *shared["rows"]):
        assert row.pop("seconds") >= 0
    assert shared == alone
    with pytest.raises(SystemExit, match="2"):
        command.main([*arguments, "--workers", "2", "--lengths", "300"], said.append)


@pytest.mark.slow
def test_what_was_measured_before_a_failure_is_told(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCPOD_EVAL_DATA", raising=False)

    def failing(options: Namespace) -> Iterator[Found]:
        yield from islice(work(options), 1)
        raise CalibrationFailed("a worker process failed")

    monkeypatch.setattr(command, "work", failing)
    arguments = ["--model", str(tiny_model_dir), "--models", str(tmp_path), "--recipes", "k4v4+near4,32"]
    said: list[str] = []
    with pytest.raises(SystemExit, match="2"):
        command.main([*arguments, "--lengths", "1500", "--limit", "2", "--out", str(tmp_path / "out")], said.append)
    assert "not all could be measured: this is what 1 of 4 documents say" in said
    assert json.loads((tmp_path / "out" / "fidelity.json").read_text()) == json.loads(said[-1])


@pytest.mark.slow
def test_what_cannot_be_measured_is_said_in_a_sentence(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, reason in (
        (["--recipes", "tiny"], "no part of a recipe"),
        (["--recipes", "A35"], "no plan to share"),
        (["--recipes", "k4v4", "--lengths", "9000000"], "tokens of text"),
        (["--recipes", "k4v4", "--lengths", "300"], "take longer documents"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command.main(["--model", str(tiny_model_dir), "--models", str(tmp_path), *arguments], lambda _: None)
        assert reason in capsys.readouterr().err
