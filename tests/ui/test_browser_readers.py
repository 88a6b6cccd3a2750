"""Choosing a reader in Chromium: by mouse over the real app and a stand-in of the hub, by keyboard over the fake."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import tiny
from tests.app import paper
from tests.hub import Hub
from tests.ui import driver
from tests.ui.fake_server import serving_fake
from tests.ui.served_process import serving, unused_port

pytestmark = pytest.mark.browser

NAME = "someone/some-model"
RUN_APP = (sys.executable, "run_app.py", "--no-browser", "--chunk-tokens", "128")


@pytest.fixture
def hub(tmp_path: Path, tiny_tokenizer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Has one model, for the processes that are started meanwhile."""
    tiny.qwen3().save_pretrained(tmp_path / "published")
    tiny_tokenizer.save_pretrained(tmp_path / "published")
    hub = Hub()
    hub.publish(NAME, tmp_path / "published")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    yield hub
    hub.close()


def unfolded(page: Page) -> None:
    page.locator(".reader summary").click()
    expect(page.get_by_label("Readers", exact=True)).to_be_visible()


def test_by_mouse_another_reader_is_fetched_and_takes_over(
    browser: Browser, tiny_model_dir: Path, hub: Hub, tmp_path: Path
) -> None:
    report, mine = paper.text(tmp_path / "report.txt", 2), ("--model", str(tiny_model_dir))
    hub.publish("someone/gated", tmp_path / "published", gated=True)
    with (
        driver.new_page(browser) as (page, complaints),
        serving(RUN_APP, tmp_path / "home", unused_port(), *mine) as url,
    ):
        driver.open_page(page, url)
        driver.upload(page, report)
        driver.wait_until_read(page)
        unfolded(page)
        field = page.get_by_label(re.compile("Another reader"))
        field.fill("someone/gated")
        field.press("Enter")
        expect(page.locator("#change [role=alert]")).to_contain_text("Accept its terms", timeout=60_000)
        field.fill(NAME)
        page.locator(".reader form button").click()
        expect(page.locator(".reader summary")).to_have_text(re.compile(f"{NAME} *is ready"), timeout=120_000)
        # What the one before has read is kept apart; reading it anew is the user's word.
        expect(page.locator(".document[aria-current][data-stage=waiting]")).to_be_visible()
        expect(page.locator(".reader li", has_text=tiny_model_dir.name)).to_contain_text("Has read 1 document")
        page.locator(".document[aria-current] button[data-act=read]").click()
        driver.wait_until_read(page)
        page.get_by_label(f"Delete what {tiny_model_dir.name} has read").click()
        page.get_by_role("button", name="Delete", exact=True).last.click()
        expect(page.locator(".reader li", has_text=tiny_model_dir.name)).not_to_contain_text("Has read")
        assert complaints.errors == [] and complaints.remote == []


def test_by_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    with driver.new_page(browser) as (page, complaints), serving_fake(tmp_path / "home") as url:
        driver.open_page(page, url)
        page.locator(".reader summary").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".reader li", has_text="big/reader")).to_contain_text("too large")
        # What is typed is not lost where the panel is drawn anew.
        field = page.get_by_label(re.compile("Another reader"))
        field.fill("some/reader")
        page.evaluate("const each = document.querySelector('.reader'); each.outerHTML = each.outerHTML")
        expect(field).to_have_value("some/reader")
        field.fill("")
        page.locator(".reader summary").focus()
        page.keyboard.press("Tab")
        expect(page.get_by_label("Use small/reader")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("1.5 GB are fetched")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        stop = page.get_by_role("button", name="Stop", exact=True)
        expect(page.locator("#change")).to_contain_text("0.42 of 1.51 GB")
        stop.focus()
        page.keyboard.press("Enter")
        expect(stop).to_have_count(0)
        expect(page.locator(".reader summary")).to_contain_text("SmolLM2-135M-Instruct")
        page.get_by_label("Use small/reader").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator(".reader summary")).to_contain_text("small/reader")
        expect(page.locator(".reader summary"), "where the button went, the focus stays near").to_be_focused()
        expect(page.locator(".reader li[aria-current]")).to_contain_text("in use")
        expect(page.locator(".reader"), "it stays unfolded").to_have_attribute("open", "")
        page.get_by_label(re.compile("Another reader")).focus()
        page.keyboard.type("nobody/nothing")
        page.keyboard.press("Enter")
        expect(page.locator("#change [role=alert]")).to_contain_text("could not be fetched")
        assert complaints.errors == []
