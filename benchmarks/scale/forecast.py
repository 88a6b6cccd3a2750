"""The forecast: GPUs, terabytes and cents a question for a million documents, from what was measured on one GPU."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.scale.simulation import Fleet, Load, replicas_for, simulate

_MEASURED = Path(__file__).parents[2] / "docs" / "benchmarks"
_APP, _DECODE = "2026-11-29-h200-app.json", "2026-11-28-h200-decode.json"
_KEPT_AS = {"exact": "bf16", "k4v4hs": "int4"}
_CODED = {"packed": (11_546, 0.68 / 32_768, 0.56 / 32_768), "archive": (5_863, 0.58 / 32_768, 0.57 / 32_768)}
"""Bytes a token on the disk, and seconds a token to bring it back and to code it (docs/log.md, 2026-11-30; random
weights); in memory such a pod is exact."""
_HOT_BYTES = 100e9
"""Of a GPU's 141 GB, beside weights in 4 bits, what is read at the moment, and graphs."""


@dataclass(frozen=True)
class Price:
    """What is taken for granted: dollars for a GPU an hour, and for a terabyte of an object store a month."""

    gpu_hour: float = 3.0
    terabyte_month: float = 23.0


def forecast(
    documents: int, tokens: int, recipe: str, rate: float, answer_tokens: int, zipf: float, p95: float, price: Price
) -> dict[str, Any]:
    """One row: what so many documents of so many tokens take, asked so often a second.

    Reading is spread over 30 days. A question's own seconds are its first word's and those of its tokens.
    """
    coded, base = _CODED.get(recipe), "exact" if recipe in _CODED else recipe
    app = next(each for each in _rows(_APP) if each["recipe"] == base)
    decoded = max((each for each in _rows(_DECODE) if each["kv"] == _KEPT_AS[base]), key=lambda each: each["length"])
    hot_bytes = decoded["bytes_per_token"] * tokens
    first = app["first_word_ms"]
    hot = first["gpu"] / 1e3 + answer_tokens / app["decode_tok_s"]
    # What comes from files grows with the document, what a warm question takes hardly does.
    loading = coded[1] if coded else (first["disk"] - first["gpu"]) / 1e3 / app["tokens"]
    pod_bytes = coded[0] * tokens if coded else hot_bytes
    load = Load(documents, 60_000, zipf, rate)
    fleet = Fleet(1, hot, hot + loading * tokens, max(1, int(_HOT_BYTES / hot_bytes)))
    answerers = replicas_for(load, fleet, p95)
    found = simulate(load, replace(fleet, replicas=answerers))
    reading = documents * tokens * (1 / app["read_tok_s"] + (coded[2] if coded else 0.0)) / 3600
    terabytes = documents * pod_bytes / 1e12
    storing = terabytes * price.terabyte_month / (30 * 86_400 * rate)
    answering = answerers * price.gpu_hour / 3600 / rate
    return {
        "documents": documents,
        "recipe": recipe,
        "questions_s": rate,
        "terabytes": round(terabytes, 2),
        "reading_gpu_hours": round(reading),
        "reading_dollars": round(reading * price.gpu_hour),
        "readers": round(reading / (30 * 24), 2),
        "answerers": answerers,
        "hot": round(found.hot, 3),
        "median_s": round(found.median, 2),
        "p95_s": round(found.p95, 2),
        "busy": round(found.busy, 2),
        "cents_answering": round(100 * answering, 4),
        "cents_storing": round(100 * storing, 4),
    }


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((_MEASURED / name).read_text())["rows"]
    return [each for each in rows if each.get("shape", "llama-3.1-8b") == "llama-3.1-8b"]
