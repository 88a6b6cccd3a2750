"""Launches of every kernel by the host code that ships, with tensors of zeros: to compile them, not to run."""

import torch
from torch import Tensor

from engine.core.quant import Packed, scale_shape
from engine.core.rope import HeadNorms, Rotary
from engine.kernels import elementwise
from engine.kernels.attention import rope_append, split_kv
from engine.kernels.attention.split_plan import SplitPlan
from engine.kernels.card import card_of
from engine.kernels.linear import int8_lm_head, linear, nf4_dequant, nf4_gemv
from engine.kernels.linear.weights import Nf4Weight
from engine.kernels.quant.dequantize import dequantize_into
from engine.kernels.quant.quantize import quantize_into
from engine.kernels.quant.rotate import TritonRotation

COLUMNS = 4096
SHARE = 4
CPU = torch.device("cpu")


def attention(dim: int, rows: int, key_bits: int, value_bits: int, dtype: str = "bfloat16") -> None:
    """So many rows of queries of a KV head over exact slots (16 bits) or packed and rotated ones, and the merge."""
    work = _plan(dim, () if key_bits == value_bits == 16 else ((key_bits, value_bits),), getattr(torch, dtype))
    queries, length = torch.zeros(2, 1, SHARE * 64, dim), torch.zeros(1, dtype=torch.int32)
    split_kv.attend(work, 0, queries, rows // SHARE, length, 0.125, split_kv.Tiling())


def new_tokens(dim: int) -> None:
    """Queries, keys and values to their places, with and without rotary positions and norms before."""
    work = _plan(dim, ((4, 4),), torch.bfloat16)
    length = torch.zeros(1, dtype=torch.int32)
    rotary = Rotary(torch.zeros(512, dim // 2), torch.zeros(512, dim // 2), torch.zeros(1, dtype=torch.int64))
    norms = HeadNorms(_halves(dim), _halves(dim), 1e-5)
    query = torch.zeros(SHARE, 1, dim)
    places = rope_append.Places(query, work.suffix[0][0], work.suffix[1][0], length, query.clone())
    for turned in (None, rotary):
        rope_append.rope(_halves(1, (SHARE + 2) * dim), turned, turned and norms, places)


def rotation(dim: int, dtype: str = "bfloat16") -> None:
    """Rows rotated, and attention over proximal and rotated distant runs merged."""
    matrix, kernels = torch.eye(dim), TritonRotation()
    out, lse = torch.zeros(2, 64, dim, dtype=getattr(torch, dtype)), torch.zeros(2, 64)
    kernels.rotate(out, matrix)
    kernels.merge_rotated([(out, lse)], [(out, lse), (out, lse)], matrix)


def quantization(dim: int, bits: int, per: str, rotated: bool, dtype: str = "bfloat16") -> None:
    """Rows of two KV heads to few bits and back."""
    rows = torch.zeros(2, 128, dim, dtype=getattr(torch, dtype))
    scales, zeros = torch.zeros(2, 2, *scale_shape(128, dim, per), dtype=torch.float16)
    packed = Packed(bits, per, torch.zeros(2, 128, dim * bits // 8, dtype=torch.uint8), scales, zeros)
    quantize_into(rows, packed, torch.eye(dim) if rotated else None)
    dequantize_into(packed, rows)


def products(batch: int, kind: str, gated: bool, columns: int = COLUMNS) -> None:
    """Rows of x times weights "nf4" or "nf4-flat" (scales not quantized), under a norm."""
    x, norm, pdl = _halves(batch, columns), (_halves(columns), 1e-5), card_of(CPU).pdl
    if gated:
        linear.gated(x, *[_nf4(64, columns, kind == "nf4")] * 2, norm=norm, pdl=pdl)
    else:
        weights = [_nf4(rows, columns, kind == "nf4") for rows in (64, 32, 32)]
        linear.linear(x, weights, norm=norm, residual=_halves(batch, 128), pdl=pdl)


def tiled_product(gated: bool, x: str) -> None:
    """One row of x times NF4 weights in a tile whose words are read ahead of the launch before."""
    row, norm = torch.zeros(1, COLUMNS, dtype=getattr(torch, x)), torch.zeros(COLUMNS, dtype=getattr(torch, x))
    # No multiple of 16 rows, for which residuals would be read like x.
    weights = [_nf4(60, COLUMNS, True)] * (2 if gated else 3)
    out = _halves(1, 60 if gated else 180)
    tile, more = nf4_gemv.Tile(8, 512, 4, True), {} if gated else {"residual": out}
    nf4_gemv.launch(row, weights, out, norm=(norm, 1e-5), is_gated=gated, tile=tile, pdl=True, **more)


def chained_product(columns: int) -> None:
    """One row of x, a residual and an output whose types tell loads and stores apart by their size."""
    weights, norm = [_nf4(61, columns, True)] * 3, (torch.zeros(columns), 1e-5)
    residual, out = torch.zeros(1, 183, dtype=torch.float16), torch.zeros(1, 183, dtype=torch.float64)
    nf4_gemv.launch(_halves(1, columns), weights, out, norm=norm, residual=residual, pdl=True)


def head(x: str = "bfloat16") -> None:
    """The output head in eight bits, and the likeliest of its tokens."""
    quick = int8_lm_head.quantize_head(_halves(2048, COLUMNS))
    row, norm = torch.zeros(1, COLUMNS, dtype=getattr(torch, x)), torch.zeros(COLUMNS, dtype=getattr(torch, x))
    int8_lm_head.logits(row, quick, (norm, 1e-5))


def many_rows(dim: int) -> None:
    """What stands around products of many rows."""
    elementwise.norm(_halves(8, COLUMNS), _halves(COLUMNS), 1e-5)
    elementwise.gate(_halves(8, 2 * COLUMNS))
    elementwise.rope(_halves(64, 8, dim), torch.zeros(64, 1, dim), torch.zeros(64, 1, dim))
    nf4_dequant.matrix_of([_nf4(64, COLUMNS, True)], _halves(1))


def _plan(dim: int, formats: tuple[tuple[int, int], ...], dtype: torch.dtype) -> SplitPlan:
    suffix = torch.zeros(1, 1, 256, dim, dtype=dtype), torch.zeros(1, 1, 256, dim, dtype=dtype)
    work = SplitPlan(suffix, SHARE, 64)
    work.formats, work.rotated = formats, bool(formats)
    return work


def _nf4(rows: int, columns: int, nested: bool) -> Nf4Weight:
    blocks = rows * columns // 64
    nest = (torch.zeros(256), torch.zeros(max(1, blocks // 256)), torch.zeros(1)) if nested else (None,) * 3
    scales = torch.zeros(blocks, dtype=torch.uint8 if nested else torch.float32)
    words = torch.zeros(rows * columns // 8, dtype=torch.int32)
    return Nf4Weight(rows, columns, words, torch.zeros(16), scales, *nest, None)


def _halves(*sizes: int) -> Tensor:
    return torch.zeros(*sizes, dtype=torch.bfloat16)
