"""The flows of a day by keyboard alone: what is to be pressed is reached by Tab, and the focus is never lost.

Settings, readers, and the queue have tests of their own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fpdf import FPDF
from playwright.sync_api import Browser, Locator, Page, expect

from tests.ui import driver
from tests.ui.fake_server import Clock, serving_fake

pytestmark = pytest.mark.browser

READ_SECONDS = 30.0
FURTHEST = 60
"""So many times Tab is pressed at most for what comes next."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path, clock: Clock) -> Iterator[Page]:
    """Two documents that are read, the first one open, added by the keys as well."""
    paths = [tmp_path / "Report.pdf", tmp_path / "Minutes.pdf"]
    pdf = FPDF()
    pdf.set_compression(False)
    pdf.add_page()
    pdf.set_font("helvetica")
    pdf.multi_cell(0, text="There were 117 members. " * 40)
    pdf.output(str(paths[0]))
    paths[1].write_bytes(b"%PDF-1.7 minutes")
    home = serving_fake(tmp_path / "home", read_seconds=READ_SECONDS, word_seconds=0.01, tunnel=True, clock=clock)
    with home as url, driver.new_page(browser) as (page, complaints):
        driver.open_page(page, url)
        with page.expect_file_chooser() as choosing:
            press(page, page.locator("#upload"))
        choosing.value.set_files(paths)
        expect(page.locator(".document")).to_have_count(2)
        clock.skip(READ_SECONDS)
        driver.wait_until_read(page)
        yield page
        assert complaints.errors == []


def reach(page: Page, target: Locator, key: str = "Tab") -> None:
    """Presses Tab until the focus is there."""
    expect(target).to_be_visible()
    for _ in range(FURTHEST):
        page.keyboard.press(key)
        if target.evaluate("each => each === document.activeElement"):
            return
    raise AssertionError(f"{target} is not reached, but {page.locator(':focus').evaluate('e => e.outerHTML')}")


def press(page: Page, target: Locator, by: str = "Enter", key: str = "Tab") -> None:
    reach(page, target, key)
    page.keyboard.press(by)


def test_a_conversation_is_asked_edited_exported_named_and_deleted(opened: Page) -> None:
    keys, button, label = opened.keyboard, opened.get_by_role, opened.get_by_label
    asked, versions, more = opened.locator("#history .question"), opened.locator("#head .versions"), label("More")
    keys.press("/")
    keys.type("The first question?")
    keys.press("Enter")
    expect(label("Edit question")).to_be_visible()
    press(opened, label("Edit question"), key="Shift+Tab")
    expect(opened.locator("#question textarea")).to_have_value("The first question?")
    keys.press("Control+a")
    keys.type("The other question?")
    keys.press("Enter")
    expect(versions).to_have_text("Version 2 of 2")
    press(opened, label("Previous version"), key="Shift+Tab")
    expect(asked).to_have_text("The first question?")
    expect(label("Next version"), "the way back, where there is no further one").to_be_focused()
    keys.press("Enter")
    expect(asked).to_have_text("The other question?")
    for name, form in (("Export as Markdown", "md"), ("web page", "html"), ("PDF with highlights", "pdf")):
        if form == "md":
            reach(opened, more)
        keys.press("Enter")
        with opened.expect_download() as downloading:
            press(opened, button("link", name=name))
        assert downloading.value.suggested_filename == f"The other question.{form}"
        expect(more, "a menu that is left gives the focus back").to_be_focused()
    keys.press("Enter")
    press(opened, button("button", name="Rename document"))
    keys.type("The year")
    keys.press("Enter")
    expect(opened.locator("#head h2")).to_have_text("The year")
    expect(more).to_be_focused()
    earlier = label("Earlier conversations")
    press(opened, earlier)
    press(opened, label("Rename conversation").first)
    keys.type("Members")
    keys.press("Enter")
    expect(opened.locator(".conversations .title").first).to_have_text("Members")
    expect(earlier).to_be_focused()
    keys.press("Enter")
    press(opened, label("Delete conversation").first)
    expect(opened.locator("#history .welcome")).to_be_visible()
    expect(earlier).to_be_focused()
    press(opened, button("button", name="Undo"))
    expect(asked).to_have_text("The other question?")
    expect(opened.locator("#chat-pane")).to_be_focused()


def test_several_are_asked_shared_kept_smaller_and_deleted(opened: Page) -> None:
    keys, button = opened.keyboard, opened.get_by_role
    picks, share = opened.locator(".pick"), opened.locator(".share")
    keys.press("Control+k")
    press(opened, picks.nth(0), "Space")
    press(opened, picks.nth(1), "Space")
    press(opened, opened.locator("[data-several]", has_text="Ask 2 chosen documents"))
    expect(opened.locator("#history .several li")).to_have_count(2)
    keys.press("/")
    keys.type("Both of you?")
    keys.press("Enter")
    expect(opened.locator("#history .chip").nth(1)).to_contain_text("Report")
    keys.press("Control+k")
    press(opened, share.locator("summary"))
    press(opened, share.get_by_label("Minutes"), "Space")
    press(opened, button("button", name="Start sharing"))
    expect(share.locator(".address"), "the link, where its form was").to_be_focused()
    press(opened, button("button", name="Stop sharing"))
    expect(share.locator("summary")).to_be_focused()
    press(opened, opened.locator(".document-open", has_text="Minutes"), key="Shift+Tab")
    dial = opened.locator("[data-menu=dial] > summary")
    press(opened, dial)
    press(opened, button("button", name="Balanced"))
    press(opened, button("button", name="Change", exact=True))
    expect(dial).to_contain_text("Balanced")
    expect(dial).to_be_focused()
    press(opened, opened.get_by_label("Delete Minutes"), key="Shift+Tab")
    press(opened, button("button", name="Delete", exact=True).last)
    expect(opened.locator(".document .title")).to_have_text(["Report"])
    expect(opened.locator("#documents :focus"), "the row in its place").to_have_count(1)
