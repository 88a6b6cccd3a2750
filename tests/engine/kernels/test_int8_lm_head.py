"""The output head in eight bits with its likeliest tokens computed again, against the exact one."""

import random
import re
import struct

import pytest
import torch

from engine.kernels.linear import int8_lm_head
from engine.kernels.linear.int8_lm_head import Int8Head, can_quantize_head, quantize_head
from tests.engine.kernels import layers, ptx, reference_linear
from tests.engine.kernels.compiling import Case, compiled


def head_of(rows: int, columns: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Int8Head:
    return quantize_head(layers.matrix(rows, columns, 0, device).to(dtype))


def exactly(x: torch.Tensor, head: Int8Head, norm: tuple[torch.Tensor, float]) -> torch.Tensor:
    """Logits (V,) of x (1, K) in float32."""
    return torch.nn.functional.rms_norm(x.float(), x.shape[1:], norm[0].float(), norm[1])[0] @ head.exact.float().T


def test_codes_are_the_nearest(device: torch.device) -> None:
    """Half a step of 1/127 of the largest of 32 at most, and a little for rounding scales to float16."""
    head = head_of(5000, 96, device)
    head.exact[7, 32:64] = 0.0
    head = quantize_head(head.exact)
    blocks = head.exact.unflatten(1, (-1, 32))
    error = (reference_linear.dequantized(head) - head.exact).unflatten(1, (-1, 32)).abs().amax(2)
    assert (error <= blocks.abs().amax(2) / 127 * 0.57).all()
    assert error[7, 1] == 0.0
    assert head.nbytes == 5000 * 96 + 5000 * 3 * 2


@pytest.mark.parametrize(
    ("rows", "columns", "again"),
    ((600, 64, 8), (512, 576, 7), (257, 2048, 3), (300, 160, 3), (100, 64, 64), (9, 4096, 1)),
)
def test_against_the_exact_head(rows: int, columns: int, again: int, device: torch.device) -> None:
    head, norm = head_of(rows, columns, device), (layers.vector(columns, 3, device), 1e-5)
    near = reference_linear.logits(layers.rows_of_x(1, columns, device), head, norm, again=0)[0]
    x = layers.rows_of_x(1, columns, device)
    exact = exactly(x, head, norm)
    expected = reference_linear.logits(x, head, norm, again)[0]
    got = int8_lm_head.logits(x, head, norm, again)[0]
    # The largest are exact, all others near or exact, and only in a small vocabulary all of them.
    largest = near.topk(min(again, rows)).indices
    torch.testing.assert_close(got[largest], exact[largest], rtol=1e-5, atol=1e-5)
    off = (got - expected).abs() > 1e-4
    torch.testing.assert_close(got[off], exact[off], rtol=1e-5, atol=1e-5)
    assert int(off.sum()) < rows / 4 or rows < 64 * again
    assert got.argmax() == exact.argmax()


def test_half_precision(device: torch.device) -> None:
    """Logits are float32, and what is computed again is as if nothing had been rounded."""
    # The interpreter cuts bfloat16 off where it should round.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float16
    head, norm = head_of(600, 128, device, dtype), (layers.vector(128, 3, device).to(dtype), 1e-5)
    for seed in range(2):
        x = torch.randn(1, 128, generator=torch.Generator().manual_seed(seed)).to(device, dtype)
        got = int8_lm_head.logits(x, head, norm, 8)[0]
        exact = exactly(x, head, norm)
        assert got.dtype == torch.float32 and got.argmax() == exact.argmax()
        largest = exact.topk(8).indices
        torch.testing.assert_close(got[largest], exact[largest], rtol=1e-5, atol=1e-5)


def test_the_likeliest_is_found_though_its_code_is_not(device: torch.device) -> None:
    """Two rows that codes take for each other: which is which, only the exact rows say."""
    head, norm = head_of(400, 64, device), (torch.ones(64, device=device), 1e-6)
    x = layers.rows_of_x(1, 64, device)
    rows = head.exact
    rows[100] = 4 * x[0]
    rows[390] = 4 * x[0] * (1 + 1e-4)
    head = quantize_head(head.exact)
    head.codes[390], head.scales[390] = head.codes[100] - 3, head.scales[100]
    assert reference_linear.logits(x, head, norm, again=0).argmax() == 100
    assert int8_lm_head.logits(x, head, norm, 4).argmax() == 390


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_number_stays_none(device: torch.device) -> None:
    head, norm = head_of(300, 64, device), (torch.ones(64, device=device), 1e-6)
    x = torch.full((1, 64), torch.nan, device=device)
    assert int8_lm_head.logits(x, head, norm, 3).isnan().all()


def test_which_heads_can() -> None:
    assert can_quantize_head(torch.nn.Linear(64, 40, bias=False, dtype=torch.bfloat16))
    assert not can_quantize_head(torch.nn.Linear(80, 40, bias=False))
    assert not can_quantize_head(torch.nn.Linear(64, 40))
    assert not can_quantize_head(torch.nn.Linear(2**16, 2**15, bias=False, device="meta")), "addresses cannot reach it"


def test_every_code_at_every_place() -> None:
    """The look-up in PTX, followed by hand; `mov.b64` of a word is two registers here."""
    chance = random.Random(0)
    text = int8_lm_head._CODES.value
    assert text.count("mov.b64 {l, h}, $8;") == 1
    # PTX writes the bits of a float32 that way.
    code = re.sub(r"mov\.b64 [^;]*;", "", text).replace("0fCB", "0xCB")
    for _ in range(40):
        raw = [chance.randbytes(8) for _ in range(32)]
        words = [struct.unpack("<II", eight) for eight in raw]
        found = ptx.run(code, {"l": [low for low, _ in words], "h": [high for _, high in words]})
        for place in range(8):
            expected = [eight[place] - 128.0 for eight in raw]
            assert ptx.as_float(found[f"${place}"]) == expected


def test_the_product_reads_everything_once() -> None:
    """Compiled for Hopper: codes 16 bytes at a time, four rows of two words a thread; x, the norm and scales once."""
    for kernels, reads_of_x in zip(
        compiled([Case("head", (x,)) for x in ("bfloat16", "float32")]), (1, 2), strict=True
    ):
        (code,) = (each.ptx for each in kernels if each.name == "_products")
        assert len(re.findall(r"ld\.global\S*evict_first\S*\.v2\.b64", code)) == 4
        assert len(re.findall(r"ld\.global\.v4\.b32", code)) == 2 * 2 * reads_of_x
        assert code.count("ld.global.nc.b16") == 4
