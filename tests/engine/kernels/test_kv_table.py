"""A table of pods: addresses that never change, what it takes, and tails that grow and shrink."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from engine.core.errors import WindowExceeded
from engine.core.quant import Packed
from engine.kernels.attention.kv_ranges import (
    ASKER,
    BYTES,
    HEAD,
    KEY_BITS,
    KEY_SCALES,
    KEYS,
    LAYER,
    ROTATED,
    STOP,
    VALUE_BITS,
    VALUE_SCALES,
    VALUES,
)
from engine.kvcache.exact import Pod
from engine.kvcache.quantized import AnyPod, QuantizedPod
from engine.runtime.kv_table import MAX_PODS, KVTable
from engine.runtime.pod_ranges import ranges_of
from tests.engine.kernels import reference_attention
from tests.engine.kernels.pods import Conversation, model, pod


def addresses(table: KVTable) -> list[int]:
    lists = (table._narrow, table._wide)
    tensors = (*table.suffix, table.suffix_length, *(each.pieces for each in lists), *(each.ranges for each in lists))
    return [each.data_ptr() for each in tensors]


def test_other_pods_are_attended_through_the_same_addresses(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    first, second = [pod(of, "k4v4h", 150)], [pod(of, "k4v4h", 111), pod(of, "exact", 30)]
    talk = Conversation(of, first)
    table, before, bucket = talk.table, addresses(talk.table), talk.table.bucket
    talk.step(2)
    for pods, count in ((second, 2), (first, 1)):
        again = Conversation(of, pods, table=table)
        assert (table.length, int(table.suffix_length)) == (0, 0)
        got, _, truth = again.step(count)
        torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)
    assert addresses(table) == before and table.bucket == bucket


def test_the_bucket_tells_what_a_recorded_graph_depends_on(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    table = KVTable(of.shape, of.heads, 16, device)
    seen = set()
    for recipe in ("exact", "k4v4", "k4v4h", "k8v8", "A35+k8v8"):
        table.set([pod(of, recipe, 150)])
        seen.add(table.bucket)
    assert len(seen) == 5


def test_a_cropped_tail_is_as_if_it_had_not_grown(device: torch.device) -> None:
    of = model(1, 2, 64, torch.float32, device)
    talk = Conversation(of, [pod(of, "exact", 20)])
    talk.step(3)
    talk.step(2)
    for each in (talk.table, talk.plain.suffix, talk.truth.suffix):
        each.crop(3)
    talk.table.crop(7)
    assert (talk.table.length, talk.table.positions(2).tolist()) == (3, [23, 24])
    got, _, truth = talk.step(2)
    torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    table = KVTable(of.shape, of.heads, 4, device)
    good = pod(of, "A35+k4v4", 100)
    exact = pod(of, "exact", 40)
    assert table.why_not([]) == table.why_not([good, exact, good.open()]) == ""
    assert "more than 16" in table.why_not([exact] * (MAX_PODS + 1))
    assert "float16" in table.why_not([pod(model(2, 2, 64, torch.float16, device), "exact", 40)])
    bare = torch.zeros(2, 2 * 40 * 64 * 2 + 1, device=device)[:, 1:].view(2, 2, 2, 40, 64)
    assert "16 bytes" in table.why_not([Pod(bare[0], bare[1], torch.arange(40, device=device), 40)])
    new = torch.zeros(4, 3, 64, device=device)
    table.set([exact])
    table.attend(0, new, new[:2], new[:2], 1.0)
    table.advance(3)
    table.length += 3
    with pytest.raises(WindowExceeded):
        table.attend(0, new, new[:2], new[:2], 1.0)


def test_formats_whose_kernels_fail_are_left_out(device: torch.device) -> None:
    """Others go on, and so does the same format unrotated."""
    of = model(2, 2, 64, torch.float32, device)
    table = KVTable(of.shape, of.heads, 4, device)
    failed, others = pod(of, "k4v4h", 100), [pod(of, "k4v4", 100), pod(of, "exact", 40), pod(of, "k8v4h", 100)]
    table.refuse([failed], "OutOfResources: shared memory")
    assert table.why_not([*others]) == ""
    assert table.why_not([*others, pod(of, "keep40:random+k4v4h", 90)]) == "OutOfResources: shared memory"


def test_a_passage_is_read_as_it_is_and_shares_what_is_captured(device: torch.device) -> None:
    """KV heads hold different numbers of slots; passages of any length lead to the same captured steps."""
    of = model(2, 2, 64, torch.float32, device)
    whole, table, seen = pod(of, "keep40:random+k4v4h", 300), None, set()
    for first, stop, count in ((2, 40, 3), (100, 200, 1), (0, 300, 3)):
        keep = torch.cat([torch.arange(2), torch.arange(max(2, first), stop)])
        talk = Conversation(of, [whole.select(keep)], table=table)
        table = talk.table
        seen.add(table.bucket)
        got, _, truth = talk.step(count)
        torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)
    assert len(seen) == 1


def test_pieces_cover_every_slot_once_and_are_about_equal(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    table = KVTable(of.shape, of.heads, 300, device)
    table._targets = [(40, 40)] * 2
    pods = [pod(of, "keep40:random+k4v4h", 4000), pod(of, "exact", 500)]
    table.set(pods)
    work = table._narrow
    pieces = work.pieces.cpu()
    for layer in range(2):
        covered: dict[int, list[int]] = {}
        used = pieces[layer][pieces[layer, :, 0] >= 0]
        for piece in used.tolist():
            assert piece[1] == covered.setdefault(piece[5], [0])[-1]
            covered[piece[5]].append(piece[2])
        held = _keys(pods, layer)
        suffixes = [keys for keys in covered if keys not in {keys.data_ptr() for keys in held}]
        assert len(suffixes) == 2 and all(covered[keys] == [0, 128, 256, 300] for keys in suffixes)
        assert all(covered[keys.data_ptr()][-1] == len(keys) for keys in held)
        assert work.slots[layer].sum() == sum(map(len, held))
        assert 30 < len(used) - 6 <= 40
        stops = work.ranges[layer, :, 2].tolist()
        assert stops[-1] == len(used) and work.ranges[layer, 1, 0] == stops[0]


def test_the_bucket_stays_while_the_tail_grows(device: torch.device) -> None:
    """A graph is recorded once for a document, not once for every token."""
    of = model(2, 2, 64, torch.float32, device)
    table = KVTable(of.shape, of.heads, 600, device)
    table.set([pod(of, "k4v4h", 150)])
    seen = set()
    for _ in range(60):
        seen.add(table.bucket)
        table.advance(10)
        table.length += 10
    assert len(seen) == 1


def _keys(pods: Sequence[AnyPod], layer: int) -> list[Tensor]:
    """Rows of keys that a layer reads, by pod, near and distant ones, and KV head."""
    proximal, exact = pods
    assert isinstance(proximal, QuantizedPod) and isinstance(exact, Pod)
    distant = [keys.codes for keys in proximal.distant[layer].keys if keys is not None]
    return [*proximal.proximal.keys[layer], *distant, *exact.keys[layer]]


@pytest.mark.parametrize("recipe", ["exact", "k4v4h", "k16v3", "A35+k8v4h", "keep40:random+k4v4"])
def test_rows_are_the_stretches_of_the_specification(recipe: str, device: torch.device) -> None:
    """Addresses, sizes and askers of every layer and KV head, also where proximal rows are part of wider ones."""
    of = model(3, 1, 64, torch.float32, device)
    held = pod(of, recipe, 150)
    if isinstance(held, Pod):
        held = Pod(held.keys[:, :, :120], held.values[:, :, 30:], held.positions[:120], 120)
    rows = ranges_of(held)
    for layer in range(2):
        wanted = list(reference_attention.kv_ranges(held, layer))
        found = rows[layer].reshape(-1, rows.shape[-1]).tolist()
        assert len(found) == len(wanted)
        for row, stretch in zip(found, wanted, strict=True):
            head, keys, values = stretch.head, stretch.keys, stretch.values
            assert (row[LAYER], row[HEAD], row[ASKER], row[ROTATED]) == (layer, head, stretch.asker, stretch.rotated)
            assert [row[KEYS], row[VALUES]] == [_rows(keys).data_ptr(), _rows(values).data_ptr()]
            assert row[STOP] == len(_rows(keys)) == len(_rows(values))
            assert row[BYTES] == _rows(keys).nbytes + _rows(values).nbytes or 16 in (row[KEY_BITS], row[VALUE_BITS])
            for each, bits, scales in ((keys, KEY_BITS, KEY_SCALES), (values, VALUE_BITS, VALUE_SCALES)):
                assert row[bits] == (each.bits if isinstance(each, Packed) else 16)
                if isinstance(each, Packed) and each.bits < 16:
                    assert row[scales : scales + 2] == [each.scales.data_ptr(), each.zeros.data_ptr()]


def _rows(held: Packed | Tensor) -> Tensor:
    return held.codes if isinstance(held, Packed) else held
