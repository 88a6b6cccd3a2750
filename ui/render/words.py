"""Figures and foreign text as they are shown: sizes, times, counts, escaped text, and a model's words as safe HTML."""

import re
from html import escape

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
"""Control characters and direction overrides, which could make a file name read as something else."""
BULLET = re.compile(r"^\s{0,6}(?:[-*•]|\d{1,3}[.)])\s+(.*)$")
NUMBERED = re.compile(r"^\s{0,6}\d{1,3}[.)]\s")


def text(value: str) -> str:
    """Foreign text, safe inside an element and inside a quoted attribute."""
    return escape(CONTROL.sub("", value), quote=True)


def count(number: int, one: str, many: str = "") -> str:
    """`1 page`, `12,800 tokens`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`0.4 s`, `45 s`, `3 min`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def about(seconds: float) -> str:
    """An estimate, without decimals that nobody can know: `4 s`, `45 s`, `3 min`."""
    return f"{max(1, round(seconds))} s" if seconds < 9.95 else duration(seconds)


def size(num_bytes: int) -> str:
    """`812 KB`, `1.9 GB`, in powers of a thousand as file managers show them."""
    value = float(num_bytes)
    for unit in ("bytes", "KB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.1f} {unit}" if unit == "GB" or (unit == "MB" and value < 9.95) else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def prose(words: str) -> str:
    """A model's words as paragraphs, lists, bold and code; links and images stay the plain text they are."""
    blocks: list[str] = []
    for block in re.split(r"\n\s*\n", words.strip()):
        lines: list[str] = []
        items: list[str] = []
        numbered = False
        for line in block.split("\n"):
            bullet = BULLET.match(line)
            if bullet:
                numbered = numbered or bool(NUMBERED.match(line))
                items.append(f"<li>{_inline(bullet[1])}</li>")
            elif items:
                items[-1] = items[-1].removesuffix("</li>") + f"<br>{_inline(line)}</li>"
            else:
                lines.append(_inline(line.lstrip("# ")))
        if lines:
            blocks.append(f"<p>{'<br>'.join(lines)}</p>")
        if items:
            tag = "ol" if numbered else "ul"
            blocks.append(f"<{tag}>{''.join(items)}</{tag}>")
    return "".join(blocks)


def _inline(line: str) -> str:
    safe = text(line)
    safe = re.sub(r"\*\*(\S(?:[^*]*\S)?)\*\*", r"<strong>\1</strong>", safe)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
