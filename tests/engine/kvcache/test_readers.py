"""Each reader against its defining equation, in float64 and by loops; and what holds for all: a whole budget is full
attention, a smaller one touches what it says, pods stay as they are, and an answer comes twice."""

import math
from collections.abc import Sequence
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from engine.core.errors import PodMismatch, ReaderUnknown
from engine.core.lse import reference
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.readers import READERS, clusterkv, over, parse, predictor, recycled
from engine.kvcache.readers.base import Reader, chosen, placed
from engine.kvcache.recipe import parse as recipe
from engine.kvcache.segment import Segment
from engine.runtime.runner import Runner
from engine.training import attention_predictor
from tests import tiny
from tests.engine.reading import ask, compress, fingerprint, greedy, read, runner_of, some_ids

HEADS, GROUPS, DIM, LAYERS, TOKENS, BUDGET = 4, 2, 8, 8, 331, 96


def memory(seed: int = 0) -> Pod:
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(LAYERS, GROUPS, TOKENS, DIM, generator=generator, dtype=torch.float64) for _ in "kv")
    return Pod(keys, values, torch.arange(TOKENS), TOKENS)


def queries(tokens: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(HEADS, tokens, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reader_of(name: str, share: float = BUDGET / TOKENS) -> Reader:
    return READERS[name](memory(), share, LAYERS)


def met(reader: Reader, layer: int, query: Tensor) -> list[list[int]]:
    """The slots that each KV head's query meets."""
    (segment,) = reader.segments(layer, query)
    return [sorted(segment.places(group).tolist()) for group in range(GROUPS)]


def looks(query: Tensor, keys: Tensor, head: int, token: int = -1) -> list[float]:
    """The softmax of one head over all keys, written out."""
    asked, rows = query[head, token].tolist(), keys[head // (HEADS // GROUPS)].tolist()
    weights = [math.exp(sum(a * b for a, b in zip(asked, row, strict=True)) / math.sqrt(DIM)) for row in rows]
    return [each / sum(weights) for each in weights]


def best(scores: Sequence[float], number: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda each: -scores[each])[:number])


ALL = list(range(TOKENS))


def test_clusterkv_takes_whole_clusters_in_the_order_of_their_centroids() -> None:
    reader, query = reader_of("clusterkv"), queries()
    found, keys = met(reader, 3, query), memory().keys[3]
    index = clusterkv._INDEX(reader.pod)[3]
    count = (TOKENS - 16) // 80
    for group in range(GROUPS):
        labels, first = [0] * TOKENS, 0
        for cluster, size in enumerate(index.sizes[group].tolist()):
            for slot in index.slots[group, first : first + size].tolist():
                labels[slot] = cluster
            first += size
        members = [[slot for slot in range(16, TOKENS) if labels[slot] == each] for each in range(count)]
        assert sorted(chain(*members)) == ALL[16:]
        means = torch.stack([keys[group, each].mean(0) for each in members])
        torch.testing.assert_close(index.centroids[group], means)
        asked = query.view(GROUPS, -1, DIM)[group].mean(0)
        ranked = sorted(range(count), key=lambda each: -float(asked @ means[each]))
        assert found[group] == sorted([*range(16), *chain(*(members[each] for each in ranked))][:BUDGET])
    assert reader.scanned == count


def test_clusterkv_has_every_key_with_the_nearest_centroid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusterkv, "ITERATIONS", 200)
    keys = memory().keys[0]
    found = clusterkv.cluster(keys)
    for group in range(GROUPS):
        unit = keys[group] / keys[group].norm(dim=1, keepdim=True)
        parts = torch.split(found.slots[group], found.sizes[group].tolist())
        directions = torch.stack([unit[part].sum(0) / unit[part].sum(0).norm() for part in parts])
        for cluster, part in enumerate(parts):
            assert ((unit[part] @ directions.T).argmax(1) == cluster).all()


def test_tidal_decode_chooses_at_two_layers() -> None:
    reader, keys, query = reader_of("tidal"), memory().keys, queries()
    found = [met(reader, layer, query)[0] for layer in range(LAYERS)]
    chosen = {}
    for layer in (2, 3):
        sums = [sum(each) for each in zip(*(looks(query, keys[layer], head) for head in range(HEADS)), strict=True)]
        chosen[layer] = best(sums, BUDGET)
    # The correction layer of 32 is 13, and of 8 it is 3.
    assert found == [ALL, ALL, ALL, ALL, *[chosen[3]] * 4]
    reader.layers = 32
    assert met(reader, 2, query)[0] == ALL and met(reader, 3, query)[0] == chosen[2]


def test_recycled_attention_goes_on_with_the_last_full_step() -> None:
    reader, keys = reader_of("recycled"), memory().keys[5]

    def expected(query: Tensor) -> list[list[int]]:
        heads = [looks(query, keys, head) for head in range(HEADS)]
        return [best([sum(each) for each in zip(*heads[group : group + 2], strict=True)], BUDGET) for group in (0, 2)]

    question, steps = queries(7), [queries(1, seed) for seed in range(2, 2 * recycled.STRIDE)]
    assert met(reader, 5, question) == [ALL, ALL]
    for number, query in enumerate(steps, 1):
        last = question if number <= recycled.STRIDE - 1 else steps[recycled.STRIDE - 1]
        assert met(reader, 5, query) == ([ALL, ALL] if number == recycled.STRIDE else expected(last))
        if number == recycled.STRIDE + 2:
            return


def test_hip_descends_by_halves() -> None:
    reader, query, keys = reader_of("hip"), queries(), memory().keys[5]
    found = met(reader, 5, query)
    sinks = BUDGET // 4
    leaves = (TOKENS - 2 * sinks) // 8
    window = TOKENS - sinks - 8 * leaves
    number = (BUDGET - sinks - window) // 8
    for group in range(GROUPS):
        size = 1
        while size * number < leaves:
            size *= 2
        nodes = [(size * each, size) for each in range(number)]
        while nodes[0][1] > 1:
            halves = [(start + half * size // 2, size // 2) for start, size in nodes for half in (0, 1)]
            scores = []
            for start, size in halves:
                middle = sinks + min(8 * start + 4 * size, 8 * leaves - 4)
                likes = [float(query[head, 0] @ keys[group, middle]) for head in (2 * group, 2 * group + 1)]
                scores.append(max(likes) if start < leaves else -math.inf)
            nodes = [halves[each] for each in best(scores, number)]
        blocks = [sinks + 8 * start + each for start, _ in nodes for each in range(8)]
        assert found[group] == sorted([*range(sinks), *blocks, *range(TOKENS - window, TOKENS)])
        assert len(found[group]) <= BUDGET
    assert [met(reader, layer, query)[0] == ALL for layer in range(LAYERS)] == [True] * 4 + [False] * 3 + [True]


def test_promptdistill_goes_on_with_what_the_question_picks() -> None:
    reader, keys, question = reader_of("promptdistill"), memory().keys, queries(5)
    found = [met(reader, layer, question)[0] for layer in range(LAYERS)]
    heads = [looks(question, keys[3], head) for head in range(HEADS)]
    means = [sum(each) / HEADS for each in zip(*heads, strict=True)]
    near = [means[max(0, slot - 2) : slot + 3] for slot in range(TOKENS)]
    picked = best([sum(each) / len(each) for each in near], BUDGET)
    assert found == [ALL] * 4 + [picked] * 4
    assert [met(reader, layer, queries(1, 9))[0] for layer in range(LAYERS)] == [picked] * LAYERS


def test_the_predictor_attends_the_blocks_that_its_network_says() -> None:
    reader, keys, question = reader_of("predictor"), memory().keys[2], queries(9)
    assert met(reader, 2, question) == [ALL, ALL]
    whole, rest = divmod(TOKENS, 16)
    rows = []
    for token in range(9):
        heads = [looks(question, keys, head, token) for head in range(HEADS)]
        rows.append([max(max(each[16 * b : 16 * b + 16]) for each in heads) for b in range(whole)])
    scores = convolved(rows)
    number = (BUDGET - rest) // 16
    assert number // 8 == 0, "neither first nor last blocks are sure here"
    blocks = best(scores, number)
    slots = [*(16 * block + each for block in blocks for each in range(16)), *range(16 * whole, TOKENS)]
    assert met(reader, 2, queries(1, 3)) == [slots, slots]
    later = [met(reader, 2, queries(1, seed))[0] == ALL for seed in range(4, 14)]
    assert later == [number % 5 == 0 for number in range(2, 12)], "every fifth token is full"


def convolved(rows: Sequence[Sequence[float]]) -> list[float]:
    """The network by loops: two 3 x 3 convolutions with zeros around, the mean over rows, and a weighted sum."""
    weights = {name: each.tolist() for name, each in predictor.network(torch.device("cpu")).state_dict().items()}
    largest, height, width = max(map(max, rows)), len(rows), len(rows[0])
    maps = [[[(each / largest) ** 0.25 for each in row] for row in rows]]
    for name in ("first", "second"):
        made = []
        for kernel, bias in zip(weights[f"{name}.weight"], weights[f"{name}.bias"], strict=True):
            made.append([[0.0] * width for _ in range(height)])
            for y in range(height):
                for x in range(width):
                    total = bias
                    for source, taps in zip(maps, kernel, strict=True):
                        for dy in range(max(0, 1 - y), min(3, height + 1 - y)):
                            for dx in range(max(0, 1 - x), min(3, width + 1 - x)):
                                total += taps[dy][dx] * source[y + dy - 1][x + dx - 1]
                    made[-1][y][x] = max(0.0, total)
        maps = made
    last = [tap for (tap,) in weights["last.weight"][0]]
    means = [[sum(row[x] for row in each) / height for x in range(width)] for each in maps]
    return [sum(w * mean[x] for w, mean in zip(last, means, strict=True)) for x in range(width)]


def _attended(reader: Reader, asked_on: str = "cpu") -> list[list[Tensor]]:
    """Keys and values that ten tokens in turn attend in two layers."""
    parts = [reader.segments(layer, queries(seed=step).to(asked_on)) for step in range(10) for layer in (2, 5)]
    return [[part.cpu() for each in found for part in (each.keys, each.values)] for found in parts]


def test_what_is_fetched_ahead_is_of_the_slots_that_are_attended(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the GPU to which it is fetched; on a real one below."""
    wanted, used = _attended(reader_of("predictor")), []

    def fetch(far: Segment, slots: Tensor, known: None) -> tuple[Segment, None]:
        return chosen(far, slots), None

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(wait_event=used.append))
    monkeypatch.setattr(Tensor, "record_stream", lambda rows, stream: None)
    monkeypatch.setattr(predictor, "_mark", lambda: None)
    monkeypatch.setattr(predictor, "_fetch", fetch)
    torch.testing.assert_close(_attended(reader_of("predictor")), wanted, rtol=0, atol=0)
    # All but those that follow on a token that attended everything.
    assert len(used) == 2 * (10 - 10 // predictor.CALIBRATION - 1)


@pytest.mark.gpu
def test_a_memory_on_the_host_is_attended_as_one_on_the_gpu() -> None:
    host = memory()
    there = Pod(host.keys.cuda(), host.values.cuda(), host.positions.cuda(), TOKENS)
    here, ahead = (_attended(READERS["predictor"](pod, BUDGET / TOKENS, LAYERS), "cuda") for pod in (there, host))
    torch.testing.assert_close(ahead, here, rtol=0, atol=0)


@pytest.mark.parametrize("name", READERS)
def test_attention_is_that_over_the_chosen_slots_alone(name: str) -> None:
    reader, query = reader_of(name), queries()
    reader.segments(5, queries(6, 2))
    (segment,) = reader.segments(5, query)
    out, _ = segment.attend(reference, query, {}, DIM**-0.5, TOKENS)
    for head in range(HEADS):
        group = head // 2
        slots = segment.places(group)
        assert len(slots.unique()) == len(slots) <= TOKENS
        keys, values = memory().keys[5, group, slots], memory().values[5, group, slots]
        weights = torch.exp(keys @ query[head, 0] / math.sqrt(DIM))
        torch.testing.assert_close(out[head, 0], weights @ values / weights.sum())


@pytest.fixture(scope="module")
def runner() -> Runner:
    return runner_of(tiny.llama(8))


@pytest.mark.parametrize("name", READERS)
def test_the_whole_budget_is_full_attention(runner: Runner, name: str) -> None:
    pod, pieces = read(runner, some_ids(runner, 300, 1)), [some_ids(runner, 20, 2), *([each] for each in range(5, 15))]
    readers = over([pod], f"{name}:100", 8)
    for found, full in zip(ask(runner, readers, pieces), ask(runner, [pod], pieces), strict=True):
        assert torch.equal(found, full)
    assert readers[0].attended_share == 1


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("form", ["exact", "k8v8h"])
def test_a_smaller_budget_touches_what_it_says(runner: Runner, name: str, form: str) -> None:
    """It says other logits than everything does, the same ones twice, and changes nothing of the pod."""
    ids, own = some_ids(runner, 380, 1), tuple((layer, layer) for layer in range(8))
    exact = read(runner, ids)
    pod = exact if form == "exact" else compress(runner, ids, exact, Layout(recipe(f"{form}+near4,32"), own))
    before = fingerprint(exact)
    pieces = [some_ids(runner, 20, 2), *([each] for each in range(5, 15))]
    (reader,) = over([pod], f"{name}:20", 8)
    found = ask(runner, [reader], pieces)
    assert not torch.equal(found[-1], ask(runner, [pod], pieces)[-1])
    assert all(map(torch.equal, found, ask(runner, over([pod], f"{name}:20", 8), pieces)))
    # Of 8 layers: HiP has five whole and TidalDecode four; a fifth of the predictor's tokens are.
    full = {"tidal": 4 / 8, "hip": 5 / 8, "predictor": 2 / 10}.get(name, 0.0)
    chosen = 76 if form == "exact" else 69 + 36
    assert reader.attended_share <= full + (1 - full) * chosen / 380 + 1e-9
    question = some_ids(runner, 9, 3)
    assert greedy(runner, [reader], question, 8) == greedy(runner, [reader], question, 8)
    assert fingerprint(exact) == before


def test_layers_with_a_window_are_left_as_they_are() -> None:
    windowed = runner_of(tiny.windowed(24)["qwen3, every other layer"]())
    pod, question = read(windowed, some_ids(windowed, 200, 1)), some_ids(windowed, 9, 2)
    (reader,) = over([pod], "recycled:50", 4)
    greedy(windowed, [reader], question, 4)
    assert [len(each.positions) for each in reader.segments(0, queries())] == [23]


def test_pods_whose_heads_differ_are_refused(runner: Runner) -> None:
    ids, own = some_ids(runner, 300, 1), tuple((layer, layer) for layer in range(8))
    dropped = compress(runner, ids, read(runner, ids), Layout(recipe("keep40:norm+near4,32"), own))
    for pod in (dropped, dropped.open()):
        with pytest.raises(PodMismatch, match="exact or faithful"):
            over([pod], "hip", 8)


def test_names() -> None:
    assert parse("hip") == (READERS["hip"], 0.1) and parse("hip:5") == (READERS["hip"], 0.05)
    for wrong in ("", "quest", "hip:0", "hip:101", "hip:x", "hip:5:5"):
        with pytest.raises(ReaderUnknown, match="clusterkv"):
            parse(wrong)
    assert over([], "", 4) == []


def test_a_segment_elsewhere_is_brought_to_the_query() -> None:
    (segment,) = memory().segments(0)
    there = placed(segment, torch.device("meta"))
    assert isinstance(there.keys, Tensor) and there.keys.device.type == there.values.device.type == "meta"


def test_the_network_learns_which_blocks_come_next() -> None:
    """Attention that stays where it was is foretold."""
    generator = torch.Generator().manual_seed(0)
    steady = [torch.rand(3, 1, 24, generator=generator).expand(-1, 2 * predictor.ROWS, -1).clone() for _ in range(3)]
    network = attention_predictor.fit(steady, 300)
    with torch.no_grad():
        said = network(steady[0][:, : predictor.ROWS])
    assert attention_predictor._hits(said, steady[0][:, -1]) == 1
