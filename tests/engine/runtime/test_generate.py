"""The decode loop: where it ends, that its choices repeat, and that threads take turns at the model."""

import itertools
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.core.errors import WindowExceeded
from engine.core.sampling import SamplingParams, sample
from engine.kvcache.exact import Pod
from engine.runtime.generate import Step, generate
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner
from tests.engine.reading import ask, attention, feed, greedy, read, some_ids

WARM = SamplingParams(max_tokens=24, temperature=0.8, top_p=0.9, seed=3)


def steps(runner: Runner, pods: Sequence[Pod], ids: Sequence[int], params: SamplingParams) -> list[Step]:
    return list(generate(runner, pods, ids, params))


def without_stops(runner: Runner) -> Runner:
    """The same model, which never stops by itself."""
    return Runner(replace(runner.model, stop_ids=frozenset()))


@pytest.fixture
def pod(llama_runner: Runner) -> Pod:
    return read(llama_runner, some_ids(llama_runner, 100, 1))


def test_a_seed_repeats_its_answer(llama_runner: Runner, pod: Pod) -> None:
    runner, question = without_stops(llama_runner), some_ids(llama_runner, 10, 2)
    answers = [steps(runner, [pod], question, replace(WARM, seed=seed)) for seed in (3, 3, 4, 5)]
    assert answers[0] == answers[1]
    assert len({tuple(step.token_id for step in answer) for answer in answers}) == 3


def test_temperature_0_is_greedy_whatever_the_seed(llama_runner: Runner, pod: Pod) -> None:
    runner, question = without_stops(llama_runner), some_ids(llama_runner, 10, 2)
    cold = [steps(runner, [pod], question, SamplingParams(12, seed=seed, top_p=0.5)) for seed in (0, 1)]
    assert cold[0] == cold[1]
    fed: list[int] = []
    for step in cold[0]:
        logits = ask(runner, [pod], [question, *([token] for token in fed)])[-1]
        assert step.token_id == int(logits.argmax())
        assert step.logprob == float(logits.log_softmax(-1).max())
        fed.append(step.token_id)


def test_low_temperature_comes_near_to_greedy(llama_runner: Runner, pod: Pod) -> None:
    runner, question = without_stops(llama_runner), some_ids(llama_runner, 10, 2)
    nearly = steps(runner, [pod], question, SamplingParams(12, temperature=1e-4))
    assert [step.token_id for step in nearly] == greedy(runner, [pod], question, 12)


def test_max_tokens_ends_an_answer(llama_runner: Runner, pod: Pod) -> None:
    runner, question = without_stops(llama_runner), some_ids(llama_runner, 10, 2)
    long = greedy(runner, [pod], question, 9)
    for count in (1, 2, 9):
        assert greedy(runner, [pod], question, count) == long[:count]


def test_a_stop_token_ends_an_answer_and_is_not_part_of_it(llama_runner: Runner, pod: Pod) -> None:
    question = some_ids(llama_runner, 10, 2)
    free = greedy(without_stops(llama_runner), [pod], question, 12)
    for token in {free[0], free[5]}:
        stopping = Runner(replace(llama_runner.model, stop_ids=frozenset([token, 511])))
        assert greedy(stopping, [pod], question, 12) == free[: free.index(token)]


@pytest.mark.parametrize("wanted", [0, 1, 5])
def test_a_stopped_answer_ends_at_a_token(llama_runner: Runner, pod: Pod, wanted: int) -> None:
    """`stopped` is asked before every call of the model, so not one more is made."""
    network, question = Turns(llama_runner.model.network), some_ids(llama_runner, 10, 2)
    runner = Runner(replace(llama_runner.model, network=network, stop_ids=frozenset()))
    answer: list[int] = []
    for step in generate(runner, [pod], question, SamplingParams(12), lambda: len(answer) >= wanted):
        answer.append(step.token_id)
    assert answer == greedy(without_stops(llama_runner), [pod], question, 12)[:wanted]
    assert len(network.calls) == wanted


