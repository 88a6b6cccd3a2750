"""Few cases in which every value of each factor still meets every value of each other one."""

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any


def pairwise(*factors: Sequence[Any]) -> list[tuple[Any, ...]]:
    """One value of each factor a case: always the first that has most pairs which no case before had."""

    def pairs(case: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
        return set(combinations(enumerate(case), 2))

    everything = list(product(*(range(len(factor)) for factor in factors)))
    missing = set().union(*map(pairs, everything))
    cases = []
    while missing:
        best = max(everything, key=lambda case: len(pairs(case) & missing))
        missing -= pairs(best)
        cases.append(tuple(factor[place] for factor, place in zip(factors, best, strict=True)))
    return cases
