"""A runner whose answers no stop token ends, and documents of several lengths."""

import pytest

from engine.kvcache.exact import Pod
from engine.runtime.runner import Runner
from tests.engine.reading import read, some_ids
from tests.engine.runtime.stepping import without_stops


@pytest.fixture
def plain(llama_runner: Runner) -> Runner:
    return without_stops(llama_runner)


@pytest.fixture
def pods(plain: Runner) -> list[Pod]:
    return [read(plain, some_ids(plain, count, count)) for count in (100, 150, 250)]
