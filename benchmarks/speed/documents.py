"""How fast a document is read and asked, measured on the real model; a table, and one JSON line at the end.

    python -m benchmarks.speed.documents FILE [FILE ...] --home DIR [--ask QUESTION ...]

After each section that DocPod has read, durable writes included, plain transformers reads the same tokens in chunks of
the same size: both meet the same machine. Then each question is asked in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from app.main import App
from app.settings import Settings
from engine.models import embedded
from storage import unpack_token_ids

QUESTIONS = (
    "Who is the chief executive officer?",
    "What were total revenues?",
    "What legal proceedings is the company involved in?",
)


class Plain:
    """The same model as transformers loads and runs it."""

    def __init__(self, folder: Path, dtype: torch.dtype, chunk_tokens: int) -> None:
        self._network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        self._chunk_tokens = chunk_tokens

    @torch.inference_mode()
    def read(self, ids: Sequence[int]) -> float:
        """Seconds of a chunked prefill into a dynamic cache."""
        start, cache = time.perf_counter(), DynamicCache()
        for first in range(0, len(ids), self._chunk_tokens):
            chunk = torch.tensor([ids[first : first + self._chunk_tokens]])
            self._network(input_ids=chunk, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return time.perf_counter() - start


def read(app: App, path: Path, plain: Plain) -> dict[str, Any]:
    """Seconds of both over one file, section by section."""
    document_id = app.library.add(path, path.name, move=False)
    ours = theirs = 0.0
    done = 0
    work = app.library.wait(document_id)
    while True:
        start = time.perf_counter()
        progress = next(work, None)
        if progress is None or progress.stage == "reading":
            ours += time.perf_counter() - start
        (reading,) = app.library.catalogue.readings(document_id) or (None,)
        sections = app._store.sections(reading.id) if reading else []
        for section in [each for each in sections if each.state == "ready"][done:]:
            theirs += plain.read(unpack_token_ids(section.token_ids))
            done += 1
        if progress is None:
            break
    assert reading is not None and done, "read before: give an empty --home"
    tokens = reading.num_tokens
    return {
        "document_id": document_id,
        "file": path.name,
        "pages": len(app._store.page_states(document_id)),
        "tokens": tokens,
        "sections": done,
        "tokens_per_second": round(tokens / ours, 1),
        "plain_tokens_per_second": round(tokens / theirs, 1),
        "ratio": round(theirs / ours, 3),
    }


def ask(home: Path, document_id: str, question: str) -> dict[str, Any]:
    """What a new process says of the speed of an answer."""
    command = [sys.executable, "run_app.py", "ask", document_id, question, "--json", "--home", str(home)]
    answer = json.loads(subprocess.run([*command, "--model", "embedded"], capture_output=True, check=True).stdout)
    keys = ("sections", "reused_tokens", "recomputed_tokens", "first_token_seconds", "reading_seconds")
    share = answer["reading_seconds"] / answer["first_token_seconds"]
    return {"question": question, **{key: answer[key] for key in keys}, "times_faster": round(share, 1)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--ask", nargs="*", default=QUESTIONS)
    options = parser.parse_args()
    app = App(Settings(home=options.home, model="embedded", prepare=False))
    rows = []
    try:
        model = app.model.wait().loaded.runner.model
        folder = embedded.ensure(options.home / "models", print)
        plain = Plain(folder, model.shape.dtype, app.settings.chunk_tokens)
        for path in options.files:
            rows.append(read(app, path, plain))
            print(rows[-1], flush=True)
    finally:
        app.close()
    for row in rows:
        row["asked"] = [ask(options.home, row["document_id"], question) for question in options.ask]
        print(*row["asked"], sep="\n", flush=True)
    print(json.dumps({"model": model.name, "dtype": str(model.shape.dtype), "rows": rows}))


if __name__ == "__main__":
    main()
