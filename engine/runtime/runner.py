"""Runner: one model on one device, behind one lock that is held for a chunk or a token at a time."""

import logging
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from engine.attention import sdpa
from engine.core.errors import WindowExceeded
from engine.kvcache.quantized import AnyPod
from engine.kvcache.suffix import SuffixCache
from engine.models.decoder import flatten
from engine.models.families.states import StateCache, cached
from engine.models.loader import Model
from engine.models.ops import PlainOps
from engine.runtime.context import Context, Head
from engine.runtime.fallbacks import Fallbacks
from engine.runtime.graph_runner import BUCKETS, GraphRunner, through
from engine.runtime.token_step import NoTokenStep, TokenStep

log = logging.getLogger(__name__)

SUFFIX_TOKENS = 2048
"""Room for a question and its answer in steps; a longer one goes the plain way."""


class Runner:
    """Runs the model on new tokens in a context. Several threads may share it; their calls take turns."""

    def __init__(
        self,
        model: Model,
        graphs: bool = False,
        pdl: bool | None = None,
        int8_head: bool | None = None,
        steps: bool = False,
    ) -> None:
        """`graphs`: answer by steps that stay on the device, each in a CUDA graph, with Triton's kernels.

        `steps`: answer on a processor by one call a token, where that is possible; see TokenStep.
        `pdl`: of their launches, and `int8_head`: see TritonOps; by default where the GPU can, and gains by it.
        """
        self.model = model
        self.attention, reason = sdpa.select_backend(model.device, model.shape.dtype)
        self._flat = flatten(model, _kernels(pdl, int8_head) if graphs else None)
        layers = "of transformers" if self._flat is None else self._flat.ops.name
        self.backend = f"{reason}; layers: {layers}"
        self.fallbacks = Fallbacks()
        """What went a slower way than it could have."""
        self.lock = threading.Lock()
        """Held by whoever calls the model, for a chunk or a token at a time."""
        self._network: Callable[..., Tensor] = through(model.network)
        self._token_step = self._make_token_step() if steps else None
        peculiarity = model.shape.peculiarity or ("layers with a state" if model.shape.states else "")
        self.graph_runner = self._make_graph_runner() if graphs and not peculiarity else None
        """Runs answers on the device, where it fits one."""
        if self.graph_runner is not None:
            self.backend += "; answers: Triton, in CUDA graphs"
        elif graphs:
            log.warning("%s answers without CUDA graphs: it has %s, which no kernel reads", model.name, peculiarity)
            self.backend += f"; answers: plain PyTorch, because it has {peculiarity}"

    @property
    def spared_bytes(self) -> int:
        """Bytes of the network's weights that a token does not read; see PlainOps."""
        return 0 if self._flat is None else self._flat.ops.spared_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of weights that a token of an answer reads where it goes through in one call; else 0."""
        return 0 if self._token_step is None else self._token_step.nbytes

    def context(
        self, pods: Sequence[AnyPod], suffix: SuffixCache, heads: Sequence[Head] = (), ends: bool = True
    ) -> Context:
        """A context of this runner's attention."""
        return Context(pods, suffix, self.attention, heads, ends)

    def run(self, context: Context, ids: Sequence[int]) -> Tensor:
        """Feed tokens behind everything in the context; logits (V,) of the last one. Raises WindowExceeded."""
        return self.score(context, ids, 1)[0]

    def score(self, context: Context, ids: Sequence[int], last: int) -> Tensor:
        """Feed tokens as `run` does; logits (last, V) of the last ones."""
        first = context.position
        if first + len(ids) > self.model.window:
            raise WindowExceeded(f"{first + len(ids)} positions are needed, {self.model.window} are there")
        device, states = self.model.device, tuple[Tensor, ...]()
        with self.lock, torch.inference_mode():
            # From pinned memory a copy makes nobody wait for what the device does.
            new = torch.tensor(ids, pin_memory=device.type == "cuda").to(device, non_blocking=True)
            positions = torch.arange(first, first + len(ids), device=device)
            if self._flat is not None:
                logits = self._stepped(ids, context) if last == 1 else None
                if logits is None:
                    logits = self._flat.forward(new, positions, context, last)
            else:
                # Layers that make no keys may leave out tokens that no logits are wanted of, but not where heads look.
                wanted = torch.arange(len(ids) - last, len(ids), device=device) if context.heads else last
                if shapes := self.model.shape.states:
                    cache = StateCache(self.model.network.config, shapes, context.states)
                    logits = self._network(new, positions, context, wanted, **cached(self.model.network, cache))
                    states = tuple(cache.held().values())
                else:
                    logits = self._network(new, positions, context, wanted)
            context.suffix.advance(len(ids), states)
        return logits

    def _make_token_step(self) -> TokenStep | None:
        why: object = "layers go the way of transformers"
        if self._flat is not None:
            try:
                step = TokenStep(self._flat, torch.get_num_threads())
                self.backend += f"; answers: one call a token, weights of {step.nbytes / 1e6:.0f} MB"
                return step
            except NoTokenStep as reason:
                why = reason
        self.backend += f"; answers: plain PyTorch, because {why}"
        return None

    def _stepped(self, ids: Sequence[int], context: Context) -> Tensor | None:
        """Logits (1, V) of a single token by one call; None where that cannot be."""
        if self._token_step is None or len(ids) > 1:
            return None
        logits = self._token_step.forward(ids[0], context)
        return None if logits is None else logits[None]

    def _make_graph_runner(self) -> GraphRunner:
        # Needs Triton, which not every machine has.
        from triton.errors import TritonError

        from engine.runtime.kv_table import KVTable

        model, config = self.model, self.model.network.config
        suffix = min(SUFFIX_TOKENS, model.window) + BUCKETS[-1]
        table = KVTable(model.shape, config.num_attention_heads, suffix, model.device, max_new=BUCKETS[-1])
        forward = self._network if self._flat is None else self._flat.forward
        device, failures = model.device, (TritonError,)
        return GraphRunner(forward, table, suffix, model.window, device, self.lock, None, self.fallbacks, failures)


def _kernels(pdl: bool | None, int8_head: bool | None) -> PlainOps:
    # Needs Triton, which not every machine has.
    from engine.models.ops_triton import TritonOps

    return TritonOps(pdl, int8_head)
