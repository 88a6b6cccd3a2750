"""The picture of bytes per token against what answers lose, as one SVG without anything from elsewhere."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 480, 80, 170, 30, 60


def draw(rows: Sequence[Mapping[str, Any]]) -> str:
    """The picture of all recipes whose answers were measured; empty where none was."""
    points = [row for row in rows if row["answer_nll_delta"] is not None]
    if not points:
        return ""
    sizes = [math.log2(row["bytes_per_token"]) for row in points]
    first, last = math.floor(min(sizes)), math.ceil(max(sizes))
    lows = [row["answer_nll_ci"][0] for row in points]
    highs = [row["answer_nll_ci"][1] for row in points]
    low, high = min(-0.01, *lows), max(0.01, *highs)

    def x(size: float) -> float:
        return float(LEFT + (size - first) / max(1, last - first) * (WIDTH - LEFT - RIGHT))

    def y(delta: float) -> float:
        return float(TOP + (high - delta) / (high - low) * (HEIGHT - TOP - BOTTOM))

    marks = [f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>']
    for power in range(first, last + 1):
        marks.append(f'<line class="grid" x1="{x(power):.1f}" x2="{x(power):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        marks.append(f'<text x="{x(power):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{2**power:,}</text>')
    for step in range(5):
        delta = low + step * (high - low) / 4
        marks.append(f'<text x="{LEFT - 8}" y="{y(delta) + 4:.1f}" text-anchor="end">{delta:+.3f}</text>')
    taken: list[float] = []
    for row, size in sorted(zip(points, sizes, strict=True), key=lambda pair: pair[0]["answer_nll_delta"]):
        at, value = x(size), y(row["answer_nll_delta"])
        top, bottom = (y(each) for each in reversed(row["answer_nll_ci"]))
        label = value + 4
        while any(abs(label - other) < 13 for other in taken):
            label -= 13
        taken.append(label)
        marks.append(f'<line class="range" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        marks.append(f'<circle cx="{at:.1f}" cy="{value:.1f}" r="4"/>')
        marks.append(f'<text x="{at + 8:.1f}" y="{label:.1f}">{escape(row["recipe"])}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        "<title>Bytes per token against what answers lose</title>\n<style>"
        "svg{background:#fff;font:12px system-ui,sans-serif}text{fill:#222}circle{fill:#2456c7}"
        ".grid{stroke:#ddd}.zero{stroke:#888}.range{stroke:#2456c7;opacity:.5}"
        "@media(prefers-color-scheme:dark){svg{background:#16181d}text{fill:#ddd}circle{fill:#8db0ff}"
        ".grid{stroke:#333}.range{stroke:#8db0ff}}</style>\n"
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 16}" text-anchor="middle">bytes per token</text>\n'
        f'<text x="16" y="{TOP - 12}">answers: nats per token lost against exact, with 95 % intervals</text>\n'
        + "\n".join(marks)
        + "\n</svg>\n"
    )
