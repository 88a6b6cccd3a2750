"""A web server for the tests of downloads."""

from collections.abc import Iterator

import pytest

from tests.engine.models.file_server import FileServer


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    server = FileServer()
    yield server
    server.close()
