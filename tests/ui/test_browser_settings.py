"""The settings in Chromium: by mouse over the real app, by keyboard over the fake one, and for everybody."""

from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui import driver
from tests.ui.accessibility import found
from tests.ui.fake_server import serving_fake, serving_real
from tests.ui.served_process import unused_port

pytestmark = pytest.mark.browser


def whence(page: Page, name: str) -> str:
    return page.locator(f"#whence-{name}").inner_text()


def opened(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("dialog", name="Settings").get_by_label("Passages", exact=True)).to_be_visible()


def test_by_mouse_values_are_changed_and_are_there_after_a_restart(
    browser: Browser, tiny_model_dir: Path, tmp_path: Path
) -> None:
    given = {"given": {"max_pages": "--max-pages"}, "max_pages": 300}
    real = partial(serving_real, tmp_path / "home", tiny_model_dir, unused_port(), **given)
    with driver.new_page(browser) as (page, complaints):
        with real() as url:
            driver.open_page(page, url)
            opened(page)
            page.get_by_label("Main points", exact=True).uncheck()
            expect(page.locator("#whence-guides")).to_contain_text("Saved. Default: on.")
            page.get_by_label("Log", exact=True).select_option("warning")
            expect(page.locator("#whence-log_level")).to_contain_text("Saved.")
            page.get_by_label("Processor threads", exact=True).fill("1")
            page.get_by_label("Longest document", exact=True).click()
            expect(page.locator("#whence-threads")).to_contain_text("From the next start on; now 0.")
            page.get_by_label("Longest document", exact=True).fill("400")
            page.keyboard.press("Enter")
            expect(page.locator("#whence-max_pages")).to_contain_text("Given by --max-pages for this run. 400 is saved")
            page.get_by_label("Longest answer", exact=True).fill("many")
            page.get_by_label("Passages", exact=True).fill("5")
            expect(page.locator("#settings [role=alert]")).to_contain_text("Give a whole number, at least 1.")
            expect(page.get_by_label("Passages", exact=True), "what is typed elsewhere stays").to_have_value("5")
            page.keyboard.press("Enter")
            expect(page.locator("#whence-passages")).to_contain_text("Saved. Default: 3.")
            expect(page.get_by_label("Longest answer", exact=True)).to_have_value("256")
            page.get_by_role("button", name="Close").click()
            expect(page.locator("#settings")).to_be_hidden()
            assert complaints.errors == [] and complaints.remote == []
        with real() as url:
            driver.open_page(page, url)
            opened(page)
            expect(page.get_by_label("Main points", exact=True)).not_to_be_checked()
            expect(page.get_by_label("Processor threads", exact=True)).to_have_value("1")
            assert "next start" not in whence(page, "threads")
            page.get_by_role("button", name="Back to the default: Passages").click()
            expect(page.get_by_label("Passages", exact=True)).to_have_value("3")


def test_by_keyboard_alone_and_nothing_serious_is_found(browser: Browser, tmp_path: Path) -> None:
    with driver.new_page(browser) as (page, complaints), serving_fake(tmp_path / "home") as url:
        driver.open_page(page, url)
        page.get_by_role("button", name="Settings").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#settings")).to_be_focused()
        expect(page.get_by_label("Longest answer", exact=True)).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Close")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_label("Longest answer", exact=True)).to_be_focused()
        page.keyboard.type("300")
        page.keyboard.press("Tab")
        back = page.get_by_role("button", name="Back to the default: Longest answer")
        expect(back).to_be_visible()
        expect(page.get_by_label("Passages", exact=True), "a redrawing leaves the focus where it went").to_be_focused()
        page.keyboard.type("12")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Passages", exact=True)).to_have_attribute("aria-invalid", "true")
        page.keyboard.press("Tab")
        expect(page.get_by_label("Other words", exact=True)).to_be_focused()
        page.keyboard.press("Space")
        expect(page.get_by_label("Other words", exact=True)).not_to_be_checked()
        expect(page.locator("#whence-meaning")).to_contain_text("Saved.")
        expect(page.get_by_label("Other words", exact=True)).to_be_focused()
        back.focus()
        page.keyboard.press("Enter")
        expect(back).to_have_count(0)
        expect(page.get_by_label("Longest answer", exact=True), "where the button went, its field is").to_be_focused()
        page.get_by_label("Passages", exact=True).fill("0")
        page.keyboard.press("Enter")
        expect(page.locator("#settings [role=alert]")).to_be_visible()
        page.evaluate("document.querySelector('#settings').scrollTo(0, 0)")
        assert found(page, "settings") == []
        page.keyboard.press("Escape")
        expect(page.locator("#settings")).to_be_hidden()
        assert complaints.errors == []
