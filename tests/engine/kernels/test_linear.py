"""Products of a few rows with the weights of linear layers: every kind of weight against the specification."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engine.kernels.linear import linear, nf4_gemv
from engine.kernels.linear.weights import Nf4Weight
from tests.engine.kernels import reference_linear
from tests.engine.kernels.compiling import Case, compiled
from tests.engine.kernels.layers import nf4, rows_of_x, vector
from tests.pairwise import pairwise

KINDS = ["nf4", "nf4-flat"]
EPSILON = 1e-5


def layer(kind: str, rows: int, columns: int, device: torch.device, *, bias: bool = False, seed: int = 0) -> Nf4Weight:
    """A layer of a kind; scales of "nf4-flat" are not quantized."""
    return nf4(rows, columns, device, nested=kind == "nf4", bias=bias, seed=seed)


def poison(rows: int, columns: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full((rows, columns), torch.nan, dtype=dtype, device=device)


def close(ours: Tensor, reference: Tensor) -> None:
    """float32 sums in another order, on a GPU with numbers of the table in eleven bits."""
    slack = 2e-5 if ours.device.type == "cpu" else 1e-3
    torch.testing.assert_close(ours, reference, rtol=slack, atol=slack)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("batch", "sizes", "columns"),
    [
        (1, [1], 64),
        (1, [37], 448),
        (1, [40, 17, 9], 1152),
        (2, [16, 16], 4096),
        (3, [17, 5], 4160),
        (5, [21], 320),
        (8, [19, 7, 7], 192),
    ],
)
def test_products(device: torch.device, kind: str, batch: int, sizes: list[int], columns: int) -> None:
    weights = [layer(kind, size, columns, device, seed=seed) for seed, size in enumerate(sizes)]
    x, out = rows_of_x(batch, columns, device), poison(batch, sum(sizes), device)
    assert linear.linear(x, weights, out=out) is out
    close(out, reference_linear.linear(x, weights))


@pytest.mark.parametrize(
    ("kind", "bias", "normed", "added"), pairwise(KINDS, (False, True), (False, True), (False, True))
)
def test_what_surrounds_them(device: torch.device, kind: str, bias: bool, normed: bool, added: bool) -> None:
    columns, sizes = 320, [24, 11]
    weights = [layer(kind, size, columns, device, bias=bias, seed=seed) for seed, size in enumerate(sizes)]
    norm = (vector(columns, 3, device), EPSILON) if normed else None
    x, residual = rows_of_x(2, columns, device) / 50, rows_of_x(2, sum(sizes), device) if added else None
    ours = linear.linear(x, weights, norm=norm, residual=residual)
    close(ours, reference_linear.linear(x, weights, norm=norm, residual=residual))


@pytest.mark.parametrize(
    ("kind", "shape", "surrounded"),
    pairwise(KINDS, ((9, [37], 64), (16, [20, 33, 5], 192), (50, [35, 8], 256), (70, [40], 128)), (False, True)),
)
def test_products_of_many_rows(
    device: torch.device, kind: str, shape: tuple[int, list[int], int], surrounded: bool
) -> None:
    batch, sizes, columns = shape
    weights = [layer(kind, size, columns, device, bias=surrounded, seed=seed) for seed, size in enumerate(sizes)]
    x, out = rows_of_x(batch, columns, device), poison(batch, sum(sizes), device)
    norm = (vector(columns, 3, device), EPSILON) if surrounded else None
    residual = rows_of_x(batch, sum(sizes), device) if surrounded else None
    assert linear.linear(x, weights, norm=norm, residual=residual, out=out) is out
    slack = 1e-3 if device.type == "cuda" else 2e-5
    exact = reference_linear.linear(x, weights, norm=norm, residual=residual)
    torch.testing.assert_close(out, exact, rtol=slack, atol=slack)


@pytest.mark.parametrize("kind", KINDS)
def test_gates_of_many_rows(device: torch.device, kind: str) -> None:
    gate, up = (layer(kind, 37, 192, device, bias=True, seed=seed) for seed in (0, 1))
    x, out, norm = rows_of_x(20, 192, device), poison(20, 37, device), (vector(192, 3, device), EPSILON)
    assert linear.gated(x, gate, up, norm=norm, out=out) is out
    close(out, reference_linear.gated(x, gate, up, norm=norm))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 37, 448), (1, 8, 4096), (2, 30, 1088), (8, 5, 192)])
def test_gates(device: torch.device, kind: str, batch: int, rows: int, columns: int) -> None:
    gate, up = (layer(kind, rows, columns, device, bias=batch == 2, seed=seed) for seed in (0, 1))
    norm = (vector(columns, 3, device), EPSILON) if batch < 8 else None
    x, out = rows_of_x(batch, columns, device), poison(batch, rows, device)
    assert linear.gated(x, gate, up, norm=norm, out=out) is out
    close(out, reference_linear.gated(x, gate, up, norm=norm))


def test_weights_of_different_kinds(device: torch.device) -> None:
    weights = [
        layer("nf4", 10, 128, device),
        layer("nf4", 9, 128, device, bias=True),
        layer("nf4-flat", 7, 128, device),
        layer("nf4-flat", 6, 128, device),
    ]
    x, residual = rows_of_x(2, 128, device), rows_of_x(2, 32, device)
    close(linear.linear(x, weights, residual=residual), reference_linear.linear(x, weights, residual=residual))
    gate, up = layer("nf4", 10, 128, device), layer("nf4-flat", 10, 128, device)
    close(linear.gated(x, gate, up), reference_linear.gated(x, gate, up))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_rounded_once(device: torch.device, kind: str, dtype: torch.dtype) -> None:
    """Sums are kept in float32: what comes out is the true value, rounded."""
    weights = [layer(kind, 24, 1152, device)]
    x, norm = rows_of_x(2, 1152, device, dtype), (vector(1152, 3, device).to(dtype), EPSILON)
    ours = linear.linear(x, weights, norm=norm)
    assert ours.dtype == dtype
    exact = reference_linear.linear(x.float(), weights, norm=norm).to(dtype)
    torch.testing.assert_close(ours, exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_rows_of_a_wider_tensor(device: torch.device) -> None:
    """Inputs, residuals and outputs may be parts of wider rows."""
    weights = [layer("nf4", 12, 128, device)]
    wide, out = rows_of_x(3, 256, device), poison(3, 40, device)
    linear.linear(wide[:, 128:], weights, residual=wide[:, 3:15], out=out[:, 20:32])
    close(out[:, 20:32], reference_linear.linear(wide[:, 128:], weights, residual=wide[:, 3:15]))
    assert out[:, :20].isnan().all() and out[:, 32:].isnan().all()


@pytest.mark.parametrize(
    "tile",
    [
        nf4_gemv.Tile(4, 128, 1),
        nf4_gemv.Tile(16, 128, 4),
        nf4_gemv.Tile(32, 64, 4, True),
        nf4_gemv.Tile(2, 1024, 2, True),
    ],
)
def test_any_tile_gives_the_same(device: torch.device, tile: nf4_gemv.Tile) -> None:
    weights = [layer("nf4", size, 1152, device, seed=size) for size in (35, 35)]
    x, out, gates = rows_of_x(2, 1152, device), poison(2, 70, device), poison(2, 35, device)
    nf4_gemv.launch(x, weights, out, tile=tile)
    close(out, reference_linear.linear(x, weights))
    nf4_gemv.launch(x, weights, gates, tile=tile, is_gated=True)
    close(gates, reference_linear.gated(x, *weights))


def test_an_overlapping_launch_waits_before_it_touches_the_chain() -> None:
    """Of compiled code: weights may be read before the wait, the input and the residual only behind it, as all writes.

    A compiler is free to move loads; what it made of this is looked at here.
    """
    kernels = compiled([Case("chained_product", (columns,)) for columns in (4096, 14336)])
    # Plain loads of 16 bytes are the input's, of two the residual's; weights say that they are read once.
    chain = r"ld\.global\.v4\.b32|ld\.global\.b16|st\.global"
    for (kernel,) in kernels:
        before, after = kernel.ptx.split("griddepcontrol.wait")
        assert "griddepcontrol.launch_dependents" in before and "ld.global" in before
        assert re.findall(chain, before) == []
        assert {"ld.global.v4.b32", "ld.global.b16", "st.global"} == set(re.findall(chain, after))


# --- on a GPU: real shapes, the look-ups in PTX, and a CUDA graph.

LLAMA_8B = [([4096, 1024, 1024], 4096), ([4096], 4096), ([4096], 14336), ([128256], 4096)]
"""Rows and columns of query, key and value; the attention's output; the way down; `lm_head`."""


