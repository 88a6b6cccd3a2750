"""Keep separators, into which a model folds the meaning of what they end (SepLLM, arXiv 2412.12094).

What stays is {0..a-1}, the tokens that are one of `. , ? ! ; :` space, newline and tab, and {N-w..N-1}; of separators
the latest, where not all fit. Defaults: a = 3 and w = 256; here both are the recipe's exact tokens, `near16,256`. A
budget is met exactly, so that where separators leave room the window grows. Separators are known by their text, since
the authors' ids are of one vocabulary: a token of several, such as a full stop with a newline, is one too. The authors
warn that untrained models lose by it.
"""

from collections.abc import Iterator

import torch

from engine.compression.policies.base import Subject
from engine.kvcache.blocks.scores import Scores

SEPARATORS = frozenset(".,?!;: \n\t")


def sepllm(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """Separators before all others, and later tokens before earlier ones."""
    decode = subject.runner.model.tokenizer.decode
    ends = {token for token in {*subject.ids} if (text := decode([token])) and SEPARATORS.issuperset(text)}
    separates = torch.tensor([subject.ids[place] in ends for place in subject.distant], device=subject.pod.device)
    age = torch.arange(len(separates), device=separates.device)
    yield subject.scores(age + len(age) * separates)
