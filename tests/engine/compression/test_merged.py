"""Merged and summarised sets against their defining equations, in float64 and by loops; stored, and found again."""

from collections.abc import Sequence
from dataclasses import replace
from math import erf
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.compression.compress import score
from engine.compression.policies.elastic import nearest
from engine.core.errors import PlanMissing, PodMismatch, RecipeUnknown
from engine.core.lse import merge, reference
from engine.kvcache.blocks import by_layer
from engine.kvcache.layout import Layout, expected_bytes, layout_of
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.recipe import POLICIES, parse
from engine.kvcache.segment import Segment
from engine.kvcache.suffix import SuffixCache
from engine.kvcache.summaries import less, subgen
from engine.kvcache.summaries.base import UNTRAINED, Learned
from engine.runtime.runner import Runner
from engine.training import less_fit
from tests.engine.compression.test_policies import FAR, RECENT, SINKS, SLOTS, TOKENS, attention, best, logits
from tests.engine.reading import compress, read, some_ids

MERGED = [name for name, policy in POLICIES.items() if policy.merge or policy.summary]
SCALE = 0.25


def trained(runner: Runner, seed: int = 1) -> Learned:
    """Maps as training begins with, but of states that weigh something."""
    shape = runner.model.shape
    heads = runner.model.network.config.num_attention_heads
    layers = [
        less_fit.started(heads, shape.kv_heads, shape.head_dim, seed + each, runner.model.device) for each in range(4)
    ]
    tensors = {name: torch.stack([each[name].detach() for each in layers]) for name in layers[0]}
    return Learned({name: tensor * (1e4 if name.startswith("scale") else 1) for name, tensor in tensors.items()})


def layout(runner: Runner, name: str, bits: str = "") -> Layout:
    shape = runner.model.shape
    own = tuple((layer,) * shape.kv_heads for layer in range(shape.layers))
    learned = trained(runner) if name == "less" else UNTRAINED
    return Layout(parse(f"keep40:{name}{bits}+near{SINKS},{RECENT}"), own, learned=learned)


def made(runner: Runner, ids: Sequence[int], name: str) -> QuantizedPod:
    return compress(runner, ids, read(runner, ids), layout(runner, name))


def attended(segment: Segment, query: Tensor) -> tuple[Tensor, Tensor]:
    return segment.attend(reference, query, {}, SCALE, TOKENS)


def stored(pod: QuantizedPod, runner: Runner) -> QuantizedPod:
    loader = by_layer.QuantizedLoader(pod.layout, runner.model.shape, TOKENS, runner.model.device)
    for block in by_layer.to_blocks(pod):
        loader.add(block.meta, memoryview(bytearray(block.payload)))
    return loader.finish()


