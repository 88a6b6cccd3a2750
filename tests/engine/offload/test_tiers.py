"""TieredCache: which pods stay where, by bytes and last use; and that every byte is the same wherever it has been."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch

from engine.compression.compress import pack_pod
from engine.core.errors import OutOfMemory
from engine.kvcache.blocks.by_layer import QuantizedLoader, to_blocks
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod, DistantLayer, QuantizedPod
from engine.kvcache.recipe import parse
from engine.offload import tensor_tree
from engine.offload.host_copy import HostCopies, held_bytes
from engine.offload.tiers import TieredCache, tiered_cache
from tests.engine.shapes import check, uniform

SHAPE = uniform(3, 2, 16, torch.float32)
TOKENS = 200
CPU = torch.device("cpu")
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES = ["cpu", CUDA] if torch.cuda.is_available() else ["cpu"]
OWN = tuple((layer,) * SHAPE.kv_heads for layer in range(SHAPE.layers))
RECIPES = ("exact", "k4v4h", "keep40:random+k4v3", "k16v8+keep40:norm")


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def exact(seed: int = 0, tokens: int = TOKENS) -> Pod:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, 3, 2, tokens, 16, generator=generator)
    return Pod(keys, values, torch.arange(tokens), tokens)


def made(recipe: str, device: torch.device, seed: int = 0) -> AnyPod:
    """A pod as packing leaves it: hundreds of tensors of their own, or two of an exact one."""
    pod: AnyPod = exact(seed)
    if recipe != "exact":
        layout = Layout(parse(f"{recipe}+near4,32"), OWN)
        kept = None
        if layout.recipe.selection.drops:
            # One head keeps nothing: its tensors are empty.
            distant = torch.rand(3, 2, TOKENS - 36, generator=torch.Generator().manual_seed(seed)) < 0.4
            distant[1, 1] = False
            kept = distant
        pod = packed(exact(seed), layout, kept)
    return tensor_tree.around(pod, [each.to(device) for each in tensor_tree.tensors(pod)])


def packed(pod: Pod, layout: Layout, kept: torch.Tensor | None) -> QuantizedPod:
    from engine.compression.compress import _bits, _Packing

    if kept is None:
        return pack_pod(pod, layout)
    packing = _Packing(pod, layout, layout.recipe.distant(TOKENS), kept)
    distant: tuple[DistantLayer, ...] = tuple(packing.layer(layer) for layer in range(3))
    assert torch.equal(distant[0].kept, _bits(kept[0]))
    return QuantizedPod(layout, pod.select(torch.tensor(layout.proximal(TOKENS))), distant, TOKENS)


def loaded(pod: QuantizedPod, device: torch.device) -> QuantizedPod:
    """The pod from its blocks: its tensors look at a few pieces of memory."""
    loader = QuantizedLoader(pod.layout, SHAPE, TOKENS, device)
    for block in to_blocks(pod):
        loader.add(block.meta, memoryview(bytearray(block.payload)))
    return loader.finish()


def contents(pod: AnyPod) -> list[tuple[torch.dtype, torch.Size, bytes]]:
    """Every tensor of a pod, to the byte."""
    return [
        (each.dtype, each.shape, each.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for each in tensor_tree.tensors(pod)
    ]


@pytest.mark.parametrize("slab_bytes", [512, 1000, 1 << 25])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_byte_comes_back_from_host_memory(recipe: str, slab_bytes: int, device: torch.device) -> None:
    """Whatever the size of a slab, and whether tensors have memory of their own or share it."""
    parking = HostCopies(device, slab_bytes)
    pod = made(recipe, device)
    forms = [pod] if recipe == "exact" else [pod, loaded(pod, device)]
    for form in forms:
        before = contents(form)
        parked = parking.offload(form)
        back = parking.restore(parked)
        check(back)
        assert contents(back) == before == contents(form)
        assert (back.num_tokens, back.nbytes, back.device.type) == (form.num_tokens, form.nbytes, device.type)
        assert len({each.untyped_storage().data_ptr() for each in tensor_tree.tensors(back) if each.numel()}) == 1
        assert [each.stride() for each in tensor_tree.tensors(back)] == [
            each.stride() for each in tensor_tree.tensors(form)
        ]
        assert all(each.data_ptr() % 16 == 0 for each in tensor_tree.tensors(back) if each.numel())
        assert parked.nbytes == parked.num_bytes >= held_bytes(form)
        # What is parked serves again, also from a pod that was restored.
        assert contents(parking.restore(parking.offload(back))) == before


def test_what_is_put_while_an_older_state_is_fetched_stays() -> None:
    tiers, older, newer = TieredCache(1 << 30), exact(1), exact(2)
    begun, going_on = threading.Event(), threading.Event()

    def load() -> Pod:
        begun.set()
        assert going_on.wait(60)
        return older

    with ThreadPoolExecutor(2) as threads:
        fetching = threads.submit(tiers.fetch, "a", TOKENS, load)
        assert begun.wait(60)
        putting = threads.submit(tiers.put, "a", newer)
        # Time to go wrong.
        wait([putting], 0.2)
        going_on.set()
        assert fetching.result() is older
        putting.result()
    assert tiers.get("a") is newer


def test_what_is_forgotten_while_it_loads_is_not_put_back() -> None:
    """Nor loaded twice at once; who asks after it was forgotten waits, and what they load is kept."""
    tiers, older, newer = TieredCache(1 << 30), exact(1), exact(2)
    begun, going_on, at_once = threading.Event(), threading.Event(), []

    def load_older() -> Pod:
        at_once.append(1)
        begun.set()
        assert going_on.wait(60)
        at_once.pop()
        return older

    def load_newer() -> Pod:
        assert not at_once, "one load at a time"
        return newer

    with ThreadPoolExecutor(2) as threads:
        fetching = threads.submit(tiers.fetch, "a", TOKENS, load_older)
        assert begun.wait(60)
        tiers.forget("a")
        tiers.forget("b")
        again = threads.submit(tiers.fetch, "a", TOKENS, load_newer)
        # Time to go wrong.
        wait([again], 0.2)
        going_on.set()
        assert fetching.result() is older, "whoever asked before still gets an answer"
        assert again.result() is newer
    assert tiers.get("a") is newer
    tiers.forget("a")
    assert tiers.get("a") is None and tiers.keys == ([], [])


def test_nothing_stays_of_a_pod_that_is_forgotten_while_it_loads() -> None:
    tiers = TieredCache(1 << 30)

    def load() -> Pod:
        tiers.forget("a")
        return exact()

    assert tiers.fetch("a", TOKENS, load) is not None
    assert tiers.get("a") is None and tiers.nbytes == (0, 0)


def test_a_parked_pod_holds_nothing_on_the_device() -> None:
    parked = HostCopies(CPU).offload(made("k4v4h", CPU))
    assert held_bytes(parked.hollow) == 0
    assert parked.hollow.layout.roots is OWN


def test_held_bytes_count_memory_once_and_whole() -> None:
    pod = exact()
    assert held_bytes(pod) == pod.nbytes + pod.positions.nbytes
    half = Pod(pod.keys[:, :, :100], pod.values[:, :, :100], pod.positions[:100], 100)
    assert held_bytes(half) == held_bytes(pod) > 2 * half.nbytes


SIZE = held_bytes(exact())


def stocked(tiers: TieredCache, count: int, device: torch.device) -> list[AnyPod]:
    pods = [made("exact", device, seed) for seed in range(count)]
    for number, pod in enumerate(pods):
        tiers.put(number, pod)
    return pods


def test_one_tier_keeps_what_was_used_last() -> None:
    tiers = TieredCache(3 * SIZE)
    pods = stocked(tiers, 3, CPU)
    assert tiers.get(0) is pods[0]
    tiers.put(3, exact(3))
    assert tiers.keys == ([2, 0, 3], [])
    assert tiers.get(1) is None
    assert tiers.nbytes == (3 * SIZE, 0)


def test_a_lower_limit_holds_at_once_and_keeps_what_was_used_last() -> None:
    tiers = TieredCache(3 * SIZE)
    stocked(tiers, 3, CPU)
    tiers.limit(SIZE, 0)
    assert tiers.keys == ([2], []) and tiers.nbytes[0] <= SIZE
    tiers.limit(2 * SIZE, 0)
    stocked(tiers, 2, CPU)
    assert tiers.keys == ([0, 1], [])


def test_one_pod_stays_even_if_it_is_larger_than_the_limit() -> None:
    tiers = TieredCache(1)
    stocked(tiers, 2, CPU)
    assert tiers.keys == ([1], []) and tiers.nbytes == (SIZE, 0)


def test_pods_go_down_and_come_back(device: torch.device) -> None:
    # What comes back is rounded up a little.
    room = 2 * SIZE + 1024
    tiers = TieredCache(room, room, HostCopies(device, 4096))
    pods = stocked(tiers, 5, device)
    before = [contents(pod) for pod in pods]
    assert tiers.keys == ([3, 4], [1, 2])
    assert tiers.get(0) is None
    back = tiers.get(1)
    assert back is not pods[1] and contents(back) == before[1]
    # It is used last, keeps its copy in host memory, and sends down another, whose copy needs the place of the one
    # that is on the device too.
    assert tiers.keys == ([4, 1], [2, 3])
    assert tiers.get(1) is back
    assert contents(tiers.get(2)) == before[2]
    assert contents(tiers.get(3)) == before[3]
    assert all(0 < num_bytes <= room for num_bytes in tiers.nbytes)


def test_what_was_copied_once_is_not_copied_again(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = TieredCache(SIZE, 9 * SIZE, HostCopies(device, 4096))
    stocked(tiers, 2, device)
    parked: list[AnyPod] = []
    park = HostCopies.offload
    monkeypatch.setattr(HostCopies, "offload", lambda parking, pod: parked.append(pod) or park(parking, pod))
    for _ in range(3):
        tiers.get(0), tiers.get(1)
    # Pod 1 had none yet.
    assert len(parked) == 1
    assert tiers.keys == ([1], [0, 1])


def test_a_pod_in_use_stays_whole_while_it_is_moved(device: torch.device) -> None:
    tiers = TieredCache(SIZE, SIZE, HostCopies(device, 4096))
    (pod,) = stocked(tiers, 1, device)
    before = contents(pod)
    tiers.put(1, made("exact", device, 1))
    assert contents(pod) == before == contents(tiers.get(0))


def test_forgetting_drops_every_copy(device: torch.device) -> None:
    tiers = TieredCache(SIZE, 4 * SIZE, HostCopies(device, 4096))
    stocked(tiers, 3, device)
    for key in (0, 2, "unknown"):
        tiers.forget(key)
    assert tiers.keys == ([], [1])
    assert tiers.get(0) is None and tiers.get(2) is None
    assert tiers.nbytes[1] >= SIZE


def test_a_pod_too_large_for_host_memory_is_not_copied(device: torch.device) -> None:
    tiers = TieredCache(SIZE, SIZE - 1, HostCopies(device, 4096))
    stocked(tiers, 2, device)
    assert tiers.keys == ([1], [])


def test_relief_empties_the_device_and_loses_nothing(device: torch.device) -> None:
    tiers = TieredCache(3 * SIZE, 9 * SIZE, HostCopies(device, 4096))
    before = [contents(pod) for pod in stocked(tiers, 3, device)]
    assert tiers.relieve() == 3 * SIZE
    assert tiers.keys == ([], [0, 1, 2]) and tiers.nbytes[0] == 0
    assert tiers.relieve() == 0
    assert [contents(tiers.get(number)) for number in range(3)] == before
    alone = TieredCache(3 * SIZE)
    stocked(alone, 3, CPU)
    assert alone.relieve() == 3 * SIZE and alone.keys == ([], [])


def test_a_pod_of_another_length_is_loaded_anew() -> None:
    tiers = TieredCache(9 * SIZE)
    short, long = exact(tokens=50), exact()
    assert tiers.fetch("a", 50, lambda: short) is short
    assert tiers.fetch("a", TOKENS, lambda: long) is long
    assert tiers.fetch("a", TOKENS, lambda: pytest.fail("loaded again")) is long
    assert tiers.nbytes == (SIZE, 0)


def test_nothing_is_kept_of_a_load_that_fails() -> None:
    tiers = TieredCache(9 * SIZE)
    assert tiers.fetch("a", TOKENS, lambda: None) is None

    def broken() -> AnyPod:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tiers.fetch("a", TOKENS, broken)
    assert tiers.keys == ([], [])
    assert tiers.fetch("a", TOKENS, exact) is not None


@pytest.mark.parametrize("host", [False, True])
def test_threads_that_want_the_same_pod_wait_for_one_load(host: bool) -> None:
    tiers = TieredCache(9 * SIZE, 9 * SIZE, HostCopies(CPU, 4096) if host else None)
    begun, loads, enough = threading.Barrier(4), [], threading.Event()

    def load() -> AnyPod:
        loads.append(1)
        enough.wait(0.2)
        return exact()

    def want(_: int) -> AnyPod | None:
        begun.wait()
        return tiers.fetch("a", TOKENS, load)

    with ThreadPoolExecutor(4) as threads:
        assert len(set(map(id, threads.map(want, range(4))))) == 1
        assert loads == [1]
        tiers.relieve()
        # From host memory it is brought back once, too; without one it is loaded once more.
        assert len(set(map(id, threads.map(want, range(4))))) == 1
    assert len(loads) == (1 if host else 2)


def test_different_pods_do_not_wait_for_each_other() -> None:
    tiers = TieredCache(9 * SIZE)
    other_is_there = threading.Event()

    def slow() -> AnyPod:
        assert other_is_there.wait(60)
        return exact(1)

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(tiers.fetch, "slow", TOKENS, slow)
        tiers.fetch("quick", TOKENS, exact)
        other_is_there.set()
        assert first.result() is not None


def test_a_copy_that_fails_costs_a_load_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tiers = TieredCache(SIZE, 9 * SIZE, HostCopies(CPU, 4096))

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(HostCopies, "_slab", fail)
    stocked(tiers, 2, CPU)
    tiers.relieve()
    again = exact()
    assert tiers.fetch(0, TOKENS, lambda: again) is again
    assert "out of memory" in caplog.text


def test_a_pod_that_does_not_fit_the_device_stays_in_host_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = TieredCache(SIZE, 9 * SIZE, HostCopies(CPU, 4096))
    before = contents(stocked(tiers, 2, CPU)[0])

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has ...")

    with monkeypatch.context() as patch:
        patch.setattr(HostCopies, "restore", fail)
        with pytest.raises(OutOfMemory, match=r"1\.61 GB"):
            tiers.get(0)
    assert tiers.keys == ([1], [0])
    assert contents(tiers.get(0)) == before


def test_limits_that_are_not_given_are_shares_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.core.oom.free_bytes", lambda device: 1_000 if device.type == "cpu" else 10_000)
    automatic = tiered_cache(CPU)
    assert (automatic.device_limit, automatic.host_limit) == (250, 0)
    assert tiered_cache(CPU, 7, 77).device_limit == 77


@pytest.mark.gpu
def test_on_a_gpu_both_limits_are_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.core.oom.free_bytes", lambda device: 1_000 if device.type == "cpu" else 10_000)
    device = torch.device("cuda")
    automatic = tiered_cache(device)
    assert (automatic.device_limit, automatic.host_limit) == (5_000, 250)
    given = tiered_cache(device, 7, 77)
    assert (given.device_limit, given.host_limit) == (7, 77)
