"""The frame of a PDF in a real Chromium: its text, its marks, its keys, and what it may not do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from fpdf import FPDF
from playwright.sync_api import Browser, Error, FrameLocator, Page, expect

from tests.ui import driver
from tests.ui.accessibility import RULES
from tests.ui.fake_app import LINES, PAGES
from tests.ui.fake_server import serving_fake

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("pdf") / "home"
    with serving_fake(home, read_seconds=0.1, word_seconds=0.01) as url:
        yield url


@pytest.fixture
def opened(browser: Browser, url: str) -> Iterator[Page]:
    with driver.new_page(browser) as (page, complaints):
        driver.open_page(page, url)
        yield page
        assert complaints.remote == []
        assert [each for each in complaints.errors if "/config" not in each and "ERR_FAILED" not in each] == []


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    """As many pages as the fake app says, each of which has its number in words."""
    document = FPDF()
    document.set_font("Helvetica", size=12)
    for number in range(1, PAGES + 1):
        document.add_page()
        document.multi_cell(0, 6, f"Leaf {number} of {tmp_path.name}\n" + "\n".join(LINES))
    document.output(str(path := tmp_path / "Report.pdf"))
    return path


def pages(page: Page) -> FrameLocator:
    return page.frame_locator("#sheet iframe")


def test_text_is_selectable_and_the_page_follows_its_reader(opened: Page, pdf: Path) -> None:
    driver.upload(opened, pdf)
    first = pages(opened).locator(".page[data-page-number='1']")
    expect(first.locator(".textLayer span").first).to_have_text(f"Leaf 1 of {pdf.parent.name}")
    assert pages(opened).locator("canvas").count() < 10
    number = opened.get_by_label("Go to page")
    number.fill("F-2")
    number.press("Enter")
    leaf = pages(opened).locator(".page[data-page-number='44'] .textLayer span").first
    expect(leaf).to_be_in_viewport()
    expect(opened.get_by_label("Go to the page printed")).to_have_value("F-2")
    leaf.hover()
    opened.mouse.wheel(0, 3_000)
    expect(number).not_to_have_value("44")
    expect(opened.get_by_label("Go to the page printed")).to_be_hidden()
    here = int(number.input_value())
    opened.get_by_role("button", name="Next page").click()
    expect(number).to_have_value(str(here + 1))
    pages(opened).locator("#pages").focus()
    opened.keyboard.press("ArrowLeft")
    expect(number).to_have_value(str(here))


def test_small_pages_lead_to_theirs_by_mouse_and_by_keyboard(opened: Page, pdf: Path) -> None:
    driver.upload(opened, pdf)
    frame, number = pages(opened), opened.get_by_label("Go to page", exact=True)
    expect(frame.locator(".page[data-page-number='1'] canvas")).to_be_visible()
    expect(frame.locator("#thumbs")).to_be_hidden()
    opened.get_by_role("button", name="Small pages").click()
    expect(frame.locator("#thumbs button")).to_have_count(PAGES)
    expect(frame.locator("#thumbs button[aria-current=page]")).to_have_text("1")
    frame.locator("#thumbs canvas").nth(2).click()
    expect(number).to_have_value("3")
    third = frame.locator("#thumbs button[data-page='3']")
    expect(third).to_have_attribute("aria-current", "page")
    # Only what is near is drawn, and one of all is reached by Tab.
    assert frame.locator("#thumbs canvas").count() < PAGES / 2
    expect(frame.locator("#thumbs button[tabindex='0']")).to_have_count(1)
    third.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
        opened.keyboard.press(key)
    expect(number).to_have_value("4")
    number.fill("40")
    number.press("Enter")
    expect(frame.locator("#thumbs button[aria-current=page]")).to_have_attribute("data-page", "40")
    expect(frame.locator("#thumbs button[data-page='40'] canvas")).to_be_in_viewport()
    opened.get_by_role("button", name="Small pages").click()
    expect(frame.locator("#thumbs")).to_be_hidden()


def test_citations_and_their_marks_lead_to_each_other(opened: Page, pdf: Path) -> None:
    driver.upload(opened, pdf)
    driver.ask(opened, "How many members were there?")
    driver.wait_for_answer(opened)
    driver.click_citation(opened, 1)
    marks = pages(opened).locator(".page[data-page-number='44']")
    expect(marks.locator(".mark")).to_have_count(2)
    expect(marks.locator(".number")).to_have_text("2")
    expect(pages(opened).locator("#strip div")).to_have_count(2)
    pages(opened).get_by_title("1: page 12").click()
    expect(opened.get_by_label("Go to page")).to_have_value("12")
    expect(driver.chosen_mark(opened, "12")).to_be_in_viewport()
    # Chosen once more after its reader went elsewhere.
    driver.click_citation(opened, 1)
    pages(opened).locator("#pages").focus()
    opened.keyboard.press("End")
    expect(opened.get_by_label("Go to page")).to_have_value(str(PAGES))
    driver.click_citation(opened, 1)
    pages(opened).get_by_label("2: show the passage in the answer").click()
    expect(opened.locator("#history .chip").nth(1)).to_be_focused()
    opened.get_by_role("button", name="Zoom in").click()
    expect(marks.locator(".mark").first).to_be_visible()


def test_words_are_found_in_it(opened: Page, pdf: Path) -> None:
    driver.upload(opened, pdf)
    expect(pages(opened).locator(".textLayer").first).to_be_visible()
    opened.get_by_role("button", name="Next page").focus()
    opened.keyboard.press("Control+f")
    opened.keyboard.type("leaf 77")
    expect(pages(opened).get_by_role("status")).to_have_text("1 of 1")
    expect(pages(opened).locator(".page[data-page-number='77'] .highlight")).to_be_in_viewport()
    expect(opened.get_by_label("Go to page")).to_have_value("77")
    opened.keyboard.press("Escape")
    expect(pages(opened).get_by_label("Find in this document")).to_be_hidden()
    opened.keyboard.press("/")
    expect(opened.locator("#question textarea")).to_be_focused()


def test_the_frame_has_no_origin_and_what_it_says_is_checked(opened: Page, pdf: Path) -> None:
    driver.upload(opened, pdf)
    expect(pages(opened).locator(".textLayer").first).to_be_visible()
    frame = next(each for each in opened.frames if each.url.endswith("/pdf-viewer/"))
    assert frame.evaluate("() => origin") == "null"
    for script in ("() => parent.document", "() => localStorage", "() => document.cookie"):
        with pytest.raises(Error, match="SecurityError"):
            frame.evaluate(script)
    elsewhere = """() => fetch(new URL("../config", location.href)).then((got) => got.text(), () => "nothing")"""
    with opened.expect_event("console"):
        assert frame.evaluate(elsewhere) == "nothing"
    frame.evaluate(
        """() => { for (const sent of [null, { page: 0 }, { page: 99 }, { page: "3" }, { mark: "<b>" },
             { key: "x" }, 7])
             parent.postMessage(sent, "*"); }"""
    )
    frame.evaluate("() => parent.postMessage({ page: 5 }, '*')")
    expect(opened.get_by_label("Go to page")).to_have_value("5")


def test_a_pdf_that_it_cannot_open_has_pictures(opened: Page, tmp_path: Path) -> None:
    path = tmp_path / "broken.pdf"
    path.write_bytes(b"%PDF-1.7 " + b"broken" * 1_000)
    driver.upload(opened, path)
    expect(opened.get_by_alt_text("Page 1 of broken")).to_be_visible()
    expect(opened.locator(".toolbar")).to_contain_text("Shown as pictures")


def test_the_file_is_downloaded(opened: Page, pdf: Path) -> None:
    driver.upload(opened, pdf)
    with opened.expect_download() as download:
        opened.get_by_label("Download the file").click()
    assert download.value.path().read_bytes() == pdf.read_bytes()
    assert download.value.suggested_filename == "Report.pdf"


def test_axe_finds_nothing_serious_in_the_frame(opened: Page, pdf: Path) -> None:
    driver.upload(opened, pdf)
    driver.ask(opened, "How many members were there?")
    driver.wait_for_answer(opened)
    driver.click_citation(opened)
    opened.get_by_role("button", name="Find in this document").click()
    opened.keyboard.type("leaf 12")
    expect(pages(opened).get_by_role("status")).to_have_text("1 of 1")
    frame = next(each for each in opened.frames if each.url.endswith("/pdf-viewer/"))
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        expect(pages(opened).locator("html")).to_have_attribute("data-theme", scheme)
        found = Axe().run(frame, options=RULES).response["violations"]
        assert [each for each in found if each["impact"] in ("serious", "critical")] == []