def no_worse_than_plain(ours: Tensor, plain: Tensor, exact: Tensor) -> None:
    """At most twice the error of the same arithmetic by PyTorch in bfloat16, in the mean and at worst."""
    mine, its = (ours.float() - exact).abs(), (plain.float() - exact).abs()
    assert mine.mean() <= 2 * its.mean()
    assert mine.max() <= 2 * its.max()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("sizes", "columns"), LLAMA_8B)
@pytest.mark.parametrize("batch", [1, 2, 5, 8, 32, 64])
def test_real_shapes(gpu: torch.device, kind: str, sizes: list[int], columns: int, batch: int) -> None:
    weights = [layer(kind, size, columns, gpu, seed=seed) for seed, size in enumerate(sizes)]
    x, out = rows_of_x(batch, columns, gpu, torch.bfloat16), poison(batch, sum(sizes), gpu, torch.bfloat16)
    norm = (vector(columns, 3, gpu).bfloat16(), EPSILON)
    exact = reference_linear.linear(x.float(), weights, norm=norm)
    normed = torch.nn.functional.rms_norm(x, (columns,), norm[0], EPSILON)
    plain = torch.cat([normed @ reference_linear.dequantized(weight).bfloat16().T for weight in weights], 1)
    no_worse_than_plain(linear.linear(x, weights, norm=norm, out=out), plain, exact)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 3, 32])
