"""Measures the whole app, as a user has it: model ready, reading, passages, first word, decoding.

    python -m benchmarks.app --shapes llama-3.1-8b,qwen3-4b --file FILING.pdf --work DIR      (a GPU)
    python -m benchmarks.app --model FOLDER --file REPORT.txt --work DIR                      (any machine)
    python -m benchmarks.app --shapes gemma-4-e4b --beside transformers --recipes exact --file REPORT.txt --work DIR

Through `App` alone, in a home of its own below `--work`, with every block durable. `ready_first_s` is the time from an
empty home to a model that answers, `ready_s` that of the next process. `first_read_tok_s` is the first reading of a
process, `read_tok_s` a later one; `bench` is what benchmarks.speed measures in the same process, with the same weights,
`transformers` what the network does by itself over the same tokens (and nothing is ready for the first time then).
From "disk" means from files that were written moments before. Prints a JSON line at the end; `--out` gets it too.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from app.main import App
from app.settings import Settings
from benchmarks.app.beside import transformers
from benchmarks.app.folder import model_folder
from benchmarks.app.session import PLACES, Session
from benchmarks.fidelity.work import hardware
from benchmarks.speed.shapes import WHOLE_APP
from engine.core.errors import EngineError
from engine.models import embedded

_ANSWER_TOKENS = 128
RECIPES = "exact,k4v4hs,light"


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be measured."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        rows = [row for model in _models(options, say) for row in _rows(model, options, say)]
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    line = json.dumps({"bench": "app", "hardware": hardware(), "file": options.file.name, "rows": rows})
    if options.out:
        options.out.write_text(line + "\n")
    say(line)


def ready(model: Path, home: Path) -> tuple[App, float]:
    """An app with its model, and the seconds that it took to load it."""
    app = App(Settings(home=home, model=str(model), max_answer_tokens=_ANSWER_TOKENS, prepare=False))
    start = time.perf_counter()
    app.model.wait()
    return app, time.perf_counter() - start


def _models(options: argparse.Namespace, say: Callable[[str], None]) -> list[Path]:
    """Folders of the models to measure."""
    if options.model:
        return [options.model]
    tokenizer = options.tokenizer or embedded.ensure(options.work, say)
    names = options.shapes.split(",")
    return [model_folder(WHOLE_APP[name], options.work / name, tokenizer) for name in names]


def _rows(model: Path, options: argparse.Namespace, say: Callable[[str], None]) -> list[dict[str, Any]]:
    home = options.home or Path(tempfile.mkdtemp(dir=options.work, prefix=f"home-{model.name}-"))
    first_ready = None
    if options.beside == "engine":
        first_ready = _first_ready(model, home)
        say(f"{model.name}: ready in {first_ready:.1f} s the first time")
    app, _ = ready(model, home)
    # What is found out about a new model in the background would run beside what is timed.
    while options.beside == "engine" and not app.model.calibrated(60.0):
        say(f"{model.name}: {app.status().doing}")
    heads = app.model.wait().loaded.heads
    # Random weights stand for a reader that answers from whole sections: one that cannot is not asked where it looks.
    # Which heads are asked makes no difference beside transformers, so they need not be found.
    replace(heads, answers_from="sections", mass=heads.mass or (1.0,) * len(heads.heads)).save(home / "models")
    app.close()
    app, seconds = ready(model, home)
    say(f"{model.name}: ready in {seconds:.1f} s; {app.status().why}")
    try:
        session = Session(app, options.file, say)
        say(f"{model.name}: {session.tokens:,} tokens, parsed in {session.parse_seconds:.1f} s")
        first, *others = recipes = options.recipes.split(",")
        rows: dict[str, dict[str, Any]] = {first: {"first_read_tok_s": round(session.read(first), 1)}}
        for recipe in [*others, first]:
            speed = session.read(recipe)
            places = PLACES if app.model.wait().loaded.runner.model.device.type == "cuda" else PLACES[1:]
            asked = {place: session.ask(place) for place in places}
            peak = session.peak_gb()
            rows[recipe] = {
                "shape": model.name,
                "recipe": recipe,
                "tokens": session.tokens,
                "read_tok_s": round(speed, 1),
                **rows.get(recipe, {}),
                "ready_s": round(seconds, 2),
                "ready_first_s": first_ready and round(first_ready, 2),
                "parse_s": round(session.parse_seconds, 2),
                "passages_ms": {place: round(each.passages_ms, 1) for place, each in asked.items()},
                "first_word_ms": {place: round(each.first_word_ms, 1) for place, each in asked.items()},
                "decode_tok_s": round(asked[places[0]].decode_tok_s, 1),
                "peak_gb": round(peak, 2),
            }
            if options.beside == "engine":
                engine = asdict(session.engine(recipe))
                rows[recipe]["bench"] = {key: value and round(value, 1) for key, value in engine.items()}
            else:
                loaded = app.model.wait().loaded.runner.model
                rows[recipe]["transformers"] = asdict(transformers(loaded, session.ids()))
            say(json.dumps(rows[recipe]))
    finally:
        app.close()
        if options.home is None:
            shutil.rmtree(home)
    return [rows[recipe] for recipe in recipes]


def _first_ready(model: Path, home: Path) -> float:
    """Seconds until the model is ready in a new process, on a new home."""
    command = [sys.executable, "-c", _READY, str(model), str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"the fresh process ended with {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    return float(done.stdout.split()[-1])


_READY = """
import sys
from pathlib import Path
from benchmarks.app.__main__ import ready
app, seconds = ready(*map(Path, sys.argv[1:]))
app.close()
print(seconds)
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.app", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, required=True, help="the document that is read")
    parser.add_argument("--work", type=Path, required=True, help="folder for models of random weights and for homes")
    parser.add_argument("--shapes", default="llama-3.1-8b,qwen3-4b", help=f"of {', '.join(WHOLE_APP)}; random weights")
    parser.add_argument("--model", type=Path, help="instead of shapes: the folder of a model")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer for the shapes; else the embedded one's")
    parser.add_argument("--recipes", default=RECIPES, help="recipes, of which the first is read twice")
    parser.add_argument(
        "--beside", choices=("engine", "transformers"), default="engine", help="what is measured beside"
    )
    parser.add_argument("--home", type=Path, help="folder of the home; else a new one, so that the first time is one")
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    return parser


if __name__ == "__main__":
    main()
