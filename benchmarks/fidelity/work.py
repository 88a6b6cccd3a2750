"""Work: what one process measures, whole or as one of several workers."""

import argparse
import os
import platform
import re
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from benchmarks.fidelity.bench import Entry, measure
from benchmarks.fidelity.documents import Document, Shelf
from benchmarks.fidelity.workers import Found
from engine.kvcache.layout import layout_of
from engine.kvcache.recipe import Recipe, parse
from engine.models import loader
from engine.runtime.runner import Runner
from engine.training.adapter import adapt_network

QUESTIONED_EACH = 4
"""Documents of the question data for each document of another kind."""


def work(options: argparse.Namespace, number: int = 0) -> Iterator[Found]:
    """Measure every document whose turn it is in the worker of this number."""
    runner = load(options)
    runners = {"": runner}
    entries = []
    for name in names(options.recipes):
        recipe, adapter = recipe_and_adapter(name)
        if adapter not in runners:
            # A model of its own: additions change the weights.
            runners[adapter] = load(options, adapter)
        used = runners[adapter]
        entries.append(Entry(name, recipe, layout_of(used.model, recipe, [options.models]), used))
    yield from measured(options, number, runner, entries)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is measured on: the model, the documents, and how many of them by whom."""
    parser.add_argument("--model", default="embedded", help="embedded, a local folder or a hub id")
    parser.add_argument(
        "--models", type=Path, required=True, help="folder of the embedded model, and of what was found for it"
    )
    data = os.environ.get("DOCPOD_EVAL_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, help="folder of texts and questions")
    parser.add_argument(
        "--dtype", choices=("auto", "float32"), default="auto", help="float32 leaves out what rounding alone changes"
    )
    parser.add_argument("--limit", type=int, default=4, help="documents of each kind and length")
    parser.add_argument("--questions", type=int, default=3, help="most of a document of the question data")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="begin no document after that many; 0: measure all of them"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that share the documents, and all GPUs")
    parser.add_argument("--lengths", default="4096,7168", help="tokens of the documents")
    parser.add_argument("--seed", type=int, default=0)


def load(options: argparse.Namespace, adapter: str = "") -> Runner:
    """The model to be measured, in the dtype that was asked for."""
    model = loader.load(options.model, options.models, lambda sentence: None)
    if options.dtype == "float32":
        model = replace(model, shape=replace(model.shape, dtype=torch.float32))
        model.network.float()
    if adapter:
        adapt_network(options.models / f"{adapter}.safetensors", model)
    return Runner(model)


def measured(
    options: argparse.Namespace,
    number: int,
    runner: Runner,
    entries: Sequence[Entry],
    done: Container[int] = (),
    timed: int = 0,
) -> Iterator[Found]:
    """What each document says of the entries that is not `done`, of those whose turn it is; see `measure`."""
    model = runner.model
    shelf = Shelf(model.tokenizer, options.data, options.seed, options.questions)
    documents = _documents(shelf, sorted(map(int, options.lengths.split(","))), options.limit)
    about = {"model": model.name, "hardware": hardware(), "dtype": str(model.shape.dtype)}
    start = time.monotonic()
    for turn in range(number, len(documents), options.workers):
        if 0 < options.seconds < time.monotonic() - start:
            break
        if turn not in done:
            yield Found(turn, len(documents), about, measure(runner, entries, documents[turn], timed))


def names(recipes: str) -> list[str]:
    """The recipes of a list, exact first."""
    return ["exact", *(each for each in split_recipes(recipes) if each != "exact")]


def recipe_and_adapter(name: str) -> tuple[Recipe, str]:
    """A recipe, and the trained weights of its part `adapter=NAME`, if it has one. Raises RecipeUnknown."""
    parts = name.split("+")
    adapter = next((each for each in parts if each.startswith("adapter=")), "")
    return parse("+".join(each for each in parts if each != adapter) or "exact"), adapter.removeprefix("adapter=")


def _documents(shelf: Shelf, lengths: Sequence[int], limit: int) -> list[Document]:
    """The kinds of documents in turn, so that whatever is measured before the time is up holds all of them."""
    kinds = [make(length, limit) for length in lengths for make in (shelf.texts, shelf.planted)]
    asked = shelf.questions(lengths[-1], QUESTIONED_EACH * limit)
    turns = zip(*kinds, strict=True)
    return [each for turn in turns for each in (*turn, *islice(asked, QUESTIONED_EACH))]


def split_recipes(text: str) -> list[str]:
    """Recipes between commas, except those commas that stand inside `near16,256`."""
    return re.split(r",(?![0-9])", text)


def hardware() -> str:
    """What this runs on, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