def test_an_answer_that_nobody_waits_for_costs_nothing(llama_runner: Runner, pod: Pod) -> None:
    """The generator works only when it is asked for the next token, and can be dropped at any time."""
    network = Turns(llama_runner.model.network)
    runner = Runner(replace(llama_runner.model, network=network, stop_ids=frozenset()))
    answer = generate(runner, [pod], some_ids(runner, 10, 2), SamplingParams(12))
    assert network.calls == []
    next(answer)
    answer.close()
    assert len(network.calls) == 1


def test_the_window_is_a_wall(llama_runner: Runner) -> None:
    pod = read(llama_runner, some_ids(llama_runner, 40, 1))
    runner = Runner(replace(llama_runner.model, window=50, stop_ids=frozenset()))
    with pytest.raises(WindowExceeded, match="51 positions are needed, 50 are there"):
        greedy(runner, [pod], some_ids(runner, 11, 2), 1)
    with pytest.raises(WindowExceeded):
        attention(runner, [pod], some_ids(runner, 11, 2), [(0, 0)])
    with pytest.raises(WindowExceeded):
        PodBuilder(runner, 60).feed(some_ids(runner, 51, 3))
    # Ten tokens of a question and one of the answer: the tenth is the last that has a position.
    assert len(greedy(runner, [pod], some_ids(runner, 10, 2), 1)) == 1
    with pytest.raises(WindowExceeded):
        greedy(runner, [pod], some_ids(runner, 10, 2), 2)


def test_look_is_the_most_that_a_token_gave_each_slot(llama_runner: Runner) -> None:
    runner = llama_runner
    pods = [read(runner, some_ids(runner, count, count)) for count in (30, 50)]
    question, heads = some_ids(runner, 8, 2), [(1, 0), (3, 2)]
    mass = attention(runner, pods, question, heads)
    assert [len(each) for each in mass] == [30, 50]
    each_head = [attention(runner, pods, question, [head]) for head in heads]
    # The mean over heads is taken before the maximum over tokens, so it cannot be more than the mean of the maxima.
    for pod, one, two in zip(mass, *each_head, strict=True):
        assert all(0 <= both <= (a + b) / 2 + 1e-6 for both, a, b in zip(pod, one, two, strict=True))
    alone = attention(runner, pods, question[:1], heads)
    assert sum(map(sum, alone)) <= 1 + 1e-5, "one token has one unit of attention to give"


