"""Sharing in two real browsers: its user's, and a visitor's who comes by the stand-in of a tunnel."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui import driver
from tests.ui.fake_server import serving_fake

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("sharing") / "home"
    with serving_fake(home, read_seconds=0.1, word_seconds=0.02, tunnel=True) as url:
        yield url


@pytest.fixture
def reports(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "Annual report.pdf", tmp_path / "Salaries.pdf"]
    for path in paths:
        path.write_bytes(b"%PDF-1.7 " + path.name.encode())
    return paths


def share(page: Page, title: str, **choices: str) -> str:
    """Shares one document; the link."""
    page.locator(".share summary").click()
    page.locator(".share").get_by_label(title).check()
    for name, value in choices.items():
        page.locator(f".share [name={name}]").fill(value) if name == "password" else page.locator(
            f".share [name={name}]"
        ).select_option(value)
    page.get_by_role("button", name="Start sharing").click()
    return page.locator(".share .address").input_value()


def come_in(page: Page, link: str, name: str, password: str = "") -> None:
    page.goto(link)
    page.get_by_label("Your name").fill(name)
    if password:
        page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Open").click()


def test_a_visitor_reads_and_asks_until_it_is_stopped(browser: Browser, url: str, reports: list[Path]) -> None:
    with driver.new_page(browser) as (page, complaints), driver.another_browser(page) as guest:
        driver.open_page(page, url)
        driver.upload(page, *reports)
        link = share(page, "Annual report")
        come_in(guest, link, "Ann")
        expect(guest.locator(".document")).to_have_count(1)
        expect(guest.locator("[data-visiting]")).to_contain_text("You are visiting")
        for hidden in ("#upload", ".document .delete", ".share summary", "[data-do=settings]"):
            expect(guest.locator(hidden).first).to_be_hidden()
        guest.locator(".document-open").click()
        driver.ask(guest, "How many members were there?")
        driver.wait_for_answer(guest)
        driver.click_citation(guest)
        # What his user sees of it: that he is here, and not what he asked.
        expect(page.locator(".share li")).to_contain_text("Ann")
        expect(page.locator(".share")).to_contain_text("The link was used")
        page.locator(".document-open", has_text="Annual report").click()
        expect(page.locator("#history .welcome")).to_be_visible()
        again = page.get_by_role("button", name="Make another link")
        # Held down while the region is drawn anew, as the timer may do at any moment.
        again.dispatch_event("pointerdown")
        again.evaluate("(button) => button.replaceWith(button.cloneNode(true))")
        again.dispatch_event("pointerup")
        second = page.locator(".share .address").input_value()
        assert second != link
        guest.reload()
        expect(guest.locator(".document")).to_have_count(1)
        page.get_by_role("button", name="Stop sharing").click()
        expect(page.locator(".share summary")).to_be_visible()
        with pytest.raises(Exception, match="ERR_"):
            guest.goto(second)
        assert complaints.errors == []


def test_with_a_password_for_reading_only(browser: Browser, url: str, reports: list[Path]) -> None:
    with driver.new_page(browser) as (page, _), driver.another_browser(page) as guest:
        driver.open_page(page, url)
        driver.upload(page, *reports)
        link = share(page, "Salaries", password="open sesame", may_ask="")
        come_in(guest, link, "Ben", "wrong")
        expect(guest.get_by_role("alert")).to_contain_text("not the password")
        come_in(guest, link, "Ben", "open sesame")
        guest.locator(".document-open").click()
        expect(guest.locator(".sheet img")).to_be_visible()
        expect(guest.locator("#question textarea")).to_be_disabled()
        page.get_by_role("button", name=re.compile("Show out")).click()
        expect(page.locator(".share li")).to_have_count(0)
        guest.goto(link)
        expect(guest.get_by_label("Password")).to_be_visible()
        page.get_by_role("button", name="Stop sharing").click()
        expect(page.locator(".share summary")).to_be_visible()


def test_offline_is_said_in_our_words(browser: Browser, url: str, reports: list[Path]) -> None:
    with driver.new_page(browser) as (page, _):
        driver.open_page(page, url)
        driver.upload(page, *reports)
        page.locator(".share summary").click()
        page.get_by_role("button", name="Start sharing").click()
        expect(page.locator(".share [role=alert]")).to_contain_text("There is no document to share.")
