"""One token through all layers: threads go through the same phases, and whoever is there takes the next task of one.

Nobody waits for a thread that was not woken yet, only for tasks that were taken; so one thread alone does all. Letters:
E hidden size, H query heads, G key/value heads, D head size, I size of the gated layer, V vocabulary, S slots.
"""

import numpy as np
from numba import float32, int32, njit

from engine.kernels.cpu.intrinsics import count, float_of, floats, fma, wait, words
from engine.kernels.cpu.sizes import ROWS, SLOTS
from engine.kernels.cpu.weights import by_codes, by_halves

PHASES_PER_LAYER = 5
MATRIX = ("codes", "scales", "groups", "columns", "bias")
"""Of a matrix: addresses of its words, scales (0 where it has none, being of halves) and biases (0: none); its size."""
PIECE = ("keys", "values", "layer_bytes", "head_bytes", "slots", "grows")
"""Of a piece: addresses in layer 0 and head 0, bytes to the next ones, how many slots, and whether the last of them is
the new token's, to be written."""
QKV, OUT, GATE_UP, DOWN = range(4)


@njit
def _times(matrix, group, x, out):
    """A group of a matrix's rows times x, with their biases, into `out` (ROWS,)."""
    columns = matrix[3]
    if matrix[4]:
        out[:] = floats(matrix[4] + group * ROWS * 4, ROWS)
    else:
        out[:] = 0
    if matrix[1]:
        size = columns * ROWS // 8
        scales = floats(matrix[1] + group * size * 2, size // 2)
        by_codes(words(matrix[0] + group * size * 4, size), scales, x, out)
    else:
        size = columns * ROWS // 2
        by_halves(words(matrix[0] + group * size * 4, size), x, out)


@njit(inline="always")
def _exp(x):
    """e ** x to 2e-7 of itself, for x from -87 to 88: 2 ** n times a polynomial."""
    x = min(max(x, float32(-87)), float32(88))
    n = np.floor(x * float32(1.44269504) + float32(0.5))
    f = fma(n, float32(2.12194440e-4), fma(n, float32(-0.693359375), x))
    p = fma(f, float32(1.9875691500e-4), float32(1.3981999507e-3))
    p = fma(f, p, float32(8.3334519073e-3))
    p = fma(f, p, float32(4.1665795894e-2))
    p = fma(f, p, float32(1.6666665459e-1))
    p = fma(f, p, float32(5.0000001201e-1))
    p = fma(f * f, p, f + float32(1))
    return p * float_of(int32((int32(n) + int32(127)) << 23))


@njit(fastmath={"reassoc", "nsz", "contract"})
def _dot(a, b):
    total = float32(0)
    for at in range(len(a)):
        total += a[at] * b[at]
    return total


@njit
def _normed(x, weight, epsilon, out):
    """RMSNorm: x over its root mean square, times the weight."""
    unit = float32(1) / np.sqrt(_dot(x, x) / float32(len(x)) + epsilon)
    for at in range(len(x)):
        out[at] = weight[at] * (x[at] * unit)


@njit
def _turned(head, norm, epsilon, cos, sin, scale, out):
    """A head (D,) normed, if there is a norm, turned to its position, and scaled."""
    half = len(cos)
    if len(norm):
        _normed(head, norm, epsilon, out)
    else:
        out[:] = head
    for at in range(half):
        first, second = out[at], out[at + half]
        out[at] = (first * cos[at] - second * sin[at]) * scale
        out[at + half] = (second * cos[at] + first * sin[at]) * scale


@njit(inline="always")
def _weigh(row, values, dim, out):
    """Values (S, D) weighed by a row (S,), into `out` (D,)."""
    whole = len(row) - len(row) % 4
    for at in range(dim):
        out[at] = 0
    for slot in range(0, whole, 4):
        p0, p1, p2, p3 = row[slot], row[slot + 1], row[slot + 2], row[slot + 3]
        v0, v1, v2, v3 = values[slot], values[slot + 1], values[slot + 2], values[slot + 3]
        for at in range(dim):
            out[at] = fma(p3, v3[at], fma(p2, v2[at], fma(p1, v1[at], fma(p0, v0[at], out[at]))))
    for slot in range(whole, len(row)):
        for at in range(dim):
            out[at] = fma(row[slot], values[slot, at], out[at])


@njit(fastmath={"reassoc", "nsz", "contract"})
def _dot64(a, b):
    total = float32(0)
    for at in range(64):
        total += a[at] * b[at]
    return total


@njit(fastmath={"reassoc", "nsz", "contract"})
def _dot128(a, b):
    total = float32(0)
    for at in range(128):
        total += a[at] * b[at]
    return total


@njit
def _attend(query, keys, values, scores, out):
    """Query heads (N, D) over a piece (S, D): into `out` (N, D + 2) the weighed values, the greatest score, the sum."""
    dim = query.shape[1]
    slots = keys.shape[0]
    # Loops of a known length take a third of the time.
    for slot in range(slots):
        if dim == 64:
            for head in range(len(query)):
                scores[head, slot] = _dot64(query[head], keys[slot])
        elif dim == 128:
            for head in range(len(query)):
                scores[head, slot] = _dot128(query[head], keys[slot])
        else:
            for head in range(len(query)):
                scores[head, slot] = _dot(query[head], keys[slot])
    for head in range(len(query)):
        row, weighed = scores[head, :slots], out[head, :dim]
        greatest = row[0]
        for slot in range(slots):
            greatest = max(greatest, row[slot])
        for slot in range(slots):
            row[slot] = _exp(row[slot] - greatest)
        total = float32(0)
        for slot in range(slots):
            total += row[slot]
        if dim == 64:
            _weigh(row, values, 64, weighed)
        else:
            _weigh(row, values, dim, weighed)
        out[head, dim], out[head, dim + 1] = greatest, total


@njit
def _merged(parts, head, dim, out):
    """One softmax over all pieces (P, H, D + 2) of a head, by their greatest scores and sums."""
    greatest = float32(-np.inf)
    for piece in range(len(parts)):
        greatest = max(greatest, parts[piece, head, dim])
    total = float32(0)
    out[:] = 0
    for piece in range(len(parts)):
        share = np.exp(parts[piece, head, dim] - greatest)
        total += share * parts[piece, head, dim + 1]
        for at in range(dim):
            out[at] += share * parts[piece, head, at]
    for at in range(dim):
        out[at] /= total


@njit(
    "void(int64, int64[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], int64[::1], float32[::1], int64, float32,"
    "float32, float32, float32[::1], float32[::1], int64[:, ::1], float32[::1], float32[::1], float32[:, :, ::1],"
    "float32[::1], float32[::1])",
    nogil=True,
    cache=True,
)
def step(
    turns, matrices, norms, head_norms, head, last_norm, kv_heads, epsilon, head_epsilon, scale, cos, sin, pieces,
    x, qkv, parts, gated, logits,
):  # fmt: skip
    """Take `x` (E,), an embedding, through all layers to `logits` (V or more,); what threads share are the last five.

    `turns` is the address of two counters of int64 for each phase, zero at first: tasks taken, and tasks done.
    `matrices` (L, 4, MATRIX), of which GATE_UP has in each group half a group of gate's rows, then up's; `head` is one
    such. `norms` (L, 2, E); `head_norms` (L, 2, D), or (L, 2, 0) for none. cos and sin (D / 2,) are of the token's
    position. `pieces` (P, PIECE), `parts` (P, H, D + 2).
    """
    heads, dim = parts.shape[1], 2 * len(cos)
    per_group = heads // kv_heads
    hidden, product = np.empty(len(x), np.float32), np.empty(ROWS, np.float32)
    query, scores = np.empty((per_group, dim), np.float32), np.empty((per_group, SLOTS), np.float32)
    seen = np.empty(heads * dim, np.float32)
    for layer in range(len(matrices)):
        matrix = matrices[layer, QKV]
        task = count(turns)
        if task < matrix[2]:
            _normed(x, norms[layer, 0], epsilon, hidden)
        while task < matrix[2]:
            _times(matrix, task, hidden, product)
            qkv[task * ROWS :][:ROWS] = product
            count(turns + 8)
            task = count(turns)
        wait(turns + 8, matrix[2])
        turns += 16
        tasks = len(pieces) * kv_heads
        task = count(turns)
        while task < tasks:
            piece, group = pieces[task // kv_heads], task % kv_heads
            at = layer * piece[2] + group * piece[3]
            keys, values = floats(piece[0] + at, piece[4] * dim), floats(piece[1] + at, piece[4] * dim)
            if piece[5]:
                own = (heads + group) * dim
                _turned(qkv[own:][:dim], head_norms[layer, 1], head_epsilon, cos, sin, float32(1), keys[-dim:])
                values[-dim:] = qkv[own + kv_heads * dim :][:dim]
            for each in range(per_group):
                asking = qkv[(group * per_group + each) * dim :][:dim]
                _turned(asking, head_norms[layer, 0], head_epsilon, cos, sin, scale, query[each])
            out = parts[task // kv_heads, group * per_group : (group + 1) * per_group]
            _attend(query, keys.reshape(-1, dim), values.reshape(-1, dim), scores, out)
            count(turns + 8)
            task = count(turns)
        wait(turns + 8, tasks)
        turns += 16
        matrix = matrices[layer, OUT]
        task = count(turns)
        if task < matrix[2]:
            for each in range(heads):
                _merged(parts, each, dim, seen[each * dim :][:dim])
        while task < matrix[2]:
            _times(matrix, task, seen, product)
            x[task * ROWS :][:ROWS] += product[: min(ROWS, len(x) - task * ROWS)]
            count(turns + 8)
            task = count(turns)
        wait(turns + 8, matrix[2])
        turns += 16
        matrix = matrices[layer, GATE_UP]
        task = count(turns)
        if task < matrix[2]:
            _normed(x, norms[layer, 1], epsilon, hidden)
        while task < matrix[2]:
            _times(matrix, task, hidden, product)
            for lane in range(ROWS // 2):
                gate = product[lane]
                gated[task * (ROWS // 2) + lane] = gate / (float32(1) + _exp(-gate)) * product[ROWS // 2 + lane]
            count(turns + 8)
            task = count(turns)
        wait(turns + 8, matrix[2])
        turns += 16
        matrix = matrices[layer, DOWN]
        task = count(turns)
        while task < matrix[2]:
            _times(matrix, task, gated, product)
            x[task * ROWS :][:ROWS] += product[: min(ROWS, len(x) - task * ROWS)]
            count(turns + 8)
            task = count(turns)
        wait(turns + 8, matrix[2])
        turns += 16
    task = count(turns)
    if task < head[2]:
        _normed(x, last_norm, epsilon, hidden)
    while task < head[2]:
        _times(head, task, hidden, product)
        logits[task * ROWS :][:ROWS] = product
        count(turns + 8)
        task = count(turns)
    wait(turns + 8, head[2])
