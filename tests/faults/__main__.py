"""`python -m tests.faults`: go on with the trials of docs/reliability.json, or repeat one: `--replay KIND SEED`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "reliability.json"
RUN = ("kills", "corruptions", "io_errors", "power_losses", "clock_jumps", "hostile_files")
WRONG = ("wrong_answers", "lost_documents", "tracebacks", "unreadable_stores", "false_reuse", "came_back")


def main() -> int:
    options = _options()
    if "LD_PRELOAD" not in os.environ:
        return _again()
    import torch

    from tests.faults.library import Library
    from tests.faults.trials import Trials

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as work:
        trials = Trials(Library(Path(work)))
        if options.replay:
            verdict = trials.run(options.replay[0], int(options.replay[1]))
            print(verdict.what, *(f"{counter}: {why}" for counter, why in verdict.wrong.items()), sep="\n")
            return bool(verdict.wrong)
        report = _report(options.out)
        ends = time.monotonic() + options.seconds
        kinds = [kind for kind in options.kinds if kind in trials.kinds]
        shares = {kind: options.shares.get(kind, 1) for kind in kinds}
        turn = 0
        while time.monotonic() < ends and turn < options.rounds:
            turn += 1
            for kind in kinds:
                for _ in range(shares[kind]):
                    seed = options.first + report[kind]
                    verdict = trials.run(kind, seed)
                    report[kind] += 1
                    for counter, why in verdict.wrong.items():
                        report[counter] += 1
                        report["failures"].append([kind, seed, counter, verdict.what])
                        print(f"{kind} {seed}: {counter}: {verdict.what}\n{why[-options.tail:]}\n", flush=True)
        if options.out:
            options.out.write_text(json.dumps(report, indent=1) + "\n")
        print({key: report[key] for key in (*RUN, *WRONG)})
        return any(report[each] for each in WRONG)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rounds", type=int, default=1 << 30)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=RUN)
    parser.add_argument("--shares", type=json.loads, default={"corruptions": 5})
    parser.add_argument("--tail", type=int, default=1500)
    parser.add_argument("--replay", nargs=2)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _again() -> int:
    from tests.faults import seam

    folder = Path(tempfile.mkdtemp())
    shim = seam.built(folder)
    if shim is None:
        print("No C compiler here, or no Linux.")
        return 3
    try:
        environment = os.environ | {"LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-m", "tests.faults", *sys.argv[1:]], env=environment).returncode
    finally:
        shutil.rmtree(folder)


def _report(path: Path | None) -> dict[str, Any]:
    return {**dict.fromkeys((*RUN, *WRONG), 0), "failures": []}


if __name__ == "__main__":
    sys.exit(main())
