"""The flat loop against the network that it was made from, for every option a supported family has."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from engine.kvcache.suffix import SuffixCache
from engine.models.decoder import FlatModel, flatten
from engine.models.families.registry import family_of
from engine.models.ops import PlainOps
from engine.models.ops_cpu import RowOps
from engine.runtime.runner import Runner
from engine.training import lora
from engine.training.lora import LowRank
from tests.engine.reading import ask, read, runner_of, some_ids

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
CASES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama with biases": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "llama, tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "llama, scaled": (
        LlamaForCausalLM,
        LlamaConfig,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "llama 3": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": LLAMA3}),
    "llama, yarn": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": YARN}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"num_key_value_heads": 1}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 32}),
    "qwen3, tied": (Qwen3ForCausalLM, Qwen3Config, {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None, "head_dim": 24}),
    "mistral, window": (MistralForCausalLM, MistralConfig, {"sliding_window": 20}),
    "phi3": (Phi3ForCausalLM, Phi3Config, {"pad_token_id": 0}),
    "phi3, partial": (
        Phi3ForCausalLM,
        Phi3Config,
        {
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75},
            "pad_token_id": 0,
            "sliding_window": 33,
        },
    ),
}
OPS: dict[str, Callable[[], PlainOps]] = {"plain": PlainOps, "rows": RowOps}


def network_of(case: str, seed: int = 0) -> Any:
    """A random network whose norms and biases are random too."""
    kind, config, options = CASES[case]
    sizes = {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "rms_norm_eps": 1e-3, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind(
            config(
                vocab_size=512,
                hidden_size=64,
                intermediate_size=96,
                num_hidden_layers=3,
                num_attention_heads=4,
                initializer_range=0.2,
                eos_token_id=257,
                **sizes,
            )
        )
        for name, weight in network.named_parameters():
            if weight.dim() == 1:
                nn.init.normal_(weight, mean=float("norm" in name), std=0.3)
    return network.eval().requires_grad_(False)


def by_network(runner: Runner) -> Runner:
    """A runner of the same model that uses transformers' own code."""
    other = Runner(runner.model)
    other._flat = None
    return other


def flat_model(network: Any, ops: PlainOps) -> FlatModel:
    family = family_of(network)
    assert family is not None
    return FlatModel(network, family, ops)


def answers(runner: Runner) -> list[Tensor]:
    """Logits behind a document, a question of several tokens and single tokens."""
    pods = [read(runner, some_ids(runner, count, count)) for count in (150, 90)]
    return ask(runner, pods, [some_ids(runner, 9, 2), [5], [17], some_ids(runner, 4, 3)])


def most_apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max((a.double() - b.double()).abs().max().item() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("ops", OPS)
@pytest.mark.parametrize("case", CASES)
def test_the_loop_says_what_the_network_says(case: str, ops: str, one_thread: None) -> None:
    runner = runner_of(network_of(case))
    runner._flat = flat_model(runner.model.network, OPS[ops]())
    theirs = answers(by_network(runner))
    assert min(logits.std().item() for logits in theirs) > 0.5
    assert most_apart(answers(runner), theirs) < 1e-4


@pytest.mark.parametrize("ops", OPS)
@pytest.mark.parametrize("case", ["llama with biases", "llama, tied", "qwen2", "qwen3", "mistral", "phi3, partial"])
def test_bfloat16_is_no_further_from_the_truth_than_the_network_is(case: str, ops: str, one_thread: None) -> None:
    network = network_of(case).bfloat16()
    runner = runner_of(network)
    runner._flat = flat_model(network, OPS[ops]())
    ours, theirs = answers(runner), answers(by_network(runner))
    exact = runner_of(network_of(case).bfloat16().float())
    truth = answers(by_network(exact))
    assert most_apart(ours, truth) < 2 * most_apart(theirs, truth)


def test_several_last_logits(llama_runner: Runner) -> None:
    def score(runner: Runner) -> Tensor:
        context = runner.context((), SuffixCache(runner.model.shape, 40, runner.model.device))
        return runner.score(context, some_ids(runner, 40, 4), 13)

    ours, theirs = score(llama_runner), score(by_network(llama_runner))
    assert ours.shape == theirs.shape == (13, 512)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_logits_of_chosen_tokens(llama_runner: Runner) -> None:
    """A padded question's last token stands in the middle; the output layer sees no other one."""
    network = llama_runner.model.network
    seen: list[int] = []
    network.lm_head.forward, plain = lambda x: seen.append(len(x)) or plain(x), network.lm_head.forward
    ids, shape = torch.tensor(some_ids(llama_runner, 40, 4)), llama_runner.model.shape

    def forward(last: int | Tensor) -> Tensor:
        with torch.inference_mode():
            context = llama_runner.context((), SuffixCache(shape, 40, llama_runner.model.device))
            return flat_model(network, PlainOps()).forward(ids, torch.arange(40), context, last)

    torch.testing.assert_close(forward(torch.tensor([30])), forward(40)[30:31], rtol=1e-4, atol=1e-4)
    assert seen == [1, 40]


def test_the_backend_says_which_code_runs(tiny_runner: Runner) -> None:
    assert tiny_runner.backend.endswith("layers: flat, one token by matrix-vector products")
    wide = replace(tiny_runner.model, network=copy.deepcopy(tiny_runner.model.network).double())
    assert Runner(wide).backend.endswith("layers: flat")
    trained = replace(tiny_runner.model, network=network_of("llama").train())
    assert Runner(trained).backend.endswith("layers: of transformers")


@pytest.mark.parametrize("case", ["llama", "qwen3"])
def test_what_is_not_known_exactly_is_left_to_the_network(case: str) -> None:
    model = runner_of(network_of(case)).model
    assert flatten(model) is not None

    class Other(type(model.network)):
        pass

    model.network.model.layers[1].mlp.act_fn = nn.GELU()
    assert flatten(model) is None
    model = runner_of(network_of(case)).model
    model.network.model.layers[2].self_attn.extra = nn.Linear(4, 4)
    assert flatten(model) is None
    model = runner_of(network_of(case)).model
    model.network.__class__ = Other
    assert flatten(model) is None


def _add(network: Any) -> LowRank:
    weights = lora.fresh(network, 4, 0)
    generator = torch.Generator().manual_seed(1)
    return LowRank(
        network, {name: 0.3 * torch.randn(each.shape, generator=generator) for name, each in weights.items()}, 1.0
    )


def test_a_network_with_hooks_keeps_them(llama_runner: Runner) -> None:
    """Additions that are there before the runner is."""
    additions = _add(llama_runner.model.network)
    runner = Runner(llama_runner.model)
    with_them = answers(runner)
    assert most_apart(with_them, answers(by_network(runner))) < 1e-4
    with additions.off():
        assert most_apart(answers(runner), with_them) > 0.1


def test_joined_weights_take_no_memory_twice() -> None:
    """The network's own weights are views of the joined ones, hold what they held, and follow what is done to them."""
    network = network_of("llama with biases").bfloat16()
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    made = flat_model(network, RowOps())
    joined = made.blocks[1].qkv[0].matrix
    attention = network.model.layers[1].self_attn
    held = {each.weight.untyped_storage().data_ptr() for each in (attention.q_proj, attention.k_proj, attention.v_proj)}
    assert held == {joined.untyped_storage().data_ptr()}
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())
    # Whoever flattens the network once more finds them joined, and disturbs nobody.
    again = flat_model(network, RowOps()).blocks[1].qkv[0].matrix
    assert again.data_ptr() == joined.data_ptr() and torch.equal(again, joined)
    attention.k_proj.weight.fill_(3.0)
    assert joined[64:96].eq(3.0).all()


