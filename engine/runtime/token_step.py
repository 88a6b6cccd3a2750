"""TokenStep: one token of an answer in one call, on a processor, by kernels that Numba compiles.

PyTorch's own products and attention cost a token some 25 launches a layer, and read weights in 16 bits where they are
codes of 4. What comes out differs by the order of sums alone: weights are exact, and everything is added up in float32.
Letters: N rows and K columns of a matrix, E hidden size, D head size, V vocabulary.
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.core.compile_cache import seal_numba
from engine.kernels.cpu.sizes import BLOCK, ROWS, SLOTS
from engine.kvcache.exact import Pod
from engine.models.decoder import DecoderLayer, FlatModel
from engine.models.ops_cpu import RowOps, RowWeight
from engine.runtime.context import Context


class NoTokenStep(Exception):
    """Tokens go PyTorch's way here; the message says why."""


@dataclass(frozen=True)
class _Matrix:
    """A matrix as kernels read it, see engine.kernels.cpu.weights: scales where its words are codes, and biases."""

    words: NDArray[np.int32]
    scales: NDArray[np.float32] | None
    bias: NDArray[np.float32] | None
    columns: int

    @property
    def rows(self) -> int:
        """With those that fill the last group."""
        return len(self.words) * ROWS

    @property
    def nbytes(self) -> int:
        """Bytes that a token reads."""
        return self.words.nbytes + (0 if self.scales is None else self.scales.nbytes)

    @property
    def facts(self) -> list[int]:
        """As the kernel has it; see its MATRIX."""
        scales, bias = (0 if each is None else each.ctypes.data for each in (self.scales, self.bias))
        return [self.words.ctypes.data, scales, len(self.words), self.columns, bias]


