"""Figures and foreign text as they are shown: sizes, times, counts, escaped text, and a model's words as safe HTML."""

from app.prose import prose as prose
from app.prose import text as text


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
