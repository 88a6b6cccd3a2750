"""Codes of 4 bits found again in weights: exactly those weights, or none."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from engine.kernels.cpu.sizes import BLOCK, ROWS

pytest.importorskip("numba")

from engine.kernels.cpu.weights import by_codes, by_halves, encode

Matrix = NDArray[np.float32]


def rounded(matrix: Matrix) -> Matrix:
    return torch.from_numpy(np.ascontiguousarray(matrix, np.float32)).bfloat16().float().numpy()


def of_gguf(kind: str, spread: float) -> Matrix:
    wide = np.random.default_rng(3).standard_normal((2 * ROWS, 8 * BLOCK), np.float32) * np.float32(spread)
    wide[5, :BLOCK], wide[6, :BLOCK], wide[7, 1:BLOCK] = 0, 0.25, 0
    return rounded(dequantize(quantize(wide, GGMLQuantizationType[kind]), GGMLQuantizationType[kind]))


def encoded(matrix: Matrix) -> tuple[bool, NDArray[np.int32], Matrix]:
    groups, blocks = len(matrix) // ROWS, matrix.shape[1] // BLOCK
    codes = np.empty((groups, blocks, 4, ROWS), np.int32)
    scales = np.empty((groups, blocks, 2, ROWS), np.float32)
    return encode(matrix, codes, scales, 0, groups), codes, scales


@pytest.mark.parametrize("spread", [0.02, 1.0])
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_every_weight_is_found_again(kind: str, spread: float) -> None:
    matrix = of_gguf(kind, spread)
    found, codes, scales = encoded(matrix)
    assert found
    for column in range(matrix.shape[1]):
        # A product with 1 in one place is the weight there, bit by bit.
        x = np.zeros(matrix.shape[1], np.float32)
        x[column] = 1
        for group in range(len(codes)):
            out = np.zeros(ROWS, np.float32)
            by_codes(codes[group].ravel(), scales[group].ravel(), x, out)
            assert np.array_equal(out, matrix[group * ROWS : (group + 1) * ROWS, column])


@pytest.mark.parametrize("change", ["all", "one"])
def test_other_weights_are_refused(change: str) -> None:
    matrix = of_gguf("Q4_1", 1.0)
    if change == "all":
        matrix = rounded(np.random.default_rng(5).standard_normal(matrix.shape, np.float32))
    else:
        # Between two of the steps.
        matrix[-1, -1] = rounded(np.array([(np.unique(matrix[-1, -BLOCK:])[:2].sum()) / 2 * 1.03]))[0]
    assert not encoded(matrix)[0]


def test_products_are_those_of_float64() -> None:
    matrix = of_gguf("Q4_0", 1.0)
    x = np.random.default_rng(6).standard_normal(matrix.shape[1], np.float32)
    wanted = matrix[:ROWS].astype(np.float64) @ x
    _, codes, scales = encoded(matrix)
    pairs = torch.from_numpy(matrix[:ROWS]).bfloat16().view(torch.int32).T.contiguous().numpy()
    for times in (
        lambda out: by_codes(codes[0].ravel(), scales[0].ravel(), x, out),
        lambda out: by_halves(pairs.ravel(), x, out),
    ):
        out = np.ones(ROWS, np.float32)
        times(out)
        np.testing.assert_allclose(out, wanted + 1, rtol=1e-5, atol=1e-5)
