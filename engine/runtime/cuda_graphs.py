"""CudaGraphs: work on a GPU, captured once and replayed without the host; where that is refused, it runs as it is."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import OutOfMemory
from engine.core.oom import free_bytes, translate_oom
from engine.runtime.fallbacks import Fallbacks

WARM_UPS = 2
"""Runs before a capture: what is compiled, tuned or allocated only once must not be met while capturing."""
MOST_GRAPHS = 96
"""Kept at once; of the others the one used longest ago is freed. A format of pods needs about ten."""
_MORE_BYTES = 64 << 20
"""That must have become free before a capture that found no memory is tried again."""

log = logging.getLogger(__name__)


class CudaGraphs:
    """CudaGraphs of one device by their key, in one pool of memory: they are replayed in turn, never at once.

    Not for several threads at a time. `failures`: what a compiler of kernels raises besides RuntimeError.
    """

    def __init__(
        self,
        device: torch.device,
        fallbacks: Fallbacks | None = None,
        failures: tuple[type[Exception], ...] = (),
        most: int = MOST_GRAPHS,
    ) -> None:
        self.captures = 0
        """CudaGraphs made so far."""
        self.enabled = device.type == "cuda"
        """Whether graphs are made."""
        self._graphs: OrderedDict[Hashable, torch.cuda.CUDAGraph] = OrderedDict()
        self._refused: set[Hashable] = set()
        """What could not be captured, for good."""
        self._free = -1
        """Bytes that were free when the last capture found too few; -1 where none did."""
        self._most = most
        self._device = device
        self._fallbacks = fallbacks or Fallbacks()
        self._failures: tuple[type[Exception], ...] = (RuntimeError, *failures)
        self._pool: Any = None
        self._side: Any = None

    def run(self, key: Hashable, work: Callable[[], None], touched: Sequence[Tensor]) -> None:
        """Do the work that goes by this key, from the second time on by its graph.

        It reads and writes tensors that stand where they are for ever; `touched` are those whose contents must be as
        before when it has been tried out.
        """
        if key in self._graphs:
            self._graphs.move_to_end(key)
        elif self.enabled and key not in self._refused and self._has_room():
            self._add(key, work, touched)
        if graph := self._graphs.get(key):
            graph.replay()
        else:
            work()

    def _has_room(self) -> bool:
        """Whether memory may be there for a capture: at first, and once more is free than when there was too little."""
        return self._free < 0 or free_bytes(self._device) > self._free + _MORE_BYTES

    def _add(self, key: Hashable, work: Callable[[], None], touched: Sequence[Tensor]) -> None:
        before = [each.clone() for each in touched]
        try:
            with translate_oom(self._device):
                self._graphs[key] = self._capture(work)
            self.captures += 1
            self._free = -1
        except OutOfMemory as error:
            self._free = error.free_bytes
            self._fallbacks.note("Answers go on without a new CUDA graph until memory is free", "out of memory")
        except self._failures as error:
            self._refused.add(key)
            self._fallbacks.note("Answers go on without a CUDA graph", error)
        finally:
            for tensor, contents in zip(touched, before, strict=True):
                tensor.copy_(contents)
        while len(self._graphs) > self._most:
            self._graphs.popitem(last=False)

    def _capture(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """The graph of some work, tried out and captured on a stream of its own. Raises RuntimeError."""
        if self._side is None:
            stream: Any = torch.cuda.Stream
            self._side, self._pool = stream(self._device), torch.cuda.graph_pool_handle()
        here = torch.cuda.current_stream(self._device)
        side = self._side
        side.wait_stream(here)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        here.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            # Where a capture cannot be ended, the inner context does not give the stream back: the outer one does.
            # Other threads, which load pods meanwhile, must not spoil the capture: hence its mode.
            with torch.cuda.stream(here), torch.cuda.graph(graph, self._pool, side, "thread_local"):
                work()
        except self._failures:
            self._leave_pool()
            # Where the allocator was not told, no capture could begin in that pool.
            self._pool = torch.cuda.graph_pool_handle()
            raise
        return graph

    def _leave_pool(self) -> None:
        """Tell the allocator that a capture is over: it is not told by one that cannot be ended.

        It would not give freed memory back any more. PyTorch has no public name for this, and may drop it.
        """
        leave = getattr(torch._C, "_cuda_endAllocateToPool", None)
        if leave is None:
            log.debug("this PyTorch has no way to end a capture's allocations")
            return
        try:
            leave(self._device.index or 0, self._pool)
        except RuntimeError as error:
            log.debug("The allocator knew that already: %s", error)
