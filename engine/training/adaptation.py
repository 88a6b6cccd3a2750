"""Adaptation: a light post-training that lets a model live with shared keys (arXiv 2412.02252, stage 2).

The paper trains all weights on 5 billion tokens. Here the dense model teaches the same model with sharing in force:
KL(teacher || student) and a little next-token loss, on running text and on recall sequences, mostly into low-rank
weights. It can be stopped at any step and go on from its state file.
"""

import hashlib
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from engine.core.atomic import atomic_write
from engine.kvcache.key_maps import KeyMaps
from engine.kvcache.recipe import parse
from engine.models.families.registry import FAMILIES, family_of
from engine.models.loader import Model
from engine.training.adapter import Adapter
from engine.training.corpus import Corpus
from engine.training.distillation import Distance, distance
from engine.training.errors import AdaptationFailed
from engine.training.rounding import Rounding
from engine.training.settings import Limits, TrainingSettings
from engine.training.shared_attention import SharedAttention, select_kernel
from engine.training.sharing.recall import RecallMaker
from engine.training.student import FullStudent, LowRankStudent, Student

BETAS = (0.9, 0.95)
CLIP_NORM = 1.0
MODES = ("A", "B", "linear", "dense")
HELD_SEQUENCES = 4


@dataclass(frozen=True)
class TrainingProgress:
    """One step: its number, seconds of steps so far, and the means over its positions (nats; a share)."""

    step: int
    seconds: float
    tokens_per_second: float
    kl: float
    ce: float
    agreement: float


@dataclass(frozen=True)
class Held:
    """The student on text that is never trained on, against the dense teacher (nats; a share of positions)."""

    kl: float
    ce: float
    teacher_ce: float
    agreement: float


