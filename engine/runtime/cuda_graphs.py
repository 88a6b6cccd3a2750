"""CudaGraphs: work on a GPU, captured once and replayed without the host; where that is refused, it runs as it is."""

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 2
"""Runs before a capture: what is compiled, tuned or allocated only once must not be met while capturing."""

log = logging.getLogger(__name__)


class CudaGraphs:
    """CudaGraphs of one device by their key, in one pool of memory: they are replayed in turn, never at once.

    Not for several threads at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self.captures = 0
        """CudaGraphs made so far."""
        self.refused = "" if device.type == "cuda" else f"{device.type} has no CUDA graphs"
        """Why no more graphs are made; empty as long as they are."""
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._device = device
        self._pool: Any = None
        self._side: Any = None

    def run(self, key: Hashable, work: Callable[[], None], touched: Sequence[Tensor]) -> None:
        """Do the work that goes by this key, from the second time on by its graph.

        It reads and writes tensors that stand where they are for ever; `touched` are those whose contents must be as
        before when it has been tried out.
        """
        if not self.refused and key not in self._graphs:
            before = [each.clone() for each in touched]
            try:
                self._graphs[key] = self._capture(work)
                self.captures += 1
            except RuntimeError as error:  # out of memory is one too
                self.refused = str(error).partition("\n")[0] or type(error).__name__
                log.warning("Answers go on without a new CUDA graph, and may be slower: %s", self.refused)
            finally:
                for tensor, contents in zip(touched, before, strict=True):
                    tensor.copy_(contents)
        if graph := self._graphs.get(key):
            graph.replay()
        else:
            work()

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
        except RuntimeError:
            self._leave_pool()
            raise
        return graph

    def _leave_pool(self) -> None:
        """Tell the allocator that a capture is over: it is not told by one that cannot be ended.

        It would not give freed memory back any more.
        """
        try:
            torch._C._cuda_endAllocateToPool(self._device.index or 0, self._pool)
        except RuntimeError as error:
            log.debug("The allocator knew that already: %s", error)
