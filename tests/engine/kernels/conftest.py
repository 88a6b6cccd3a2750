"""Where kernels run in these tests: on the GPU if there is one, else in Triton's interpreter."""

import pytest
import torch

HERE = pytest.param("cuda", marks=pytest.mark.gpu) if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=[HERE])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU where kernels are interpreted, the GPU where they are compiled: never both in one process."""
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def one_processor(one_thread: None, quick_interpreter: None) -> None:
    """Interpreted kernels make small tensors only."""


@pytest.fixture
def gpu() -> torch.device:
    """For tests that are marked gpu."""
    return torch.device("cuda")
