"""The small cluster: replicas on this machine under load, beside what the simulation says of them and one process."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

import httpx

from app.cluster.distant import key_of
from app.cluster.line import slug
from app.main import App
from app.settings import Settings
from benchmarks.evidence.prose import report
from benchmarks.scale.simulation import Fleet, Load, popular, simulate

_DOOR = "127.0.0.1:8765"
_ANSWERERS, _READERS, _CLIENTS = 3, 2, 6
_PROBES, _FEW = 200, 2
_QUIET_SECONDS = 4.0


@dataclass(frozen=True)
class Asked:
    """Documents with a question that each holds the answer to, and an app to ask."""

    app: App
    documents: Sequence[str]

    def ask(self, place: int) -> float:
        """Seconds until the answer was whole."""
        start = time.perf_counter()
        for _ in self.app.questions.ask(self.documents[place], "What did the report find, and who wrote it?"):
            pass
        return time.perf_counter() - start


def measure(settings: Settings, work: Path, documents: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Figures of a cluster of three answerers and two readers, and of one process, in turns on the same documents."""
    with ExitStack() as stack:
        homes = [work / name for name in ("cluster", "alone")]
        texts = [_text(work / "texts" / f"{number}.txt", number) for number in range(documents)]
        address, process = stack.enter_context(_cluster(replace(settings, home=homes[0])))
        apps = [App(replace(settings, home=homes[0], cluster=address)), App(replace(settings, home=homes[1]))]
        for app in apps:
            stack.callback(app.close)
        facts: dict[str, Any] = {"documents": documents, "clients": _CLIENTS}
        asked = []
        for name, app in zip(("cluster", "alone"), apps, strict=True):
            start, before = time.perf_counter(), _seconds(process)
            ids = [app.library.add(path, path.name, move=False) for path in texts]
            with ThreadPoolExecutor(_READERS if app is apps[0] else 1) as pool:
                list(pool.map(lambda each, app=app: list(app.library.wait(each)), ids))
            readings = [app.library.catalogue.readings(document)[0] for document in ids]
            tokens, held = sum(each.num_tokens for each in readings), sum(each.num_bytes for each in readings)
            took = time.perf_counter() - start
            facts[f"{name}_read"] = {
                "tokens_s": round(tokens / took, 1),
                "bytes": held,
                "tokens": tokens,
                "bytes_forecast": sum(
                    app.model.wait().loaded.recipes.num_bytes(each.recipe, each.num_tokens) for each in readings
                ),
                "cpu_s": round(_seconds(process) - before, 1),
            }
            say(f"{name}: {facts[f'{name}_read']}")
            asked.append(Asked(app, ids))
        facts["router_ms"] = _router(address, replace(settings, home=homes[0]), apps[0], say)
        facts["throughput"] = _throughput(asked[0], process, say)
        facts["at_once"] = _at_once(asked, say)
        return facts


def _router(address: str, settings: Settings, app: App, say: Callable[[str], None]) -> dict[str, float]:
    """Milliseconds of a request that a replica answers at once: Ray Serve's proxy, router and replica, and HTTP."""
    loaded = app.model.wait().loaded
    body = {"recipe": "exact", "reads_as": loaded.recipes["exact"].reader, "pods": []}
    headers = {"Authorization": f"Bearer {key_of(settings.home)}"}
    found = []
    with httpx.Client(headers=headers, trust_env=False, timeout=60.0) as client:
        for number in range(_PROBES):
            start = time.perf_counter()
            own = {"x-session-id": str(number % 20)}
            client.post(f"{address}/{slug(settings.model)}/answer/load", json=body, headers=own).raise_for_status()
            found.append(1e3 * (time.perf_counter() - start))
    cuts = quantiles(found, n=20)
    result = {"median": round(median(found), 2), "p5": round(cuts[0], 2), "p95": round(cuts[18], 2)}
    say(f"router: {result}")
    return result


