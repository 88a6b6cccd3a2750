"""`python -m tests.hostile --count N --jobs N --files FOLDER`: as many hostile files are parsed, each by a process
under the limits of any document. It must end as pages or as a sentence, within those limits, without a file of another.

Files are spoilt ones of every format and those of the folder, and bombs (`tests.bombs`). `--replay SEED` repeats one.
"""

import argparse
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from app.errors import AppError
from app.readers import ReaderLimits, formats, open_document, sandbox, sniff, worker
from tests import bombs
from tests.app.test_readers_epub import book
from tests.faults.hostile import corpus, spoil

LIMITS = ReaderLimits(max_pages=300, page_seconds=1, convert_seconds=3, batch_pages=100, max_failures=2)
MOST_SECONDS = 4 * LIMITS.convert_seconds + 20 * LIMITS.page_seconds
"""Of processor time of all processes of a file: to open it, and of pages that fail and others."""
BOMBS = 0.2
"""Of all files."""


class Forked:
    """What `sandbox` asks of a `subprocess.Popen`, forked from a process that has imported the readers: they take as
    long to import as a small file takes to read. What they say of failures goes to `log`."""

    log = os.devnull

    def __init__(self, *_: object, **__: object) -> None:
        request, reply = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            for handle, number in (
                (request[0], 0),
                (reply[1], 1),
                (os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2),
            ):
                os.dup2(handle, number)
            os.closerange(3, 256)
            sys.stdin = os.fdopen(0)
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            try:
                worker.main()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(request[0])
        os.close(reply[1])
        self.stdin, self.stdout = os.fdopen(request[1], "wb"), os.fdopen(reply[0], "rb")

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self.stdin, self.stdout):
            with suppress(BrokenPipeError):
                file.close()
        os.waitpid(self.pid, 0)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Hostile:
    """Hostile files by seed, over small ones of every format and those of a folder."""

    def __init__(self, work: Path, folder: Path | None) -> None:
        self._work = work
        own = [*corpus(work / "corpus"), book(work / "corpus" / "a.epub", "<p>harbour</p>")]
        self._own = {path.suffix: path.read_bytes() for path in own}
        given = sorted(folder.rglob("*.pdf")) if folder else []
        self._files = [(path.suffix, path.read_bytes()) for path in given]

    def make(self, seed: int) -> Path:
        """The file of a seed."""
        random = Random(f"hostile {seed}")
        suffix = random.choice((".pdf", ".pdf", ".pdf", *self._own))
        if random.random() >= BOMBS:
            if suffix == ".pdf" and self._files and random.random() < 0.8:
                suffix, data = random.choice(self._files)
            else:
                data = self._own[suffix]
            data = _doubled(data, random) if suffix == ".pdf" and random.random() < 0.2 else spoil(data, random)
        elif suffix in bombs.TAGS:
            data = bombs.archive(self._own[suffix], random, bombs.TAGS[suffix])
        else:
            data = (bombs.TEXTS[suffix] if suffix in bombs.TEXTS else random.choice(bombs.PDFS))(random)
        path = self._work / f"{seed}{suffix}"
        path.write_bytes(data)
        return path

    def read(self, seed: int) -> tuple[str, str]:
        """What came of a file, and what of that must not be."""
        path, began = self.make(seed), _used()
        try:
            document = open_document(path, sniff(path, path.name), LIMITS)
            pages = list(document.pages())
            what = "read, some unreadable" if any(each.state == "unreadable" for each in pages) else "read"
            wrong = "it holds a file of the machine" if any("root:x:0" in each.text for each in pages) else ""
            if len(pages) != document.info.num_pages:
                wrong = f"{len(pages)} pages of {document.info.num_pages}"
        except AppError as error:
            what, wrong = f"{type(error).__name__}: {error.message.split(':')[0][:60]}", ""
        except Exception as error:
            what, wrong = "traceback", repr(error)
        finally:
            path.unlink()
        seconds, memory = _used()[0] - began[0], _used()[1]
        if seconds > MOST_SECONDS or memory > LIMITS.memory_bytes:
            wrong = f"{seconds:.0f} s, {memory / 1e9:.1f} GB"
        return f"{path.suffix} {what}", wrong


def _doubled(data: bytes, random: Random) -> bytes:
    """A PDF with an object of it once more, or under the number of another one."""
    objects = [at for at in range(len(data)) if data.startswith(b" 0 obj", at)] or [0]
    at = random.choice(objects)
    part = data[at : data.find(b"endobj", at) + 6]
    return data + b"\n%d" % random.randrange(20) + part + random.choice((b"", data[data.rfind(b"xref") :]))


def _used() -> tuple[float, int]:
    """Processor seconds of processes that ended, and the most memory that one of them had."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def main() -> int:
    """Returns 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--files", type=Path, help="a folder with PDFs that are spoilt too")
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--out", type=Path, help="a report whose hostile_files is this count then")
    parser.add_argument("--log", default=os.devnull, help="where tracebacks of reading processes go")
    options = parser.parse_args()
    Forked.log = options.log
    for form in formats.READERS:
        __import__(form.module)
    sandbox.subprocess.Popen = Forked  # type: ignore[assignment,misc]
    if options.replay is not None:
        with tempfile.TemporaryDirectory() as work:
            print(*Hostile(Path(work), options.files).read(options.replay))
        return 0
    forked = multiprocessing.get_context("fork")
    found: Any = forked.SimpleQueue()

    def work(job: int) -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                hostile = Hostile(Path(folder), options.files)
                for seed in range(options.first + job, options.first + options.count, options.jobs):
                    began = time.monotonic()
                    found.put((seed, *hostile.read(seed), time.monotonic() - began))
        finally:
            found.put(None)

    jobs = [forked.Process(target=work, args=(job,)) for job in range(options.jobs)]
    for job in jobs:
        job.start()
    outcomes, failures, slowest, done = Counter[str](), [], (0.0, 0), 0
    for _ in jobs:
        while each := found.get():
            seed, what, wrong, seconds = each
            done += 1
            outcomes[what] += 1
            slowest = max(slowest, (seconds, seed))
            if wrong:
                failures.append((seed, what, wrong))
                print(f"{seed}: {what}: {wrong}", flush=True)
            if done % 250 == 0:
                print(f"{done} files, {len(failures)} wrong", flush=True)
    for what, number in sorted(outcomes.items()):
        print(f"{number:6} {what}")
    print(f"{done} files, {len(failures)} wrong, the slowest took {slowest[0]:.1f} s (seed {slowest[1]})")
    if options.out:
        options.out.write_text(
            json.dumps({**json.loads(options.out.read_text()), "hostile_files": done}, indent=1) + "\n"
        )
    return bool(failures) or done != options.count


if __name__ == "__main__":
    sys.exit(main())
