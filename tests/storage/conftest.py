"""A home, and stores in memory, in its file, and on a server."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import Home, Store


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with closing(Home(tmp_path / "home")) as home:
        yield home


@pytest.fixture(params=["file", "postgres"])
def database_url(request: pytest.FixtureRequest, home: Home) -> str:
    """Of a database that is empty: both kinds keep the same contracts."""
    return home.database_url if request.param == "file" else request.getfixturevalue("postgres").url()


@pytest.fixture(params=["memory", "file", "postgres"])
def store(request: pytest.FixtureRequest, home: Home) -> Iterator[Store]:
    """Every verb behaves the same in memory, in a file and on a server."""
    urls = {"memory": lambda: "sqlite://", "file": lambda: home.database_url}
    url = urls.get(request.param) or request.getfixturevalue("postgres").url
    with closing(Store.open(url())) as store:
        yield store


@pytest.fixture
def kept(home: Home) -> Iterator[Store]:
    """A store in the file of `home`."""
    with closing(Store.open(home.database_url)) as store:
        yield store
