"""What the system refuses, told as such."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Turn what PyTorch raises for a file of tensors that the system does not open, or map, into OSError.

    As where too many files are open, or the disk fails: neither says anything of the file.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise OSError(str(error)) from error
