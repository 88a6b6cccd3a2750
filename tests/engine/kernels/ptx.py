"""As much of PTX as the look-ups of codes use, for a warp of 32 threads, so that they can be tested without a GPU."""

import re
import struct

Warp = list[int]
"""A 32-bit register of each thread."""


def run(code: str, inputs: dict[str, Warp]) -> dict[str, Warp]:
    """The registers of a warp after some lines of PTX."""
    held: dict[str, Warp] = dict(inputs)

    def read(name: str) -> Warp:
        return held[name] if name in held else [int(name, 0) & 0xFFFFFFFF] * 32

    for line in re.sub(r"[{}]\s*(?=\.reg|$)|^\s*\}", "", code, flags=re.MULTILINE).split(";"):
        name, _, rest = line.strip().partition(" ")
        if not name or name == ".reg":
            continue
        operands = re.findall(r"[$\w]+", rest)
        target, *sources = operands
        held[target] = _step(name, [read(source) for source in sources])
    return held


def as_float(register: Warp) -> list[float]:
    """The float32 of each thread."""
    return [struct.unpack("<f", struct.pack("<I", value))[0] for value in register]


def from_float(values: list[float]) -> Warp:
    """The register that holds these float32."""
    return [struct.unpack("<I", struct.pack("<f", value))[0] for value in values]


def _step(name: str, sources: list[Warp]) -> Warp:
    if name.startswith("shfl.sync.idx"):
        entry, at, limits, _ = sources
        segment, clamp = limits[0] >> 8 & 31, limits[0] & 31
        wanted = [lane & segment | index & 31 & ~segment for lane, index in enumerate(at)]
        return [entry[other] if other <= (lane & segment | clamp & ~segment) else entry[lane]
                for lane, other in enumerate(wanted)]  # fmt: skip
    return [_one(name, *values) for values in zip(*sources, strict=True)]


def _one(name: str, *values: int) -> int:
    match name:
        case "and.b32":
            return values[0] & values[1]
        case "shr.b32" | "shr.u32":
            return values[0] >> values[1]
        case "shl.b32":
            return values[0] << values[1] & 0xFFFFFFFF
        case "add.f32":
            return from_float([sum(as_float(list(values)))])[0]
        case "lop3.b32":
            a, b, c, table = values
            return sum((table >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1)) & 1) << i for i in range(32))
        case "prmt.b32":
            a, b, order = values
            eight = (b << 32 | a).to_bytes(8, "little")
            picks = [order >> 4 * i & 15 for i in range(4)]
            # The highest bit of a pick asks for the sign of the byte.
            chosen = [eight[pick & 7] if pick < 8 else 255 * (eight[pick & 7] >> 7) for pick in picks]
            return int.from_bytes(bytes(chosen), "little")
    raise AssertionError(f"an instruction that is not known here: {name}")
