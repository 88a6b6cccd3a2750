"""What a million documents take, by a simulation that is fed with what was measured, and checked on a small cluster.

    python -m benchmarks.scale --out docs/scale.json
    python -m benchmarks.scale --measure --work DIR --models FOLDER --out docs/scale.json      (the extra `cluster`)

The forecast takes the figures of docs/benchmarks. `--measure` begins three replicas that answer and two that read on
this machine, and puts what they do beside what the simulation says of them. Prints one JSON line at the end.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from app.settings import Settings
from benchmarks.scale.forecast import Price, forecast
from benchmarks.scale.small_cluster import measure, prepared

_DOCUMENTS = (1_000, 10_000, 100_000, 1_000_000)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=30_000, help="of a document")
    parser.add_argument("--rate", type=float, default=10.0, help="questions a second")
    parser.add_argument("--answer-tokens", type=int, default=128)
    parser.add_argument("--zipf", type=float, default=1.0, help="popularity: the r-th document is asked as r^-ZIPF")
    parser.add_argument("--p95", type=float, default=3.0, help="seconds in which 95 of 100 questions are answered")
    parser.add_argument("--measure", action="store_true", help="run a small cluster too")
    parser.add_argument("--model", default="embedded", help="of the small cluster")
    parser.add_argument("--models", type=Path, help="folder that has that model")
    parser.add_argument("--work", type=Path, help="folder for homes, which is left as it is")
    parser.add_argument("--documents", type=int, default=50, help="of the small cluster")
    parser.add_argument("--out", type=Path, help="a file for the JSON too")
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    if options.measure:
        if not options.work or not options.models:
            parser.error("--measure needs --work and --models")
        prepared(options.models, options.work)
        settings = Settings(model=options.model, max_answer_tokens=16, meaning=False, prepare=False, coded=False)
        found["small"] = measure(settings, options.work, options.documents, print)
    else:
        price = Price()
        asked = (options.tokens, options.rate, options.answer_tokens, options.zipf, options.p95)
        found["asked"] = dict(zip(("tokens", "rate", "answer_tokens", "zipf", "p95"), asked, strict=True))
        found["price"] = asdict(price)
        found["rows"] = [
            forecast(count, options.tokens, recipe, *asked[1:], price)
            for recipe in ("exact", "k4v4hs", "packed", "archive")
            for count in _DOCUMENTS
        ]
        for row in found["rows"]:
            print(row)
    print(json.dumps(found))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
