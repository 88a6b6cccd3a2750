"""How the next token is chosen: on the device, without a word to the host, or at once for a loop on the host."""

from dataclasses import dataclass

import torch
from torch import Tensor

_WIDTH = 2**48
"""What a probability of 1 counts: finer than float32, and thousands of them fit an int64."""


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
    if logits.device.type == "mps":
        # It has no float64.
        logits = logits.cpu()
    if params.temperature == 0:
        token, logprob = likeliest(logits)
    else:
        numbers = (torch.tensor(params.temperature), torch.tensor(params.top_p), _uniforms(1, generator)[0])
        token, logprob = draw(logits, *(each.to(logits.device) for each in numbers))
    return int(token), float(logprob)


def uniforms(params: SamplingParams) -> Tensor:
    """What `sample` would draw for an answer, token by token: (max_tokens,) in float32, on the host."""
    return _uniforms(params.max_tokens, generator_of(params))


def generator_of(params: SamplingParams) -> torch.Generator:
    """The source of an answer's random numbers: on the host, so that a seed means the same on every device."""
    return torch.Generator().manual_seed(params.seed)


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token () and its log-probability (); logits (V,). May be captured in a CUDA graph."""
    logprobs = torch.log_softmax(logits, -1, dtype=torch.float32)
    token = logprobs.argmax()
    return token, logprobs.gather(0, token[None])[0]


def store_token(choice: tuple[Tensor, Tensor], ids: Tensor, chosen: Tensor) -> None:
    """Put a token () in the first of `ids` (int64), and with its log-probability () in `chosen` (2,), float64."""
    token, logprob = choice
    ids[0].copy_(token)
    chosen[0].copy_(token)
    chosen[1].copy_(logprob)


def draw(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The token () that a uniform number in [0, 1) is, with its log-probability under the untouched distribution.

    Logits (V,); the other three () on the same device, temperature above zero. The tokens stand side by side, likeliest
    first, each as wide as it is likely, as far as the one that crosses top_p: the number is a place among them. May be
    captured in a CUDA graph.
    """
    logprobs = torch.log_softmax(logits, -1, dtype=torch.float32)
    ordered, ids = torch.softmax(logits.float() / temperature, -1).sort(stable=True, descending=True)
    # Whole numbers add up to the same in whatever order a device adds them.
    widths = (ordered.double() * _WIDTH).long()
    ends = widths.cumsum(-1)
    # The token that crosses top_p stays in: at least one is always left. Of logits that are no numbers none would be,
    # and a place outside would end the whole process on a GPU.
    last = ((ends - widths < top_p.double() * _WIDTH).sum() - 1).clamp(min=0)
    place = (uniform.double() * ends.gather(0, last[None])).long()
    token = ids.gather(0, (ends <= place).sum().clamp(max=len(ids) - 1)[None])
    return token[0], logprobs.gather(0, token)[0]


def _uniforms(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device)
