"""The simulation: questions about documents of a popularity by Zipf, which replicas keep hot as far as memory goes."""

import heapq
import random
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from statistics import quantiles

_SCATTER = 2_654_435_761


@dataclass(frozen=True)
class Load:
    """So many questions about so many documents: the one of rank r is asked in proportion to r^-zipf.

    `rate`: a second, at random moments; or, where it is 0, `clients` that ask again as soon as they have an answer.
    """

    documents: int
    questions: int
    zipf: float = 1.0
    rate: float = 0.0
    clients: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Fleet:
    """Replicas that answer one question after another, in `hot` seconds, or in `cold` where the pod must be loaded.

    Each keeps `kept` pods. A document's replicas are `copies` in an order of its own: a question goes to the first with
    fewer than `queue` of them at hand.
    """

    replicas: int
    hot: float
    cold: float
    kept: int
    queue: int = 4
    copies: int = 3


@dataclass(frozen=True)
class Outcome:
    """Questions a second, the share that found its pod hot, seconds until the answer, and the share of time at work."""

    throughput: float
    hot: float
    median: float
    p95: float
    busy: float


@dataclass
class _Replica:
    ends: deque[float] = field(default_factory=deque)
    pods: "OrderedDict[int, None]" = field(default_factory=OrderedDict)

    def at_hand(self, now: float) -> int:
        while self.ends and self.ends[0] <= now:
            self.ends.popleft()
        return len(self.ends)


def simulate(load: Load, fleet: Fleet) -> Outcome:
    """What happens, with the first half left out of the figures: by then memories are full."""
    replicas, picks = [_Replica() for _ in range(fleet.replicas)], popular(load)
    asking = [0.0] * load.clients
    chance, now, work, hot = random.Random(load.seed + 1), 0.0, 0.0, 0
    seconds: list[float] = []
    begins = 0.0
    for number, document in enumerate(picks):
        now = now + chance.expovariate(load.rate) if load.rate else heapq.heappop(asking)
        # As on a ring: a place by the document, and those behind it.
        first = document * _SCATTER % fleet.replicas
        order = [(first + place) % fleet.replicas for place in range(min(fleet.copies, fleet.replicas))]
        queues = [replicas[each].at_hand(now) for each in order]
        free = next((place for place, length in enumerate(queues) if length < fleet.queue), queues.index(min(queues)))
        replica = replicas[order[free]]
        known = document in replica.pods
        replica.pods[document] = None
        replica.pods.move_to_end(document)
        if len(replica.pods) > fleet.kept:
            replica.pods.popitem(last=False)
        took = fleet.hot if known else fleet.cold
        end = max(now, replica.ends[-1] if replica.ends else now) + took
        replica.ends.append(end)
        if not load.rate:
            heapq.heappush(asking, end)
        if number == load.questions // 2:
            begins = now
        if number >= load.questions // 2:
            seconds.append(end - now)
            work, hot = work + took, hot + known
    span = max(now - begins, 1e-9)
    found = quantiles(seconds, n=20)
    return Outcome(len(seconds) / span, hot / len(seconds), found[9], found[18], work / span / fleet.replicas)


def popular(load: Load) -> Iterator[int]:
    """The documents that are asked, one after another, each by its rank from 0."""
    sums = _sums(load.documents, load.zipf)
    chance = random.Random(load.seed)
    for _ in range(load.questions):
        yield bisect_left(sums, chance.random() * sums[-1])


@cache
def _sums(documents: int, zipf: float) -> list[float]:
    return list(accumulate((rank + 1) ** -zipf for rank in range(documents)))


def replicas_for(load: Load, fleet: Fleet, p95: float) -> int:
    """The fewest replicas with which 95 of 100 questions are answered within so many seconds."""
    low, high = 0, 1
    while simulate(load, replace(fleet, replicas=high)).p95 > p95:
        low, high = high, 2 * high
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if simulate(load, replace(fleet, replicas=middle)).p95 <= p95 else (middle, high)
    return high
