"""Coding across layers: the basis is that of principal components, what is coded comes back as its definition says."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.compression import basis_fit
from engine.core.errors import PlanMissing, PodMismatch
from engine.kvcache import basis
from engine.kvcache.basis import Basis
from engine.kvcache.blocks import coded
from engine.kvcache.exact import Pod, PodLoader
from engine.kvcache.layout import Layout, expected_bytes, layout_of
from engine.kvcache.recipe import parse
from engine.kvcache.suffix import SuffixCache
from engine.models.families.registry import angles_of
from engine.runtime.runner import Runner
from tests.engine.reading import read, runner_of, some_ids
from tests.tiny import llama

STEP = 0.05
RECIPE = f"coded{round(100 * STEP)}+near4,1"


@pytest.fixture(scope="module")
def runner() -> Runner:
    return runner_of(llama())


@pytest.fixture(scope="module", params=[1, 3], ids=["all-layers", "groups"])
def found(runner: Runner, request: pytest.FixtureRequest) -> Iterator[Basis]:
    with pytest.MonkeyPatch.context() as patch:
        shape = runner.model.shape
        patch.setattr(basis_fit, "MOST_NUMBERS", -(-shape.layers * shape.kv_heads * shape.head_dim // request.param))
        yield _found(runner)


def _found(runner: Runner) -> Basis:
    angles = angles_of(runner.model.network, runner.model.shape.head_dim)
    samples = (basis_fit.observe(runner, some_ids(runner, 700, seed), angles) for seed in range(3))
    return basis_fit.fit(samples, angles, {"seed": 0})


@pytest.fixture(scope="module")
def pod(runner: Runner) -> Pod:
    return read(runner, some_ids(runner, 300, 9))


def layout(found: Basis, recipe: str = RECIPE) -> Layout:
    return Layout(parse(recipe), ((0, 0),), basis=found)


def test_directions_are_orthonormal_and_fall(found: Basis) -> None:
    for side in found.sides:
        gram = side.directions.float().T @ side.directions.float()
        torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=2e-3)
        assert (side.spread.diff() <= 0).all() and side.within(0.0) == len(side.spread)


def test_information_tells_the_divergence_of_small_errors(runner: Runner, pod: Pod) -> None:
    """Errors of one size everywhere diverge by half their quadratic form, on average."""
    model, asked = runner.model, some_ids(runner, 200, 4)
    angles = angles_of(model.network, model.shape.head_dim)
    size, draws = 0.003, 12
    found = [basis_fit.information(model, pod, asked, angles, seed) for seed in range(draws)]
    expected = sum(float(side.diagonal(dim1=-2, dim2=-1).sum()) for sides in found for side in sides) / draws

    def logprobs(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        suffix = SuffixCache(model.shape, len(asked), model.device)
        return runner.score(
            runner.context([replace(pod, keys=keys, values=values)], suffix), asked, len(asked)
        ).log_softmax(-1)

    exact, measured = logprobs(pod.keys, pod.values), 0.0
    for seed in range(draws):
        noise = size * torch.randn(2, *pod.keys.shape, generator=torch.Generator().manual_seed(seed))
        noise[:, :, :, : basis_fit.SINKS] = 0
        other = logprobs(pod.keys + noise[0], pod.values + noise[1])
        measured += float((exact.exp() * (exact - other)).sum()) / draws
    assert measured == pytest.approx(size**2 * expected / 2, rel=0.25)


def test_what_comes_back_is_the_definition(runner: Runner, found: Basis, pod: Pod) -> None:
    """In float64 and one token at a time: x' = mean + round((x - mean) W U / step) step U' W^-1, without positions."""
    plan = layout(found)
    back = coded.restored(list(coded.to_blocks(pod, plan)), plan, runner.model)
    far = plan.recipe.distant(pod.num_tokens)
    assert (back.num_tokens, len(far)) == (300, 295)
    for ends in ([*range(far.start)], [*range(far.stop, 300)]):
        assert torch.equal(back.keys[:, :, ends], pod.keys[:, :, ends])
    for token in (far[0], far[100], far[-1]):
        at = torch.tensor([token])
        parts = [
            part[:, :, token : token + 1].flatten(0, 1).tensor_split(len(found.keys))
            for part in (pod.keys, pod.values, back.keys, back.values)
        ]
        for number, (side, rows, rounded) in enumerate(
            zip(found.sides, parts[0] + parts[1], parts[2] + parts[3], strict=True)
        ):
            if number < len(found.keys):
                rows, rounded = found.angles.undo(rows, at), found.angles.undo(rounded, at)
            kept = side.within(coded.LEAST * STEP)
            weight = torch.block_diag(*side.weights.double())
            turn = side.directions[:, :kept].double()
            whole = ((rows.double().flatten() - side.mean.double()) @ weight @ turn / STEP).round()
            wanted = side.mean.double() + whole @ turn.T * STEP @ torch.linalg.inv(weight)
            # A component between two steps may round either way.
            error = (rounded.double().flatten() - wanted).abs()
            assert error.median() < 1e-4 and error.max() < STEP


def test_a_basis_of_fewer_bytes_has_the_widest_directions(runner: Runner, found: Basis, pod: Pod) -> None:
    angles = angles_of(runner.model.network, runner.model.shape.head_dim)
    samples = [basis_fit.observe(runner, some_ids(runner, 700, seed), angles) for seed in range(3)]
    held = [2 * side.directions.numel() for side in found.sides]
    small = basis_fit.fit(samples, angles, {}, sum(held) // 2)
    sizes = [2 * side.directions.numel() for side in small.sides]
    assert sum(held) / 4 < sum(sizes) <= sum(held) / 2
    least = float(torch.cat([side.spread for side in small.sides]).min())
    for side, whole in zip(small.sides, found.sides, strict=True):
        assert len(side.spread) == whole.within(least) and torch.equal(side.spread, whole.spread[: len(side.spread)])
    # A group may be left with none.
    plan = layout(small)
    back = coded.restored(list(coded.to_blocks(pod, plan)), plan, runner.model)
    assert float((back.values - pod.values).square().mean()) < float(pod.values.var())


def test_in_half_precision_it_comes_back_alike(found: Basis, pod: Pod) -> None:
    """As near as a small share of the error that rounding to steps makes."""
    whole = [side[:, :, basis_fit.SINKS :] for side in (pod.keys, pod.values)]
    places = pod.positions[basis_fit.SINKS :]
    for one, other in zip(
        found.analyse(*whole, places, STEP),
        found.analyse(*(side.bfloat16() for side in whole), places, STEP),
        strict=True,
    ):
        assert 0 < (one - other).square().mean() < 1e-4 * one.square().mean()
    sides = [STEP * torch.randn(50, len(side.spread)).mul(side.spread / STEP).round() for side in found.sides]
    wide, half = (torch.empty(2, 4, 2, 50, 16, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    for room in (wide, half):
        found.restore(sides, torch.arange(50), room)
    for one, other in zip(wide, half, strict=True):
        assert 0 < (one - other).square().mean() < 1e-4 * one.square().mean()


def test_smaller_steps_cost_more_and_err_less(runner: Runner, found: Basis, pod: Pod) -> None:
    sizes, errors = [], []
    for recipe in ("coded20+near4,1", "coded5+near4,1", "coded1+near4,1"):
        plan = layout(found, recipe)
        blocks = list(coded.to_blocks(pod, plan))
        sizes.append(sum(len(block.payload) for block in blocks))
        errors.append(float((coded.restored(blocks, plan, runner.model).values - pod.values).square().mean()))
        assert expected_bytes(plan, runner.model.shape, 300) < 2 * sizes[-1]
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)
    assert expected_bytes(layout(found, "coded5"), runner.model.shape, 5) == 5 * runner.model.shape.token_bytes


def test_entropy_is_that_of_rounded_laplace_numbers(found: Basis) -> None:
    for spread in (0.05, 0.4, 3.0):
        side = basis.Transform(torch.zeros(1), torch.eye(1)[None], torch.eye(1), torch.tensor([spread]))
        edges = np.arange(-200.5, 201) / (spread / 2**0.5 / 0.3)
        tail = np.exp(-np.abs(edges)) / 2
        chance = np.diff(np.where(edges < 0, tail, 1 - tail))
        chance = chance[chance > 1e-300]
        assert side.bits(0.3) == pytest.approx(-(chance * np.log2(chance)).sum(), rel=1e-3)


@pytest.mark.parametrize("most", [0, 1, 7, 8, 127, 128, 300, 32767])
def test_whole_numbers_come_back(most: int) -> None:
    """Rows that are packed in different ways, side by side, of any length."""
    for tokens in (1, 2, 39, 40):
        rows = torch.from_numpy(np.random.default_rng(most).integers(-most, most + 1, (9, tokens))).short()
        rows[[1, 5]], rows[[2, 7]] = rows[[1, 5]].clamp(-1, 1), rows[[2, 7]].clamp(-7, 7)
        assert torch.equal(coded.unpacked(coded.unfolded(memoryview(coded.encode(rows)), 9, tokens), tokens), rows)


def test_what_is_damaged_or_foreign_is_refused(runner: Runner, found: Basis, pod: Pod) -> None:
    data = coded.encode(torch.ones(9, 40, dtype=torch.int16))
    for wrong in (data[:-1], data[4:], b""):
        with pytest.raises(PodMismatch):
            coded.unfolded(memoryview(wrong), 9, 40)
    for facts in ((9, 41), (8, 40), (10, 36), (0, 40)):
        with pytest.raises(PodMismatch):
            coded.unfolded(memoryview(data), *facts)
    plan = layout(found)
    first, block, *_ = coded.to_blocks(pod, plan)
    loader = coded.CodedLoader(plan, runner.model.shape, 300, runner.model.device)
    for other in ({"basis": "another"}, {"recipe": "coded7"}, {"dtype": "float16"}):
        with pytest.raises(PodMismatch, match="does not fit"):
            loader.add({**block.meta, "stop": block.stop, **other}, block.payload)
    loader.add({**first.meta, "stop": first.stop}, first.payload)
    with pytest.raises(PodMismatch, match="expected 300"):
        loader.finish()


def test_it_is_found_for_its_model_alone(runner: Runner, found: Basis, tmp_path: Path) -> None:
    model = runner.model
    with pytest.raises(PlanMissing, match="docpod readers prepare"):
        layout_of(model, parse(RECIPE), [tmp_path])
    path = found.save(tmp_path, model)
    again = layout_of(model, parse(RECIPE), [tmp_path])
    assert again.basis is not None and again.basis.digest == found.digest and again.basis.facts == {"seed": 0}
    assert again.digest != layout_of(model, parse("exact"), [tmp_path]).digest
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], whole[:-50] + bytes(50)):
        path.write_bytes(damaged)
        with pytest.raises(PlanMissing, match="make it anew with docpod readers prepare"):
            layout_of(model, parse(RECIPE), [tmp_path])


@pytest.mark.gpu
def test_a_gpu_codes_and_decodes_as_a_processor_does(runner: Runner, found: Basis, pod: Pod) -> None:
    """But for a component between two steps, and for the digits of the products."""
    model = runner_of(llama().cuda()).model
    there = replace(pod, **{name: getattr(pod, name).cuda() for name in ("keys", "values", "positions")})
    on_gpu = Basis(*(_on_gpu(side) for side in (found.keys, found.values)), found.angles, found.facts)
    assert on_gpu.digest == found.digest
    blocks = [list(coded.to_blocks(one, layout(which))) for one, which in ((pod, found), (there, on_gpu))]
    sizes = [sum(len(block.payload) for block in each) for each in blocks]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
    mine = coded.restored(blocks[0], layout(found), runner.model)
    back = coded.restored(blocks[0], layout(on_gpu), model)
    for exact, one, other in ((pod.keys, mine.keys, back.keys), (pod.values, mine.values, back.values)):
        assert other.is_cuda
        assert float((one - other.cpu()).square().mean()) < 1e-3 * float((one - exact).square().mean())


@pytest.mark.gpu
def test_what_was_put_may_be_dropped_before_it_is_copied() -> None:
    """Its memory is not given to others until then, however long the copy waits."""
    device, shape = torch.device("cuda"), runner_of(llama().cuda()).model.shape
    loader = PodLoader(shape, 2 * 4096, device)
    sizes = (2, shape.layers, shape.kv_heads, 4096, shape.head_dim)
    with loader._staging.sending():
        torch.cuda._sleep(500_000_000)
    for number in range(2):
        pair = torch.full(sizes, number + 1, dtype=shape.dtype, device=device)
        loader.put(4096 * number, [pair])
        del pair
        torch.full(sizes, -1, dtype=shape.dtype, device=device)
    pod = loader.finish()
    assert isinstance(pod, Pod)
    assert torch.equal(pod.keys[0, 0, ::4096, 0].cpu().float(), torch.tensor([1.0, 2.0]))
    assert float(pod.values.min()) == 1


def _on_gpu(side: tuple[basis.Transform, ...]) -> tuple[basis.Transform, ...]:
    names = ("mean", "weights", "directions", "spread")
    return tuple(basis.Transform(*(getattr(each, name).cuda() for name in names)) for each in side)
