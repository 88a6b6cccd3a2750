"""Tensor tree: the tensors inside a pod, in a fixed order, and the same pod around other tensors."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

Stored = TypeVar("Stored")


def tensors(pod: object) -> Iterator[Tensor]:
    """Every tensor in the fields of a frozen dataclass, also those inside tuples and dataclasses that it holds.

    What a layout knows of the model (its maps) is in no field of that kind, and belongs to all pods.
    """
    if isinstance(pod, Tensor):
        yield pod
    else:
        for part in _inside(pod):
            yield from tensors(part)


def around(pod: Stored, others: Iterable[Tensor]) -> Stored:
    """The same pod with other tensors in the place of its own, in the order in which `tensors` gives them."""
    made: Stored = _around(pod, iter(others))
    return made


def _around(part: Any, others: Iterator[Tensor]) -> Any:
    if isinstance(part, Tensor):
        return next(others)
    old = _inside(part)
    new = [_around(each, others) for each in old]
    if all(one is other for one, other in zip(old, new, strict=True)):
        # What holds no tensor stays the very same object.
        return part
    if isinstance(part, tuple):
        return tuple(new)
    return replace(part, **dict(zip((field.name for field in fields(part)), new, strict=True)))


def _inside(part: Any) -> list[Any]:
    """What a tuple or a dataclass holds; nothing of anything else."""
    if isinstance(part, tuple):
        return list(part)
    if is_dataclass(part) and not isinstance(part, type):
        return [getattr(part, field.name) for field in fields(part)]
    return []
