"""Finds the weights of the network that predicts attention (arXiv 2502.04077): one small network for all layers.

    python -m engine.training.attention_predictor --models DIR [--out FILE]

The model reads texts; of the tokens behind each, every layer's attention by blocks is a picture, of which the last row
is to be said from those before.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from engine.compression.sample_text import sample_text
from engine.kvcache.exact import Pod
from engine.kvcache.readers.base import Reader, logits
from engine.kvcache.readers.predictor import ROWS, WEIGHTS, Network, blocks_of, scaled_by
from engine.kvcache.segment import Segment
from engine.kvcache.suffix import SuffixCache
from engine.models import loader
from engine.runtime.prefill.builder import read
from engine.runtime.runner import Runner

FOLLOWING = 2 * ROWS
"""Tokens behind a text whose attention is kept."""
AT_ONCE = 8


class Watched(Reader):
    """Attends everything, and keeps each layer's attention by blocks (tokens, C)."""

    rows: dict[int, Tensor]

    def top_slots(self, layer: int, query: Tensor, far: Segment, budget: int) -> None:
        return None

    def observe(self, layer: int, query: Tensor, far: Segment, budget: int) -> None:
        assert isinstance(far.keys, Tensor)
        looks = [logits(each, far.keys).softmax(-1).amax((0, 1)) for each in torch.split(query, 1, 1)]
        self.rows = {**getattr(self, "rows", {}), layer: blocks_of(torch.cat(looks))}


def pictures(runner: Runner, tokens: int, texts: int) -> list[Tensor]:
    """What every layer attends (layers, FOLLOWING, C) behind each of some texts of so many tokens."""
    ids, found = runner.model.tokenizer.encode(sample_text())[0], []
    for number in range(texts):
        start = number * (len(ids) - tokens - FOLLOWING) // max(1, texts - 1)
        text = ids[start : start + tokens + FOLLOWING]
        pod = read(runner, text[:tokens])
        assert isinstance(pod, Pod)
        watched = Watched(pod, 0.1, runner.model.shape.layers)
        suffix = SuffixCache(runner.model.shape, FOLLOWING, runner.model.device)
        runner.run(runner.context([watched], suffix), text[tokens:])
        found.append(torch.stack([watched.rows[layer] for layer in sorted(watched.rows)]).float().clone())
    return found


def fit(found: Sequence[Tensor], steps: int, seed: int = 0) -> Network:
    """The network after so many steps on pictures drawn at random."""
    torch.manual_seed(seed)
    network, last = Network(), FOLLOWING - ROWS
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(steps):
        text = found[int(torch.randint(len(found), ()))]
        layers, starts = torch.randint(len(text), (AT_ONCE,)), torch.randint(last, (AT_ONCE,))
        seen = torch.stack([text[layer, start : start + ROWS] for layer, start in zip(layers, starts, strict=True)])
        following = torch.stack([text[layer, start + ROWS] for layer, start in zip(layers, starts, strict=True)])
        loss = (network(seen) - scaled_by(following[:, None], seen)[:, 0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m engine.training.attention_predictor", description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--models", type=Path, required=True, help="folder of the embedded model")
    parser.add_argument("--tokens", type=int, default=2048, help="of a text")
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args(arguments)
    runner = Runner(loader.load(options.model, options.models, print))
    *found, other = pictures(runner, options.tokens, options.texts)
    network = fit(found, options.steps)
    with torch.no_grad():
        hits = _hits(network(other[:, -ROWS - 1 : -1]), other[:, -1])
        before = _hits(other[:, -2], other[:, -1])
    print(
        f"of the tenth of blocks that a layer looks at most, on another text: {hits:.3f} found; last row: {before:.3f}"
    )
    network.save(options.out)


def _hits(scores: Tensor, truth: Tensor) -> float:
    """The share of the best tenth of blocks (L, C) that is among the best tenth by scores."""
    number = max(1, truth.shape[1] // 10)
    best, true = scores.topk(number).indices, truth.topk(number).indices
    return float((best[:, :, None] == true[:, None]).any(1).float().mean())


if __name__ == "__main__":
    main()
