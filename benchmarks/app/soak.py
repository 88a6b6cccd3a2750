"""Lives with the app for an hour: reads, asks, edits, deletes and restarts, and shows what grows.

    python -m benchmarks.app.soak --work DIR --model FOLDER [--seconds 3600] [--documents 12] [--out docs/soak.json]

The home keeps at most `--documents`: every further one drives the oldest out, and every 20th round closes the app and
opens it again. After each round the process's own memory, threads and open files, and the bytes of the home and of its
database are noted (Linux). `grown` is the median of the last quarter over that of the second one: 1 where nothing
grows. A picture, with the ending .svg, is written beside the JSON.
"""

import argparse
import json
import os
import random
import re
import statistics
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

from app.main import App
from app.settings import Settings
from benchmarks.fidelity.work import hardware

_RESTART = 20
_WORDS = "harbour lamp engine report stone winter council bridge ferry granite river letter signal timber glass".split()
_WIDTH, _ROW, _LEFT = 860, 90, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.app.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    rows = live(options.work, options.model, options.seconds, options.documents)
    names = [name for name in rows[0] if name != "second"]
    quarter = len(rows) // 4
    grown = {
        name: round(
            statistics.median(row[name] for row in rows[-quarter:])
            / statistics.median(row[name] for row in rows[quarter : 2 * quarter]),
            3,
        )
        for name in names
    }
    figures = {"bench": "soak", "hardware": hardware(), "rounds": len(rows), "grown": grown}
    print(json.dumps(figures))
    if options.out:
        shown = rows[:: len(rows) // 200 + 1]
        options.out.write_text(json.dumps({**figures, "rows": shown}) + "\n")
        options.out.with_suffix(".svg").write_text(draw(shown))


def live(work: Path, model: str, seconds: float, documents: int) -> list[dict[str, float]]:
    """What each round left: second, memory_mb, threads, files, home_mb, database_mb."""
    rows: list[dict[str, float]] = []
    chance, begun, home = random.Random(0), time.monotonic(), work / "home"
    work.mkdir(parents=True, exist_ok=True)
    settings = Settings(home=home, model=model, max_answer_tokens=16, meaning=False)
    kept: list[str] = []
    number = 0
    while time.monotonic() < begun + seconds:
        app = App(settings)
        app.start()
        for _ in range(_RESTART):
            number += 1
            file = work / f"report {number}.txt"
            file.write_text(_report(number, chance))
            kept.append(app.library.add(file, file.name))
            # The first question waits for its pages, the others are asked of what was read.
            talk = app.chat.ask(kept[-1], "", f"What is the access code of room {number}?")
            for document_id in (kept[-1], chance.choice(kept)):
                _answered(app, talk)
                talk = app.chat.ask(document_id, "", f"How many {chance.choice(_WORDS)}s were counted?")
            _answered(app, talk)
            app.library.catalogue.tag(kept[-1], f"year{number % 7}")
            app.search.find(chance.choice(_WORDS))
            if len(kept) > documents:
                app.library.delete(kept.pop(0))
            rows.append({"second": round(time.monotonic() - begun), **_taken(home)})
            if time.monotonic() > begun + seconds:
                break
        app.close()
    return rows


def _report(number: int, chance: random.Random) -> str:
    lines = [f"The access code of room {number} is {chance.randrange(10**6):06}."]
    for _ in range(40):
        one, other = chance.choice(_WORDS), chance.choice(_WORDS)
        lines.append(f"In {chance.randrange(1900, 2030)} the {one} had {chance.randrange(999)} {other}s.")
    return "\n\n".join(lines)


def _answered(app: App, talk: str) -> None:
    """Waits for the end of a conversation's last answer."""
    for _ in app.chat.follow(talk):
        pass
    last = app.chat.turns(talk)[-1]
    assert last.state not in ("failed",), last


def _taken(home: Path) -> dict[str, float]:
    """What the process and the home take at this moment."""
    status = Path("/proc/self/status").read_text()
    found = [path.stat().st_size for path in home.rglob("*") if path.is_file()]
    database = sum(path.stat().st_size for path in home.glob("docpod.sqlite3*"))
    return {
        "memory_mb": int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) // 1024,
        "threads": int(re.findall(r"Threads:\s+(\d+)", status)[0]),
        "files": len(os.listdir("/proc/self/fd")),
        "home_mb": round(sum(found) / 1e6, 2),
        "database_mb": round(database / 1e6, 2),
    }


def draw(rows: Sequence[dict[str, float]]) -> str:
    """One line for each figure over time, each from zero."""
    names = [name for name in rows[0] if name != "second"]
    last = rows[-1]["second"] or 1
    width, marks = _WIDTH - _LEFT - 20, []
    for number, name in enumerate(names):
        top, high = 20 + number * _ROW, max(row[name] for row in rows) or 1
        places = ((row["second"] / last * width, (1 - row[name] / high) * (_ROW - 24)) for row in rows)
        points = " ".join(f"{_LEFT + x:.1f},{top + y:.1f}" for x, y in places)
        marks.append(f'<text x="8" y="{top + 14}">{escape(name)}</text>')
        marks.append(f'<text x="8" y="{top + 32}">up to {high:g}</text>')
        marks.append(f'<line x1="{_LEFT}" x2="{_LEFT + width}" y1="{top + _ROW - 24}" y2="{top + _ROW - 24}"/>')
        marks.append(f'<polyline points="{points}"/>')
    height = 40 + len(names) * _ROW
    marks.append(f'<text x="{_LEFT}" y="{height - 12}">0 to {last / 60:.0f} minutes</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
        "<title>What the app takes over time</title><style>svg{background:#fff;font:12px system-ui,sans-serif}"
        "text{fill:#222}polyline{fill:none;stroke:#2456c7;stroke-width:1.5}line{stroke:#ccc}"
        "@media(prefers-color-scheme:dark){svg{background:#16181d}text{fill:#ddd}polyline{stroke:#8db0ff}}</style>\n"
        + "\n".join(marks)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()
