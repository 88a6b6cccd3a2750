"""Figures and foreign text as they are shown: sizes, times, escaped text, and a model's words as safe HTML."""

from datetime import datetime

from app.prose import prose as prose
from app.prose import text as text
from ui.language import count as count
from ui.language import figure as figure
from ui.language import t as t
from ui.language import translated as translated


def duration(seconds: float) -> str:
    """`0.03 s`, `0.4 s`, `45 s`, `3 min`, `2 h 10 min`."""
    if seconds < 99.5:
        return t("{n} s", n=figure(seconds, ".2f" if seconds < 0.095 else ".1f" if seconds < 9.95 else ".0f"))
    minutes = round(seconds / 60)
    if minutes < 100:
        return t("{n} min", n=minutes)
    return t("{hours} h {minutes} min", hours=minutes // 60, minutes=minutes % 60)


def about(seconds: float) -> str:
    """An estimate, without decimals that nobody can know: `4 s`, `45 s`, `3 min`."""
    return t("{n} s", n=max(1, round(seconds))) if seconds < 9.95 else duration(seconds)


def size(num_bytes: int) -> str:
    """`812 KB`, `1.9 GB`, in powers of a thousand as file managers show them."""
    value = float(num_bytes)
    for unit, fine in ((t("{n} bytes"), 0), (t("{n} KB"), 0), (t("{n} MB"), 9.95), (t("{n} GB"), 1000)):
        if value < 999.5:
            return unit.format(n=figure(value, ".1f" if value < fine else ".0f"))
        value /= 1000
    return t("{n} TB", n=figure(value, ".1f"))


def when(moment: datetime) -> str:
    """`29 Nov 2026, 18:30`, in the time of this machine."""
    return moment.astimezone().strftime(t("%d %b %Y, %H:%M"))
