"""Finds the basis of a model on the command line, as `docpod readers prepare` does it in a home.

    python -m engine.training.basis --model embedded --models DIR --out DIR

`--text` adds texts to those that every machine has.
"""

import argparse
from collections.abc import Callable, Sequence

from engine.compression.basis_fit import SAMPLES, prepare
from engine.core.errors import EngineError
from engine.models import loader
from engine.runtime.runner import Runner
from engine.training.options import add_options, read_text


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line; ends with exit code 2 and one sentence for what cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.training.basis",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, SAMPLES, "the basis")
    options = parser.parse_args(arguments)
    try:
        own = read_text(options.text) if options.text else ""
        runner = Runner(loader.load(options.model, options.models, say))
        path = prepare(runner, options.out, own, say, options.samples, options.tokens, options.seed)
    except EngineError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    say(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
