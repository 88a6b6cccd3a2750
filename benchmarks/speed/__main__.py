"""Measures how fast a document is read and asked, beside transformers in the same run on the same weights.

    python -m benchmarks.speed --shape llama-3.1-8b --out DIR        (a GPU)
    python -m benchmarks.speed --quick                               (a processor)
    python -m benchmarks.speed --peer --model embedded               (a processor, beside llama.cpp)

Prints a table and ends with one JSON line; `--out` gets both. A known model's shape gets random weights, so nothing is
fetched, and memories of random numbers stand for documents unless `--prefill` reads them. `of the roof` is the speed as
a share of the fastest possible: every decoded token reads all weights and the document's whole memory once, at the
bandwidth at which this device reads. Nothing is timed while a small model of the same family gives other answers than
transformers does.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import transformers

from benchmarks.fidelity.work import hardware, split_recipes
from benchmarks.speed import bandwidth, baselines, docpod, equivalence, peer, profile, reading_profile
from benchmarks.speed.docpod import Task
from benchmarks.speed.report import Row, table
from benchmarks.speed.shapes import shape_of
from benchmarks.speed.subject import WEIGHTS, add_arguments, from_options, random_model, read_bytes, short, weights_of
from engine.core.errors import EngineError
from engine.kvcache.layout import layout_of
from engine.kvcache.recipe import Recipe, parse
from engine.models.loader import Model
from engine.runtime.runner import Runner

SYSTEMS = ("docpod", "transformers", "transformers-graph")
RECIPES = {"bf16": "exact", "int8": "k8v8", "int4": "k4v4h", "int8s": "k8v8s", "int4s": "k4v4hs"}
"""What the names of precisions mean as recipes; any recipe can be named itself."""


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _measure(options, say)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _measure(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    start = time.monotonic()
    model = from_options(options, say)
    if options.peer:
        lengths = [int(length) for length in (options.lengths or "2048,7168").split(",")]
        facts = peer.report(model, lengths, options.tokens or 16, options.repeats, say)
        _write(options.out, "peer.json", json.dumps(facts) + "\n")
        say(json.dumps(facts))
        return
    weights = weights_of(model)
    shape = model.shape
    say(f"{hardware()}; Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"transformers {transformers.__version__}")  # fmt: skip
    say(f"{model.name}: {shape.layers} layers, {model.network.config.num_attention_heads} heads over {shape.kv_heads} "
        f"KV heads of {shape.head_dim}, weights {weights}, arithmetic {shape.dtype}")  # fmt: skip
    recipes = {name: parse(RECIPES.get(name, name)) for name in split_recipes(options.kv)}
    _check(model, weights, {name: recipe for name, recipe in recipes.items() if not recipe.selection.drops}, say)
    # On a GPU answers go by steps with kernels, which is what is measured there.
    runner = Runner(model, graphs=model.device.type == "cuda", pdl=False if options.apart else None)
    say(runner.backend)
    speed = bandwidth.measure(model.device)
    read = read_bytes(runner)
    say(f"copies {speed.copy / 1e12:.3f} TB/s, reads {speed.read / 1e12:.3f} TB/s; a token reads {read / 1e9:.2f} GB "
        "of weights, and the document's memory")  # fmt: skip
    rows: list[Row] = []
    for name, work in _work(options, runner, list(recipes), say):
        if 0 < options.seconds < time.monotonic() - start:
            say(f"left out, because {options.seconds:.0f} s are over: {name}")
            continue
        try:
            rows.append(work())
        except (RuntimeError, EngineError) as error:
            # Out of memory, or a capture that is refused: the other rows are worth having.
            say(f"left out: {name}: {type(error).__name__}: {(str(error).splitlines() or ['no word'])[0]}")
    result = {
        "hardware": hardware(),
        "shape": model.name,
        "weights": weights,
        "copy_tb_s": round(speed.copy / 1e12, 4),
        "rows": [row.facts(speed) for row in rows],
    }
    line, shown = json.dumps(result), table(rows, speed)
    _write(options.out, "bench.json", line + "\n")
    _write(options.out, "bench.md", shown)
    say(shown)
    say(line)


def _write(folder: Path | None, name: str, text: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _check(model: Model, weights: str, recipes: dict[str, Recipe], say: Callable[[str], None]) -> None:
    """Raises NotEquivalent."""
    small = shape_of(model.name, model.network.config).small()
    kind = weights if weights in WEIGHTS else "bf16"
    for line in equivalence.check(random_model(small, kind, model.device, equivalence.SPREAD), recipes):
        say(line)


def _work(
    options: argparse.Namespace, runner: Runner, precisions: Sequence[str], say: Callable[[str], None]
) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every row to be measured, shortest documents first."""
    model = runner.model
    on_gpu = model.device.type == "cuda"
    quick = options.quick or not on_gpu
    lengths = options.lengths or ("512,2048" if quick else "2048,8192,32768,65536,122880")
    stored = set(map(int, (options.stored or (lengths if quick else "32768")).split(",")))
    tokens = options.tokens or (16 if quick else 64)
    chosen = {name: getattr(options, name) for name in ("shape", "weights", "model", "models")}
    loading = [f"--{name}={value}" for name, value in chosen.items() if value]
    for length in sorted(map(int, lengths.split(","))):
        if length + docpod.QUESTION_TOKENS + tokens + 1 > model.window:
            say(f"left out, because the window of {model.name} has {model.window:,} tokens: {length:,}")
            continue
        for system in options.systems.split(","):
            for precision in precisions if system == "docpod" else ["exact"]:
                recipe = parse(RECIPES.get(precision, precision))
                kv = short(model.shape.dtype) if recipe.exact else precision
                task = Task(
                    kv=kv,
                    layout=layout_of(model, recipe, [options.models]),
                    length=length,
                    tokens=tokens,
                    repeats=options.repeats,
                    prefill=options.prefill or quick,
                    stored=length in stored,
                    loading=loading,
                    chunk=options.chunk,
                )
                name = f"{system}, kv {kv}, {length:,} tokens"
                if system == "docpod":
                    yield name, lambda task=task: _docpod(runner, task, options.profile, say)  # type: ignore[misc]
                elif system == "transformers":
                    yield name, lambda task=task: baselines.eager(model, task)  # type: ignore[misc]
                elif on_gpu:
                    yield name, lambda task=task: baselines.graph(model, task)  # type: ignore[misc]
                else:
                    say(f"left out, because CUDA graphs need a GPU: {name}")


