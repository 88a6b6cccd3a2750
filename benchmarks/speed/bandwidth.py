"""How fast this device's memory is, measured here and now: the roof that decoding is held against.

A token must read all weights and the whole memory of the document once; the roof is the time in which the device can
read so many bytes. Reading is measured by a sum over a large tensor, and is never taken to be slower than the device
copies, read and written bytes counted.
"""

from dataclasses import dataclass

import torch

from benchmarks.speed.clock import median_seconds

_GPU_BYTES = 2 << 30
_CPU_BYTES = 128 << 20


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second."""

    copy: float
    """Device to device, bytes read and bytes written."""
    read: float

    def roof_fraction(self, token_bytes: float, tokens_per_second: float) -> float:
        """Share of the fastest possible decoding, which reads so many bytes a token and does nothing else."""
        return tokens_per_second * token_bytes / self.read


def measure(device: torch.device) -> Bandwidth:
    """The device's bandwidth; takes twice 2 GB of its memory for a moment."""
    size = _GPU_BYTES if device.type == "cuda" else _CPU_BYTES
    source = torch.zeros(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / median_seconds(device, lambda: target.copy_(source))
    read = source.nbytes / median_seconds(device, source.sum)
    return Bandwidth(copied, max(read, copied))
