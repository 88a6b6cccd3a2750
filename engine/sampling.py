"""How the next token is chosen."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingParams:
    """Temperature 0 takes the likeliest token; otherwise the seed makes the choice repeatable."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or not self.temperature >= 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"max_tokens >= 1, temperature >= 0 and 0 < top_p <= 1 are needed, not {self}")


def sample(logits: Tensor, params: SamplingParams, generator: torch.Generator) -> tuple[int, float]:
    """The next token id and its log-probability under the untouched distribution; logits (V,)."""
    logprobs = torch.log_softmax(logits.float(), -1)
    if params.temperature == 0:
        token = int(logprobs.argmax())
    else:
        probs = torch.softmax(logits.float() / params.temperature, -1)
        ordered, ids = probs.sort(descending=True)
        # The token that crosses top_p stays in: at least one is always left.
        ordered[ordered.cumsum(-1) - ordered >= params.top_p] = 0
        token = int(ids[torch.multinomial(ordered, 1, generator=generator)])
    return token, float(logprobs[token])
