"""Compiles a product whose launch may overlap for an H100, which needs no GPU, and prints its PTX.

A process of its own: where kernels are interpreted, none can be compiled.
"""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from engine.kernels.linear import nf4_gemv

WEIGHT = {"words": "*i32", "scales": "*u8", "nest_table": "*fp32", "nest_scales": "*fp32", "offset": "*fp32",
          "bias": "*fp32", "rows": "i32"}  # fmt: skip
X, RESIDUAL, OUT, GAIN = "*bf16", "*fp16", "*fp64", "*fp32"
"""Types that tell loads and stores apart by their size."""
SEAM = "// another kernel"


def ptx(columns: int) -> str:
    """The kernel with a norm before and a residual behind, for one row of so many columns."""
    kernel, tile = nf4_gemv._nf4_kernel, nf4_gemv.tile_for(1, columns, False)
    types = {"x": X, "gain": GAIN, "residual": RESIDUAL, "out": OUT, "table": "*fp32", "epsilon": "fp32"}
    types |= dict.fromkeys(("x_stride", "residual_stride", "out_stride"), "i32")
    types |= {f"{name}{number}": kind for number in (1, 2, 3) for name, kind in WEIGHT.items()}
    known = {
        "K": columns, "POWER": triton.next_power_of_2(columns), "B": 1, "COUNT": 3, "GATED": False, "NORM": True,
        "RESIDUAL": True, "BIAS": False, "NESTED": True, "DECODE": "shuffle", "ROWS": tile.rows, "WORDS": tile.words,
        "AHEAD": tile.ahead, "PDL": True,
    }  # fmt: skip
    places = {name: (number,) for number, name in enumerate(kernel.arg_names)}
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "constexpr") for name in kernel.arg_names},
        constexprs={places[name]: value for name, value in known.items()},
        attrs={places[name]: [["tt.divisibility", 16]] for name, kind in types.items() if kind.startswith("*")},
    )
    options = {"num_warps": tile.warps, "launch_pdl": True}
    found: str = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    return found


if __name__ == "__main__":
    for columns in (4096, 14336):
        print(ptx(columns), SEAM)
