"""Measures every method of docs/methods.md at equal bytes, and keeps what it finds as docs/methods.json.

    python -m benchmarks.fidelity.methods --models DIR --data DIR --workers 8 --seconds 500 --out DIR

Each document's figures are written to `--out` as soon as they are there, and are not measured again when the command is
given once more. A method for which the model is not prepared is left out, which is said.
"""

import argparse
import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.fidelity import workers
from benchmarks.fidelity.bench import Entry, Row
from benchmarks.fidelity.report import summarize
from benchmarks.fidelity.work import add_options, load, measured
from benchmarks.fidelity.workers import Found
from engine.core.atomic import atomic_write
from engine.core.errors import CalibrationFailed, EngineError, PlanMissing
from engine.kvcache.layout import expected_bytes, layout_of
from engine.kvcache.recipe import NAMED, parse
from engine.runtime.runner import Runner

RATIOS = (4, 7, 12, 20)
"""Exact bytes over those of a method."""
NEAR = "near4,32"
"""Alike for all, and little: at a twentieth of 4,096 tokens, 16 and 256 exact ones would leave nothing to choose."""
STEPS = 8


@dataclass(frozen=True)
class Method:
    """A published method, and its recipe but for how much is kept."""

    name: str
    arxiv: str
    kind: str
    form: str


METHODS = (
    Method("KVzip", "2505.23416", "kept", "keep{}:reread"),
    Method("StreamingLLM", "2309.17453", "kept", "keep{}:streaming"),
    Method("L2-norm", "2406.11430", "kept", "keep{}:norm"),
    Method("L2-norm, first layers whole", "2406.11430", "kept", "keep{}:l2norm"),
    Method("SepLLM", "2412.12094", "kept", "keep{}:sepllm"),
    Method("ChunkKV, 10", "2502.00299", "kept", "keep{}:chunk10"),
    Method("ChunkKV, 20", "2502.00299", "kept", "keep{}:chunk20"),
    Method("Keyformer", "2403.09054", "kept", "keep{}:keyformer"),
    Method("Cascading KV cache", "2406.17808", "kept", "keep{}:cascading"),
    Method("H2O", "2306.14048", "kept", "keep{}:h2o"),
    Method("More tokens, lower precision", "2412.12706", "kept", "keep{}:reread+k4v4h"),
    Method("random", "", "kept", "keep{}:random"),
    Method("Elastic Cache, values", "2407.18121", "merged", "keep{}:elastic"),
    Method("Elastic Cache, keys and values", "2407.18121", "merged", "keep{}:elastickv"),
    Method("SubGen", "2402.06082", "merged", "keep{}:subgen"),
    Method("LESS", "2402.09398", "merged", "keep{}:less"),
)
VISION = (
    ("VTC-CLS", "2412.05819", "tests/benchmarks/vision/test_vtc_cls.py"),
    ("PACT", "2504.08966", "tests/benchmarks/vision/test_pact.py"),
    ("TopV", "2503.18278", None),
    ("Inference-optimal VLMs", "2411.03312", None),
    ("LeMeViT", "2405.09789", None),
)
"""With their tests; docs/methods.md says why some are not built."""
_FIGURES = ("kl", "top1", "answer_nll_delta", "copies", "multi_hop", "aggregation", "build_s", "tok_s")


def entries(options: argparse.Namespace, runner: Runner) -> tuple[list[tuple[Method, Entry]], dict[str, str]]:
    """What is measured, exact first; and by name what is not, with the reason."""
    tokens = max(map(int, options.lengths.split(",")))
    found: list[tuple[Method, Entry]] = []
    missing: dict[str, str] = {}
    some = [each for each in options.only.split(",") if each]

    def wanted(recipe: str) -> bool:
        return not some or any(each in recipe for each in some)

    for name in (name for name in NAMED if name == "exact" or wanted(name)):
        try:
            recipe = parse(name)
            entry = Entry(name, recipe, layout_of(runner.model, recipe, [options.models]), runner)
            found.append((Method(name, "", "own", name), entry))
        except PlanMissing as reason:
            missing[name] = str(reason)
    for method in (each for each in METHODS if wanted(each.form)):
        for ratio in RATIOS:
            try:
                found.append((method, _fitting(options, runner, method, ratio, tokens)))
            except PlanMissing as reason:
                missing[method.name] = str(reason)
    return found, missing


