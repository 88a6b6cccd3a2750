"""Bench: every recipe on every document, beside the exact pod, each document read once per model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import torch
from torch import Tensor

from benchmarks.fidelity.documents import Document, Question
from benchmarks.fidelity.measures import Judged, judge
from engine.compression.compress import pack_pod, score
from engine.kvcache.blocks import coded
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import ExactPod, Pod
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod, QuantizedPod
from engine.kvcache.recipe import POLICIES, Recipe
from engine.kvcache.suffix import SuffixCache
from engine.runtime.prefill.builder import read
from engine.runtime.runner import Runner


@dataclass(frozen=True)
class Entry:
    """A recipe to be measured: the layout it has for the model that it runs on, adapted to it or not."""

    name: str
    recipe: Recipe
    layout: Layout
    runner: Runner


@dataclass
class Row:
    """What was found of one recipe so far."""

    judged: list[Judged] = field(default_factory=list)
    num_bytes: dict[int, list[float]] = field(default_factory=dict)
    """Bytes per token of every pod, by length."""
    drift: float = 0.0
    """Largest difference of a logit of a first question, asked first and after all others."""
    seconds: float = 0.0
    """Spent compressing."""
    step_seconds: list[float] = field(default_factory=list)
    """Of a single token behind the first question, the median of several on each document, where it was asked for."""

    def add(self, other: "Row") -> None:
        """What was found on another document."""
        self.judged += other.judged
        for length, found in other.num_bytes.items():
            self.num_bytes.setdefault(length, []).extend(found)
        self.drift = max(self.drift, other.drift)
        self.seconds += other.seconds
        self.step_seconds += other.step_seconds


def measure(runner: Runner, entries: Sequence[Entry], document: Document, timed: int = 0) -> dict[str, Row]:
    """What a document says of every recipe; `runner` has the model that exact answers come from. So many tokens
    are timed one by one, by the plain path."""
    rows = {entry.name: Row() for entry in entries}
    ids = list(document.ids)
    exact = read(runner, ids)
    truth = [answers(runner, exact, question) for question in document.questions]
    scores: dict[tuple[object, ...], Scores] = {}
    streamed: dict[tuple[int, str], ExactPod | QuantizedPod] = {}
    for entry in entries:
        row, source = rows[entry.name], exact
        if entry.recipe.precision.while_reading or entry.runner is not runner:
            # Several recipes of one adapted model start from what it read, once.
            plan = entry.layout if entry.recipe.precision.while_reading else None
            key = (id(entry.runner), str(plan.recipe) if plan else "")
            if key not in streamed:
                streamed[key] = read(entry.runner, ids, plan)
            source = streamed[key]
        start = time.perf_counter()
        pod, stored = source, 0
        if isinstance(source, Pod) and entry.layout.basis:
            blocks = list(coded.to_blocks(source, entry.layout))
            pod, stored = (
                coded.restored(blocks, entry.layout, entry.runner.model),
                sum(len(each.payload) for each in blocks),
            )
        elif isinstance(source, Pod) and not entry.recipe.exact:
            policy = entry.recipe.selection.policy
            # Most scores are the same for every recipe with their policy.
            own = (entry.recipe.selection, entry.recipe.distant(len(ids))) if POLICIES[policy].budgeted else ()
            asked = (id(source), policy, *own)
            if asked not in scores:
                steps = list(score(entry.runner, ids, source, entry.layout))
                scores.update({asked: steps[-1]} if steps else {})
            pod = pack_pod(source, entry.layout, scores.get(asked) if entry.recipe.selection.drops else None)
        row.seconds += time.perf_counter() - start
        if document.length:
            row.num_bytes.setdefault(document.length, []).append((stored or stored_bytes(pod)) / len(ids))
        opened = pod.open()
        if timed:
            row.step_seconds.append(_step_seconds(entry, opened, document.questions[0], timed))
        found = [answers(entry.runner, opened, question) for question in document.questions]
        for question, right, got in zip(document.questions, truth, found, strict=True):
            judged = judge(question.kind, document.length, right, got, question.answer)
            row.judged.append(replace(judged, depth=question.depth, text=document.text))
        again = answers(entry.runner, opened, document.questions[0])
        row.drift = max(row.drift, float((again - found[0]).abs().max()))
    return rows


def stored_bytes(pod: ExactPod | QuantizedPod) -> int:
    """Bytes of a pod whose exact numbers take two each, as they do in every model but one that is measured wider."""
    if isinstance(pod, QuantizedPod):
        exact = [
            each
            for distant in pod.distant
            for each in (*distant.keys, *distant.values)
            if each is not None and each.bits == 16
        ]
        summary = [each for tensors in pod.summary for each in tensors if each.dtype == pod.proximal.keys.dtype]
        wide = [pod.proximal.keys, pod.proximal.values, *(each.codes for each in exact), *summary]
    else:
        wide = [rows for each in pod.groups for rows in (each.keys, each.values)]
    return pod.nbytes - sum(each.nbytes - 2 * each.numel() for each in wide)


def _step_seconds(entry: Entry, pod: AnyPod, question: Question, count: int) -> float:
    """The median of a token's seconds, behind a question."""
    runner, device = entry.runner, entry.runner.model.device
    context = runner.context([pod], SuffixCache(runner.model.shape, len(question.ids) + count, device))
    runner.run(context, question.ids)
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        # Its largest logit is looked at, so that it is there.
        runner.run(context, question.ids[:1]).argmax().item()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def answers(runner: Runner, pod: AnyPod, question: Question) -> Tensor:
    """Logits (A, V) at the positions that predict the answer's tokens, given the question and the tokens before."""
    ids = [*question.ids, *question.answer[:-1]]
    context = runner.context([pod], SuffixCache(runner.model.shape, len(ids), runner.model.device))
    with torch.inference_mode():
        return runner.score(context, ids, len(question.answer)).float()
