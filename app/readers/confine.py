"""What a reading process may still do once it begins: open its own file and what Python needs, and nothing else.

On Linux by Landlock (files, network, signals; https://docs.kernel.org/userspace-api/landlock.html) and seccomp (system
calls), where the kernel has them; a thread hands both on to those that it starts, and nothing takes them back.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_LIBC: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_CAPABILITIES, _ANY_FILE = 0x20080522, 0b110
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ABI_FILES = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights over files each version of Landlock knows; later ones know 16."""
_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
_LIBRARIES = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share", "/usr/local/lib", "/usr/local/share"),
    *("/etc/ld.so.cache", "/nix/store", "/gnu/store", "~/.fonts", "~/.local/share/fonts", "/etc/mime.types"),
    *("/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"),
)
_REFUSED = {
    "x86_64": (
        *(41, 53),  # socket, socketpair
        *(57, 58, 59, 322),  # fork, vfork, execve, execveat
        *(62, 200, 129, 297, 424, 434, 438, 101, 310, 311),  # kill, tkill, *sigqueueinfo, pidfd_*, ptrace, process_vm_*
        *(90, 91, 268, 452, 92, 93, 94, 260),  # chmod and chown
        *(132, 235, 261, 280, 188, 189, 190, 197, 198, 199),  # utime, setxattr and removexattr
        *(160, 272, 308, 304, 321, 323, 425),  # setrlimit, unshare, setns, handles, bpf, userfaultfd, io_uring
        *(29, 64, 68, 240, 248, 249, 250),  # shmget, semget, msgget, mq_open, keys
    ),
    "aarch64": (
        *(198, 199),
        *(221, 281),
        *(129, 130, 138, 240, 424, 434, 438, 117, 270, 271),
        *(52, 53, 452, 54, 55),
        *(88, 5, 6, 7, 14, 15, 16),
        *(164, 97, 268, 265, 280, 282, 425),
        *(194, 190, 186, 180, 217, 218, 219),
    ),
}
"""Numbers of system calls, in the order of the first."""
_CLONE, _PRLIMIT, _CLONE3 = {"x86_64": 56, "aarch64": 220}, {"x86_64": 302, "aarch64": 261}, 435
_TGKILL = {"x86_64": 234, "aarch64": 131}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE_THREAD = 0x10000
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x50000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _HAS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def confine(reads: Iterable[Path], writes: Iterable[Path]) -> str:
    """Leave this thread nothing but these files and what Python needs; returns by what that is held, or why it is not.

    The files to write are made. To be called before there are other threads.
    """
    if _LIBC is None:
        return f"only limits on memory and time: {sys.platform} has no Landlock"
    _LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _drop_capabilities()
    abi = _LIBC.syscall(_CREATE_RULESET, None, 0, 1)
    if abi > 0:
        _landlock(abi, list(reads), list(writes))
    files = f"Landlock {abi}" if abi > 0 else "no Landlock in this kernel: it could open any file"
    calls = "seccomp" if _seccomp(os.uname().machine) else "no seccomp in this kernel: it could open connections"
    return f"{files}, {calls}"


def _drop_capabilities() -> None:
    """Of root's power leave that over its user's files, which may be another's."""
    header, found = struct.pack("<Ii", _CAPABILITIES, 0), ctypes.create_string_buffer(24)
    _LIBC.capget(header, found)
    effective, permitted, *_ = struct.unpack("<6I", found.raw)
    _LIBC.capset(header, struct.pack("<6I", effective & _ANY_FILE, permitted & _ANY_FILE, 0, 0, 0, 0))


def _landlock(abi: int, reads: list[Path], writes: list[Path]) -> None:
    """Raises OSError where the kernel refuses what it says it can do."""
    files = (1 << _ABI_FILES.get(abi, 16)) - 1
    # To bind and to connect; and no signals or abstract sockets to the outside.
    attributes = struct.pack("<QQQ", files, 3, 3)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = _checked(_LIBC.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    for path in writes:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        _allow(ruleset, path, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & files)
    for path in (*reads, *_needed(reads)):
        _allow(ruleset, path, _READ_FILE | _READ_DIR)
    _checked(_LIBC.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _needed(reads: list[Path]) -> Iterator[Path]:
    """Where Python, its packages, their libraries and fonts are; never a folder around the file that is read."""
    yield Path(__file__).parents[1]
    for each in (*sys.path, sys.prefix, sys.base_prefix, *_LIBRARIES):
        path = Path(os.path.expanduser(each)).resolve()
        if each and not any(read.is_relative_to(path) for read in reads):
            yield path


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """These rights to a file, or to all in a folder; what is not there, or closed to this user anyway, is left out."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= ~_READ_DIR
        _checked(_LIBC.syscall(_ADD_RULE, ruleset, 1, struct.pack("<Qi", rights, handle), 0))
        os.close(handle)


def _seccomp(machine: str) -> bool:
    """Refuse system calls that make processes and connections, and that change what is not open; whether that holds."""
    if machine not in _REFUSED:
        return False
    code = b"".join(_program(machine))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    return not _LIBC.prctl(_SET_SECCOMP, _FILTER, program, 0, 0)


def _program(machine: str) -> Iterator[bytes]:
    """The filter, in the instructions of BPF: code, where to go on if true or false, and a number."""

    def step(code: int, number: int, true: int = 0, false: int = 0) -> bytes:
        return struct.pack("<HBBI", code, true, false, number)

    refuse, allow = step(_RETURN, _ERRNO | errno.EPERM), step(_RETURN, _ALLOW)
    yield from (step(_LOAD, 4), step(_EQUAL, _AUDIT_ARCH[machine], 1), step(_RETURN, _KILL), step(_LOAD, 0))
    # The numbers of the x32 ABI.
    yield from (step(_AT_LEAST, 0x40000000, 0, 1), refuse)
    for number in _REFUSED[machine]:
        yield from (step(_EQUAL, number, 0, 1), refuse)
    # The C library then takes clone, whose flags can be seen: threads may begin, processes may not.
    yield from (step(_EQUAL, _CLONE3, 0, 1), step(_RETURN, _ERRNO | errno.ENOSYS))
    yield from (step(_EQUAL, _CLONE[machine], 0, 4), step(_LOAD, 16), step(_HAS, _CLONE_THREAD, 1), refuse, allow)
    # It may end itself.
    yield from (step(_EQUAL, _TGKILL[machine], 0, 4), step(_LOAD, 16), step(_EQUAL, os.getpid(), 1), refuse, allow)
    # Limits may be asked for, but not set: the third argument is a null pointer, in both halves.
    yield from (step(_EQUAL, _PRLIMIT[machine], 0, 5), step(_LOAD, 32), step(_EQUAL, 0, 0, 2), step(_LOAD, 36))
    yield from (step(_EQUAL, 0, 1), refuse, allow)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
