"""The page in each of its languages, by what the browser asks for: nothing of it is left in English."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui import driver
from tests.ui.accessibility import found
from tests.ui.fake_server import serving_fake
from ui.language import CATALOGUES

pytestmark = pytest.mark.browser

QUESTION = "How many members were there at the end of the year?"
OWN_WORDS = """() => {
  const foreign = ".title, .name, #history, .sheet, #outline li, .line bdi, .why, svg";
  const words = [];
  for (const each of document.querySelectorAll(":is(#desk, #switch) *")) {
    if (each.closest(foreign) || !each.checkVisibility()) continue;
    for (const name of ["ariaLabel", "title", "placeholder"]) if (each[name]) words.push(each[name]);
    for (const node of each.childNodes) if (node.nodeType === 3 && node.data.trim()) words.push(node.data.trim());
  }
  return words;
}"""


def in_english(page: Page, tongue: str) -> list[str]:
    """Sentences of the page itself that are as they stand in the code."""
    keys = {key for key, entry in CATALOGUES[tongue].items() if entry != key}
    return [words for words in page.evaluate(OWN_WORDS) if words in keys]


@pytest.mark.parametrize(
    ("locale", "tongue", "start"),
    [
        ("de-DE", "de", "Einmal lesen.\nImmer fragen."),
        ("zh-CN", "zh-CN", "一次读完，\n随时提问。"),
        ("ar", "ar", "اقرأه مرة.\nواسأله دائمًا."),
    ],
)
def test_the_page_speaks_the_language_of_the_browser(
    browser: Browser, tmp_path: Path, locale: str, tongue: str, start: str
) -> None:
    words = CATALOGUES[tongue]
    pdf = tmp_path / "Annual report 2017.pdf"
    pdf.write_bytes(b"%PDF-1.7 a report")
    with (
        serving_fake(tmp_path / "home", read_seconds=2) as url,
        driver.new_page(browser, language=locale) as (page, complaints),
    ):
        driver.open_page(page, url)
        root, box = page.locator("html"), page.locator("#question textarea")
        expect(root).to_have_attribute("lang", tongue)
        expect(root).to_have_attribute("dir", "rtl" if tongue == "ar" else "ltr")
        expect(page.locator("#history h2")).to_have_text(start, use_inner_text=True)
        expect(page.locator("#upload")).to_have_text(words["Add documents"])
        expect(box).to_have_attribute("placeholder", words["Open a document to ask it"])
        expect(page.locator("#question .submit-button")).to_have_text(words["Send"])
        assert in_english(page, tongue) == []
        driver.upload(page, pdf)
        expect(box).to_have_attribute("placeholder", words["Ask this document"])
        driver.wait_until_read(page)
        driver.ask(page, QUESTION)
        driver.wait_for_answer(page)
        driver.click_citation(page, 1)
        spent = words["Answered from memory: {seconds}"].partition("{")[0]
        expect(page.locator("#history .cost")).to_contain_text(spent)
        driver.ask(page, "Is there a unicorn?")
        driver.wait_for_answer(page, 2)
        expect(page.locator("#history .not-found .lead")).to_contain_text(words["Not found in the document."])
        page.locator(".share summary").click()
        page.locator(".reader summary").click()
        assert in_english(page, tongue) == []
        page.locator("body").press("?")
        expect(page.get_by_role("dialog")).to_contain_text(words["This list"])
        assert complaints.errors == []


def test_arabic_runs_to_the_left_fits_and_is_for_everybody(browser: Browser, tmp_path: Path) -> None:
    pdf = tmp_path / "Annual report 2017.pdf"
    pdf.write_bytes(b"%PDF-1.7 a report")
    with (
        serving_fake(tmp_path / "home", read_seconds=2) as url,
        driver.new_page(browser, language="ar") as (page, complaints),
    ):
        door = httpx.get(url.partition("?")[0], headers={"Accept-Language": "ar,en;q=0.5"}, trust_env=False).text
        assert '<html lang="ar" dir="rtl">' in door
        assert CATALOGUES["ar"]["DocPod is private"] in door
        driver.open_page(page, url)
        wrong = found(page, "nothing there yet")
        driver.upload(page, pdf)
        driver.wait_until_read(page)
        driver.ask(page, "كم عدد الأعضاء؟")
        driver.wait_for_answer(page)
        library, talk = page.locator("#library-pane").bounding_box(), page.locator("#chat-pane").bounding_box()
        assert library and talk and library["x"] > talk["x"]
        send, box = page.locator("#question .submit-button"), page.locator("#question textarea")
        assert (send.bounding_box() or {})["x"] < (box.bounding_box() or {})["x"]
        wrong += found(page, "answered")
        for pane in ("library", "chat", "page"):
            page.set_viewport_size({"width": 390, "height": 844})
            page.locator(f"#switch [data-show={pane}]").click()
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), pane
        page.locator("#switch [data-show=chat]").click()
        box.fill("Is there a unicorn?")
        send.click()
        driver.wait_for_answer(page, 2)
        expect(box).to_be_in_viewport(ratio=1)
        assert wrong == [], "\n".join(wrong)
        assert complaints.errors == []


def test_a_language_without_a_catalogue_is_answered_in_english(browser: Browser, tmp_path: Path) -> None:
    with (
        serving_fake(tmp_path / "home") as url,
        driver.new_page(browser, language="fr-FR") as (page, _),
    ):
        driver.open_page(page, url)
        expect(page.locator("html")).to_have_attribute("lang", "en")
        expect(page.locator("#upload")).to_have_text("Add documents")
        expect(page.locator("#question .submit-button")).to_have_text("Send")
