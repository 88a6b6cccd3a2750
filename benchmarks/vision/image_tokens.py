"""ImageTokens: the tokens of a page's image, with their places in the prompt and on the page; what reduces them; and
the forward that does.

Letters: T tokens of the prompt, N of the image, E channels, H query heads, G KV heads, D head size.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageTokens:
    """A segment of a prompt: hidden states (N, E), places in the prompt (N,), ascending, boxes on the page (N, 4) and
    how many tokens each stands for (N,).

    A box is left, top, right and bottom as shares of the page, so that what a model looked at can be shown there.
    """

    rows: Tensor
    places: Tensor
    boxes: Tensor
    sizes: Tensor

    def select(self, chosen: Tensor) -> "ImageTokens":
        """Those of some numbers (N',), in the order of the prompt, as they were."""
        chosen = chosen.sort().values
        return ImageTokens(self.rows[chosen], self.places[chosen], self.boxes[chosen], self.sizes[chosen])


Look = Callable[[], tuple[Tensor, Tensor]]
"""Gives queries (H, N, D) and keys (G, N, D) of the layer ahead, without rotary positions."""
Reduction = Callable[[ImageTokens, Look], ImageTokens]
"""Fewer tokens in the place of all. What is kept is at one of the old places; what is merged tells its sizes."""


def page_tokens(rows: Tensor, first: int, height: int, width: int) -> ImageTokens:
    """Tokens (height * width, E) of a page that was cut into a grid, row by row, from a place of the prompt on."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    corners = [x / width, y / height, (x + 1) / width, (y + 1) / height]
    boxes = torch.stack(corners, -1).flatten(0, 1).to(rows.device)
    places = torch.arange(first, first + len(rows), device=rows.device)
    return ImageTokens(rows, places, boxes, torch.ones(len(rows), dtype=torch.float32, device=rows.device))


def forward(
    decoder: Any, hidden: Tensor, position_ids: Tensor, image: ImageTokens, reduce: Reduction, layer: int
) -> tuple[Tensor, ImageTokens]:
    """Hidden states (1, T', E) behind a decoder's layers and norm, of embeddings (1, T, E) at positions (..., 1, T),
    whose image is reduced in front of a layer; and the image's tokens there.

    Tokens keep their positions. One that stands for several weighs as much: the logarithm of its size is added to the
    logits of its key. `decoder`: a language model of transformers with `layers`, `rotary_emb` and `norm`.
    """
    cos, sin = decoder.rotary_emb(hidden, position_ids)
    bias = torch.zeros(hidden.shape[1], dtype=hidden.dtype, device=hidden.device)
    for number, block in enumerate(decoder.layers):
        if number == layer:
            before, image = image, replace(image, rows=hidden[0, image.places])
            image = reduce(image, partial(_look, block, hidden, image.places))
            stays = torch.ones(len(bias), dtype=torch.bool, device=hidden.device)
            stays[before.places] = False
            stays[image.places] = True
            hidden = hidden.index_put((torch.zeros_like(image.places), image.places), image.rows)
            bias = bias.index_put((image.places,), image.sizes.log().to(bias.dtype))
            hidden, cos, sin, bias = hidden[:, stays], cos[..., stays, :], sin[..., stays, :], bias[stays]
        ahead = torch.full((len(bias),) * 2, -torch.inf, dtype=hidden.dtype, device=hidden.device).triu(1)
        hidden = block(hidden, attention_mask=(ahead + bias)[None, None], position_embeddings=(cos, sin))
    return decoder.norm(hidden), image


def _look(block: Any, hidden: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    attention, normed = block.self_attn, block.input_layernorm(hidden[0, places])
    queries, keys = (
        project(normed).unflatten(-1, (-1, attention.head_dim)).transpose(0, 1)
        for project in (attention.q_proj, attention.k_proj)
    )
    return queries, keys
