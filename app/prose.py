"""Prose: foreign text and a model's words as safe HTML."""

import re
from html import escape

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
"""Control characters and direction overrides, which could make a file name read as something else."""
BULLET = re.compile(r"^\s{0,6}(?:[-*•]|\d{1,3}[.)])\s+(.*)$")
NUMBERED = re.compile(r"^\s{0,6}\d{1,3}[.)]\s")


def text(value: str) -> str:
    """Foreign text, safe inside an element and inside a quoted attribute."""
    return escape(CONTROL.sub("", value), quote=True)


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
