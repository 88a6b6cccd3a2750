"""A home, and stores in it and in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import Home, Store


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    home.close()


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, home: Home) -> Iterator[Store]:
    """Every verb behaves the same in memory and in a file."""
    store = Store.open("sqlite://" if request.param == "memory" else home.database_url)
    yield store
    store.close()


@pytest.fixture
def kept(home: Home) -> Iterator[Store]:
    """A store in the file of `home`."""
    store = Store.open(home.database_url)
    yield store
    store.close()
