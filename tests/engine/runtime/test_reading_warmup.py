"""The warm-up of reading: nothing on a CPU; what it does on a GPU goes well for every kind of layout."""

import pytest

from engine.kvcache.layout import layout_of
from engine.kvcache.recipe import parse
from engine.runtime.prefill import warmup
from engine.runtime.runner import Runner


def test_nothing_is_read_on_a_cpu(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "score", lambda *_: pytest.fail("a CPU compiles nothing"))
    assert not [*warmup.prepare_reading(llama_runner, [layout_of(llama_runner.model, parse("exact"))], 64, 512)]


@pytest.mark.parametrize("recipe", ["exact", "k4v4hs", "k8v8s"])
def test_a_reading_of_nothing_has_chunks_of_every_length(
    recipe: str, llama_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    real = Runner.score

    def watched(runner: Runner, context: object, ids: list[int], last: int) -> object:
        lengths.append(len(ids))
        return real(runner, context, ids, last)

    monkeypatch.setattr(Runner, "score", watched)
    monkeypatch.setattr("engine.runtime.prefill.builder._LAST_TOKENS", 48)
    layout = layout_of(llama_runner.model, parse(recipe))
    monkeypatch.setattr(warmup, "why_not_triton", lambda device: "")
    steps = len([*warmup.prepare_reading(llama_runner, [layout], 128, 512)])
    assert steps > len(lengths) or recipe == "exact", "a kernel is made in a step of its own"
    assert max(lengths) >= 128 and len({length // 16 for length in lengths}) >= 3
    assert any(length % 16 for length in lengths)