def test_real_gates(gpu: torch.device, kind: str, batch: int) -> None:
    gate, up = (layer(kind, 14336, 4096, gpu, seed=seed) for seed in (0, 1))
    x = rows_of_x(batch, 4096, gpu, torch.bfloat16)
    exact = reference_linear.gated(x.float(), gate, up)
    wide = [x @ reference_linear.dequantized(weight).bfloat16().T for weight in (gate, up)]
    no_worse_than_plain(linear.gated(x, gate, up), torch.nn.functional.silu(wide[0]) * wide[1], exact)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("columns", [1152, 4096])
def test_both_look_ups_give_the_same(gpu: torch.device, kind: str, dtype: torch.dtype, columns: int) -> None:
    weights = [layer(kind, 100, columns, gpu)]
    x = rows_of_x(2, columns, gpu, dtype)
    found: dict[bool, Tensor] = {}
    for asm in (False, True):
        found[asm] = poison(2, 100, gpu)
        nf4_gemv.launch(x, weights, found[asm], asm=asm)
    torch.testing.assert_close(found[True], found[False], rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("columns", [1024, 4096, 14336])
@pytest.mark.parametrize("ahead", [False, True])
def test_launches_that_overlap_wait_for_their_input(gpu: torch.device, columns: int, ahead: bool) -> None:
    """Each output is the next input: what is read too early is the poison, or the row of another round."""
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("launches overlap from Hopper on")
    weights = [layer("nf4", columns, columns, gpu, seed=seed) for seed in range(2)]
    tile = nf4_gemv.Tile(8, 256, 2, ahead)
    x = rows_of_x(1, columns, gpu, torch.bfloat16)
    rows = {pdl: [poison(1, columns, gpu, torch.bfloat16) for _ in range(20)] for pdl in (False, True)}
    norm = (vector(columns, 3, gpu), EPSILON)

    def chain(pdl: bool) -> None:
        before = x
        for number, out in enumerate(rows[pdl]):
            nf4_gemv.launch(before, [weights[number % 2]], out, norm=norm, residual=before, tile=tile, pdl=pdl)
            before = out

    chain(False)
    chain(True)
    assert torch.equal(rows[True][-1], rows[False][-1]) and not rows[True][-1].isnan().any()
    replay = capture(lambda: chain(True))
    for _ in range(3):
        for out in rows[True]:
            out.fill_(torch.nan)
        replay()
        assert all(torch.equal(ours, plain) for ours, plain in zip(rows[True], rows[False], strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_replays_the_same_bits(gpu: torch.device, kind: str) -> None:
    weights = [layer(kind, 512, 1024, gpu, seed=seed) for seed in (0, 1)]
    x, norm = rows_of_x(1, 1024, gpu, torch.bfloat16), (vector(1024, 3, gpu), EPSILON)
    sides, gates = poison(1, 1024, gpu, torch.bfloat16), poison(1, 512, gpu, torch.bfloat16)

    def step() -> None:
        linear.linear(x, weights, norm=norm, residual=x, out=sides)
        linear.gated(x, *weights, norm=norm, out=gates)

    step()
    replay: Callable[[], None] = capture(step)
    x.copy_(rows_of_x(1, 1024, gpu, torch.bfloat16).flip(1))
    step()
    expected = sides.clone(), gates.clone()
    for _ in range(3):
        sides.fill_(torch.nan)
        gates.fill_(torch.nan)
        replay()
        assert torch.equal(sides, expected[0]) and torch.equal(gates, expected[1])


def capture(step: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
