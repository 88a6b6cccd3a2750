"""What drafting is worth: how long a step with several tokens takes, and answers with and without guesses, in turns.

Random weights quote nothing, so the answer itself stands in what may be quoted, whole or in runs with other tokens
between them: runs of three are guessed wrongly as often as rightly. Each answer is drafted from the one before, until
rounding, which differs with the number of tokens of a step, leaves it as it is.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from benchmarks.speed.clock import Clock
from benchmarks.speed.docpod import QUESTION_TOKENS, Failed, Task, ids_of
from benchmarks.speed.random_pods import random_pod
from engine.core.sampling import SamplingParams
from engine.kvcache.quantized import AnyPod
from engine.kvcache.suffix import SuffixCache
from engine.runtime.drafting import DRAFTED, Drafter
from engine.runtime.generate import Question
from engine.runtime.runner import Runner

_ROWS = (1, 2, 3, DRAFTED, 6)
"""Tokens of a step that are timed."""
_RUNS = {"nothing": 0, "runs of 3": 3, "runs of 8": 8, "all": 1 << 30}
"""What is quoted of an answer: how many tokens in a row, before some others."""
_STEPS = 8
"""Of one length that are timed at once."""
_SETTLED = 3
"""Answers before one is timed."""


def report(runner: Runner, task: Task, say: Callable[[str], None]) -> None:
    """Say what a step costs by its tokens, and tokens a second of drafted answers, over a memory of random numbers."""
    where = f"drafting, kv {task.kv}, {task.length:,} tokens"
    pod = random_pod(runner.model, task.layout, task.length)
    times = step_times(runner, pod, task.repeats)
    shown = ", ".join(f"{count}: {1e3 * each:.3f} ms ({each / times[1]:.2f})" for count, each in times.items())
    say(f"{where}: a step of so many tokens takes {shown}")
    question = ids_of(runner.model, QUESTION_TOKENS, 1)
    answers: dict[str, list[int]] = {}
    rates: dict[str, list[float]] = {}
    for turn in range(_SETTLED + task.repeats):
        for name, run in [("undrafted", -1), *_RUNS.items()]:
            source = quoted(answers.get(name, answers.get("undrafted", [])), run)
            answers[name], rate = answer(runner, pod, question, task.tokens, None if run < 0 else Drafter(source))
            if turn >= _SETTLED:
                rates.setdefault(name, []).append(rate)
    alone = statistics.median(rates["undrafted"])
    for name, found in rates.items():
        rate, same = statistics.median(found), _alike(answers[name], answers["undrafted"])
        say(f"{where}: quoted {name}: {rate:.1f} tok/s ({rate / alone:.2f}), alike for {same} of {task.tokens} tokens")


def step_times(runner: Runner, pod: AnyPod, repeats: int) -> dict[int, float]:
    """Seconds of a step by how many tokens it feeds and chooses behind: by its graph where answers go by graphs."""
    found: dict[int, list[float]] = {count: [] for count in _ROWS}
    for _ in range(repeats + 1):
        for count, seconds in found.items():
            with fed(runner, pod, count) as step, torch.inference_mode():
                # The first one may be captured.
                step()
                clock = Clock(runner.model.device)
                for _ in range(_STEPS):
                    step()
                seconds.append(clock.seconds() / _STEPS)
    return {count: statistics.median(each[1:]) for count, each in found.items()}


@contextmanager
def fed(runner: Runner, pod: AnyPod, count: int) -> Iterator[Callable[[], None]]:
    """A step that feeds so many tokens behind the pod, again and again the same."""
    graphs = runner.graph_runner
    if graphs is None:
        context = runner.context([pod.open()], SuffixCache(runner.model.shape, count, runner.model.device))

        def plain() -> None:
            runner.score(context, [1] * count, count)
            context.suffix.crop(0)

        yield plain
        return
    if reason := graphs.claim([pod], 1, 1):
        raise Failed(reason)
    table = graphs._table
    table.set([pod])

    def work() -> None:
        for row in graphs._forward(graphs._ids[:count], table.positions(count), table, count):
            graphs._greedy(row, graphs._unused, graphs._chosen[0])

    try:
        yield lambda: graphs.graphs.run(("timed", count, table.bucket), work, ())
    finally:
        graphs.release()


def quoted(answer: Sequence[int], run: int) -> list[int]:
    """Runs of an answer's tokens, with a token that it does not go on with behind each."""
    if run <= 0:
        return []
    return [token for start in range(0, len(answer), run) for token in [*answer[start : start + run], 1, 1]]


def answer(
    runner: Runner, pod: AnyPod, question: Sequence[int], tokens: int, drafter: Drafter | None
) -> tuple[list[int], float]:
    """An answer's tokens behind the first, and how many of them a second."""
    clock = Clock(runner.model.device)
    with Question(runner, [pod], question, params=SamplingParams(tokens + 1)) as asked:
        steps = asked.steps(drafter=drafter)
        next(steps)
        clock.start()
        said = [step.token_id for step in steps]
        return said, len(said) / clock.seconds()


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two answers have in common before they part."""
    return next((place for place, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]), len(one))