class Adaptation:
    """One post-training of a model under the plan `roots` (() for mode `dense`)."""

    def __init__(
        self,
        model: Model,
        roots: tuple[tuple[int, ...], ...],
        settings: TrainingSettings,
        corpus: Corpus,
        maps: KeyMaps | None = None,
    ) -> None:
        """Mode `linear` takes `maps`, of these roots. Raises AdaptationFailed where model, plan, text and settings do
        not go together."""
        _check(model, roots, settings, corpus, maps)
        self.model = model
        self.settings = settings
        self.step = 0
        self.seconds = 0.0
        self.history: list[tuple[int, float, float, float]] = []
        """(step, kl, ce, agreement) of every step."""
        self._roots = roots
        self._maps = maps
        self._corpus = corpus
        recipe = parse(settings.rounded)
        self._distort = None if recipe.exact else Rounding(recipe.precision)
        self._windows = select_kernel(model.device, settings.sinks, settings.recent)
        self._recalls = RecallMaker(model.tokenizer, corpus.train)
        self._student: Student = (
            FullStudent(model.network)
            if settings.all_weights
            else LowRankStudent(model.network, settings.rank, settings.scale, settings.seed)
        )
        self._leaves = list(self._student.weights.values())
        self._optimizer = torch.optim.AdamW(self._leaves, settings.rate, BETAS, weight_decay=0.0, fused=True)

    def start(self, adapter: Adapter) -> None:
        """Begin with what an adapter has learned. Raises AdaptationFailed where it is of another model or rank."""
        own = {name: weight.shape for name, weight in self._student.weights.items()}
        found = {name: weight.shape for name, weight in adapter.weights.items()}
        if (adapter.model_digest, adapter.kind, found) != (self.model.digest, self._student.kind, own):
            raise AdaptationFailed(
                f"an adapter of {adapter.model}, {adapter.kind}, rank {adapter.rank} is no start here"
            )
        self._student.settle()
        with torch.no_grad():
            for name, weight in self._student.weights.items():
                weight.copy_(adapter.weights[name])

    def run(self, limits: Limits) -> Iterator[TrainingProgress]:
        """Train to the limit, one step for each item.

        The first step of a process, which compiles on a GPU, does not count for the seconds. Raises AdaptationFailed
        where the loss is no number.
        """
        compiled = False
        while limits.used(self.seconds, self.step) < 1.0:
            started = time.perf_counter()
            for group in self._optimizer.param_groups:
                group["lr"] = limits.rate(self.settings, self.seconds, self.step)
            means = self._train_step()
            took = time.perf_counter() - started
            self.seconds += took if compiled else 0.0
            compiled = True
            self.step += 1
            self.history.append((self.step, *means))
            yield TrainingProgress(
                self.step, self.seconds, self.settings.sequences * self.settings.length / took, *means
            )

    def sequence(self, number: int) -> list[int]:
        """The training sequence of this number, length + 1 tokens; it depends on the seed and on nothing else."""
        name = f"{self.settings.seed}/{number}"
        rng = random.Random(name)
        length = self.settings.length + 1
        if rng.random() < self.settings.recall_share:
            return self._recalls.make(length, name).ids
        start = rng.randint(0, len(self._corpus.train) - length)
        ids: list[int] = self._corpus.train[start : start + length].tolist()
        return ids

    def held_out(self) -> Held:
        """Measure the student on the held-out text, in up to four sequences."""
        held = self._corpus.held
        length = min(self.settings.length + 1, len(held))
        count = min(HELD_SEQUENCES, len(held) // length)
        means = torch.zeros(4)
        for index in range(count):
            start = index * (len(held) - length) // max(count - 1, 1)
            with torch.no_grad():
                distant = self._compare(held[start : start + length].tolist())
            means += torch.stack([distant.kl, distant.ce, distant.teacher_ce, distant.agreement]).cpu() / count
        return Held(*means.tolist())

    def adapter(self, facts: dict[str, Any]) -> Adapter:
        """What was learned so far, in the model's own dtype, with the loss curve among its facts."""
        settings, dtype = self.settings, self.model.network.dtype
        curve = [[step, *(round(value, 4) for value in means)] for step, *means in self.history]
        facts = {**facts, "settings": asdict(settings), "steps": self.step, "seconds": self.seconds, "curve": curve}
        return Adapter(
            kind=self._student.kind,
            model=self.model.name,
            model_digest=self.model.digest,
            mode=settings.mode,
            roots=self._roots,
            sinks=settings.sinks,
            recent=settings.recent,
            rank=0 if settings.all_weights else settings.rank,
            scale=settings.scale,
            facts=facts,
            weights={name: weight.detach().to(dtype) for name, weight in self._student.weights.items()},
        )

    def save_state(self, path: Path) -> None:
        """Write everything that `restore` needs, whole or not at all."""
        weights = {name: weight.detach() for name, weight in self._student.weights.items()}
        # Every sequence is drawn from its own number, so there are no random generators to keep.
        state = {
            "of": self._identity(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "weights": weights,
            "optimizer": self._optimizer.state_dict(),
        }
        with atomic_write(path) as scratch:
            torch.save(state, scratch)

    def restore(self, path: Path) -> None:
        """Go on where a state file ends. Raises AdaptationFailed if it was made with other settings."""
        state = torch.load(path, map_location=self.model.device, weights_only=True)
        if state["of"] != self._identity():
            raise AdaptationFailed(f"{path} was made with another model, plan, text or settings; start without it")
        self.step, self.seconds = state["step"], state["seconds"]
        self.history = [tuple(entry) for entry in state["history"]]
        self._optimizer.load_state_dict(state["optimizer"])
        self._student.settle()
        with torch.no_grad():
            for name, weight in self._student.weights.items():
                weight.copy_(state["weights"][name])

    def _train_step(self) -> tuple[float, float, float]:
        """One step over its sequences; their mean KL, cross entropy and agreement."""
        settings = self.settings
        means = torch.zeros(3, device=self.model.device)
        for index in range(settings.sequences):
            distant = self._compare(self.sequence(self.step * settings.sequences + index))
            loss = (distant.kl + settings.ce_weight * distant.ce) / settings.sequences
            loss.backward()  # type: ignore[no-untyped-call]
            means += torch.stack([distant.kl, distant.ce, distant.agreement]).detach() / settings.sequences
        self._student.settle()
        kl, ce, agreement = means.tolist()
        norm = float(torch.nn.utils.clip_grad_norm_(self._leaves, CLIP_NORM))
        if not math.isfinite(kl + ce + norm):
            raise AdaptationFailed(f"the loss of step {self.step + 1} is no number; try a lower learning rate")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return kl, ce, agreement

    def _compare(self, ids: list[int]) -> Distance:
        """Student and teacher on T + 1 tokens, at those of T positions where sharing acts."""
        tokens = torch.tensor(ids, device=self.model.device)
        first = max(0, len(ids) - 1 - self.settings.asked) if self.settings.asked else 0
        taught = self._student.taught(tokens[:-1], SharedAttention((), "dense", self._windows))
        memory = SharedAttention(self._roots, self.settings.mode, self._windows, self._distort, first, self._maps)
        learned = self._student.learned(tokens[:-1], memory)
        return distance(self._student, learned[first:], taught[first:], tokens[1 + first :])

    def _identity(self) -> str:
        """A hash of everything that a state belongs to."""
        maps = self._maps.digest if self._maps else ""
        of = {"settings": asdict(self.settings), "model": self.model.digest, "roots": self._roots, "maps": maps}
        total = hashlib.sha256(json.dumps(of).encode())
        total.update(self._corpus.train.tobytes())
        return total.hexdigest()


def _check(
    model: Model, roots: tuple[tuple[int, ...], ...], settings: TrainingSettings, corpus: Corpus, maps: KeyMaps | None
) -> None:
    """Raise AdaptationFailed for what does not go together."""
    wrong = ""
    if settings.mode not in MODES or (settings.mode == "dense") != (roots == ()):
        wrong = f"modes are {', '.join(MODES)}; all but dense need a plan, and dense takes none"
    elif family_of(model.network) is None:
        wrong = f"of the families that are read with, only {', '.join(FAMILIES)} are trained"
    elif roots and (len(roots) != model.shape.layers or {len(row) for row in roots} != {model.shape.kv_heads}):
        wrong = "the plan is of a model with other layers or heads"
    elif (settings.mode == "linear") != (maps is not None):
        wrong = "mode linear predicts keys by maps, and no other mode does"
    elif maps is not None and settings.rounded != "exact":
        wrong = "rounding is of keys that are stored, and mode linear predicts them"
    elif settings.length > model.window:
        wrong = f"sequences of {settings.length} tokens do not fit the model's window of {model.window}"
    elif settings.length >= len(corpus.train):
        wrong = f"{len(corpus.train)} tokens of text are too few for sequences of {settings.length}"
    elif settings.asked > 0 and settings.asked + settings.sinks + settings.recent >= settings.length:
        wrong = f"{settings.asked} tokens that ask leave nothing far to be asked in {settings.length}"
    elif settings.recent < 1 or settings.sinks < 0 or settings.sequences < 1:
        wrong = "at least the token itself is recent, and a step has at least one sequence"
    if wrong:
        raise AdaptationFailed(wrong)
