"""The report: one row for a system, a precision of keys and values, and a length; as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.speed.bandwidth import Bandwidth


@dataclass(frozen=True)
class FirstToken:
    """Milliseconds to the first token of a question, by where the document's memory lies; None: not measured."""

    gpu: float | None
    ram: float | None
    disk: float | None


@dataclass(frozen=True)
class Row:
    """What was measured; None where it was not asked for or does not exist."""

    system: str
    kv: str
    length: int
    prefill_tok_s: float | None
    decode_tok_s: float
    first_token_ms: FirstToken
    peak_gb: float
    kv_bytes: int
    """Of the whole document's memory, scales included."""
    weight_bytes: int
    """Of the weights that one token reads."""

    @property
    def read_bytes(self) -> int:
        """What one decoded token must read."""
        return self.weight_bytes + self.kv_bytes

    def facts(self, bandwidth: Bandwidth) -> dict[str, Any]:
        """The row as the JSON line has it."""
        roof = bandwidth.roof_fraction(self.read_bytes, self.decode_tok_s)
        return {
            "system": self.system,
            "kv": self.kv,
            "length": self.length,
            "prefill_tok_s": _rounded(self.prefill_tok_s, 1),
            "decode_tok_s": round(self.decode_tok_s, 2),
            "first_token_ms": {place: _rounded(ms, 2) for place, ms in asdict(self.first_token_ms).items()},
            "peak_gb": round(self.peak_gb, 3),
            "bytes_per_token": round(self.kv_bytes / self.length, 1),
            "roof_fraction": round(roof, 4),
        }


def table(rows: Sequence[Row], bandwidth: Bandwidth) -> str:
    """The rows as Markdown; `read GB` is what one decoded token must read."""
    heads = ["system", "KV", "tokens", "prefill tok/s", "first token: GPU", "RAM", "disk, ms", "decode tok/s"]
    heads += ["read GB", "of the roof", "peak GB", "B/token"]
    lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)]]
    for row in rows:
        facts = row.facts(bandwidth)
        lines.append(
            [
                row.system,
                row.kv,
                f"{row.length:,}",
                _number(row.prefill_tok_s, ",.0f"),
                *(_number(ms, ",.1f") for ms in asdict(row.first_token_ms).values()),
                f"{row.decode_tok_s:,.1f}",
                f"{row.read_bytes / 1e9:.2f}",
                f"{facts['roof_fraction']:.0%}",
                f"{row.peak_gb:.1f}",
                f"{facts['bytes_per_token']:,.0f}",
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
