"""A reading process that a file has taken over: it tries what it may not do, and tells what came of it."""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.readers import text, worker

_LIBC = ctypes.CDLL(None, use_errno=True)


def _spawned() -> object:
    return os.posix_spawn("/bin/true", ["true"], {})


def _forked() -> object:
    child = os.fork()
    if not child:
        os._exit(0)
    return child


def _unlimited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _killed() -> None:
    if _LIBC.tgkill(os.getppid(), os.getppid(), 0):
        raise PermissionError


def _traced() -> None:
    if _LIBC.ptrace(16, os.getppid(), 0, 0):
        raise PermissionError


def attacks(home: Path) -> dict[str, Callable[[], Any]]:
    """What is tried, by its name."""
    own = home / "documents" / "own.txt"
    return {
        "read the database": (home / "docpod.sqlite3").read_bytes,
        "read another document": (home / "documents" / "other.txt").read_bytes,
        "list the home": lambda: os.listdir(home),
        "list the documents": lambda: os.listdir(home / "documents"),
        "write into the home": lambda: (home / "planted").write_text("x"),
        "write into the file": lambda: own.write_text("x"),
        "append to the file": lambda: own.open("a").close(),
        "delete the file": own.unlink,
        "rename the file": lambda: own.rename(home / "moved"),
        "link the database": lambda: os.link(home / "docpod.sqlite3", home / "linked"),
        "change modes": lambda: own.chmod(0o777),
        "change times": lambda: os.utime(own),
        "write elsewhere": lambda: Path("/tmp/docpod-planted").write_text("x"),
        "read passwords": Path("/etc/passwd").read_bytes,
        "read hosts": Path("/etc/hosts").read_bytes,
        "read another process": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "list processes": lambda: os.listdir("/proc"),
        "open TCP": lambda: socket.socket(),
        "open UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "open a local socket": lambda: socket.socket(socket.AF_UNIX),
        "make a pair of sockets": socket.socketpair,
        "run a program": lambda: subprocess.run(["/bin/true"], check=True),
        "become a program": lambda: os.execv("/bin/true", ["true"]),
        "spawn": _spawned,
        "fork": _forked,
        "kill its parent": lambda: os.kill(os.getppid(), 0),
        "kill a thread of its parent": _killed,
        "raise its limits": _unlimited,
        "trace its parent": _traced,
        "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
        "change the root": lambda: os.chroot("/tmp"),
        "read through its descriptors": Path("/proc/self/root/etc/passwd").read_bytes,
        "go up from its file": lambda: (own.parent / ".." / "docpod.sqlite3").read_bytes(),
    }


def _open_reader(path: Path) -> text.TextDocument:
    done = []
    for name, attack in attacks(path.parents[1]).items():
        if not name.startswith(os.environ.get("ATTACKER_ONLY", "")):
            continue
        try:
            attack()
            done.append(name)
        except (OSError, ValueError):
            continue
    found = text.TextDocument(path.read_text(), "")
    found.title = json.dumps(done)
    return found


def main() -> None:
    """Read as any reading process does, and attack on the way; as an ordinary user where one is named."""
    signal.alarm(60)
    text.open_reader = _open_reader  # type: ignore[assignment]
    if user := os.environ.get("ATTACKER_USER"):
        # What Python imports late may not be there for that user.
        text.TextDocument("warm", "")
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    assert "app.readers.text" in sys.modules
    worker.main()
