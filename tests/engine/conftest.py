"""Runners around the tiny models of every family and around the embedded model, with all fresh memory poisoned."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.models import loader
from engine.models.families.registry import FAMILIES
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import runner_of

NETWORKS = {
    "llama": tiny.llama,
    "mistral": tiny.mistral,
    "phi3": tiny.phi3,
    "qwen2": tiny.qwen2,
    "qwen3": tiny.qwen3,
}


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory holds NaN, so that a read of what was never written spoils the result instead of passing by luck."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small matrices are done before a second thread has woken up, and on a busy machine long before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models run on a processor."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def quick_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels are interpreted: the same work without what takes half of the time beside it.

    Attention starts few idle programs, which cost nothing on a GPU; and the interpreter puts its own functions into
    Triton's language once a launch, and not again for every function that a kernel calls.
    """
    if torch.cuda.is_available():
        return
    from triton import language
    from triton.runtime import interpreter

    patch, patched = interpreter._patch_lang, set()

    class Scope:
        def __init__(self, of: object) -> None:
            self.of = of

        def restore(self) -> None:
            self.of.restore()
            patched.clear()

    def patch_once(function: object) -> Scope | None:
        modules = frozenset(
            name
            for name, each in (("tl", language), ("core", language.core))
            if any(each is value for value in function.__globals__.values())
        )
        if modules in patched:
            return None
        patched.add(modules)
        return Scope(patch(function))

    monkeypatch.setattr(interpreter, "_patch_lang", patch_once)
    monkeypatch.setattr("engine.kernels.attention.split_plan._STEP", 4)


@pytest.fixture(params=FAMILIES)
def tiny_runner(request: pytest.FixtureRequest, one_thread: None) -> Runner:
    """A tiny random model of each family that `models.load` takes."""
    return runner_of(NETWORKS[request.param]())


@pytest.fixture
def llama_runner(one_thread: None) -> Runner:
    """One tiny model, where the family does not matter."""
    return runner_of(tiny.llama())


@pytest.fixture(scope="session", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def embedded_runner(request: pytest.FixtureRequest, embedded_model_dir: Path) -> Runner:
    """The embedded model on the CPU in both dtypes, whichever this processor would choose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(loader, "_cpu_dtype", lambda memo: request.param)
        return Runner(loader.load("embedded", embedded_model_dir.parent, print))
