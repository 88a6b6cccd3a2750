"""Launches that begin while the one before them ends: programmatic dependent launch, on NVIDIA GPUs from Hopper on.

A launch that may be overlapped says `launch_dependents` once; the next one, launched with `launch_pdl`, may start from
then on and must `wait_for_primary` before it reads what the launch before writes, or writes what that reads. Who waits
and leads in that order lets the next one read ahead whatever is older than the launch before. Products lead first, so
behind one only what no launch of a step writes may be read ahead: weights, and what was there before the step.
"""

import triton
import triton.language as tl


@triton.jit
def launch_dependents():
    """Let the next launch begin."""
    tl.inline_asm_elementwise(
        "griddepcontrol.launch_dependents; // $0", "=r", [], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def wait_for_primary():
    """Wait for the end of the launch before. Gives 0: what must not be read any earlier adds it."""
    return tl.inline_asm_elementwise(
        "griddepcontrol.wait; mov.b32 $0, 0;", "=r", [], dtype=tl.int32, is_pure=False, pack=1
    )
