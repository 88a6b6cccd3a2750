"""Token ids and word boxes as compact bytes, for the columns that hold thousands of numbers."""

import struct
import zlib
from collections.abc import Sequence

from storage.errors import DatabaseDamaged

# Boxes are kept as 1/65535 of the page: a hundredth of a point on a letter page.
_BOX_UNIT = 65535

Word = tuple[int, int, float, float, float, float]


def pack_token_ids(token_ids: Sequence[int]) -> bytes:
    """Compressed little-endian int32."""
    return zlib.compress(struct.pack(f"<{len(token_ids)}i", *token_ids))


def unpack_token_ids(packed: bytes) -> list[int]:
    """The inverse of `pack_token_ids`. Raises DatabaseDamaged."""
    raw = _unpacked(packed, 4)
    return list(struct.unpack(f"<{len(raw) // 4}i", raw))


def pack_words(words: Sequence[Word]) -> bytes:
    """Compressed columns of (start, end, x0, y0, x1, y1): characters of the page text, fractions of the page.

    Coordinates outside 0..1 are moved to the edge of the page.
    """
    starts = [word[0] for word in words]
    ends = [word[1] for word in words]
    edges = [round(min(max(word[column], 0.0), 1.0) * _BOX_UNIT) for column in range(2, 6) for word in words]
    return zlib.compress(struct.pack(f"<{2 * len(words)}i{4 * len(words)}H", *starts, *ends, *edges))


def unpack_words(packed: bytes) -> list[Word]:
    """The inverse of `pack_words`, to within 1/65535 of the page. Raises DatabaseDamaged."""
    raw = _unpacked(packed, 16)
    count = len(raw) // 16
    numbers = struct.unpack(f"<{2 * count}i{4 * count}H", raw)
    columns = [numbers[column * count : (column + 1) * count] for column in range(6)]
    return [
        (start, end, x0 / _BOX_UNIT, y0 / _BOX_UNIT, x1 / _BOX_UNIT, y1 / _BOX_UNIT)
        for start, end, x0, y0, x1, y1 in zip(*columns, strict=True)
    ]


def _unpacked(packed: bytes, unit: int) -> bytes:
    """What was compressed, in whole units of so many bytes."""
    try:
        raw = zlib.decompress(packed)
    except zlib.error as error:
        raise DatabaseDamaged(f"a column of numbers: {error}") from error
    if len(raw) % unit:
        raise DatabaseDamaged(f"a column of numbers has {len(raw)} bytes")
    return raw
