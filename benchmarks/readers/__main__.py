"""Measures readers against full attention over the same exact pods, token by token, in the same run.

    python -m benchmarks.readers --models DIR --shares 5,10,20 --methods docs/methods.json

Documents, questions and measures are those of `benchmarks.fidelity`; a text is continued behind 32 tokens that
are its question. Prints one JSON line; `--methods` puts its rows into that file, in place of its rows of this kind.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fidelity.bench import Row
from benchmarks.fidelity.documents import Document, Question, Shelf
from benchmarks.fidelity.measures import judge
from benchmarks.fidelity.report import summarize
from benchmarks.fidelity.work import hardware
from engine.kvcache.quantized import AnyPod
from engine.kvcache.readers import READERS, over
from engine.kvcache.readers.base import Reader
from engine.kvcache.recipe import Recipe
from engine.kvcache.suffix import SuffixCache
from engine.models import loader
from engine.runtime.prefill.builder import read
from engine.runtime.runner import Runner

ARXIV = {
    "clusterkv": "2412.03213",
    "tidal": "2410.05076",
    "recycled": "2411.05787",
    "hip": "2406.09827",
    "predictor": "2502.04077",
    "promptdistill": "2503.23274",
}
LEAD_TOKENS = 32


class Seen:
    """What was found of one reader so far."""

    def __init__(self) -> None:
        self.row = Row()
        self.attended = self.met = self.tokens = 0
        self.scanned = self.seconds = self.building = 0.0


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line."""
    options = _parser().parse_args(arguments)
    model = loader.load(options.model, options.models, lambda sentence: None)
    if options.dtype == "float32":
        model = replace(model, shape=replace(model.shape, dtype=torch.float32))
        model.network.float()
    runner, shelf = Runner(model), Shelf(model.tokenizer, options.data, options.seed)
    names = [f"{name}:{share}" for name in options.readers.split(",") for share in options.shares.split(",")]
    seen = {name: Seen() for name in ["", *names]}
    start = time.monotonic()
    for length in map(int, options.lengths.split(",")):
        for pair in zip(shelf.texts(length, options.limit), shelf.planted(length, options.limit), strict=True):
            for document in pair:
                if 0 < options.seconds < time.monotonic() - start:
                    continue
                say(f"{document.name}, {length} tokens")
                measure(runner, _led(document, options.continued), seen)
    rows = [_line(name, found, options.seed) for name, found in seen.items()]
    about = {"model": model.name, "hardware": hardware(), "dtype": str(model.shape.dtype), "seed": options.seed}
    if options.methods:
        held = json.loads(options.methods.read_text())["rows"] if options.methods.exists() else []
        held = [each for each in held if each["kind"] != "reader"] + rows
        options.methods.write_text(json.dumps({"rows": held}, indent=1) + "\n")
    say(json.dumps({**about, "rows": rows}))


def measure(runner: Runner, document: Document, seen: dict[str, Seen]) -> None:
    """What a document says of every reader; the nameless one attends everything."""
    pod = read(runner, list(document.ids))
    truth: list[Tensor] = []
    for name, found in seen.items():
        start = time.perf_counter()
        # What is worked out of a pod once, such as clusters, is worked out by its first token.
        answered(runner, over([pod], name, runner.model.shape.layers)[0], document.questions[0], 2)
        found.building += time.perf_counter() - start
        for number, question in enumerate(document.questions):
            (held,) = over([pod], name, runner.model.shape.layers)
            logits, seconds = answered(runner, held, question)
            found.seconds, found.tokens = found.seconds + seconds, found.tokens + len(question.answer) - 1
            if not name:
                truth.append(logits)
            if isinstance(held, Reader):
                found.attended, found.met = found.attended + held.attended, found.met + held.met
                found.scanned += held.scanned
            found.row.judged.append(judge(question.kind, document.length, truth[number], logits, question.answer))
        found.row.num_bytes.setdefault(document.length, []).append(pod.nbytes / len(document.ids))


def answered(runner: Runner, pod: AnyPod, question: Question, most: int = 0) -> tuple[Tensor, float]:
    """Logits (A, V) that predict the answer's tokens, fed one by one behind the question; seconds of those tokens."""
    answer = question.answer[: most or None]
    suffix = SuffixCache(runner.model.shape, len(question.ids) + len(answer), runner.model.device)
    context = runner.context([pod], suffix)
    found = [runner.run(context, question.ids).float()]
    start = time.perf_counter()
    found += [runner.run(context, [each]).float() for each in answer[:-1]]
    logits = torch.stack(found).cpu()
    return logits, time.perf_counter() - start


def _led(document: Document, continued: int) -> Document:
    """A text's first tokens belong to its question, and so many of the next are its answer."""

    def led(each: Question) -> Question:
        lead = LEAD_TOKENS - 1
        return replace(each, ids=(*each.ids, *each.answer[:lead]), answer=each.answer[lead : lead + continued])

    return replace(document, questions=tuple(led(q) if q.kind == "text" else q for q in document.questions))


def _line(name: str, found: Seen, seed: int) -> dict[str, Any]:
    """The row of a method, as docs/methods.json has it."""
    (facts,) = summarize({name: Recipe()}, {name: found.row}, seed)
    method = name.partition(":")[0]
    copies = [each for each in found.row.judged if each.kind == "retrieval"]
    return {
        "method": READERS[method].__name__ if method else "full attention",
        "arxiv": ARXIV.get(method, ""),
        "kind": "reader",
        "recipe": name or "exact",
        "attended": found.attended / found.met if found.met else 1.0,
        "scanned": found.scanned / found.met if found.met else 0.0,
        "kl": facts["kl_mean"],
        "top1": facts["top1"],
        "answer_nll_delta": facts["answer_nll_delta"],
        "text_nll_delta": facts["lm_delta"],
        "copies": sum(each.right for each in copies) / len(copies) if copies else None,
        "aggregation": facts["hard"]["aggregation"],
        "multi_hop": facts["hard"]["multi_hop"],
        "build_s": found.building,
        "tok_s": found.tokens / found.seconds,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readers", description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--models", type=Path, required=True, help="folder of the embedded model")
    parser.add_argument("--data", type=Path, help="folder of texts; otherwise Python's own reference")
    parser.add_argument("--dtype", choices=("auto", "float32"), default="auto")
    parser.add_argument("--readers", default=",".join(READERS), help="names, separated by commas")
    parser.add_argument(
        "--shares", default="5,10,20", help="percent of the tokens that each may attend where it chooses"
    )
    parser.add_argument("--lengths", default="4096,7168", help="tokens of the documents")
    parser.add_argument("--limit", type=int, default=2, help="documents of each kind and length")
    parser.add_argument("--continued", type=int, default=128, help="tokens of a text that are predicted one by one")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="begin no document after that many; 0: measure all of them"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", type=Path, help="a JSON file of methods to put the rows into")
    return parser


if __name__ == "__main__":
    main()