def _throughput(asked: Asked, process: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Questions a second under load, and as the simulation has them from processor seconds of a question among few.

    Few and many come in turns, so that both see the same neighbours; all documents are warm by then.
    """
    load = Load(len(asked.documents), 240, 1.0, clients=_CLIENTS, seed=1)
    places = list(popular(load))
    before = _seconds(process)
    for place in range(len(asked.documents)):
        asked.ask(place)
    cold = (_seconds(process) - before) / len(asked.documents)
    work, rates, shares = [], [], []
    for turn in range(4):
        # What Ray does while nobody asks is no part of a question.
        before = _seconds(process)
        time.sleep(_QUIET_SECONDS)
        quiet = (_seconds(process) - before) / _QUIET_SECONDS
        before, start, some = _seconds(process), time.perf_counter(), places[turn::8]
        with ThreadPoolExecutor(_FEW) as pool:
            list(pool.map(asked.ask, some))
        work.append((_seconds(process) - before - quiet * (time.perf_counter() - start)) / len(some))
        before, start, many = _seconds(process), time.perf_counter(), places[turn::4]
        with ThreadPoolExecutor(_CLIENTS) as pool:
            list(pool.map(asked.ask, many))
        took = time.perf_counter() - start
        rates.append(len(many) / took)
        shares.append((_seconds(process) - before) / took - quiet)
    each, share = median(work), median(shares)
    # Whichever replicas are at work share the processors that they got: together they are one server.
    together = each / share
    said = simulate(load, Fleet(1, together, together, len(asked.documents)))
    result = {
        "measured": round(median(rates), 2),
        "simulated": round(said.throughput, 2),
        "cpu_s_a_question": round(each, 3),
        "cpu_s_a_first_question": round(cold, 3),
        "processors": round(share, 2),
    }
    say(f"throughput: {result}")
    return result


def _at_once(asked: Sequence[Asked], say: Callable[[str], None]) -> dict[str, Any]:
    """Two hundred questions at once over fifty documents, to replicas and to one process, in turns."""
    results: dict[str, Any] = {}
    for name, each in zip(("cluster", "alone"), asked, strict=True):
        start = time.perf_counter()
        with ThreadPoolExecutor(200) as pool:
            seconds = list(pool.map(each.ask, [number % len(each.documents) for number in range(200)]))
        found = quantiles(seconds, n=20)
        results[name] = {
            "ended": len(seconds),
            "p50_s": round(found[9], 2),
            "p95_s": round(found[18], 2),
            "all_s": round(time.perf_counter() - start, 2),
        }
        say(f"200 at once, {name}: {results[name]}")
    return results


@contextmanager
def _cluster(settings: Settings) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "run_app.py", "cluster", "up", settings.model, "--home", str(settings.home)]
    command += ["--answerers", str(_ANSWERERS), "--readers", str(_READERS), "--door", _DOOR]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        if not any("Replicas are at" in line for line in process.stdout):
            raise RuntimeError("the cluster did not begin: run the command by hand: " + " ".join(command))
        yield f"http://{_DOOR}", process.pid
    finally:
        process.terminate()
        process.wait()


def _seconds(parent: int) -> float:
    """Processor seconds of this process and of all below the cluster's, by /proc."""
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(path.parent.name)], used[int(path.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid not in (parent, os.getpid()):
            pid = parents.get(pid, 0)
        return pid > 1

    return sum(ticks for pid, ticks in used.items() if is_ours(pid)) / os.sysconf("SC_CLK_TCK")


def _text(path: Path, number: int) -> Path:
    """A report of a page or two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    title, rows = report(Random(number), number)
    path.write_text(f"{title}\n\n" + "\n\n".join(" ".join(each) for each in rows))
    return path


def prepared(models: Path, work: Path) -> None:
    """Homes below a folder, with the models that are there already."""
    for name in ("cluster", "alone"):
        shutil.copytree(models, work / name / "models", dirs_exist_ok=True)