def _docpod(runner: Runner, task: Task, profiled: bool, say: Callable[[str], None]) -> Row:
    row = docpod.measure(runner, task, say)
    if profiled:
        profile.report(runner, task, say)
        if task.prefill:
            reading_profile.report(runner, task, say)
    return row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--lengths", default="", help="tokens of the documents, separated by commas")
    parser.add_argument("--kv", default="bf16,int8,int4", help=f"recipes, or {', '.join(RECIPES)}")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="which to measure, separated by commas")
    parser.add_argument("--tokens", type=int, default=0, help="tokens decoded in each run")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the median counts")
    parser.add_argument("--peer", action="store_true", help="beside llama.cpp, by one GGUF file of the same weights")
    parser.add_argument("--prefill", action="store_true", help="read the documents, and time it")
    parser.add_argument("--stored", default="", help="lengths that are also asked from host memory and from files")
    parser.add_argument("--quick", action="store_true", help="two short lengths, as on a processor")
    parser.add_argument("--chunk", type=int, default=0, help="tokens that docpod reads at once; 0: as the app")
    parser.add_argument(
        "--profile", action="store_true", help="say where a decode step's time goes, and that of a read chunk: docpod's"
    )
    parser.add_argument("--apart", action="store_true", help="no launch may begin before the one before it has ended")
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no row after so many; 0: no limit")
    parser.add_argument("--out", type=Path, help="folder for the table and the JSON")
    return parser


if __name__ == "__main__":
    main()
