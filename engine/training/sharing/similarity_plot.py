"""The picture of how alike a model's layers look, with the blocks of a plan, as one SVG."""

from collections.abc import Iterator

from torch import Tensor

from engine.kvcache.sharing_plan import SharingPlan

CELL, GAP, LEFT, TOP = 9, 60, 46, 66
_STYLE = (
    "svg{background:#fff;font:12px system-ui,sans-serif}text{fill:#222}.block{fill:none;stroke:#c2410c;stroke-width:2}"
    ".frame{fill:none;stroke:#999}.cell{fill:#1e4fbf}"
    "@media(prefers-color-scheme:dark){svg{background:#16181d}text{fill:#ddd}.block{stroke:#ffb27a}.cell{fill:#8db0ff}}"
)


def draw(similarity: Tensor, plan: SharingPlan) -> str:
    """A heat map (L, L) a KV head, from similarity (G, L, L): the fuller a cell's colour, the more alike two layers.

    The frames along the diagonal are the blocks of the plan.
    """
    heads, layers, _ = similarity.shape
    side = layers * CELL
    width, height = LEFT + heads * (side + GAP), TOP + side + 90
    low = float(similarity.min())
    parts = list(_legend(TOP + side + 62, low))
    for head in range(heads):
        x = LEFT + head * (side + GAP)
        parts.append(f'<text x="{x}" y="{TOP - 12}">KV head {head}</text>')
        parts.append(f'<rect class="frame" x="{x}" y="{TOP}" width="{side}" height="{side}"/>')
        parts += _map(similarity[head], x, low)
        parts += _blocks([row[head] for row in plan.roots], x)
        for layer in range(0, layers, 5):
            at = (layer + 0.5) * CELL
            parts.append(f'<text x="{x + at}" y="{TOP + side + 16}" text-anchor="middle">{layer}</text>')
            parts.append(f'<text x="{x - 6}" y="{TOP + at + 4}" text-anchor="end">{layer}</text>')
        parts.append(f'<text x="{x + side / 2}" y="{TOP + side + 34}" text-anchor="middle">layer</text>')
    title = f"{plan.model}: similarity of layers; blocks that leave out {100 * plan.saving:.1f} % of keys and values"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"><title>{title}</title>\n'
        f'<style>{_STYLE}</style>\n<text x="{LEFT}" y="24" font-size="15">{title}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _map(similarity: Tensor, x: int, low: float) -> Iterator[str]:
    """The cells of one head, those of a row in one path per shade."""
    for row, values in enumerate(similarity.tolist()):
        for column, value in enumerate(values):
            shade = (value - low) / max(1e-6, 1 - low)
            yield (
                f'<rect class="cell" x="{x + column * CELL}" y="{TOP + row * CELL}" width="{CELL}" height="{CELL}" '
                f'opacity="{shade:.2f}"/>'
            )


def _blocks(roots: list[int], x: int) -> Iterator[str]:
    """A frame around each block of two layers or more."""
    for root in sorted(set(roots)):
        count = roots.count(root)
        if count > 1:
            at, size = root * CELL, count * CELL
            yield f'<rect class="block" x="{x + at}" y="{TOP + at}" width="{size}" height="{size}"/>'


def _legend(y: int, low: float) -> Iterator[str]:
    yield f'<text x="{LEFT}" y="{y + 12}">similarity {low:.2f}</text>'
    for step in range(11):
        yield (
            f'<rect class="cell" x="{LEFT + 100 + 14 * step}" y="{y}" width="14" height="14" opacity="{step / 10}"/>'
        )
    yield f'<text x="{LEFT + 262}" y="{y + 12}">1.00</text>'
    yield f'<rect class="block" x="{LEFT + 310}" y="{y + 1}" width="12" height="12"/>'
    yield f'<text x="{LEFT + 330}" y="{y + 12}">a block of layers</text>'
