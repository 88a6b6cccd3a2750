"""Adaptation: the training loop behind `engine.adapt`. Steps are drawn by number, so it can stop and go on anywhere."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from engine.all_weights import AllWeights
from engine.errors import CalibrationFailed
from engine.layout import Layout
from engine.low_rank import LowRank
from engine.models import Model
from engine.recall import Corpus, sequence
from engine.shared_attention import Distort, SharedAttention

TEXT_WEIGHT = 0.1
"""What the text itself counts beside the dense model's predictions."""
_LOGITS_AT_ONCE = 1024
_EVALUATED = 4
"""Held-out sequences."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: by steps where there are any, else by seconds; the rate warms up and falls by a cosine."""

    seconds: float = 90.0
    steps: int = 0
    rate: float = 1e-3
    length: int = 8192
    accumulated: int = 2
    """Sequences in a step."""
    warmup_steps: int = 20
    seed: int = 0

    def fraction(self, step: int, seconds: float) -> float:
        """How much of it is over."""
        return min(1.0, step / self.steps if self.steps else seconds / self.seconds)

    def rate_at(self, step: int, seconds: float) -> float:
        """The learning rate of a step."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.fraction(step, seconds)))
        return self.rate * min(1.0, (step + 1) / self.warmup_steps) * (0.95 * cosine + 0.05)


@dataclass(frozen=True)
class Progress:
    """After a step: nats per token from the dense model's predictions and from the text, and how often both models'
    likeliest tokens agree."""

    step: int
    seconds: float
    tokens_per_second: float
    kl: float
    ce: float
    agreement: float


class Adaptation:
    """Trains additions to a model so that it predicts under sharing what it predicts without.

    Without a layout nothing is shared: the control. With rank 0 all weights are trained. `distort` is applied to far
    keys and values.
    """

    def __init__(
        self,
        model: Model,
        layout: Layout | None,
        corpus: Corpus,
        schedule: Schedule,
        rank: int = 32,
        distort: Distort | None = None,
    ) -> None:
        self.adapter = LowRank(model.network, rank, schedule.seed) if rank else AllWeights(model.network)
        self.step = 0
        self.seconds = 0.0
        self._model = model
        self._layout = layout
        self._distort = distort
        self._corpus = corpus
        self._schedule = schedule
        model.network.requires_grad_(False)
        # Additions of short numbers would round away what little a step changes in plain weights' outputs.
        self._cast = torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda")
        # A longer training may go on from a shorter one.
        same = replace(schedule, seconds=1.0, steps=0)
        self._of = f"{model.digest} {layout} {rank} {same} {hash(tuple(corpus.train))}"
        self._optimizer = torch.optim.AdamW(self.adapter.parameters(), schedule.rate, (0.9, 0.95), weight_decay=0.0)

    def run(self) -> Iterator[Progress]:
        """Train to the end of the schedule, with progress after every step."""
        with self.adapter.attached(self._model.network):
            while self._schedule.fraction(self.step, self.seconds) < 1:
                start = time.perf_counter()
                seed = f"{self._schedule.seed} {self.step}"
                batch = [
                    sequence(self._corpus, self._model.tokenizer, self._schedule.length + 1, f"{seed} {index}")
                    for index in range(self._schedule.accumulated)
                ]
                kl, ce, agreement = self._learn(batch)
                self.step += 1
                spent = time.perf_counter() - start
                if self.step > 2:
                    # The first steps compile.
                    self.seconds += spent
                tokens = self._schedule.accumulated * self._schedule.length
                yield Progress(self.step, self.seconds, tokens / spent, kl, ce, agreement)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """On held-out text, nats per token: `dense` without additions, `adapted` with them under sharing, and `kl`."""
        length = min(self._schedule.length, len(self._corpus.held_out) - 1)
        if length < 2:
            raise CalibrationFailed("no text is held out")
        count = min(_EVALUATED, len(self._corpus.held_out) // (length + 1)) or 1
        sums = torch.zeros(4, dtype=torch.float64)
        with self.adapter.attached(self._model.network):
            for index in range(count):
                start = index * (length + 1)
                sums += self._compare(self._corpus.held_out[start : start + length + 1]).cpu()
        kl, ce, agreed, dense = (sums / (count * length)).tolist()
        return {"dense": round(dense, 5), "adapted": round(ce, 5), "kl": round(kl, 5), "agreement": round(agreed, 4)}

    def keep(self, path: Path) -> None:
        """Write everything that `resume` needs, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        state = {"adapter": self.adapter.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save({**state, "of": self._of, "step": self.step, "seconds": self.seconds}, scratch)
        os.replace(scratch, path)

    def resume(self, path: Path) -> None:
        """Go on from what `keep` wrote. Raises CalibrationFailed where that was another training."""
        state = torch.load(path, map_location=self._model.device, weights_only=True)
        if state["of"] != self._of:
            raise CalibrationFailed(f"{path} is of another model, plan, text or schedule; start without --resume")
        self.adapter.load_state_dict(state["adapter"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    def _learn(self, batch: Sequence[Sequence[int]]) -> tuple[float, float, float]:
        sums = torch.zeros(3, dtype=torch.float64)
        for ids in batch:
            found = self._compare(ids)
            loss = (found[0] + TEXT_WEIGHT * found[1]) / (len(batch) * (len(ids) - 1))
            torch.autograd.backward(loss)
            sums += found[:3].detach().cpu()
        norm = torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), 1.0)
        if not norm.isfinite():
            raise CalibrationFailed(f"the gradient of step {self.step + 1} is no number; try a lower --rate")
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.rate_at(self.step, self.seconds)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        kl, ce, agreed = (sums / (len(batch) * (len(batch[0]) - 1))).tolist()
        return kl, ce, agreed

    def _compare(self, ids: Sequence[int]) -> Tensor:
        """Sums over the positions of a sequence: KL from the dense model, NLL, agreement, the dense model's NLL."""
        inputs = torch.tensor([ids[:-1]], device=self._model.device)
        truth = torch.tensor(ids[1:], device=self._model.device)
        with torch.no_grad():
            target = self._hidden(inputs, None)
        hidden = self._hidden(inputs, self._layout, adapted=True)
        parts = zip(*(torch.split(each, _LOGITS_AT_ONCE) for each in (hidden, target, truth)), strict=True)
        # The logits of a whole sequence would not fit beside their gradients.
        sums = [checkpoint(self._divergence, *part, use_reentrant=False) for part in parts]
        return torch.stack(sums).sum(0)

    def _hidden(self, inputs: Tensor, layout: Layout | None, adapted: bool = False) -> Tensor:
        """Last hidden states (T, E)."""
        self.adapter.active = adapted
        memory = SharedAttention(layout, self._distort if layout else None)
        positions = torch.arange(inputs.shape[1], device=inputs.device)[None]
        with self._cast:
            out: Any = self.adapter.student(self._model.network).base_model(
                input_ids=inputs, position_ids=positions, use_cache=False, memory=memory
            )
        hidden: Tensor = out.last_hidden_state[0]
        return hidden

    def _divergence(self, hidden: Tensor, target: Tensor, truth: Tensor) -> Tensor:
        with self._cast:
            self.adapter.active = False
            teacher = self.adapter.student(self._model.network).get_output_embeddings()(target)
            self.adapter.active = True
            student = self.adapter.student(self._model.network).get_output_embeddings()(hidden)
        student, teacher = student.float().log_softmax(-1), teacher.float().log_softmax(-1)
        rows = torch.arange(len(truth), device=truth.device)
        agreed = (student.argmax(-1) == teacher.argmax(-1)).double().sum()
        kl = (teacher.exp() * (teacher - student)).sum().double()
        return torch.stack([kl, -student[rows, truth].sum().double(), agreed, -teacher[rows, truth].sum().double()])
