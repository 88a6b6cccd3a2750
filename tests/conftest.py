"""Fixtures that several packages' tests share: the embedded model, tiny random models, and a browser.

What is heavy to import is imported by the fixture that needs it, so that the light tests stay quick.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.kernels.cpu.sizes import kernels_version
from tests.servers import PostgresServer, S3Server, running_postgres, running_s3

ROOT = Path(__file__).parent.parent

HAS_GPU = Path("/dev/nvidiactl").exists()
LONG = ("test_kill_resume.py", "test_faults.py", "test_browser_accessibility.py", "test_browser_real.py")

if not HAS_GPU:
    # Without a GPU kernels run in Triton's interpreter. Triton looks at this when it is imported, and transformers
    # imports it where it can.
    os.environ.setdefault("TRITON_INTERPRET", "1")

MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 8 << 30:
    # Hundreds of libraries are made, and each waits for the disk at every step. Loss of power is tried by tests/faults.
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None

# What Numba compiles takes half a minute, and every test has a home of its own.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / "build" / "numba" / kernels_version()))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no process idles at the end; what cannot run here is left out."""
    items.sort(key=lambda item: item.path.name not in LONG)
    left_out = [item for item in items if not _can_run(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _can_run(item: pytest.Item) -> bool:
    programs = [name for mark in item.iter_markers("needs") for name in mark.args]
    return (HAS_GPU or not item.get_closest_marker("gpu")) and all(map(shutil.which, programs))


@pytest.fixture(scope="session")
def embedded_model_dir() -> Path:
    """The converted embedded model: fetched once, then kept in `build/test-model` or in DOCPOD_TEST_MODEL."""
    from engine.models import embedded

    return embedded.ensure(Path(os.environ.get("DOCPOD_TEST_MODEL", ROOT / "build" / "test-model")), print)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the Chromium that browser tests drive; without one they are skipped, and in CI they fail."""
    path = os.environ.get("DOCPOD_CHROMIUM") or shutil.which("chromium")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("CI must run the browser tests, and there is no Chromium here.")
    return path or pytest.skip("no Chromium here")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this process of tests."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A stand-in for S3 in this process of tests."""
    with running_s3() as server:
        yield server


@pytest.fixture
def tiny_llama():
    from tests import tiny

    return tiny.llama()


@pytest.fixture
def tiny_qwen2():
    from tests import tiny

    return tiny.qwen2()


@pytest.fixture
def tiny_qwen3():
    from tests import tiny

    return tiny.qwen3()


@pytest.fixture(scope="session")
def tiny_tokenizer():
    from tests import tiny

    return tiny.tokenizer()


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer) -> Path:
    """A folder with the tiny Llama and its tokenizer, as `--model FOLDER` takes it."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("tiny-llama")
    tiny.llama().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
