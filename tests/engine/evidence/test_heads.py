"""Evidence heads: their file, the one that ships, and the command that finds them."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from engine.evidence import heads
from engine.evidence.calibration import calibrate, passage
from engine.evidence.heads import EvidenceHeads
from engine.kvcache.exact import Pod
from engine.models import embedded
from engine.runtime.runner import Runner
from tests.engine.reading import attention, read, some_ids
from tests.engine.shapes import check

SOME = EvidenceHeads("someone/some-model", "a1" * 32, ((3, 1), (0, 2)), (0.5, 0.25), "passage")


def test_a_file_comes_back(tmp_path: Path) -> None:
    path = SOME.save(tmp_path / "made" / "on demand")
    assert path.parent == tmp_path / "made" / "on demand", "the name of a hub model makes no folders"
    assert heads.find(SOME.model, SOME.digest, path.parent) == SOME
    assert heads.find(SOME.model, SOME.digest, tmp_path, path.parent) == SOME
    again = dataclasses.replace(SOME, heads=((1, 1),), mass=(0.1,))
    again.save(path.parent)
    assert heads.find(SOME.model, SOME.digest, path.parent) == again


def test_heads_of_another_model_are_not_found(tmp_path: Path) -> None:
    """Two folders may have one name; heads of the other one could name layers that this one has not."""
    SOME.save(tmp_path)
    assert heads.find(SOME.model, "b2" * 32, tmp_path) is None
    assert heads.find("someone/other-model", SOME.digest, tmp_path) is None
    other = dataclasses.replace(SOME, digest="b2" * 32, heads=((9, 9),))
    other.save(tmp_path)
    assert heads.find(SOME.model, "b2" * 32, tmp_path) == other
    assert heads.find(SOME.model, SOME.digest, tmp_path) == SOME, "neither takes the place of the other"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"digest": "a1a1',
        "[]",
        "null",
        "\x00" * 40,
        '{"heads": [[1, 2]], "mass": [1]}',
        '{"digest": 1, "heads": 2}',
    ]
    + [
        json.dumps({**dataclasses.asdict(SOME), **change})
        for change in ({"heads": []}, {"heads": [[1]]}, {"digest": ""})
    ],
)
def test_a_file_that_holds_no_heads_is_none(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said in the log; another folder's file still counts, and a new one takes its place."""
    path = SOME.save(tmp_path)
    path.write_text(text)
    assert heads.find(SOME.model, SOME.digest, tmp_path) is None
    assert str(path) in caplog.text and "found out anew" in caplog.text
    SOME.save(tmp_path / "second")
    assert heads.find(SOME.model, SOME.digest, tmp_path, tmp_path / "second") == SOME
    SOME.save(tmp_path)
    assert heads.find(SOME.model, SOME.digest, tmp_path) == SOME
    assert list(tmp_path.glob("*.json*")) == [path]


def test_ones_own_calibration_goes_before_the_shipped_one(tmp_path: Path) -> None:
    own = EvidenceHeads(embedded.NAME, embedded.SHA256, ((1, 1),), (0.9,), "sections")
    own.save(tmp_path)
    assert heads.find(embedded.NAME, embedded.SHA256, tmp_path) == own


def test_the_embedded_models_heads_ship(embedded_runner: Runner, tmp_path: Path) -> None:
    """They are found for the model in float32 and in bfloat16, and are heads that it has."""
    model = embedded_runner.model
    found = heads.find(model.name, model.digest, tmp_path)
    assert found is not None
    assert (found.model, found.digest) == (embedded.NAME, model.digest)
    assert len(found.heads) == len(set(found.heads)) == len(found.mass) > 0
    config = model.network.config
    assert all(layer < config.num_hidden_layers and head < config.num_attention_heads for layer, head in found.heads)
    assert list(found.mass) == sorted(found.mass, reverse=True), "best first"
    assert found.answers_from in ("passage", "sections")


def test_the_shipped_heads_follow_the_question(embedded_runner: Runner, one_thread: None) -> None:
    """Of four facts of one shape, each is looked at most by the question that asks for it.

    The reverse does not hold: among facts of one shape the earlier ones draw more, whichever is asked for.
    """
    model = embedded_runner.model
    found = heads.find(model.name, model.digest)
    assert found is not None
    tokenizer = model.tokenizer
    ids, spans = tokenizer.encode_template("<|im_start|>user\n"), []
    cities = {"Lisbon": "48213", "Oslo": "90377", "Vienna": "15542", "Prague": "66180"}
    for city, code in cities.items():
        ids += tokenizer.encode("The morning was quiet and the streets smelled of rain and bread. ")[0]
        fact = tokenizer.encode(f"The access code of the {city} office is {code}. ")[0]
        spans.append((len(ids), len(ids) + len(fact)))
        ids += fact
    pod = read(embedded_runner, ids, 256)
    mass = []
    for city in cities:
        question = tokenizer.encode(f"\n\nWhat is the access code of the {city} office?")[0]
        question += tokenizer.encode_template("<|im_end|>\n<|im_start|>assistant\n")
        slots = torch.tensor(attention(embedded_runner, [pod], question, found.heads)[0])
        mass.append([float(slots[start:stop].sum()) for start, stop in spans])
    assert torch.tensor(mass).argmax(0).tolist() == [0, 1, 2, 3], mass


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_calibration_finds_heads_that_exist(llama_runner: Runner, seed: int, tmp_path: Path) -> None:
    found = calibrate(llama_runner, samples=1, seed=seed)
    assert (found.model, found.digest) == (llama_runner.model.name, llama_runner.model.digest)
    assert len(set(found.heads)) == len(found.heads) == len(found.mass) == 6
    assert all(layer in range(4) and head in range(4) for layer, head in found.heads)
    assert list(found.mass) == sorted(found.mass, reverse=True)
    assert all(-1 <= mass <= 1 for mass in found.mass)
    assert calibrate(llama_runner, samples=1, seed=seed) == found, "a seed repeats"
    facts = json.loads(found.save(tmp_path).read_text())
    assert set(facts) == {"model", "digest", "heads", "mass", "answers_from"}


@pytest.mark.parametrize(("first", "last"), [(304, 420), (12, 60), (3, 60), (-84, 12), (0, 499), (499, 499)])
def test_a_passage_is_the_head_and_what_was_asked_for(llama_runner: Runner, first: int, last: int) -> None:
    """What would reach into the head, or before it, starts right behind the head."""
    whole = read(llama_runner, some_ids(llama_runner, 500, 0), 250)
    part: Pod = passage(whole, 12, first, last)
    check(part)
    assert part.positions.tolist() == [*range(12), *range(max(12, first), last + 1)]
    assert part.num_tokens == last + 1
