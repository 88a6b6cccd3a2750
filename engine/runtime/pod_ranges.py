"""The ranges of a pod that the attention kernels read, as rows of numbers and addresses.

Letters: L layers, G KV heads.
"""

import numpy as np

from engine.core.quant import Packed
from engine.kernels.attention.kv_ranges import (
    ASKER,
    BYTES,
    KEY_BITS,
    KEY_SCALES,
    KEY_ZEROS,
    KEYS,
    ROTATED,
    STOP,
    VALUE_BITS,
    VALUE_SCALES,
    VALUE_ZEROS,
    VALUES,
    Rows,
    blank,
    exact_ranges,
)
from engine.kvcache.exact import Pod
from engine.kvcache.quantized import AnyPod, OpenPod, QuantizedPod


def ranges_of(pod: AnyPod) -> Rows:
    """The stretches of a pod (L, 1 or 2, G, COLUMNS): proximal slots, then distant ones. BEFORE, KIND and QUERY are
    left open.

    They point into the pod, and keep nothing of it alive.
    """
    if isinstance(pod, Pod):
        return exact_ranges(pod.keys, pod.values)
    assert isinstance(pod, OpenPod | QuantizedPod)
    distant = _open_ranges(pod) if isinstance(pod, OpenPod) else _distant_ranges(pod)
    return np.concatenate([exact_ranges(pod.proximal.keys, pod.proximal.values), distant], 1)


def _open_ranges(pod: OpenPod) -> Rows:
    """The ranges (L, 1, G, COLUMNS) of an open pod's distant rows, of which KV heads hold different numbers."""
    counts = np.array(pod.counts)
    rows, size = blank(*counts.shape), pod.keys.shape[1] * pod.keys.itemsize
    starts = (counts.ravel().cumsum() - counts.ravel()).reshape(counts.shape)
    rows[:, 0, :, STOP], rows[:, 0, :, BYTES] = counts, 2 * counts * size
    for column, each in ((KEYS, pod.keys), (VALUES, pod.values)):
        rows[:, 0, :, column] = each.data_ptr() + starts * size
    rows[..., ROTATED] = pod.rotation is not None
    if pod.roots is not None:
        rows[..., ASKER] = np.array(pod.roots)[:, None]
    return rows


def _distant_ranges(pod: QuantizedPod) -> Rows:
    """The stretches (L, 1, G, COLUMNS) of a pod's distant slots."""
    recipe, heads = pod.layout.recipe, len(pod.distant[0].values)
    roots = np.array(pod.layout.roots)
    keys = [pod.distant[root].keys[head] for row in roots.tolist() for head, root in enumerate(row)]
    values = [each for layer in pod.distant for each in layer.values]
    rows = blank(len(pod.distant), heads)
    for packed, columns in (
        (keys, [STOP, KEY_BITS, KEYS, KEY_SCALES, KEY_ZEROS]),
        (values, [STOP, VALUE_BITS, VALUES, VALUE_SCALES, VALUE_ZEROS]),
    ):
        rows[..., columns] = np.array([_parts(each) for each in packed]).reshape(-1, 1, heads, len(columns))
    dim, bits = pod.proximal.keys.shape[-1], rows[..., KEY_BITS] + rows[..., VALUE_BITS]
    rows[..., BYTES] = rows[..., STOP] * dim * bits // 8
    rows[..., ROTATED] = recipe.precision.rotate
    if recipe.sharing.mode == "A":
        rows[..., ASKER] = roots[:, None]
    return rows


def _parts(packed: Packed | None) -> tuple[int, int, int, int, int]:
    """Slots, bits, and the addresses of codes, scales and zero points."""
    assert packed is not None
    codes, scales, zeros = packed.codes, packed.scales, packed.zeros
    return len(codes), packed.bits, codes.data_ptr(), scales.data_ptr(), zeros.data_ptr()
