"""What the browser tests share."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.ui import driver


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One for all tests of a file, each of which has a profile of its own."""
    with driver.launched(chromium) as browser:
        yield browser