class Turns:
    """A network that notes who calls it, takes its time, and sees whether two calls ever overlap."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._inside = 0
        self.supports_pdl = 0
        self.calls: list[str] = []

    def __call__(self, **inputs: Any) -> Any:
        self._inside += 1
        self.supports_pdl += self._inside > 1
        self.calls.append(threading.current_thread().name)
        time.sleep(0.001)
        out = self._network(**inputs)
        self._inside -= 1
        return out


def test_threads_take_turns_and_do_not_disturb_each_other(llama_runner: Runner, pod: Pod) -> None:
    """Two answers and a reading at once: each is what it is alone, and the model is never called twice at a time."""
    alone = without_stops(llama_runner)
    network = Turns(llama_runner.model.network)
    shared = Runner(replace(alone.model, network=network))
    other = read(alone, some_ids(alone, 60, 4))
    questions, document = [some_ids(alone, 9, seed) for seed in (5, 6)], some_ids(alone, 240, 7)
    start = threading.Barrier(3)

    def read_blocks(runner: Runner) -> list[bytes]:
        return [bytes(block.payload) for block in feed(PodBuilder(runner, 240), document, 10)]

    def together(job: Any) -> Any:
        start.wait()
        return job()

    jobs = [
        lambda runner: steps(runner, [pod], questions[0], WARM),
        lambda runner: steps(runner, [other, pod], questions[1], SamplingParams(24)),
        read_blocks,
    ]
    # Behind `Turns` transformers' own code runs, without it the loop that the runner has made of it.
    for runner, lone in ((shared, Runner(replace(alone.model, network=Turns(alone.model.network)))), (alone, alone)):
        wanted = [job(lone) for job in jobs]
        with ThreadPoolExecutor(3) as threads:
            got = list(threads.map(lambda job, runner=runner: together(lambda: job(runner)), jobs))
        assert got == wanted
    assert len(network.calls) == 3 * 24 and len(set(network.calls)) == 3
    assert network.supports_pdl == 0


def test_answers_and_reading_can_be_interleaved(llama_runner: Runner, pod: Pod) -> None:
    """The same, one call at a time in a fixed order: the lock is held for a token or a chunk, not for an answer."""
    runner = without_stops(llama_runner)
    question, document = some_ids(runner, 9, 5), some_ids(runner, 240, 7)
    wanted = steps(runner, [pod], question, WARM), steps(runner, [pod], question, SamplingParams(24))
    blocks = [block.payload for block in feed(PodBuilder(runner, 240), document, 10)]
    builder = PodBuilder(runner, 240)
    warm, cold = generate(runner, [pod], question, WARM), generate(runner, [pod], question, SamplingParams(24))
    mixed = [(next(warm), next(cold), builder.feed(document[at : at + 10]).payload) for at in range(0, 240, 10)]
    assert [each[0] for each in mixed] == wanted[0]
    assert [each[1] for each in mixed] == wanted[1]
    assert [each[2] for each in mixed] == blocks


def test_a_failed_call_leaves_the_runner_usable(llama_runner: Runner, pod: Pod) -> None:
    """An error inside the model gives the lock back, and the tail counts nothing that is not there."""
    runner = llama_runner
    builder = PodBuilder(runner, 20)
    builder.feed(some_ids(runner, 10, 1))
    with pytest.raises(IndexError):
        builder.feed([5, 1_000_000])
    assert builder.num_read == 10
    builder.feed(some_ids(runner, 10, 2))
    whole = read(runner, some_ids(runner, 10, 1) + some_ids(runner, 10, 2), 10)
    assert torch.equal(builder.finish().keys, whole.keys)


LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def drawn(params: SamplingParams, logits: torch.Tensor = LOGITS) -> set[int]:
    """The tokens that a thousand draws choose."""
    generator = torch.Generator().manual_seed(params.seed)
    return {sample(logits, params, generator)[0] for _ in range(1000)}


@pytest.mark.parametrize(
    ("top_p", "kept"), [(1e-9, {0}), (0.4, {0}), (0.6, {0, 1}), (0.79, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_likeliest_and_at_least_one(top_p: float, kept: set[int]) -> None:
    assert drawn(SamplingParams(temperature=1.0, top_p=top_p)) == kept
    shuffled = torch.tensor([3, 1, 0, 2])
    moved = {shuffled.tolist().index(token) for token in kept}
    assert drawn(SamplingParams(temperature=1.0, top_p=top_p), LOGITS[shuffled]) == moved


def test_sampling_follows_the_probabilities() -> None:
    """Four standard deviations of the share of 4,000 draws, whose seed is fixed."""
    generator = torch.Generator().manual_seed(0)
    for temperature in (0.5, 1.0, 2.0):
        params = SamplingParams(temperature=temperature)
        counts = torch.bincount(torch.tensor([sample(LOGITS, params, generator)[0] for _ in range(4000)]), minlength=4)
        wanted = (LOGITS / temperature).softmax(-1)
        allowed = 4 * (wanted * (1 - wanted) / 4000).sqrt()
        assert ((counts / 4000 - wanted).abs() <= allowed).all()


def test_logprob_is_of_the_untouched_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    for _, params in itertools.product(range(5), (SamplingParams(), SamplingParams(temperature=2.0, top_p=0.6))):
        token, logprob = sample(LOGITS.to(torch.bfloat16), params, generator)
        assert logprob == pytest.approx(math.log((0.5, 0.3, 0.15, 0.05)[token]), abs=0.02)


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"temperature": math.nan}]
)
def test_senseless_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        SamplingParams(**wrong)
