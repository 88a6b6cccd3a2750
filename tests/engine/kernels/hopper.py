"""Kernels compiled for a Hopper GPU on any machine, in a process of its own: in this one they are interpreted."""

import json
import os
import subprocess
import sys
from typing import Any

_COMPILE = """
import importlib, json, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

module, name, types, fixed, warps = json.loads(sys.argv[1])
kernel = getattr(importlib.import_module(module), name)
source = ASTSource(
    kernel,
    signature={name: types.get(name, "constexpr") for name in kernel.arg_names},
    constexprs=fixed,
    attrs={(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if "*" in types.get(name, "")},
)
options = dict(num_warps=warps, enable_fp_fusion=True)
print(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"])
"""


def ptx_of(kernel: str, types: dict[str, str], fixed: dict[str, Any], warps: int) -> str:
    """The PTX of a kernel ("module.name"); `types` of what it is given, `fixed` what is known when it is compiled."""
    module, _, name = kernel.rpartition(".")
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    asked = json.dumps([module, name, types, fixed, warps])
    command = [sys.executable, "-W", "ignore", "-c", _COMPILE, asked]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
