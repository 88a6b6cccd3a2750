"""The look-ups of four-bit codes in PTX, without a GPU: what they compute, and that they compile."""

import os
import random
import re
import subprocess
import sys

import pytest
import torch
from bitsandbytes.functional import get_4bit_type

from engine.kernels.linear import nf4_decode
from tests.engine.kernels import ptx

TABLE = get_4bit_type("nf4", "cpu").tolist()


def registers(words: list[int]) -> dict[str, ptx.Warp]:
    """What the look-ups are given: a word and an entry per thread, and the table's bytes."""
    halves = torch.tensor(TABLE).half().view(torch.uint8).reshape(4, 4, 2)
    held = {"$8": words, "$9": ptx.from_float(TABLE * 2)}
    for part in range(4):
        for side in range(2):
            held[f"${10 + 4 * side + part}"] = [int.from_bytes(bytes(halves[part, :, side].tolist()), "little")] * 32
    return held


@pytest.mark.parametrize(("code", "places_in_eleven_bits"), [("_SHUFFLE", 0), ("_PERMUTE", 8), ("_MIXED", 4)])
def test_every_code_at_every_place(code: str, places_in_eleven_bits: int) -> None:
    chance = random.Random(0)
    rounded = [in_eleven_bits(value) for value in TABLE]
    for _ in range(40):
        raw = [chance.randbytes(4) for _ in range(32)]
        # The order of bitsandbytes: the first of two codes is the high half of a byte.
        codes = [[half for byte in four for half in (byte >> 4, byte & 15)] for four in raw]
        found = ptx.run(getattr(nf4_decode, code).value, registers([int.from_bytes(four, "little") for four in raw]))
        for place in range(8):
            table = rounded if place >= 8 - places_in_eleven_bits else TABLE
            expected = [ptx.as_float(ptx.from_float([table[eight[place]]]))[0] for eight in codes]
            assert ptx.as_float(found[f"${place}"]) == expected


def in_eleven_bits(value: float) -> float:
    return float(torch.tensor(value).half())


COMPILE = """
import sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from engine.kernels.linear.nf4_gemv import _nf4_kernel as kernel

decode, gated, x = sys.argv[1], sys.argv[2] == "gated", sys.argv[3]
types = dict(x=f"*{x}", gain=f"*{x}", residual="*bf16", out="*bf16", table="*fp32", epsilon="fp32")
types |= {f"{name}_stride": "i32" for name in ("x", "residual", "out")}
for i in "123":
    types |= {f"words{i}": "*i32", f"scales{i}": "*u8", f"nest_table{i}": "*fp32", f"nest_scales{i}": "*fp32"}
    types |= {f"offset{i}": "*fp32", f"bias{i}": "*bf16", f"rows{i}": "i32"}
fixed = dict(K=4096, POWER=4096, B=1, COUNT=1 if gated else 3, GATED=gated, NORM=True, RESIDUAL=not gated, BIAS=True)
fixed |= dict(NESTED=True, DECODE=decode, ROWS=8, WORDS=512, AHEAD=True, PDL=True)
source = ASTSource(
    kernel,
    signature={name: types.get(name, "constexpr") for name in kernel.arg_names},
    constexprs=fixed,
    attrs={(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if "*" in types.get(name, "")},
)
options = dict(num_warps=4, enable_fp_fusion=True)
print(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"])
"""


@pytest.mark.parametrize(("decode", "form", "x"), [("shuffle", "sides", "bf16"), ("permute", "gated", "fp16"),
                                                   ("mixed", "sides", "fp32"), ("load", "gated", "bf16")])  # fmt: skip
def test_the_kernel_compiles_for_hopper(decode: str, form: str, x: str) -> None:
    """Words are read 16 bytes at a time, once, before it waits for the launch before; x after, once for all rows."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", "-c", COMPILE, decode, form, x]
    code = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    words = [found.start() for found in re.finditer(r"ld\.global\S*evict_first\S*\.v4\.b32", code)]
    wait = code.index("griddepcontrol.wait")
    assert len(words) == (16 if form == "gated" else 8) and max(words) < wait
    if decode != "load":
        # 32 numbers of x, of the norm's weight, and of x again for the norm, for each thread of 128.
        numbers = [found.start() for found in re.finditer(r"ld\.global\.v4\.b32", code)]
        of_weight = [at for at in numbers if at < wait]
        assert len(numbers) == 3 * (8 if x == "fp32" else 4)
        assert len(of_weight) <= len(numbers) // 3
