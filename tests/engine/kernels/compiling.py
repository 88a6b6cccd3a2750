"""Kernels compiled for cards that are not here: what host code would launch there is compiled, and not run.

Run as a program it is a process of its own, since in one where kernels are interpreted none can be compiled.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
SHARED_BYTES = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 120: 101_376}
"""Shared memory of a block by compute capability, times ten: CUDA's programming guide, technical specifications."""


@dataclass(frozen=True)
class Case:
    """Host code to call: a function of this module by name, what it is given, and for which card."""

    name: str
    given: tuple[Any, ...]
    card: int = 90


@dataclass(frozen=True)
class Compiled:
    """A kernel that a case would launch: bytes of shared memory, warps, bytes of local memory a thread, and PTX."""

    name: str
    shared: int
    warps: int
    spilled: int
    ptx: str


def compiled(cases: Sequence[Case]) -> list[list[Compiled]]:
    """The kernels of each case. Raises CalledProcessError, which holds the compiler's words, where one fails."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.engine.kernels.compiling"]
    given = json.dumps([asdict(case) for case in cases])
    done = subprocess.run(command, env=env, cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [[Compiled(**kernel) for kernel in kernels] for kernels in json.loads(done.stdout)]


def main() -> None:
    """Read cases from the standard input, and write what they compile to."""
    print(json.dumps([_compile(Case(**case)) for case in json.load(sys.stdin)]))


def _compile(case: Case) -> list[dict[str, Any]]:
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from engine.kernels import card
    from tests.engine.kernels import launches

    class Absent:
        """A driver of a card that is not here."""

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", case.card, 32)

        def get_current_device(self) -> int:
            return case.card

        def get_current_stream(self, device: int) -> int:
            return 0

    found = []
    run = JITFunction.run

    def only_compile(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        made = run(kernel, *args, grid=grid, warmup=True, **options)
        found.append(
            asdict(
                Compiled(
                    kernel.__name__,
                    made.metadata.shared,
                    made.metadata.num_warps,
                    _spilled(made.asm["cubin"]),
                    made.asm["ptx"],
                )
            )
        )

    driver.set_active(Absent())
    card.INTERPRETED = card.Card(divmod(case.card, 10), SHARED_BYTES[case.card])
    card.card_of.cache_clear()
    JITFunction.run = only_compile
    try:
        with torch.inference_mode():
            getattr(launches, case.name)(*case.given)
    finally:
        JITFunction.run = run
    return found


def _spilled(cubin: bytes) -> int:
    """Bytes of local memory a thread, by NVIDIA's own tool, which comes with Triton."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return sum(int(number) for number in re.findall(r"(?:STACK|LOCAL):(\d+)", said))


if __name__ == "__main__":
    main()
