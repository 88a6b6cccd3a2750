"""Numbers in few bits: codes packed into bytes, with a scale and a zero point per group.

Keys are quantized per channel over groups of tokens, since a few of their channels are large at every token; values per
token over groups of channels (KIVI, arXiv 2402.02750). Letters: N rows (tokens), D channels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 64
"""Tokens that share a key's scale in each channel."""
_CHANNELS = 128
"""Most channels that share a value's scale in each token: with one scale a token, it can go into the token's weight."""
_SHRINKS = (1.0, 0.9, 0.8, 0.7)
"""Parts of a group's range that are tried at two and three bits: clipping outliers can pay there."""


@dataclass(frozen=True)
class Packed:
    """Rows (N, D) in `bits` bits each: codes (N, D * bits / 8) bytes, scales and zero points in float16.

    `per` says what shares a scale: "channel" (N / GROUP rounded up, D) or "token" (N, D / group). With 16 bits the
    codes are the rows themselves.
    """

    bits: int
    per: str
    codes: Tensor
    scales: Tensor
    zeros: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zero points."""
        return self.codes.nbytes + self.scales.nbytes + self.zeros.nbytes


def quantize(rows: Tensor, bits: int, per: str) -> Packed:
    """The rows (N, D) in so many bits; a last group of fewer than GROUP tokens has its own scales."""
    nothing = torch.empty(0, dtype=torch.float16, device=rows.device)
    if bits == 16:
        # A view would keep the whole exact pod alive.
        return Packed(bits, per, rows.clone(memory_format=torch.contiguous_format), nothing, nothing)
    count, dim = rows.shape
    wide = rows.float()
    if per == "channel":
        # Padding repeats the last row, which moves no group's range.
        pad = -count % GROUP
        grouped = torch.cat([wide, wide[-1:].expand(pad, dim)]) if pad else wide
        grouped = grouped.reshape(len(grouped) // GROUP, GROUP, dim).transpose(1, 2)
    else:
        group = channel_group(dim)
        grouped = wide.reshape(count, dim // group, group)
    codes, scales, zeros = _encode(grouped, bits)
    if per == "channel":
        codes = codes.transpose(1, 2).flatten(0, 1)[:count]
    return Packed(bits, per, pack(codes.reshape(count, dim), bits), scales, zeros)


def dequantize(packed: Packed, dtype: torch.dtype, chosen: Tensor | None = None) -> Tensor:
    """The rows (N, D) again, or those of the `chosen` numbers (N',)."""
    if packed.bits == 16:
        return packed.codes if chosen is None else packed.codes[chosen]
    codes = unpack(packed.codes if chosen is None else packed.codes[chosen], packed.bits)
    count, dim = codes.shape
    rows = torch.empty(count, dim, device=codes.device)
    if packed.per == "token":
        shape = (count, dim // channel_group(dim), channel_group(dim))
        scales, zeros = (each if chosen is None else each[chosen] for each in (packed.scales, packed.zeros))
        torch.addcmul(zeros.float()[..., None], codes.view(shape), scales.float()[..., None], out=rows.view(shape))
        return rows.to(dtype)
    scales, zeros = packed.scales.float(), packed.zeros.float()
    if chosen is not None:
        groups = chosen // GROUP
        return torch.addcmul(zeros[groups], codes, scales[groups], out=rows).to(dtype)
    whole = count - count % GROUP
    last = whole // GROUP
    shape = (last, GROUP, dim)
    full = rows[:whole].view(shape)
    torch.addcmul(zeros[:last, None], codes[:whole].view(shape), scales[:last, None], out=full)
    if whole < count:
        torch.addcmul(zeros[last], codes[whole:], scales[last], out=rows[whole:])
    return rows.to(dtype)


def rotated(rows: Tensor, rotation: Tensor | None) -> Tensor:
    """Rows (..., D) times the matrix (D, D), if there is one, in float32, in their dtype."""
    return rows if rotation is None else (rows.float() @ rotation).to(rows.dtype)


def quantize_into(rows: Tensor, into: Packed, rotation: Tensor | None = None) -> None:
    """Rows (G, N, D) of every KV head, rotated first by `rotation` (D, D) if given, into a Packed with a leading G."""
    for head, each in enumerate(rotated(rows, rotation)):
        made = quantize(each, into.bits, into.per)
        into.codes[head] = made.codes
        into.scales[head] = made.scales
        into.zeros[head] = made.zeros


def dequantize_into(packed: Packed, out: Tensor) -> None:
    """The rows (G, N, D) of a Packed with a leading G, whatever they are rotated by, in the dtype of `out`."""
    for head, room in enumerate(out):
        one = Packed(packed.bits, packed.per, packed.codes[head], packed.scales[head], packed.zeros[head])
        room.copy_(dequantize(one, out.dtype))


def channel_group(dim: int) -> int:
    """Channels that share a scale in values of `dim` channels."""
    return _CHANNELS if dim % _CHANNELS == 0 else dim


def packed_bytes(rows: int, dim: int, bits: int, per: str, exact: torch.dtype) -> int:
    """Bytes of so many rows, by formula; `exact` is the dtype that 16 bits stand for."""
    if bits == 16:
        return rows * dim * exact.itemsize
    return rows * dim * bits // 8 + math.prod(scale_shape(rows, dim, per)) * 4


def scale_shape(rows: int, dim: int, per: str) -> tuple[int, int]:
    """The shape of the scales of so many rows, and of their zero points."""
    return (math.ceil(rows / GROUP), dim) if per == "channel" else (rows, dim // channel_group(dim))


def hadamard(dim: int, device: torch.device) -> Tensor:
    """The orthogonal Hadamard matrix (D, D), which undoes itself: it spreads what is large in one channel over all.

    Where D is no power of two, it spreads within runs of the largest power of two that divides D.
    """
    run = dim & -dim
    matrix = torch.ones(1, 1, device=device)
    while len(matrix) < run:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return torch.kron(torch.eye(dim // run, device=device), matrix / math.sqrt(run))


def _encode(grouped: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of numbers (..., n) that share a scale in the last dimension, their scales and zero points in float16."""
    low, high = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    best: tuple[Tensor, Tensor, Tensor] | None = None
    least = torch.full_like(low, torch.inf)
    for shrink in _SHRINKS if bits < 4 else _SHRINKS[:1]:
        cut = (high - low) * (1 - shrink) / 2
        # Rounded to what is stored before the codes are chosen, so that they make up for it.
        zeros = (low + cut).half()
        scales = ((high - low - 2 * cut) / (2**bits - 1)).half().clamp_min(torch.finfo(torch.float16).tiny)
        codes = ((grouped - zeros.float()) / scales.float()).round().clamp(0, 2**bits - 1)
        error = (codes * scales.float() + zeros.float() - grouped).square().sum(-1, keepdim=True)
        if best is None:
            best, least = (codes, scales, zeros), error
        else:
            better = error < least
            least = torch.where(better, error, least)
            kept = zip((codes, scales, zeros), best, strict=True)
            best = tuple(torch.where(better, new, old) for new, old in kept)  # type: ignore[assignment]
    assert best is not None
    return best[0].to(torch.uint8), best[1].squeeze(-1), best[2].squeeze(-1)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes (N, D), each below 2**bits, as bytes (N, D * bits / 8): low bits first; three bits as two and one."""
    if bits == 8:
        return codes
    if bits == 3:
        return torch.cat([pack(codes & 3, 2), pack(codes >> 2, 1)], 1)
    share = 8 // bits
    shifts = torch.arange(share, device=codes.device, dtype=torch.uint8) * bits
    count, dim = codes.shape
    return (codes.reshape(count, dim // share, share) << shifts).sum(-1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """The codes (N, D) of bytes (N, D * bits / 8)."""
    if bits == 8:
        return packed
    if bits == 3:
        split = packed.shape[1] * 2 // 3
        return unpack(packed[:, :split], 2) | unpack(packed[:, split:], 1) << 2
    # One part of every byte after the other: many times faster than all parts of one byte at once.
    share = 8 // bits
    codes = torch.empty(*packed.shape, share, dtype=torch.uint8, device=packed.device)
    for part in range(share):
        torch.bitwise_and(packed >> part * bits, 2**bits - 1, out=codes[..., part])
    return codes.view(len(packed), packed.shape[1] * share)
