"""What int8_lm_head.logits computes, in plain PyTorch: the specification."""

import torch
from torch import Tensor

from engine.kernels.linear.int8_lm_head import AGAIN, GROUP, Int8Head


def logits(x: Tensor, head: Int8Head, norm: tuple[Tensor, float], again: int = AGAIN) -> Tensor:
    """See int8_head.logits. Of exactly `again` tokens the logits are exact; kernels may take some more."""
    gain, epsilon = norm
    asked = x.float() * torch.rsqrt(x.float().square().mean(1, keepdim=True) + epsilon) * gain.float()
    near = asked @ dequantized(head).T
    largest = near[0].topk(min(again, near.shape[1])).indices
    near[:, largest] = asked @ head.exact.matrix[largest].float().T
    return near


def dequantized(head: Int8Head) -> Tensor:
    """The matrix (V, K) that the codes say, in float32."""
    return (head.codes.float() - 128) * head.scales.float().repeat_interleave(GROUP, 1)