def test_the_switch_for_one_token_is_back_on(llama_runner: Runner) -> None:
    runner = runner_of(llama_runner.model.network.bfloat16())
    answers(runner)
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ops", OPS)
def test_the_likeliest_token_is_not_a_matter_of_rounding(ops: str, bias: bool, one_thread: None) -> None:
    """Several tokens have the largest logit in bfloat16; which of them is the likeliest, unrounded sums say."""
    torch.manual_seed(0)
    head, gain = nn.Linear(64, 500, bias=bias, dtype=torch.bfloat16), torch.rand(64).bfloat16()
    head.weight.data += 3 * torch.randn(64).bfloat16()
    chosen, made = 0, OPS[ops]()
    held = made.take_head(head)
    for rows in (1, 40):
        x = torch.randn(rows, 64).bfloat16()
        with torch.no_grad():
            ours, rounded = made.logits(x, held, (gain, 1e-5)), head(made.norm(x, (gain, 1e-5)))
            wide = nn.functional.rms_norm(x.double(), (64,), gain.double(), 1e-5)
            truth = nn.functional.linear(wide, head.weight.double(), head.bias.double() if bias else None)
        assert ours.dtype == torch.float32
        assert torch.equal(ours.argmax(1), truth.argmax(1))
        torch.testing.assert_close(ours.amax(1), truth.amax(1).float(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours, truth.float(), rtol=2e-2, atol=2e-1)
        chosen += int((rounded.argmax(1) != truth.argmax(1)).sum())
    assert chosen > 0


def test_a_head_of_another_kind_says_itself_what_it_gives() -> None:
    """Its weight may be packed, or scaled."""

    class Scaled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    head, x, norm = (
        Scaled(64, 500, dtype=torch.bfloat16),
        torch.randn(3, 64).bfloat16(),
        (torch.ones(64).bfloat16(), 1e-5),
    )
    ops = PlainOps()
    with torch.no_grad():
        assert torch.equal(ops.logits(x, ops.take_head(head), norm), head(ops.norm(x, norm)).float())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_products_are_those_of_pytorch(bias: bool, dtype: torch.dtype, one_thread: None) -> None:
    """Each fused form against float64, at most twice as far as the plain form in the same dtype."""
    torch.manual_seed(0)
    linear = partial(nn.Linear, bias=bias, dtype=dtype)
    modules = [linear(72, 48), linear(72, 24), linear(72, 100), linear(72, 100), linear(100, 72)]
    wide = [copy.deepcopy(each).double() for each in modules]
    weight = torch.rand(72).to(dtype)

    def block(ops: PlainOps, q: Any, k: Any, gate: Any, up: Any, down: Any, x: Tensor, more: Tensor) -> list[Tensor]:
        norm = (weight.to(x.dtype), 1e-5)
        opened = ops.gated(x, *ops.take(gate), *ops.take(up), norm=norm)
        return [ops.linear(x, ops.take(q, k), norm=norm), opened, ops.linear(opened, ops.take(down), residual=more)]

    for rows in (1, 2, 33):
        x, more = torch.randn(rows, 72).to(dtype), torch.randn(rows, 72).to(dtype)
        with torch.no_grad():
            plain, other = block(PlainOps(), *modules, x, more), block(RowOps(), *modules, x, more)
            truth = block(PlainOps(), *wide, x.double(), more.double())
        for ours, theirs, true in zip(other, plain, truth, strict=True):
            assert ours.shape == true.shape
            assert most_apart([ours], [true]) <= 2 * most_apart([theirs], [true]) + 1e-6
