"""The listing: which documents a list shows for some words and tags, and in which order."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from app.errors import BadName
from app.events import DocumentEntry
from app.titles import name_of

TAG = "#"
"""Begins a tag among the words of a search."""
_MOST_TAGS = 12
_BEGINNING = datetime.min.replace(tzinfo=UTC)
SORTS: dict[str, tuple[str, Callable[[DocumentEntry], Any], bool]] = {
    "added": ("Newest first", lambda each: 0, False),
    "name": ("By name", lambda each: _natural(each.name), False),
    "used": ("Last used first", lambda each: each.used_at or _BEGINNING, True),
    "size": ("Largest first", lambda each: each.num_bytes + each.pod_bytes, True),
}
"""Orders of the library, which comes newest first: what each is called, its key, and whether that falls."""


def listed(entries: Iterable[DocumentEntry], search: str = "", sort: str = "added") -> list[DocumentEntry]:
    """Those whose title or file name has every word of a search, and that have every tag in it, in an order."""
    tags, words = parted(search)
    found = [
        each
        for each in entries
        if tags <= {tag.casefold() for tag in each.tags}
        and all(word in f"{each.title}\n{each.file_name}".casefold() for word in words.casefold().split())
    ]
    _, key, falls = SORTS[sort]
    return sorted(found, key=key, reverse=falls)


def parted(search: str) -> tuple[frozenset[str], str]:
    """The tags in a search, without regard to case, and its other words."""
    words = search.split()
    tags = frozenset(each[1:].casefold() for each in words if each.startswith(TAG) and each != TAG)
    return tags, " ".join(each for each in words if not each.startswith(TAG)) if tags else search


def tags_in(given: str) -> list[str]:
    """Tags as a user types them, with spaces or commas between them, each once. Raises BadName."""
    tags = {tag.casefold(): tag for each in re.split(r"[\s,]+", given) if (tag := each.lstrip(TAG))}
    if len(tags) > _MOST_TAGS:
        raise BadName(f"These are {len(tags)} tags; {_MOST_TAGS} are the most.", "Leave some out.")
    return [name_of(each) for each in tags.values()]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Orders names as people do: numbers by what they are worth."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(not each.isdecimal(), int(each) if each.isdecimal() else 0, each) for each in parts]
