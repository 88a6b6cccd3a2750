"""Measures recipes against the exact memory of the same model, in the same run.

    python -m benchmarks.fidelity --model embedded --models DIR --recipes exact,faithful --out DIR

Prints a table and ends with one JSON line; `--out` gets both, and a picture of bytes against answers. Without `--data`
(a folder with qa_dev.jsonl.gz, with .txt files, or both) Python's own reference is read, and nothing tells of answers.
Files kinds/KIND.txt of the folder are kinds of text, each of which is continued in its turn.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.fidelity import workers
from benchmarks.fidelity.bench import Row
from benchmarks.fidelity.pareto import draw
from benchmarks.fidelity.report import intervals, summarize, table
from benchmarks.fidelity.work import add_options, names, recipe_and_adapter, work
from engine.core.errors import EngineError
from engine.kvcache.recipe import NAMED


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _measure(options, say)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _measure(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    found: list[workers.Found] = []
    failure: EngineError | None = None
    try:
        for each in workers.run(work, options) if options.workers > 1 else work(options):
            found.append(each)
            say(f"{len(found)} of {each.documents} documents")
    except EngineError as error:
        # What others measured until then is worth its time: it is told, and then the failure.
        if not found:
            raise
        failure = error
    if len(found) < found[0].documents:
        why = "not all could be measured" if failure else "the time is up"
        say(f"{why}: this is what {len(found)} of {found[0].documents} documents say")
    recipes = {name: recipe_and_adapter(name)[0] for name in names(options.recipes)}
    rows = {name: Row() for name in recipes}
    # In the order of the documents, whoever measured them.
    for each in sorted(found, key=lambda each: each.number):
        for name, row in each.rows.items():
            rows[name].add(row)
    summary = summarize(recipes, rows, options.seed)
    line = json.dumps({**found[0].about, "seed": options.seed, "rows": summary})
    shown = f"{table(summary)}\n{intervals(summary)}"
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "fidelity.json").write_text(line + "\n")
        (options.out / "fidelity.md").write_text(shown)
        if picture := draw(summary):
            (options.out / "fidelity.svg").write_text(picture)
    say(shown)
    say(line)
    if failure:
        raise failure


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--recipes", default=",".join(NAMED), help="names or parts, separated by commas")
    parser.add_argument("--out", type=Path, help="folder for the table, the JSON and the picture")
    return parser


if __name__ == "__main__":
    main()
