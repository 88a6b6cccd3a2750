"""People in a real browser: signing in, what each has of the page, sharing a tag, and signing out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.main import App
from app.settings import Settings
from tests.ui import driver
from tests.ui.fake_server import serving_here
from tests.ui.served_process import unused_port

PASSWORD = "correct horse"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A home with a document of Ann's that has a tag; no model is loaded."""
    app = App(Settings(home=tmp_path / "home", port=unused_port(), model=str(tmp_path), meaning=False))
    for name, role in {"ann": "member", "vi": "visitor"}.items():
        app.people.add(name, role, PASSWORD)
    ann = app.people.app(app.people.named("ann"))
    (path := tmp_path / "harbour.txt").write_text("There were 12 boats in the harbour.")
    ann.library.catalogue.tag(ann.library.add(path, path.name), "plans")
    with serving_here(app) as served:
        yield served.address
    app.close()


def sign_in(page: Page, address: str, name: str) -> None:
    page.goto(address)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.locator("#who summary").click()
    expect(page.locator("#who summary")).to_have_text(name)


def test_people_sign_in_share_a_tag_and_sign_out(browser: Browser, address: str) -> None:
    with driver.new_page(browser) as (page, complaints):
        sign_in(page, address, "ann")
        expect(page.locator(".document")).to_contain_text("harbour")
        expect(page.locator("[data-do=settings]")).to_be_hidden()
        page.locator("#who").get_by_label("Tag").fill("plans")
        page.get_by_role("button", name="Share the tag").click()
        expect(page.locator("#who li")).to_contain_text("#plans · everybody")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in to DocPod")).to_be_visible()
        assert complaints.remote == []
    with driver.new_page(browser) as (page, _):
        sign_in(page, address, "vi")
        expect(page.locator(".document")).to_contain_text("harbour")
        for hidden in ("#upload", ".document .delete", ".document .controls"):
            expect(page.locator(hidden)).to_be_hidden()
