"""`python -m tests.faults`: trials for so many seconds, going on where docs/reliability.json ends unless the code is
another one by now. `--replay KIND SEED` repeats one, and says what it did.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import conftest
from tests.faults import seam

KINDS = (
    "kills",
    "corruptions",
    "io_errors",
    "power_losses",
    "clock_jumps",
    "slow_disks",
    "memory_shortages",
    "hostile_files",
)
WRONG = ("wrong_answers", "lost_documents", "tracebacks", "unreadable_stores", "false_reuse", "came_back")
SHARES = {"corruptions": 20, "kills": 2}
"""How many trials of a kind make a round, where it is not one."""
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None
SHIPPED = ("app", "engine", "storage")


def main() -> int:
    """Returns 0 where all held, 1 where something did not, and 3 where there is no C compiler, or no Linux."""
    options = _options()
    if "LD_PRELOAD" not in os.environ:
        return _preloaded()
    # After the library is preloaded, and in this order: with one thread of torch a process can be forked.
    import torch

    from tests.faults.library import Library
    from tests.faults.trials import Trials

    torch.set_num_threads(1)
    if options.replay:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as work:
            verdict = Trials(Library(Path(work), options.encrypted)).run(options.replay[0], int(options.replay[1]))
        print(verdict.what, *(f"{counter}: {why}" for counter, why in verdict.wrong.items()), sep="\n")
        return bool(verdict.wrong)
    report = _report(options.out, options.first)
    forked = multiprocessing.get_context("fork")
    numbers = {kind: forked.Value("q", report[kind]) for kind in KINDS}
    verdicts = forked.SimpleQueue()

    def work(ends: float) -> None:
        try:
            with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
                trials, rounds = Trials(Library(Path(folder), options.encrypted)), 0
                while time.monotonic() < ends and rounds < (options.rounds or rounds + 1):
                    rounds += 1
                    for kind in options.kinds:
                        for _ in range(1 if options.rounds else SHARES.get(kind, 1)):
                            with numbers[kind].get_lock():
                                seed = report["seed"] + numbers[kind].value
                                numbers[kind].value += 1
                            verdict = trials.run(kind, seed)
                            verdicts.put((kind, seed, verdict.what, dict(verdict.wrong)))
        finally:
            verdicts.put(None)

    jobs = [forked.Process(target=work, args=(time.monotonic() + options.seconds,)) for _ in range(options.jobs)]
    for job in jobs:
        job.start()
    for _ in jobs:
        while found := verdicts.get():
            _count(report, *found)
    for job in jobs:
        job.join()
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    print({name: report[name] for name in (*KINDS, *WRONG)})
    return any(report[name] for name in WRONG) or any(job.exitcode for job in jobs)


def _count(report: dict[str, Any], kind: str, seed: int, what: str, wrong: Mapping[str, str]) -> None:
    report[kind] += 1
    for counter, why in wrong.items():
        report[counter] += 1
        report["failures"].append([kind, seed, counter, what])
        print(f"{kind} {seed}: {counter}: {what}\n{why[-2000:]}\n", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time")
    parser.add_argument("--rounds", type=int, default=0, help="end after so many, of one trial of each kind")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="where a report that is none yet begins")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--encrypted", action="store_true", help="the library is an encrypted one")
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "SEED"))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _preloaded() -> int:
    with tempfile.TemporaryDirectory() as folder:
        if (shim := seam.built(Path(folder))) is None:
            print("There is no C compiler here, or no Linux.")
            return 3
        environment = os.environ | {"LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-m", "tests.faults", *sys.argv[1:]], env=environment).returncode


def _report(path: Path | None, first: int) -> dict[str, Any]:
    """The report that there is, if it is of the code that there is, or an empty one."""
    known = json.loads(path.read_text()) if path and path.exists() else {}
    same = ("git", "diff", "--quiet", known.get("commit", ""), "--", *SHIPPED)
    if known and subprocess.run(same, cwd=conftest.ROOT, stderr=subprocess.DEVNULL).returncode == 0:
        return known
    commit = subprocess.run(("git", "rev-parse", "HEAD"), cwd=conftest.ROOT, capture_output=True, text=True)
    return {**dict.fromkeys((*KINDS, *WRONG), 0), "seed": first, "commit": commit.stdout.strip(), "failures": []}


if __name__ == "__main__":
    sys.exit(main())
