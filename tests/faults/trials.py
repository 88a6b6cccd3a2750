"""Trials: one fault each, chosen by a seed, and what must hold afterwards."""

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from tests.damage import change
from tests.faults import hostile, memory, seam
from tests.faults.library import COMMANDS, Library, Seen
from tests.faults.power import Disk
from tests.faults.seam import CHANGES, Fault, Kind

ERRORS = (errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EDQUOT, errno.EROFS)
KINDS_OF = {errno.EMFILE: Kind.OPEN | Kind.CREATE, errno.ENOSPC: CHANGES, errno.EDQUOT: CHANGES, errno.EROFS: CHANGES}
SECONDS = 1_000_000_000
MILLISECONDS = 1_000_000


@dataclass
class Verdict:
    """What a trial did, and what of it must not be, by the counters of the report."""

    what: str
    wrong: dict[str, str] = field(default_factory=dict)
    code: int = 0
    """Of the command."""

    def note(self, counter: str, why: object) -> None:
        """Something that must not be."""
        self.wrong.setdefault(counter, str(why))


class Trials:
    """The trials of a library, by kind and seed."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._good = library.build()
        self._ops: dict[tuple[str, Kind], int] = {}
        self._functions: dict[str, int] = {}
        self._files = hostile.corpus(library.work / "corpus")
        self.kinds: dict[str, Callable[[Random], Verdict]] = {
            "kills": self._kill,
            "corruptions": self._corrupt,
            "io_errors": self._io_error,
            "power_losses": self._lose_power,
            "clock_jumps": self._jump,
            "slow_disks": self._slow,
            "memory_shortages": self._run_short,
            "hostile_files": self._hostile,
        }

    def run(self, kind: str, seed: int) -> Verdict:
        """One trial."""
        return self.kinds[kind](Random(f"{kind} {seed}"))

    def _kill(self, random: Random) -> Verdict:
        command, fault = random.choice(COMMANDS), random.choice((Fault.KILL, Fault.TEAR))
        return self._meet(random, command, CHANGES, fault)

    def _io_error(self, random: Random) -> Verdict:
        command = random.choice(COMMANDS)
        if random.random() < 0.2:
            return self._meet(random, command, Kind.READ | Kind.WRITE, Fault.SHORTEN)
        number = random.choice(ERRORS)
        kinds = KINDS_OF.get(number, CHANGES | Kind.READ | Kind.OPEN)
        return self._meet(random, command, kinds, Fault.FAIL, number, random.random() < 0.5)

    def _jump(self, random: Random) -> Verdict:
        days = random.choice((-20_000, -400, -1, 1, 400, 4_000))
        kinds = CHANGES | Kind.READ | Kind.OPEN
        return self._meet(random, random.choice(COMMANDS), kinds, Fault.JUMP, ns=days * 86_400 * SECONDS)

    def _slow(self, random: Random) -> Verdict:
        ns = random.choice((1, 4)) * MILLISECONDS
        verdict = self._meet(
            random, random.choice(COMMANDS), CHANGES | Kind.READ | Kind.OPEN, Fault.SLOW, stays=True, ns=ns
        )
        if verdict.code:
            verdict.note("unreadable_stores", verdict.what)
        return verdict

    def _run_short(self, random: Random) -> Verdict:
        """Memory runs out where a function is called for the first time."""
        start, command = random.choice(("closed", "killed")), random.choice(COMMANDS)
        if command not in self._functions:
            self._library.restore("closed")
            self._functions[command] = self._library.command(command, memory.begin).ops
        at = random.randint(1, self._functions[command])
        self._library.restore(start)
        seen = self._library.command(command, partial(memory.begin, at))
        verdict = Verdict(
            f"{start} {command} without memory at function {at}: {seen.code} {seen.refused}", code=seen.code
        )
        if seen.error:
            verdict.note("tracebacks", seen.error)
        self._look(verdict, command, seen.code)
        return verdict

    def _meet(
        self, random: Random, command: str, kinds: Kind, fault: Fault, number: int = 0, stays: bool = False, ns: int = 0
    ) -> Verdict:
        """Run a command that meets a fault."""
        start, home = random.choice(("closed", "killed")), self._library.home
        at = random.randint(1, self._count(command, kinds))
        self._library.restore(start)
        arm = partial(seam.arm, home, kinds, fault, at, number, stays, ns)
        seen = self._library.command(command, arm)
        name = f"{fault.name} {errno.errorcode.get(number, '')}{'+' if stays else ''} {ns // SECONDS or ''}"
        verdict = Verdict(f"{start} {command} {name} at {at} of {kinds!r}: {seen.code} {seen.refused}", code=seen.code)
        if seen.error:
            verdict.note("tracebacks", seen.error)
        self._look(verdict, command, seen.code)
        return verdict

    def _count(self, command: str, kinds: Kind) -> int:
        if (command, kinds) not in self._ops:
            self._library.restore("closed")
            self._ops[command, kinds] = self._library.command(command, lambda: seam.arm(self._library.home, kinds)).ops
        return self._ops[command, kinds]

    def _lose_power(self, random: Random) -> Verdict:
        start, command = random.choice(("closed", "killed")), random.choice(COMMANDS[:4])
        self._library.restore(start)
        before = Disk(self._library.home)
        log = self._library.work / "trace"
        log.unlink(missing_ok=True)

        def get_ready() -> None:
            seam.arm(self._library.home, CHANGES)
            seam.trace(log)

        self._library.command(command, get_ready)
        steps = list(seam.steps(log))
        ends = random.randint(1, len(steps))
        for step in steps[:ends]:
            before.do(step)
        is_done = any(step.kind is None for step in steps[:ends])
        part = random if random.random() < 0.5 else None
        verdict = Verdict(f"{start} {command} lost power after {ends} of {len(steps)}, {'part' if part else 'dropped'}")
        self._library.empty()
        before.write(part)
        self._look(verdict, command, 0 if is_done else -9)
        return verdict

    def _hostile(self, random: Random) -> Verdict:
        source = random.choice(self._files)
        path = self._library.work / f"hostile{source.suffix}"
        path.write_bytes(hostile.spoil(source.read_bytes(), random))
        seen = self._library.run(lambda: Seen(refused=[hostile.read(path)]))
        verdict = Verdict(f"{source.name} {seen.refused}")
        if seen.error or seen.code:
            verdict.note("tracebacks", seen.error or f"ended by {seen.code}")
        return verdict

    def _corrupt(self, random: Random) -> Verdict:
        start = random.choice(("closed", "killed"))
        self._library.restore(start)
        home = self._library.home
        files = sorted(path for path in home.rglob("*") if path.is_file() and path.stat().st_size)
        part = random.choice(sorted({_part(path.relative_to(home)) for path in files}))
        path = random.choice([each for each in files if _part(each.relative_to(home)) == part])
        how = random.choice((_flip, _flip, _flip, _truncate, _zero, _scramble, _remove))
        if part == "docpod.sqlite3" and not self._library.encrypted and random.random() < 0.5:
            how = _change_value
        keeps_time = random.random() < 0.5
        stat = path.stat()
        told = how(path, random) or ""
        if keeps_time and path.exists():
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        verdict = Verdict(f"{start} {how.__name__} {path.relative_to(home)} {told} {'same time' if keeps_time else ''}")
        # A file that was added cannot be made again, nor what a database holds that is worked on, but for one value.
        may_refuse = part == "documents" or (part == "docpod.sqlite3" and start == "killed" and how != _change_value)
        self._look(verdict, "", 0, may_refuse)
        return verdict

    def _look(self, verdict: Verdict, command: str, code: int, may_refuse: bool = False) -> None:
        """What must hold once the library is opened again."""
        seen, ids = self._library.look(), self._library.ids
        if seen.error or seen.code:
            verdict.note("tracebacks", seen.error or f"ended by {seen.code}")
            return
        if seen.refused and not may_refuse:
            verdict.note("unreadable_stores", seen.refused)
        due = {ids["kept"]}
        due |= {ids["doomed"]} if command != "delete" else set()
        due |= {ids["added"]} if command == "read" and not code else set()
        # Where a sentence is all that is to be had, the files must be there.
        told = may_refuse and seen.refused and not seen.answers
        there = {path.name for path in (self._library.home / "documents").iterdir()} if told else set(seen.documents)
        if lost := due - there:
            verdict.note("lost_documents", lost)
        if command == "delete" and not code and ids["doomed"] in seen.documents:
            verdict.note("came_back", ids["doomed"])
        if not may_refuse and (bad := [each for each, whole in seen.originals.items() if not whole]):
            verdict.note("lost_documents", f"originals {bad}")
        asked = 1 + (ids["kept"] in seen.answers) + (command == "ask" and not code)
        if seen.conversations < asked and not (may_refuse and seen.refused):
            verdict.note("lost_documents", f"{seen.conversations} conversations of {asked}")
        for document_id, answer in seen.answers.items():
            if answer != self._good.answers.get(document_id):
                verdict.note("wrong_answers", (answer, self._good.answers.get(document_id)))
        good = _by_place(self._good)
        for place, digest in _by_place(seen).items():
            if good.get(place) != digest:
                verdict.note("false_reuse", place)


def _by_place(seen: Seen) -> dict[tuple[str, str], str]:
    """Pods by what they are of, without the number of their section."""
    return {(name.split("-")[0], name.rpartition("-")[2]): digest for name, digest in seen.pods.items()}


def _part(path: Path) -> str:
    """What kind of file: its folder, or its own name."""
    return path.parts[0]


def _change_value(path: Path, random: Random) -> str:
    """Change one value of a row by one bit, or to nothing: what SQLite cannot tell from what was written."""
    with closing(sqlite3.connect(path)) as database:
        # Those whose rows have numbers.
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage AND sql NOT LIKE '%WITHOUT%'"
        filled = [
            (table, column)
            for (table,) in database.execute(tables).fetchall()
            for (column,) in database.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
            if database.execute(f'SELECT "{column}" FROM "{table}" LIMIT 1').fetchone()
        ]
        table, column = random.choice(filled)
        rows = database.execute(f'SELECT rowid, "{column}" FROM "{table}"').fetchall()
        row, value = random.choice(rows)
        match value:
            case int():
                changed: object = random.choice((0, value ^ 1 << random.randrange(20), -value))
            case float():
                changed = random.choice((0.0, -value, float("inf")))
            case str() if value:
                at = random.randrange(len(value))
                changed = value[:at] + chr(ord(value[at]) ^ 1 << random.randrange(7)) + value[at + 1 :]
            case bytes() if value:
                data = bytearray(value)
                data[random.randrange(len(data))] ^= 1 << random.randrange(8)
                changed = bytes(data)
            case _:
                changed = random.choice((0, "", "x"))
    try:
        change(path, f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (changed, row))
    except sqlite3.Error as error:
        return f"{table}.{column}: {error}"
    return f"{table}.{column} {row}: {str(value)[:40]!r} -> {str(changed)[:40]!r}"


def _flip(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def _truncate(path: Path, random: Random) -> None:
    os.truncate(path, random.randrange(path.stat().st_size))


def _zero(path: Path, random: Random) -> None:
    _overwrite(path, random, bytes)


def _scramble(path: Path, random: Random) -> None:
    _overwrite(path, random, random.randbytes)


def _overwrite(path: Path, random: Random, filled: Callable[[int], bytes]) -> None:
    data = bytearray(path.read_bytes())
    at = random.randrange(len(data))
    size = min(random.choice((1, 16, 512, 4096)), len(data) - at)
    data[at : at + size] = filled(size)
    path.write_bytes(data)


def _remove(path: Path, _: Random) -> None:
    path.unlink()
