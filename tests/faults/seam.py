"""The seam from Python: what is to happen at the n-th operation below a folder, and what was done there."""

import ctypes
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("shim.c")


class Kind(IntFlag):
    """Of an operation."""

    OPEN = 1
    READ = 2
    WRITE = 4
    SYNC = 8
    RENAME = 16
    UNLINK = 32
    TRUNCATE = 64
    CREATE = 128


CHANGES = Kind.WRITE | Kind.SYNC | Kind.RENAME | Kind.UNLINK | Kind.TRUNCATE | Kind.CREATE


class Fault(IntEnum):
    """What happens at the n-th operation."""

    NOTHING = 0
    KILL = 1
    TEAR = 2
    """Half of it is written, and the process ends."""
    FAIL = 3
    SHORTEN = 4
    """Half of it is read or written, which is no error."""
    JUMP = 5
    """The clocks."""
    SLOW = 6
    """It takes longer."""


class Step(NamedTuple):
    """Something that was done: `name` is its path; of a renamed file `data` is the new one."""

    kind: Kind | None
    """None of a mark."""
    inode: int
    at: int
    name: str
    data: bytes


def built(folder: Path) -> Path | None:
    """The library to preload, compiled into a folder; None where there is no compiler, or no LD_PRELOAD."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    target = folder / "shim.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", target, SOURCE, "-ldl"], check=True)
    return target


@cache
def _shim() -> ctypes.CDLL:
    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    shim.faults_count.restype = ctypes.c_long
    return shim


def arm(
    folder: Path,
    kinds: Kind,
    fault: Fault = Fault.NOTHING,
    at: int = 0,
    errno: int = 0,
    stays: bool = False,
    ns: int = 0,
) -> None:
    """From now on count operations of these kinds below a folder, and have one of them meet a fault."""
    numbers = int(kinds), int(fault), ctypes.c_long(at), errno, int(stays), ctypes.c_longlong(ns)
    _shim().faults_arm(str(folder).encode(), *numbers)


def count() -> int:
    """Operations since it was armed."""
    return int(_shim().faults_count())


def trace(path: Path) -> None:
    """Record from now on all that changes below the folder."""
    _shim().faults_trace(os.open(path, os.O_WRONLY | os.O_CREAT))


def mark(text: str) -> None:
    """Record that something happened."""
    _shim().faults_mark(text.encode())


def steps(path: Path) -> Iterator[Step]:
    """What was recorded, in order."""
    head = struct.Struct("<5Q")
    with path.open("rb") as file:
        while packed := file.read(head.size):
            kind, inode, at, name_bytes, data_bytes = head.unpack(packed)
            name = file.read(name_bytes).decode()
            yield Step(Kind(kind) if kind else None, inode, at, name, file.read(data_bytes))