def _fitting(options: argparse.Namespace, runner: Runner, method: Method, ratio: int, tokens: int) -> Entry:
    """The method with as much as fits into a share of the exact bytes of so many tokens."""
    model, low, high = runner.model, 0, 9999
    most = model.shape.num_bytes(tokens) / ratio
    layout = layout_of(model, parse(f"{method.form.format(50)}+{NEAR}"), [options.models])

    def entry(keep: int) -> Entry:
        text = f"{method.form.format(f'{keep / 100:g}')}+{NEAR}"
        recipe = parse(text)
        return Entry(text, recipe, replace(layout, recipe=recipe), runner)

    while low < high:
        middle = (low + high + 1) // 2
        fits = expected_bytes(entry(middle).layout, model.shape, tokens) <= most
        low, high = (middle, high) if fits else (low, middle - 1)
    if not low:
        raise CalibrationFailed(f"1/{ratio} of {tokens} tokens has no room beside {NEAR}; take longer documents")
    return entry(low)


def work(options: argparse.Namespace, number: int = 0) -> Iterator[Found]:
    """Measure every document whose turn it is, unless its figures are kept."""
    runner = load(options)
    found, missing = entries(options, runner)
    kept = {int(path.stem) for path in _folder(options).glob("*.pickle")}
    for each in measured(options, number, runner, [entry for _, entry in found], kept, STEPS):
        methods = {entry.name: (method, str(entry.recipe)) for method, entry in found}
        about = {**each.about, "methods": pickle.dumps(methods).hex(), "left out": json.dumps(missing)}
        yield Found(each.number, each.documents, about, each.rows)


def _folder(options: argparse.Namespace) -> Path:
    """Where figures of this model, these documents and these methods are kept."""
    facts = options.model, options.lengths, options.limit, options.questions, options.seed, options.dtype, options.only
    asked = repr((*facts, str(options.data), METHODS, RATIOS))
    return Path(options.out) / hashlib.sha256(asked.encode()).hexdigest()[:12]


def rows(found: Sequence[Found], seed: int) -> list[dict[str, Any]]:
    """One row a method and budget, from all documents so far; vision methods have none but their tests."""
    methods: dict[str, tuple[Method, str]] = pickle.loads(bytes.fromhex(found[0].about["methods"]))
    made = []
    for name, (method, parts) in methods.items():
        row = Row()
        for each in sorted(found, key=lambda each: each.number):
            row.add(each.rows[name])
        (facts,) = summarize({name: parse(parts)}, {name: row}, seed)
        made.append(
            {
                "method": method.name,
                "arxiv": method.arxiv,
                "kind": method.kind,
                "recipe": name,
                "bytes_per_token": facts["bytes_per_token"],
                "kl": facts["kl_mean"],
                "kl_ci": facts["kl_ci"],
                "top1": facts["top1"],
                "answer_nll_delta": facts["answer_nll_delta"],
                "copies": _mean(facts["retrieval"].values()),
                "multi_hop": facts["hard"]["multi_hop"],
                "aggregation": facts["hard"]["aggregation"],
                "build_s": row.seconds / len(found),
                "tok_s": 1 / fmean(row.step_seconds),
            }
        )
    for name, arxiv, tests in VISION:
        nothing = dict.fromkeys(_FIGURES)
        made.append({"method": name, "arxiv": arxiv, "kind": "vision", "recipe": None, **nothing, "tests": tests})
    return made


def _mean(values: Any) -> float | None:
    known = [each for each in values if each is not None]
    return fmean(known) if known else None


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _measure(options, say)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _measure(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    folder = _folder(options)
    folder.mkdir(parents=True, exist_ok=True)
    found = [pickle.loads(path.read_bytes()) for path in sorted(folder.glob("*.pickle"))]
    if found:
        say(f"{len(found)} of {found[0].documents} documents were measured before")
        _write(options, found)
    for each in workers.run(work, options) if options.workers > 1 else work(options):
        found.append(each)
        with atomic_write(folder / f"{each.number:04d}.pickle") as scratch:
            scratch.write_bytes(pickle.dumps(each))
        _write(options, found)
        say(f"{len(found)} of {each.documents} documents: {options.json}")
    if not found:
        raise CalibrationFailed("the time was up before the first document")
    for name, reason in json.loads(found[-1].about["left out"]).items():
        say(f"{name} is left out: {reason}")


def _write(options: argparse.Namespace, found: Sequence[Found]) -> None:
    about = {key: found[0].about[key] for key in ("model", "hardware", "dtype")}
    facts = {**about, "seed": options.seed, "lengths": options.lengths, "documents": len(found)}
    # Those of readers are measured by benchmarks.readers.
    known = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
    every = [*rows(found, options.seed), *(row for row in known if row["kind"] == "reader")]
    shown = ",\n  ".join(json.dumps(row) for row in every)
    with atomic_write(options.json) as scratch:
        scratch.write_text(f'{json.dumps(facts)[:-1]}, "rows": [\n  {shown}\n]}}\n')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity.methods",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.add_argument("--only", default="", help="parts of recipes, such as subgen,elastic")
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures of each document")
    parser.add_argument("--json", type=Path, default=Path("docs/methods.json"), help="the file of rows")
    return parser


if __name__ == "__main__":
    main()
