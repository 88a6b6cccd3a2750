"""A home, and stores in memory, in its file, and on a server."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import Home, Store


@pytest.fixture
def places(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Where a library is kept, as `Home` takes it: in its folder, unless a test says otherwise (see `EVERYWHERE`)."""
    where, places = getattr(request, "param", ""), {}
    if "postgres" in where:
        places["database"] = request.getfixturevalue("postgres").url()
    if "s3" in where:
        places["store"] = request.getfixturevalue("s3").url()
    if "share" in where:
        places["store"] = str(tmp_path / "a share")
    return places


EVERYWHERE = pytest.mark.parametrize(
    "places", ["", "share", "s3", "postgres", "postgres share", "postgres s3"], indirect=True
)
"""Both databases and all stores."""
STORES = pytest.mark.parametrize("places", ["", "share", "s3"], indirect=True)


@pytest.fixture
def home(tmp_path: Path, places: dict[str, str]) -> Iterator[Home]:
    with closing(Home(tmp_path / "home", **places)) as home:
        yield home


@pytest.fixture
def folder(home: Home) -> Path:
    """Where the home has its pods; what is expected there is as in any folder."""
    return home.pods


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
