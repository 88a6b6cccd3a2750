"""What encryption costs: the same things done in a plain home and in an encrypted one, in turns.

    python -m benchmarks.app.encryption --work DIR --model FOLDER [--rounds 5] [--words 6000]

Seconds, as medians: to open the library; to the first word of an answer whose document is on the disk; to read a
document; to list and search the library; to check every stored block. Encrypting the home is timed once.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.commands.encryption import _encrypt
from app.events import Answer
from app.main import App
from app.passphrase import VARIABLE
from app.settings import Settings
from benchmarks.app.soak import _WORDS
from benchmarks.fidelity.work import hardware

_QUESTION = "Which harbour is named beside the lamp?"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.app.encryption", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--words", type=int, default=6000)
    options = parser.parse_args(arguments)
    os.environ[VARIABLE] = "of a benchmark"
    common = Settings(model=options.model, max_answer_tokens=8, meaning=False, guides=False, prepare=False)
    homes = {name: replace(common, home=options.work / name) for name in ("plain", "encrypted")}
    ids = {name: _fill(settings, options.words) for name, settings in homes.items()}
    began = time.perf_counter()
    _encrypt(homes["encrypted"], argparse.Namespace(keyring=False))
    encrypting = time.perf_counter() - began
    took: dict[str, list[float]] = defaultdict(list)
    for number in range(options.rounds):
        for name, settings in homes.items():
            for what, seconds in _round(settings, ids[name], number, options.words // 4).items():
                took[f"{what}, {name}"].append(seconds)
    medians = {what: round(statistics.median(seconds), 4) for what, seconds in sorted(took.items())}
    bytes_ = sum(path.stat().st_size for path in (homes["plain"].home / "pods").iterdir())
    figures = {"bench": "encryption", "hardware": hardware(), "pods_mb": round(bytes_ / 1e6, 1)}
    print(json.dumps({**figures, "encrypt": round(encrypting, 2), **medians}))


def _fill(settings: Settings, words: int) -> str:
    with closing(App(settings)) as app:
        return _read(app, settings.home.with_name("first.txt"), words, 0)


def _read(app: App, path: Path, words: int, seed: int) -> str:
    path.write_text(" ".join(random.Random(seed).choices(_WORDS, k=words)))
    document_id = app.library.add(path, path.name, move=False)
    for _ in app.library.wait(document_id):
        pass
    return document_id


def _round(settings: Settings, document_id: str, number: int, words: int) -> dict[str, float]:
    took: dict[str, float] = {}

    def timed(what: str, do: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        done = do()
        took[what] = time.perf_counter() - began
        return done

    with closing(timed("open", lambda: App(settings))) as app:
        app.model.start()
        app.model.wait()
        *_, last = app.questions.ask(document_id, _QUESTION)
        assert isinstance(last, Answer) and last.reused_tokens
        took["first word"] = last.first_token_seconds
        timed("list and search", lambda: (app.library.catalogue.entries(), app.search.find("harbour lamp")))
        timed("check blocks", app.verify)
        timed("read", lambda: _read(app, settings.home.with_name(f"{number}.txt"), words, number + 1))
    return took


if __name__ == "__main__":
    main()