@pytest.mark.parametrize("name", MERGED)
@pytest.mark.parametrize("one_block", (True, False))
def test_what_is_stored_answers_alike_and_takes_what_was_foreseen(
    name: str, one_block: bool, llama_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not one_block:
        # Every layer, and every head of it, in a block of its own.
        monkeypatch.setattr(by_layer, "BLOCK_BYTES", 1)
        monkeypatch.setattr(by_layer, "MOST_BYTES", 1)
    runner, ids = llama_runner, some_ids(llama_runner, TOKENS, 1)
    pod = made(runner, ids, name)
    again = stored(pod, runner)
    asked = some_ids(runner, 9, 2)
    first = logits(runner, pod, asked)
    assert torch.equal(first, logits(runner, again, asked)) and first.isfinite().all()
    assert again.nbytes == pod.nbytes == expected_bytes(pod.layout, runner.model.shape, TOKENS)
    near, *_ = (logits(runner, replace(each, summary=()), asked) for each in (pod,))
    assert not POLICIES[name].summary or not torch.equal(first, near)


@pytest.mark.parametrize("name", ("subgen", "less"))
def test_a_pod_without_its_summary_is_refused(name: str, llama_runner: Runner) -> None:
    pod = made(llama_runner, some_ids(llama_runner, TOKENS, 1), name)
    (block,) = by_layer.to_blocks(replace(pod, summary=()))
    loader = by_layer.QuantizedLoader(pod.layout, llama_runner.model.shape, TOKENS, llama_runner.model.device)
    with pytest.raises(PodMismatch, match="ends inside layer"):
        loader.add(block.meta, memoryview(bytearray(block.payload)))


@pytest.mark.parametrize("name", ("elastic", "elastickv"))
@pytest.mark.parametrize("seed", (1, 2, 3))
def test_elastic_folds_dropped_tokens_into_the_nearest_kept_one(name: str, seed: int, llama_runner: Runner) -> None:
    runner, ids = llama_runner, some_ids(llama_runner, TOKENS, seed)
    exact, seen = read(runner, ids), attention(runner, ids)
    pod = made(runner, ids, name)
    for layer in range(4):
        stay = best(seen[layer].mean(0).sum(0).tolist(), SLOTS)
        groups: dict[int, list[int]] = {token: [] for token in stay}
        for token in FAR:
            groups[min(stay, key=lambda each: (abs(each - token), each))].append(token)
        (_, distant) = pod.segments(layer)
        for head in (0, 1):
            assert distant.places(head).tolist() == stay
            for rows, of, folds in (
                (distant.values, exact.values, True),
                (distant.keys, exact.keys, name == "elastickv"),
            ):
                own = of[layer, head].double()
                wanted = [own[groups[token]].mean(0) if folds else own[token] for token in stay]
                torch.testing.assert_close(rows[head].double(), torch.stack(wanted), rtol=1e-4, atol=1e-5)


def test_nearest_of_few_and_of_many() -> None:
    kept = torch.tensor([[0, 0, 1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]]).bool()
    assert nearest(kept).tolist() == [[2, 2, 2, 2, 2, 6, 6, 6], [0] * 8, [7] * 8]


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_subgen_estimates_both_sums_from_its_samples(seed: int, llama_runner: Runner) -> None:
    runner, ids = llama_runner, some_ids(llama_runner, TOKENS, seed)
    exact, pod = read(runner, ids), made(runner, ids, "subgen")
    query = torch.randn(4, 3, runner.model.shape.head_dim)
    for layer in (0, 3):
        near, segment = pod.segments(layer)
        assert len(near.positions) == SINKS + RECENT and isinstance(segment, subgen.Estimate)
        out, lse = attended(segment, query)
        for head in (0, 3):
            group = head // 2
            keys, values = (each[layer, group].double() for each in (exact.keys, exact.values))
            far = list(FAR)
            clusters: dict[int, list[int]] = {}
            apart = torch.stack([(keys - key).norm(dim=1) for key in keys]).tolist()
            centres = [far[0]]
            while len(centres) < SLOTS:
                centres.append(max(far, key=lambda token: min(apart[token][each] for each in centres)))
            for token in far:
                mine = min(range(SLOTS), key=lambda each: apart[token][centres[each]])
                clusters.setdefault(mine, []).append(token)
            counts = segment.log_counts[group].exp()
            assert counts.tolist() == pytest.approx([len(clusters[each]) for each in range(SLOTS)])
            places = segment.places(group).tolist()
            assert all(place in clusters[each] for each, place in enumerate(places))
            total = sum(float(values[token].square().sum()) for token in far)
            for asked in range(3):
                q = query[head, asked].double()
                tau = sum(len(clusters[each]) * torch.exp(SCALE * q @ keys[place]) for each, place in enumerate(places))
                z = torch.zeros_like(q)
                slots = SLOTS // 2
                for key, value in zip(segment.slot_keys[group].double(), segment.values[group].double(), strict=True):
                    z += total / value.square().sum() * torch.exp(SCALE * q @ key) * value / slots
                torch.testing.assert_close(
                    lse[head, asked].double(), torch.log(torch.as_tensor(tau)), rtol=1e-5, atol=1e-5
                )
                torch.testing.assert_close(out[head, asked].double(), z / tau, rtol=1e-4, atol=1e-5)


def test_subgens_sums_are_right_on_average(llama_runner: Runner) -> None:
    """Over many draws the estimates of both sums come to the sums: samples are from the right distributions."""
    shape, generator = llama_runner.model.shape, torch.Generator().manual_seed(0)
    ids = some_ids(llama_runner, TOKENS, 4)
    one = read(llama_runner, ids)
    many = 400
    pod = replace(one, keys=one.keys[:1].repeat(many, 1, 1, 1), values=one.values[:1].repeat(many, 1, 1, 1))
    selection = parse("keep10:subgen").selection
    kept = torch.zeros(many, shape.kv_heads, len(FAR), dtype=torch.bool)
    query = torch.randn(4, 1, shape.head_dim, generator=generator)
    sums, weights = [], []
    for layer, parts in enumerate(subgen.make(pod, FAR, kept, selection, {})):
        out, lse = attended(subgen.segment(layer, parts, {}), query)
        sums.append(out.double() * lse.double().exp()[..., None])
        weights.append(lse.double().exp())
    out, lse = reference(
        query.double(), *(each[0, :, FAR.start : FAR.stop].double() for each in (one.keys, one.values)), SCALE, False
    )
    for found, wanted in ((weights, lse.exp()), (sums, out * lse.exp()[..., None])):
        drawn = torch.stack(found)
        error = drawn.std(0) / many**0.5
        assert ((drawn.mean(0) - wanted).abs() <= 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("name", ("subgen", "less"))
def test_heads_are_seen_to_look_at_what_is_there(name: str, llama_runner: Runner) -> None:
    runner = llama_runner
    pod = made(runner, some_ids(runner, TOKENS, 5), name)
    pod = replace(
        pod, layout=replace(pod.layout, learned=Learned({k: v.half() for k, v in pod.layout.learned.tensors.items()}))
    )
    context = runner.context([pod], SuffixCache(runner.model.shape, 9, runner.model.device), [(1, 0), (3, 2)], False)
    runner.run(context, some_ids(runner, 9, 6))
    for (mass,) in context.probs.values():
        assert mass.shape == (9, TOKENS) and mass.sum(1).min() > 0 and mass.sum(1).max() <= 1 + 1e-4


def test_less_adds_a_state_of_what_was_evicted(llama_runner: Runner) -> None:
    runner, ids = llama_runner, some_ids(llama_runner, TOKENS, 2)
    exact, seen, pod = read(runner, ids), attention(runner, ids), made(runner, ids, "less")
    maps = {name: each.double() for name, each in trained(runner).tensors.items()}
    query = torch.randn(4, 3, runner.model.shape.head_dim)

    def gelu(row: Tensor) -> Tensor:
        return torch.tensor([x * 0.5 * (1 + erf(x / 2**0.5)) for x in row.tolist()], dtype=torch.float64)

    for layer in (0, 3):
        near, distant, state = pod.segments(layer)
        out, _ = merge([attended(each, query) for each in (near, distant, state)])
        for head in range(4):
            group = head // 2
            keys, values = (each[layer, group].double() for each in (exact.keys, exact.values))
            stay = best(seen[layer, 2 * group : 2 * group + 2].sum((0, 1)).tolist(), SLOTS)
            assert distant.places(group).tolist() == stay
            stay = [*range(SINKS), *stay, *range(FAR.stop, TOKENS)]
            one, two, inner, s1, s2 = (maps[name][layer, group] for name in less.KEY_MAPS)
            hidden, total = torch.zeros(less.RANK, keys.shape[1]).double(), torch.zeros(less.RANK).double()
            for token in {*range(TOKENS)} - {*stay}:
                g = gelu(gelu(keys[token] @ one) @ two)
                psi = (s1.abs() * g + s2 * (g @ inner)).abs()
                hidden, total = hidden + psi[:, None] * values[token], total + psi
            for asked in range(3):
                q = query[head, asked].double()
                phi = gelu(
                    gelu(q @ maps[less.QUERY_MAPS[0]][layer, head]) @ maps[less.QUERY_MAPS[1]][layer, head]
                ).abs()
                weights = torch.exp(SCALE * keys[stay] @ q)
                wanted = (weights @ values[stay] + phi @ hidden) / (weights.sum() + phi @ total)
                torch.testing.assert_close(out[head, asked].double(), wanted, rtol=1e-4, atol=1e-5)


def test_less_is_trained_by_one_command(
    llama_runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = llama_runner.model
    monkeypatch.setattr(less_fit.loader, "load", lambda *_: model)
    with pytest.raises(PlanMissing, match="less_fit"):
        layout_of(model, parse("keep10:less"), [tmp_path])
    said: list[str] = []
    arguments = [
        "--models",
        str(tmp_path),
        "--out",
        str(tmp_path),
        "--samples",
        "2",
        "--tokens",
        "700",
        "--epochs",
        "20",
    ]
    less_fit.main(arguments, said.append)
    errors = [float(line.split()[2]) for line in said if line.startswith("layer")]
    assert len(errors) == 4 and max(errors) < 1 and sum(errors) < 3.8
    found, again = (layout_of(model, parse("keep10:less"), [tmp_path]) for _ in range(2))
    assert found.learned.digest == again.learned.digest and found.digest == again.digest
    assert found.digest != layout_of(model, parse("keep10:h2o"), [tmp_path]).digest
    with pytest.raises(SystemExit, match="2"):
        less_fit.main([*arguments, "--tokens", "9000000"], said.append)
    assert "at most" in capsys.readouterr().err


def test_summaries_go_with_nothing_that_would_change_them() -> None:
    for wrong in ("keep40:subgen+k4v4", "A35+keep40:less", "B35+keep40:subgen"):
        with pytest.raises(RecipeUnknown, match="goes with no keys"):
            parse(wrong)
    assert str(parse("keep3.45:elastic+k4v4")) == "keep3.45:elastic+k4v4"


def test_a_part_of_a_summary_is_all_of_it(llama_runner: Runner) -> None:
    pod = made(llama_runner, some_ids(llama_runner, TOKENS, 1), "subgen")
    assert pod.select(torch.arange(9)) is pod and pod.open() is pod
    assert (
        list(
            score(
                llama_runner,
                some_ids(llama_runner, 20, 1),
                read(llama_runner, some_ids(llama_runner, 20, 1)),
                layout(llama_runner, "subgen"),
            )
        )
        == []
    )
