"""Finds the evidence heads of a model on the command line, as the app does it once a model is first used.

python -m engine.training.evidence_heads --model embedded --models DIR --out engine/evidence/calibrated
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from engine.evidence.calibration import calibrate
from engine.models import loader
from engine.runtime.runner import Runner


def main(say: Callable[[str], None] = print) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="embedded, a local folder or a hub id")
    parser.add_argument("--models", type=Path, required=True, help="folder of the embedded model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the file of heads")
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    runner = Runner(loader.load(options.model, options.models, say))
    heads = calibrate(runner, options.samples, options.seed)
    path = heads.save(options.out)
    say(f"{path}: answers from the {heads.answers_from}")
    for head, mass in zip(heads.heads, heads.mass, strict=True):
        say(f"layer {head[0]:2d} head {head[1]:2d}  {mass:+.3f}")


if __name__ == "__main__":
    main()
