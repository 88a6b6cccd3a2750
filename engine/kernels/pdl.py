"""Launches that begin while the one before them ends: programmatic dependent launch, on NVIDIA GPUs from Hopper on.

A launch that may be overlapped says `launch_dependents` once; the next one, launched with `launch_pdl`, may start from
then on and must `wait_for_primary` before it reads what the launch before writes, or writes what that reads. Since
everyone leads only after it has followed, whatever is older than the launch before has ended by then: that can be read
ahead.
"""

from functools import cache

import torch
import triton
import triton.language as tl


@cache
def supports_pdl(device: torch.device) -> bool:
    """Whether a device has it."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device)[0] >= 9


@triton.jit
def launch_dependents():
    """Let the next launch begin."""
    tl.inline_asm_elementwise(
        "griddepcontrol.launch_dependents; // $0", "=r", [], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def wait_for_primary():
    """Wait for the end of the launch before, then lead. Gives 0: what must not be read any earlier adds it."""
    ready = tl.inline_asm_elementwise(
        "griddepcontrol.wait; griddepcontrol.launch_dependents; mov.b32 $0, 0;", "=r", [], dtype=tl.int32,
        is_pure=False, pack=1,
    )  # fmt: skip
    return ready
