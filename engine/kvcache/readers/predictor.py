"""Predict the blocks that the next token attends, and fetch them meanwhile (AttentionPredictor, arXiv 2502.04077).

A layer's attention is kept as a picture, one row a token, one column a block of 16 slots, each the most that any head
gave to it. A convolutional network of 4,833 numbers, one for all layers, says the next row from the last 64; its best
blocks are attended, and those of a pod in host memory go to the GPU while the layers behind are at work.

    a_t[b] = max over heads and j in b of softmax(q_t K / sqrt(d))_j;   a^_{t+1} = w . mean_t relu(conv relu(conv a))
    S = first 64, last 64, top blocks of a^_{t+1}

Defaults as the authors': blocks of 16, 64 rows, 1-16-32 channels of 3 x 3, every 5th token full to see what was missed.
Different here: one picture a layer, not a head, so that a block is fetched for all heads at once; numbers are shares of
the picture's largest, so that a length means nothing, and their fourth roots, so that first tokens do not drown the
rest; first and last are an eighth of the budget each at most; and the weights, since theirs have no licence, are found
on SmolLM2-135M by `python -m engine.training.attention_predictor`.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.core.system_errors import as_os_errors
from engine.kvcache.readers.base import Reader, chosen, logits, placed
from engine.kvcache.segment import Segment

BLOCK = 16
ROWS = 64
SINKS = WINDOW = 64
CALIBRATION = 5
WEIGHTS = Path(__file__).with_name("attention_predictor.safetensors")


class Network(nn.Module):
    """Pictures (N, R, C) of R tokens and C blocks to the row (N, C) that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.last = nn.Conv1d(32, 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        scaled = scaled_by(pictures, pictures)
        rows = self.second(self.first(scaled[:, None]).relu()).relu()
        found: Tensor = self.last(rows.mean(2))[:, 0]
        return found

    def save(self, path: Path) -> None:
        """Write the weights."""
        save_file({name: each.contiguous() for name, each in self.state_dict().items()}, path)


class AttentionPredictor(Reader):
    """See the module."""

    def __init__(self, *facts: object) -> None:
        super().__init__(*facts)  # type: ignore[arg-type]
        self._pictures: dict[int, Tensor] = {}
        self._steps: dict[int, int] = {}
        self._next: dict[int, Tensor] = {}
        self._fetched: dict[int, tuple[Tensor, Future[tuple[Segment, torch.cuda.Event]]]] = {}

    def top_slots(self, layer: int, query: Tensor, far: Segment, budget: int) -> Tensor | None:
        assert isinstance(far.keys, Tensor)
        step = self._steps[layer] = self._steps.get(layer, 0) + 1
        slots = None if step % CALIBRATION == 0 else self._next.get(layer)
        if slots is None:
            self.observe(layer, query, far, budget)
            return None
        held = self.only(layer, far, slots)
        assert isinstance(held.keys, Tensor)
        seen = logits(query.to(held.keys.device), held.keys).softmax(-1).amax((0, 1))
        row = seen.new_zeros(1, far.keys.shape[1]).index_copy_(1, slots.to(seen.device), seen)
        self._predict(layer, blocks_of(row), far, budget, step)
        return slots

    def observe(self, layer: int, query: Tensor, far: Segment, budget: int) -> None:
        """What tokens attend that attend everything is seen as it is."""
        assert isinstance(far.keys, Tensor)
        rows = [logits(each, far.keys).softmax(-1).amax((0, 1)) for each in torch.split(query[:, -ROWS:], 1, 1)]
        self._predict(layer, blocks_of(torch.cat(rows)), far, budget, self._steps.get(layer, 0))

    def only(self, layer: int, far: Segment, slots: Tensor) -> Segment:
        """What was fetched of these slots, if it was."""
        if layer in self._fetched and self._fetched[layer][0] is slots:
            segment, arrived = self._fetched.pop(layer)[1].result()
            stream = torch.cuda.current_stream()
            stream.wait_event(arrived)
            for rows in (segment.keys, segment.values):
                assert isinstance(rows, Tensor)
                # Its memory is another stream's, which must not use it again before this one is done.
                rows.record_stream(stream)
            self._last[layer] = slots, segment
        return super().only(layer, far, slots)

    def _predict(self, layer: int, rows: Tensor, far: Segment, budget: int, step: int) -> None:
        """Take note of rows (R, C), choose the next token's slots, and begin to fetch them."""
        assert isinstance(far.keys, Tensor)
        known = self._pictures.get(layer)
        picture = rows if known is None else torch.cat([known.to(rows.device), rows])[-ROWS:]
        self._pictures[layer] = picture
        with torch.no_grad():
            scores = network(picture.device)(picture[None].float())[0]
        slots = self._next[layer] = slots_of(scores, far.keys.shape[1], budget)
        away = self.device.type == "cpu" and torch.cuda.is_available()
        if away and (step + 1) % CALIBRATION:
            self._fetched[layer] = slots, _FETCHING.submit(_fetch, far, slots, _mark())


def scaled_by(rows: Tensor, pictures: Tensor) -> Tensor:
    """Rows (N, R, C) as shares of the largest number of the pictures (N, R, C), their fourth root."""
    return (rows / pictures.amax((1, 2), keepdim=True).clamp_min(1e-12)).sqrt().sqrt()


def blocks_of(rows: Tensor) -> Tensor:
    """The largest number (R, C) in each whole block of rows (R, T)."""
    whole = rows.shape[1] // BLOCK
    return rows[:, : whole * BLOCK].view(len(rows), whole, BLOCK).amax(2)


def slots_of(scores: Tensor, tokens: int, budget: int) -> Tensor:
    """The slots of the best blocks by scores (C,), the first, the last, and what is no whole block, of T tokens."""
    rest = tokens - len(scores) * BLOCK
    number = (budget - rest) // BLOCK
    edge = min(SINKS // BLOCK, number // 8)
    scores = scores.clone()
    scores[:edge] = torch.inf
    scores[len(scores) - edge :] = torch.inf
    best = scores.topk(number).indices
    inside = (best[:, None] * BLOCK + torch.arange(BLOCK, device=best.device)).flatten()
    return torch.cat([inside, torch.arange(tokens - rest, tokens, device=best.device)])


@cache
def network(device: torch.device) -> Network:
    """The network with its weights, once on each device."""
    made = Network()
    with as_os_errors():
        made.load_state_dict(load_file(WEIGHTS))
    return made.eval().to(device)


def _fetch(far: Segment, slots: Tensor, known: torch.cuda.Event) -> tuple[Segment, torch.cuda.Event]:
    """Chosen slots of a segment in host memory on the GPU, and what says that they are there."""
    with torch.cuda.stream(_stream()), torch.inference_mode():
        _stream().wait_event(known)
        held = chosen(far, slots.to("cpu"))
        assert isinstance(held.keys, Tensor) and isinstance(held.values, Tensor)
        segment = placed(
            Segment(held.keys.pin_memory(), held.values.pin_memory(), held.positions), torch.device("cuda")
        )
        return segment, _mark()


def _mark() -> torch.cuda.Event:
    """What says that everything launched so far on the current stream is done."""
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


@cache
def _stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


_FETCHING = ThreadPoolExecutor(1, "fetch")
