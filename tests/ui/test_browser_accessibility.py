"""Every state of the page for everybody: axe-core finds nothing serious, keys reach all, and zoom leaves it usable."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui import driver
from tests.ui.accessibility import found
from tests.ui.fake_server import serving_fake

pytestmark = pytest.mark.browser

QUESTION = "How many members were there at the end of the year?"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serving_fake(tmp_path / "home", read_seconds=8, tunnel=True) as url:
        yield url


@pytest.fixture
def opened(browser: Browser, url: str) -> Iterator[Page]:
    with driver.new_page(browser) as (page, complaints):
        driver.open_page(page, url)
        yield page
        assert complaints.errors == []


@pytest.fixture
def reports(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "Annual report 2017.pdf", tmp_path / "Minutes.pdf", tmp_path / "Locked.pdf"]
    paths += [tmp_path / "Queued 1.pdf", tmp_path / "Queued 2.pdf"]
    for path in paths:
        state = {"Locked": " /Encrypt", "Queued": " /Queued"}.get(path.stem.split()[0], "")
        path.write_bytes(f"%PDF-1.7 {path.name}{state}".encode())
    return paths


def test_axe_finds_nothing_serious_in_any_state(opened: Page, reports: list[Path]) -> None:
    wrong = found(opened, "nothing there yet")
    driver.upload(opened, *reports)
    expect(opened.get_by_label("Suggested questions")).to_be_visible()
    driver.tag(opened, "tax 2024")
    wrong += found(opened, "being read, one that is locked, two that wait, and tags")
    driver.ask(opened, "How many members were there, asked early?")
    wrong += found(opened, "a question that waits")
    driver.wait_until_read(opened)
    driver.ask(opened, QUESTION)
    driver.wait_for_answer(opened, 2)
    driver.click_citation(opened, 1)
    wrong += found(opened, "answered, with a passage of another printed number")
    driver.ask(opened, "Is there a unicorn?")
    driver.wait_for_answer(opened, 3)
    wrong += found(opened, "not found")
    opened.locator("#question textarea").fill("a bug")
    opened.locator("#question textarea").press("Enter")
    expect(opened.locator("#said .trouble")).to_be_visible()
    opened.get_by_text("Contents").click()
    opened.get_by_label("Earlier conversations").click()
    opened.locator(".share summary").click()
    opened.locator(".reader summary").click()
    wrong += found(opened, "an error, with all that folds unfolded")
    opened.keyboard.press("Control+k")
    opened.keyboard.type("streaming memberships")
    expect(opened.locator(".hit").first).to_be_visible()
    wrong += found(opened, "searched")
    opened.get_by_label("Search titles, pages and conversations").fill("")
    for menu, button in (("more", "Rename document"), ("dial", "Balanced")):
        opened.locator(f"[data-menu={menu}] > summary").click()
        wrong += found(opened, f"menu: {menu}")
        # Looking may have folded it.
        opened.locator(f"[data-menu={menu}]").evaluate("menu => { menu.open = true }")
        opened.locator(f"[data-menu={menu}]").get_by_role("button", name=button).click()
        expect(opened.get_by_role("dialog")).to_be_visible()
        wrong += found(opened, f"dialog: {button}")
        opened.keyboard.press("Escape")
    opened.locator("[data-several]").click()
    expect(opened.locator("#history .several")).to_be_visible()
    wrong += found(opened, "several documents")
    opened.locator(".share").get_by_label("Minutes").check()
    opened.get_by_role("button", name="Start sharing").click()
    link = opened.locator(".share .address").input_value()
    wrong += found(opened, "shared")
    with driver.another_browser(opened) as guest:
        guest.goto(link)
        wrong += found(guest, "the door of a visitor")
        guest.get_by_role("button", name="Open").click()
        guest.locator(".document-open").click()
        expect(guest.locator("[data-visiting]")).to_be_visible()
        wrong += found(guest, "visited")
    assert not wrong, "\n".join(wrong)


def test_everything_is_reached_by_the_keyboard(opened: Page, reports: list[Path]) -> None:
    driver.upload(opened, reports[0])
    opened.keyboard.press("?")
    expect(opened.get_by_role("dialog", name="Keyboard shortcuts")).to_contain_text("Ctrl K")
    opened.keyboard.press("Escape")
    expect(opened.get_by_role("dialog")).to_have_count(0)
    opened.keyboard.press("/")
    opened.keyboard.type("What? / and so on")
    expect(opened.locator("#question textarea")).to_have_value("What? / and so on")
    opened.keyboard.press("Enter")
    expect(opened.locator("#live .words")).to_contain_text(" ")
    opened.keyboard.press("Escape")
    expect(opened.locator("#history .turn").last).to_contain_text("Stopped.")
    opened.get_by_label("Earlier conversations").focus()
    opened.keyboard.press("Enter")
    expect(opened.locator("details.menu[data-menu=history]")).to_have_attribute("open", "")
    opened.keyboard.press("Tab")
    opened.keyboard.press("Escape")
    expect(opened.locator("details.menu[data-menu=history]")).not_to_have_attribute("open", "")
    expect(opened.get_by_label("Earlier conversations")).to_be_focused()


def test_a_suggested_question_is_asked_with_one_click(opened: Page, reports: list[Path]) -> None:
    driver.upload(opened, reports[0])
    opened.get_by_role("button", name="What is this <b>document</b> about?").click()
    expect(opened.locator("#talk .question")).to_have_text("What is this <b>document</b> about?")
    driver.wait_until_read(opened)
    expect(opened.locator("#question textarea")).to_have_value("")


def test_pages_turn_by_keys_and_by_both_of_their_numbers(opened: Page, reports: list[Path]) -> None:
    driver.upload(opened, reports[0])
    number = opened.get_by_label("Go to page")
    pane = opened.locator("#sheet .scroll")
    pane.focus()
    for key, page in (("ArrowRight", "2"), ("ArrowRight", "3"), ("ArrowLeft", "2")):
        opened.keyboard.press(key)
        expect(number).to_have_value(page)
        expect(pane).to_be_focused()
    # On in a page that is larger than the pane first, then to the next one.
    opened.get_by_label("Zoom in").click()
    pane.focus()
    opened.wait_for_function("pane => pane.scrollHeight > pane.clientHeight + 9", arg=pane.element_handle())
    opened.keyboard.press("PageDown")
    expect(number).to_have_value("2")
    pane.evaluate("pane => pane.scrollTo(0, pane.scrollHeight)")
    opened.keyboard.press("PageDown")
    expect(number).to_have_value("3")
    number.fill("f-2")
    number.press("Enter")
    expect(number).to_have_value("44")
    printed = opened.get_by_label("Go to the page printed")
    expect(printed).to_have_value("F-2")
    printed.fill("9")
    printed.press("Enter")
    expect(number).to_have_value("9")
    expect(printed).to_be_hidden()
    for wrong, shown in (("xiv", "9"), ("999", "98")):
        number.fill(wrong)
        number.press("Enter")
        expect(opened.locator(".toolbar")).to_contain_text(f"There is no page {wrong}.")
        expect(number).to_have_value(shown)


@pytest.mark.parametrize(("width", "height"), [(640, 400), (320, 256)])
def test_magnified_two_and_four_times_it_is_usable(
    browser: Browser, url: str, reports: list[Path], width: int, height: int
) -> None:
    """A window of 1280 pixels, as it is laid out at 200 and 400 %."""
    with driver.new_page(browser, width, height) as (page, complaints):
        driver.open_page(page, url)
        page.get_by_role("button", name="Library").click()
        driver.upload(page, reports[0])
        page.get_by_role("button", name="Chat").click()
        box = page.locator("#question textarea")
        driver.ask(page, QUESTION)
        driver.wait_for_answer(page)
        expect(box).to_be_in_viewport(ratio=1)
        page.locator("#history .question").scroll_into_view_if_needed()
        expect(page.locator("#history .question")).to_be_in_viewport(ratio=1)
        driver.click_citation(page)
        for control in ("Previous page", "Go to page", "Next page", "Zoom in"):
            expect(page.get_by_label(control)).to_be_in_viewport(ratio=1)
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert complaints.errors == []
