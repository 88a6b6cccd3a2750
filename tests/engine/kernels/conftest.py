"""Where the kernels run: compiled on a GPU if there is one, else in Triton's interpreter on the processor."""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """What the kernels of these tests run on."""
    return torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")


@pytest.fixture
def gpu() -> torch.device:
    """A GPU; without one its tests are skipped."""
    return torch.device("cuda") if torch.cuda.is_available() else pytest.skip("no GPU here")
