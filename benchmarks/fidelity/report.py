"""The report: one row a recipe, as the JSON line, as a table for people, and the settings it was made with."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.fidelity.bench import Row
from benchmarks.fidelity.measures import Judged, Mean, mean, quantile
from engine.kvcache.recipe import Recipe

HARD = ("multi_hop", "aggregation", "paraphrase", "key_value")


def summarize(recipes: Mapping[str, Recipe], rows: Mapping[str, Row], seed: int) -> list[dict[str, Any]]:
    """One dictionary a recipe, in the order given; what was not measured is None."""
    return [{"recipe": name, "parts": str(recipe), **_facts(rows[name], seed)} for name, recipe in recipes.items()]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    lengths = sorted({length for row in rows for length in row["retrieval"]}, key=int)
    heads = ["recipe", "B/token", "x", "KL mean", "KL 99.9 %", "top-1", "text Δ nats", "answer Δ nats [95 %]"]
    heads += [f"copy {length}" for length in lengths] + [kind.replace("_", " ") for kind in HARD]
    lines = [heads, ["---"] * len(heads)]
    largest = max(row["bytes_per_token"] for row in rows)
    for row in rows:
        answer = "-"
        if row["answer_nll_delta"] is not None:
            low, high = row["answer_nll_ci"]
            answer = f"{row['answer_nll_delta']:+.4f} [{low:+.4f}, {high:+.4f}]"
        name = row["recipe"] if row["recipe"] == row["parts"] else f"{row['recipe']} ({row['parts']})"
        lines.append(
            [
                name,
                f"{row['bytes_per_token']:,.0f}",
                f"{largest / row['bytes_per_token']:.1f}",
                _number(row["kl_mean"], ".4f"),
                _number(row["kl_p999"], ".3f"),
                _number(row["top1"], ".3f"),
                _number(row["lm_delta"], "+.4f"),
                answer,
                *(_number(row["retrieval"].get(length), ".2f") for length in lengths),
                *(_number(row["hard"].get(kind), ".2f") for kind in HARD),
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def intervals(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the table has no room for, as Markdown: intervals, depths of copies, and what harder questions lose."""
    quarters = list(rows[0]["retrieval_by_depth"])
    heads = ["recipe", "KL [95 %]", "median", "worst text", "top-1 [95 %]", "text Δ [95 %]", "copy [95 %]"]
    heads += [f"copy, depth {quarter}" for quarter in quarters] + ["copy Δ nats"]
    heads += [f"{kind.replace('_', ' ')} Δ nats" for kind in HARD] + ["drift"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        lines.append(
            [
                row["recipe"],
                _between(row["kl_ci"], ".4f"),
                _number(row["kl_median"], ".5f"),
                _worst(row["kl_by_text"]),
                _between(row["top1_ci"], ".3f"),
                _between(row["lm_ci"], "+.4f"),
                _between(row["retrieval_ci"], ".2f"),
                *(_number(row["retrieval_by_depth"][quarter], ".2f") for quarter in quarters),
                _number(row["retrieval_nll_delta"], "+.3f"),
                *(_number(row["hard_nll_delta"][kind], "+.3f") for kind in HARD),
                _number(row["drift"], ".3g"),
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _worst(by_text: Mapping[str, float]) -> str:
    """The kind of text with the largest divergence, which says something where there are several."""
    kind = max(by_text, key=lambda kind: by_text[kind], default="")
    return f"{kind} {by_text[kind]:.4f}" if kind else "-"


def _between(interval: Sequence[float] | None, form: str) -> str:
    return "-" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def _facts(row: Row, seed: int) -> dict[str, Any]:
    def of(*kinds: str) -> list[Judged]:
        return [each for each in row.judged if each.kind in kinds]

    text, asked = of("text"), of("answer")
    longest = max(row.num_bytes)
    kl = mean(text, _divergence, seed)
    top1 = mean(text, lambda each: each.top1, seed)
    delta = mean(text, lambda each: each.nll - each.exact_nll, seed)
    answer = mean(asked, lambda each: each.nll - each.exact_nll, seed)
    copies = of("retrieval")
    return {
        "bytes_per_token": sum(row.num_bytes[longest]) / len(row.num_bytes[longest]),
        "bytes_per_token_by_length": {str(each): sum(found) / len(found) for each, found in row.num_bytes.items()},
        "kl_mean": _value(kl),
        "kl_ci": _interval(kl),
        "kl_median": quantile(text, 0.5),
        "kl_p999": quantile(text, 0.999),
        "kl_by_text": {
            kind: _value(mean([each for each in text if each.text == kind], _divergence, seed))
            for kind in sorted({each.text for each in text})
        },
        "top1": _value(top1),
        "top1_ci": _interval(top1),
        "lm_delta": _value(delta),
        "lm_ci": _interval(delta),
        "answer_nll_delta": _value(answer),
        "answer_nll_ci": _interval(answer),
        "retrieval": {
            str(length): _value(mean([each for each in copies if each.length == length], _right, seed))
            for length in sorted({each.length for each in copies})
        },
        "retrieval_by_depth": {
            f"{quarter}/4": _value(mean([each for each in copies if int(4 * each.depth) == quarter], _right, seed))
            for quarter in range(4)
        },
        "retrieval_exact": _value(mean(copies, lambda each: float(each.exact_right), seed)),
        "retrieval_ci": _interval(mean(copies, _right, seed)),
        "retrieval_nll_delta": _value(mean(copies, lambda each: each.nll - each.exact_nll, seed)),
        "hard": {kind: _value(mean(of(kind), _right, seed)) for kind in HARD},
        "hard_exact": {kind: _value(mean(of(kind), lambda each: float(each.exact_right), seed)) for kind in HARD},
        "hard_nll_delta": {kind: _value(mean(of(kind), lambda each: each.nll - each.exact_nll, seed)) for kind in HARD},
        "counts": {kind: len(of(kind)) for kind in ("text", "answer", "retrieval", *HARD)},
        "drift": row.drift,
        "seconds": round(row.seconds, 2),
    }


def _divergence(judged: Judged) -> float:
    return float(judged.kl.mean())


def _right(judged: Judged) -> float:
    return float(judged.right)


def _value(found: Mean | None) -> float | None:
    return None if found is None else found.value


def _interval(found: Mean | None) -> list[float] | None:
    return None if found is None else [found.low, found.high]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
