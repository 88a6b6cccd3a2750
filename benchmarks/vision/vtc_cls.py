"""Keep the image tokens that the encoder's [CLS] token looks at (VTC-CLS, arXiv 2412.05819).

Token j is worth s_j = sum over encoder layers l from `start` to the last but one of mean over heads A^l[CLS, j]; the
best `count` stay, in their order. Defaults: 36 tokens of CLIP ViT-L/14-336, projected for LLaVA-1.5, no training. Here
the encoder's attention is given, and tokens are chosen in front of any layer of the language model; 0 is the authors'.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.vision.image_tokens import ImageTokens, Look


def scores(attentions: Sequence[Tensor], start: int = 0) -> Tensor:
    """The worth (N,) of each token from attention (H, 1 + N, 1 + N) of all encoder layers, whose first token is CLS."""
    return torch.stack([each[:, 0, 1:].float().mean(0) for each in attentions[start:-1]]).sum(0)


def vtc_cls(image: ImageTokens, look: Look, worth: Tensor, count: int = 36) -> ImageTokens:
    """The `count` tokens of most worth (N,), the earlier of equals."""
    return image.select(worth.argsort(descending=True, stable=True)[:count])
