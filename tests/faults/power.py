"""A loss of power: what is on the disk where only what was made durable, and any part of the rest, had been written.

The model is that of ext4, XFS and Btrfs: a file's bytes and its first name are durable once the file is synced, names
that are given, taken or changed once their folder is. What was not synced is dropped, or any part of it is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.seam import Kind, Step

_NOT_DURABLE = "-shm"
"""SQLite makes it anew; it is written through memory, which the seam does not see."""


@dataclass(eq=False)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Step] = field(default_factory=list)

    def after(self, random: Random | None) -> bytearray:
        """Its bytes, with none of the pending changes or with those that chance chooses."""
        content = bytearray(self.durable)
        for step in self.pending if random else ():
            if random is not None and random.random() < 0.5:
                _apply(content, step)
        return content


def _apply(content: bytearray, step: Step) -> None:
    if step.kind == Kind.TRUNCATE:
        content[step.at :] = bytes(max(0, step.at - len(content)))
    else:
        content.extend(bytes(max(0, step.at - len(content))))
        content[step.at : step.at + len(step.data)] = step.data


class Disk:
    """The files below a folder as they come to be durable, from what is there now on."""

    def __init__(self, folder: Path) -> None:
        paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(_NOT_DURABLE)]
        self._names = {str(path): _File(bytearray(path.read_bytes())) for path in paths}
        self._files = {path.stat().st_ino: self._names[str(path)] for path in paths}
        self._waiting: list[tuple[Step, _File | None]] = []
        """Changes of names that are not durable."""

    def do(self, step: Step) -> None:
        """Go on by one step."""
        if step.kind is None or step.name.endswith(_NOT_DURABLE):
            return
        if step.kind == Kind.CREATE:
            self._files[step.inode] = _File()
        file = self._files.get(step.inode)
        match step.kind:
            case Kind.CREATE | Kind.RENAME | Kind.UNLINK:
                self._waiting.append((step, file))
            case Kind.SYNC if file is None:
                self._settle([each for each in self._waiting if str(Path(_new_name(each[0])).parent) == step.name])
            case Kind.SYNC if file is not None:
                for each in file.pending:
                    _apply(file.durable, each)
                file.pending.clear()
                first = {each.name for each, made in self._waiting if made is file and each.kind == Kind.CREATE}
                # With whatever had the name before.
                self._settle([each for each in self._waiting if {each[0].name, _new_name(each[0])} & first])
            case _ if file is not None:
                file.pending.append(step)

    def write(self, random: Random | None) -> None:
        """Write what a loss of power leaves now: what is durable, and of the rest what chance chooses."""
        names = dict(self._names)
        for step, file in self._waiting[: random.randint(0, len(self._waiting)) if random else 0]:
            _rename(names, step, file)
        for name, file in names.items():
            place = Path(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.after(random))

    def _settle(self, which: Sequence[tuple[Step, _File | None]]) -> None:
        for step, file in which:
            _rename(self._names, step, file)
        self._waiting = [each for each in self._waiting if each not in which]


def _rename(names: dict[str, _File], step: Step, file: _File | None) -> None:
    if step.kind != Kind.CREATE:
        names.pop(step.name, None)
    if file is not None and step.kind != Kind.UNLINK:
        names[_new_name(step)] = file


def _new_name(step: Step) -> str:
    return step.data.decode() if step.kind == Kind.RENAME else step.name
