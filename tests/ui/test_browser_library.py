"""The library put in order on the page, by mouse and by keyboard, over the fake app: tags, orders, the queue."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.ui import driver
from tests.ui.fake_server import serving_fake

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A library of one document that is being read, and three that wait."""
    paths = [tmp_path / f"{name}.pdf" for name in ("Report", "Wait 1", "Wait 2", "Wait 3")]
    for path in paths:
        path.write_bytes(f"%PDF-1.7 {path.stem}{' /Queued' * path.stem.startswith('Wait')}".encode())
    with serving_fake(tmp_path / "home") as url, driver.new_page(browser) as (page, complaints):
        driver.open_page(page, url)
        driver.upload(page, *paths)
        expect(page.locator(".document")).to_have_count(4)
        yield page
        assert complaints.errors == []


def order(page: Page, *names: str) -> None:
    expect(page.locator(".document .title")).to_have_text(list(names))


def turns(page: Page, *names: str) -> None:
    """The documents that wait, in the order in which they say that they are read."""
    for place, name in enumerate(names, 1):
        row = page.locator(".document", has_text=name)
        expect(row.locator(".facts").first).to_contain_text(f"Number {place} of {len(names)} to be read")


def test_a_menu_unfolds_and_stays_so_though_it_is_drawn_anew_under_the_mouse(opened: Page) -> None:
    redraw = """(summary) => {
        const region = summary.closest("[data-region]");
        region.addEventListener(%r, () => { region.innerHTML += ""; }, { once: true });
    }"""
    more, entry = opened.get_by_label("More", exact=True), opened.get_by_role("button", name="Tags of the document")
    for moment in ("pointerdown", "pointerup", "click"):
        more.evaluate(redraw % moment)
        more.click()
        expect(entry).to_be_visible()
        opened.evaluate("document.querySelector('#head .menu').removeAttribute('open')")
        opened.wait_for_timeout(100)
        expect(entry).to_be_visible()
        opened.keyboard.press("Escape")
        expect(entry).to_be_hidden()
        more.click()
        more.click()
        expect(entry).to_be_hidden()
        more.click()
        opened.locator("#talk").click()
        expect(entry).to_be_hidden()


def test_what_becomes_another_thing_meanwhile_is_not_what_was_pressed_or_has_the_focus(opened: Page) -> None:
    """Gradio draws a list anew element by element: where one comes or goes, each becomes its neighbour."""
    shift = """() => {
        const all = [...document.querySelectorAll(".document-open")], names = all.map((each) => each.dataset.document);
        all.forEach((each, n) => { each.dataset.document = names.at(n - 1); });
    }"""
    two = opened.locator(".document-open", has_text="Wait 2")
    wanted = two.get_attribute("data-document")
    two.evaluate(f"() => document.addEventListener('pointerdown', () => ({shift})(), {{ once: true }})")
    two.click()
    expect(opened.locator("#head h2")).to_have_text("Wait 2")
    opened.reload()
    two.focus()
    two.evaluate(shift)
    expect(opened.locator(f"[data-document='{wanted}'].document-open")).to_be_focused()


def test_by_mouse(opened: Page) -> None:
    driver.tag(opened, "Tax 2024")
    opened.locator(".document-open", has_text="Wait 2").click()
    expect(opened.locator("#head h2")).to_have_text("Wait 2")
    driver.tag(opened, "tax")
    opened.locator(".document", has_text="Report").get_by_role("button", name="#Tax").click()
    order(opened, "Wait 2", "Report")
    expect(opened.locator("#search textarea")).to_have_value("#Tax")
    expect(opened.locator("[data-several]")).to_have_text("Ask all 2 documents")
    opened.locator("[data-several]").click()
    expect(opened.locator("#history .several li")).to_have_count(2)
    opened.locator("#search textarea").fill("")
    order(opened, "Wait 3", "Wait 2", "Wait 1", "Report")
    choose = opened.get_by_label("Order of the documents")
    choose.select_option("By name")
    order(opened, "Report", "Wait 1", "Wait 2", "Wait 3")
    opened.reload()
    order(opened, "Report", "Wait 1", "Wait 2", "Wait 3")
    expect(choose).to_have_value("name")
    turns(opened, "Wait 1", "Wait 2", "Wait 3")
    last = opened.locator(".document", has_text="Wait 3")
    expect(last.locator(".facts").first).to_contain_text("read in about 9 min")
    last.get_by_role("button", name="Read first").click()
    turns(opened, "Wait 3", "Wait 1", "Wait 2")
    opened.locator(".document-open", has_text="Report").click()
    expect(opened.locator("#head h2")).to_have_text("Report")
    driver.act(opened, "Tags of the document")
    opened.get_by_role("dialog").get_by_role("textbox").fill("")
    opened.get_by_role("button", name="Keep these").click()
    expect(opened.locator(".document[aria-current] .tags")).to_have_count(0)
    for name in ("Wait 1", "Wait 3"):
        opened.get_by_label(f"Choose {name} for a question").check()
    opened.get_by_label("Delete the chosen documents").click()
    opened.get_by_role("button", name="Delete", exact=True).last.click()
    order(opened, "Report", "Wait 2")
    expect(opened.locator("#head h2"), "what is open stays so").to_have_text("Report")
    expect(opened.get_by_label("Delete the chosen documents")).to_be_hidden()


def test_by_keyboard(opened: Page) -> None:
    press, focused = opened.keyboard.press, opened.locator(":focus")
    opened.get_by_label("More", exact=True).focus()
    press("Enter")
    opened.get_by_role("button", name="Tags of the document").focus()
    press("Enter")
    opened.keyboard.type("rooms east")
    press("Enter")
    tag = opened.get_by_role("button", name="#east")
    tag.focus()
    press("Enter")
    order(opened, "Report")
    # The list is drawn anew around the focus, which stays where it is.
    expect(focused).to_have_text("#east")
    press("Control+k")
    press("Escape")
    expect(opened.locator(".document")).to_have_count(4)
    opened.get_by_label("Order of the documents").focus()
    opened.keyboard.type("By")
    order(opened, "Report", "Wait 1", "Wait 2", "Wait 3")
    opened.get_by_role("button", name="Sooner: Wait 3").focus()
    press("Enter")
    turns(opened, "Wait 1", "Wait 3", "Wait 2")
    expect(focused).to_have_attribute("aria-label", "Sooner: Wait 3")
    press("Enter")
    turns(opened, "Wait 3", "Wait 1", "Wait 2")
    expect(focused).to_have_attribute("aria-label", re.compile(": Wait 3$"))
    press("Enter")
    turns(opened, "Wait 1", "Wait 3", "Wait 2")


def test_what_is_pasted_and_what_is_cleared_is_searched_at_once(opened: Page) -> None:
    """Not only when the page looks at the library the next time."""
    number = opened.evaluate("() => gradio_config.dependencies.find((each) => each.api_name === 'search').id")

    def is_search(request: Request) -> bool:
        return request.method == "POST" and f'"fn_index":{number},' in (request.post_data or "")

    for words, left in (("Wait 2", 1), ("", 4)):
        with opened.expect_request(is_search):
            opened.locator("#search textarea").fill(words)
        expect(opened.locator(".document")).to_have_count(left)
