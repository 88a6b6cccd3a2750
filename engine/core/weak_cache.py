"""WeakCache: what was worked out of objects that never change, for as long as each of them lives."""

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Of = TypeVar("Of")
Found = TypeVar("Found")


class WeakCache(Generic[Of, Found]):
    """Asks `work` once for each object, and keeps none of them alive.

    Objects that are equal are still different ones: tensors cannot be compared in passing.
    """

    def __init__(self, work: Callable[[Of], Found]) -> None:
        self._work = work
        self._known: dict[int, tuple[weakref.ref[Any], Found]] = {}

    def __call__(self, of: Of) -> Found:
        number = id(of)
        known = self._known.get(number)
        if known is None or known[0]() is not of:
            # Whoever comes to stand at the same address later is another one.
            known = weakref.ref(of, lambda _: self._known.pop(number, None)), self._work(of)
            self._known[number] = known
        return known[1]

    def __len__(self) -> int:
        return len(self._known)