class TokenStep:
    """A network's weights as the kernels have them, in memory of their own, and threads that work on a token."""

    def __init__(self, flat: FlatModel, threads: int) -> None:
        """Raises NoTokenStep for weights or a machine that this is not for."""
        if importlib.util.find_spec("numba") is None:
            raise NoTokenStep("Numba is not installed; pip install '.[cpu]' brings it")
        if os.name != "posix":
            raise NoTokenStep("its threads wait for each other as POSIX has it")
        if not isinstance(flat.ops, RowOps) or not flat.turns_whole_heads:
            raise NoTokenStep("it multiplies plain weights, and turns whole heads")
        (head,), _ = flat.head
        plain = [list(_matrices(block)) for block in flat.blocks]
        for matrix, _ in [*(each for layer in plain for each in layer), (head.matrix, None)]:
            if matrix.dtype != torch.float32 or not torch.equal(matrix.bfloat16().float(), matrix):
                raise NoTokenStep("it multiplies numbers of bfloat16 in float32")
            if matrix.shape[1] % BLOCK:
                raise NoTokenStep(f"it multiplies blocks of {BLOCK} numbers")
        # Compiled here, or found again.
        from engine.kernels.cpu import step

        seal_numba()
        self._flat, self._step, self._threads = flat, step.step, threads
        self._pool = ThreadPoolExecutor(threads, "token")
        self._layers = [[self._encoded(*each) for each in layer] for layer in plain]
        self._head, self._vocabulary = self._encoded(head.matrix, head.bias), len(head.matrix)
        self._phases = step.PHASES_PER_LAYER * len(plain) + 1
        head_norms = [block.head_norms for block in flat.blocks]
        none = torch.empty(0)
        self._constants = (
            np.array([[each.facts for each in layer] for layer in self._layers], np.int64),
            _stacked([(block.attention_norm[0], block.gated_norm[0]) for block in flat.blocks]),
            _stacked([(each.query, each.keys) if each else (none, none) for each in head_norms]),
            np.array(self._head.facts, np.int64),
            flat.norm[0].detach().numpy(),
            flat.kv_heads,
            flat.norm[1],
            head_norms[0].epsilon if head_norms[0] else 0.0,
            flat.scale,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of weights that a token reads."""
        return sum(each.nbytes for layer in self._layers for each in layer) + self._head.nbytes

    def forward(self, token: int, context: Context) -> Tensor | None:
        """Logits (V,) of a token behind everything in the context, whose tail takes its keys and values but does not
        count it; None where that is attended in a way that kernels do not know."""
        pieces = _pieces(context)
        if not pieces:
            return None
        x, cos, sin = (each.numpy() for each in self._flat.entered(token, context.position))
        qkv, _, _, down = self._layers[0]
        shared = (
            x,
            np.empty(qkv.rows, np.float32),
            np.empty((len(pieces), self._flat.heads, self._flat.head_dim + 2), np.float32),
            np.empty(down.columns, np.float32),
            logits := np.empty(self._head.rows, np.float32),
        )
        turns = np.zeros((self._phases, 2), np.int64)
        arguments = (*self._constants, cos, sin, np.array(pieces, np.int64), *shared)
        for _ in range(self._threads - 1):
            # Who comes late finds nothing left to do, in counters that are kept until then.
            self._pool.submit(self._help, turns, arguments)
        self._help(turns, arguments)
        return torch.from_numpy(logits[: self._vocabulary])

    def _help(self, turns: NDArray[np.int64], arguments: tuple[Any, ...]) -> None:
        self._step(turns.ctypes.data, *arguments)

    def _encoded(self, matrix: Tensor, bias: Tensor | None) -> _Matrix:
        """A matrix (N, K) as codes of 4 bits if it can be had from such, else as the bfloat16 that it is."""
        from engine.kernels.cpu.weights import encode

        missing, columns = -len(matrix) % ROWS, matrix.shape[1]
        wide = nn.functional.pad(matrix.detach(), (0, 0, 0, missing)).contiguous()
        biases = None if bias is None else nn.functional.pad(bias.detach(), (0, missing)).numpy()
        numbers, groups = wide.numpy(), len(wide) // ROWS
        codes = np.empty((groups, columns // BLOCK, 4, ROWS), np.int32)
        scales = np.empty((groups, columns // BLOCK, 2, ROWS), np.float32)
        ends = np.linspace(0, groups, self._threads + 1, dtype=int)
        found = self._pool.map(lambda start, stop: encode(numbers, codes, scales, start, stop), ends[:-1], ends[1:])
        if all(list(found)):
            return _Matrix(codes, scales, biases, columns)
        pairs = wide.bfloat16().view(torch.int32).view(groups, ROWS, columns // 2)
        return _Matrix(pairs.transpose(1, 2).contiguous().numpy(), None, biases, columns)


def _matrices(block: DecoderLayer) -> Iterator[tuple[Tensor, Tensor | None]]:
    """A layer's matrices and biases in the kernel's order, gate and up in turns of half a group's rows.

    Raises NoTokenStep.
    """
    (qkv,), (out,), (down,) = block.qkv, block.out, block.down
    weights: Sequence[RowWeight] = block.gate_up
    halves = [half for weight in weights for half in weight.matrix.chunk(3 - len(weights))]
    if any(weight.bias is not None for weight in weights) or len(halves[0]) % (ROWS // 2):
        raise NoTokenStep(f"its gates have no biases, and a multiple of {ROWS // 2} rows")
    yield qkv.matrix, qkv.bias
    yield out.matrix, out.bias
    yield torch.stack([half.view(-1, ROWS // 2, half.shape[1]) for half in halves], 1).flatten(0, 2), None
    yield down.matrix, down.bias


def _pieces(context: Context) -> list[list[int]]:
    """The pieces of all pods and of the tail with a new token; see the kernel's PIECE. None where it knows them not."""
    pods, suffix = context.pods, context.suffix
    stop = suffix.length + 1
    simple = all(isinstance(pod, Pod) and pod.window is None for pod in pods) and not suffix.shape.windows
    if context.heads or stop > suffix.capacity or not simple or len(suffix.groups) > 1:
        return []
    pieces = []
    tail = suffix.keys[:, :, :stop], suffix.values[:, :, :stop]
    for keys, values in (*((pod.keys, pod.values) for pod in pods if isinstance(pod, Pod)), tail):
        layer, head, row, channel = keys.stride()
        if keys.stride() != values.stride() or (row, channel) != (keys.shape[3], 1):
            return []
        size = keys.element_size()
        for start in range(0, keys.shape[2], SLOTS):
            places = [each.data_ptr() + start * row * size for each in (keys, values)]
            pieces.append([*places, layer * size, head * size, min(SLOTS, keys.shape[2] - start), 0])
    pieces[-1][-1] = 1
    return pieces


def _stacked(layers: Sequence[tuple[Tensor, Tensor]]) -> NDArray[np.float32]:
    """Pairs of (N,) as (L, 2, N)."""
    stacked: NDArray[np.float32] = torch.stack([torch.stack(each) for each in layers]).detach().numpy()
    return stacked
