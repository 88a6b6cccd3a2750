"""A table of pods: addresses that never change, what it takes, and tails that grow and shrink."""

import pytest
import torch

from engine.errors import WindowExceeded
from engine.pod import Pod
from engine.pod_table import MAX_PODS, PodTable
from tests.engine.kernels.pods import Conversation, model, pod


def addresses(table: PodTable) -> list[int]:
    lists = (table._narrow, table._wide)
    tensors = (*table.tail, table.tail_length, *(each.pieces for each in lists), *(each.ranges for each in lists))
    return [each.data_ptr() for each in tensors]


def test_other_pods_are_attended_through_the_same_addresses(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    first, second = [pod(of, "k4v4h", 150)], [pod(of, "k4v4h", 111), pod(of, "exact", 30)]
    talk = Conversation(of, first)
    table, before, bucket = talk.table, addresses(talk.table), talk.table.bucket
    talk.step(2)
    for pods in (second, first):
        again = Conversation(of, pods, table=table)
        assert (table.length, int(table.tail_length)) == (0, 0)
        for count in (2, 1):
            got, _, truth = again.step(count)
            torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)
    assert addresses(table) == before and table.bucket == bucket


def test_the_bucket_tells_what_a_recorded_graph_depends_on(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    table = PodTable(of.shape, of.heads, 16, device)
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
    for each in (talk.table, talk.plain.tail, talk.truth.tail):
        each.crop(3)
    talk.table.crop(7)
    assert (talk.table.length, talk.table.positions(2).tolist()) == (3, [23, 24])
    got, _, truth = talk.step(2)
    torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    table = PodTable(of.shape, of.heads, 4, device)
    good = pod(of, "A35+k4v4", 100)
    exact = pod(of, "exact", 40)
    assert table.fits([]) and table.fits([good, exact])
    assert not table.fits([pod(of, "A35t70", 100)])
    assert not table.fits([good.open()])
    assert not table.fits([exact] * (MAX_PODS + 1))
    assert not table.fits([pod(model(2, 2, 64, torch.float16, device), "exact", 40)])
    bare = torch.zeros(2, 2 * 40 * 64 * 2 + 1, device=device)[:, 1:].view(2, 2, 2, 40, 64)
    assert not table.fits([Pod(bare[0], bare[1], torch.arange(40, device=device), 40)])
    new = torch.zeros(4, 3, 64, device=device)
    table.set([exact])
    table.attend(0, new, new[:2], new[:2], 1.0)
    table.advance(3)
    table.length += 3
    with pytest.raises(WindowExceeded):
        table.attend(0, new, new[:2], new[:2], 1.0)


def test_pieces_cover_every_slot_once_and_are_about_equal(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    table = PodTable(of.shape, of.heads, 300, device)
    table._targets = (40, 40)
    table.set([pod(of, "keep40:random+k4v4h", 4000), pod(of, "exact", 500)])
    work = table._narrow
    pieces = work.pieces.cpu()
    for layer in range(2):
        covered: dict[int, list[int]] = {}
        used = pieces[layer][pieces[layer, :, 0] >= 0]
        for piece in used.tolist():
            assert piece[1] == covered.setdefault(piece[5], [0])[-1]
            covered[piece[5]].append(piece[2])
        held = [each for each in work.stretches[layer] if _slots(each.keys)]
        tails = [keys for keys in covered if keys not in {_address(each.keys) for each in held}]
        assert len(tails) == 2 and all(covered[keys] == [0, 128, 256, 300] for keys in tails)
        for each in held:
            assert covered[_address(each.keys)][-1] == _slots(each.keys)
        assert 30 < len(used) - 6 <= 40
        stops = work.ranges[layer, :, 2].tolist()
        assert stops[-1] == len(used) and work.ranges[layer, 1, 0] == stops[0]


def _slots(rows: object) -> int:
    return len(getattr(rows, "codes", rows))


def _address(rows: object) -> int:
    return getattr(rows, "codes", rows).data_ptr()
