"""Where kernels run in these tests: on the GPU if there is one, else in Triton's interpreter."""

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def one_processor(one_thread: None) -> None:
    """Interpreted kernels make small tensors only."""
