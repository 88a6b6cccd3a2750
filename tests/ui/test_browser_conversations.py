"""Conversations on the page in a real Chromium, over the fake app: kept, named, edited, copied, exported, deleted."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fpdf import FPDF
from playwright.sync_api import Page, expect

from tests.ui import driver
from tests.ui.test_browser import QUESTION, clock, opened, read_on, report, url

__all__ = ["clock", "opened", "read_on", "report", "url"]

pytestmark = pytest.mark.browser


def test_conversations_are_kept_apart(opened: Page, report: Path) -> None:
    driver.upload(opened, report)
    driver.ask(opened, "The first question?")
    driver.wait_for_answer(opened)
    opened.get_by_role("button", name="New conversation").click()
    expect(opened.locator("#history .welcome")).to_be_visible()
    driver.ask(opened, "The second question?")
    driver.wait_for_answer(opened)
    # Once both are listed the list is not drawn anew, which would fold it again.
    expect(opened.locator('[data-menu="history"] [data-do="fold"]', has_text="The second question?")).to_have_count(1)
    opened.get_by_label("Earlier conversations").click()
    opened.get_by_role("button", name="The first question?").click()
    expect(opened.locator("#history .question")).to_have_text("The first question?")


def test_a_question_right_behind_a_new_conversation_is_asked_in_it(opened: Page, report: Path) -> None:
    driver.upload(opened, report)
    driver.ask(opened, "Question number 0?")
    driver.wait_for_answer(opened)
    for number in range(1, 4):
        opened.evaluate(
            """question => {
              document.querySelector('#head [data-event="edit"]').click();
              const box = document.querySelector("#question textarea");
              box.value = question;
              box.dispatchEvent(new Event("input", { bubbles: true }));
              setTimeout(() => document.querySelector("#question .submit-button").click(), 100);
            }""",
            f"Question number {number}?",
        )
        expect(opened.locator("#talk .question")).to_have_text([f"Question number {number}?"])
        driver.wait_for_answer(opened)
        expect(opened.locator("#history .question")).to_have_text([f"Question number {number}?"])
    asked = opened.locator('[data-menu="history"] .title')
    expect(asked).to_have_text([f"Question number {number}?" for number in (3, 2, 1, 0)])


def test_leaving_a_conversation_while_it_is_answered_loses_nothing(opened: Page, report: Path) -> None:
    driver.upload(opened, report)
    driver.ask(opened, QUESTION)
    expect(opened.locator("#live .words")).to_contain_text(" ")
    opened.get_by_role("button", name="New conversation").click()
    expect(opened.locator("#history .welcome")).to_be_visible()
    expect(opened.locator("#live .turn")).to_have_count(0)
    opened.get_by_label("Earlier conversations").click()
    opened.get_by_role("button", name=QUESTION).click()
    expect(opened.locator("#history .words")).to_contain_text("wider international availability.")


def test_a_question_is_edited_and_both_versions_stay(opened: Page, report: Path, read_on: Callable[[], None]) -> None:
    driver.upload(opened, report)
    for number, question in enumerate(("The first question?", "The second question?"), 1):
        driver.ask(opened, question)
        driver.wait_for_answer(opened, number)
    read_on()
    box, asked = opened.locator("#question textarea"), opened.locator("#history .question")
    edit = opened.get_by_label("Edit question")
    edit.last.click()
    expect(box).to_have_value("The second question?")
    expect(box).to_be_focused()
    opened.get_by_role("button", name="Leave it").click()
    expect(box).to_have_value("")
    expect(opened.get_by_role("button", name="Leave it")).to_have_count(0)
    edit.last.click()
    expect(box).to_have_value("The second question?")
    driver.ask(opened, "Another second question?")
    driver.wait_for_answer(opened, 2)
    expect(asked).to_have_text(["The first question?", "Another second question?"])
    versions = opened.locator("#head .versions")
    expect(versions).to_have_text("Version 2 of 2")
    opened.get_by_label("Previous version").click()
    expect(asked).to_have_text(["The first question?", "The second question?"])
    expect(versions).to_have_text("Version 1 of 2")
    expect(opened.get_by_label("Previous version")).to_be_disabled()
    # What is asked next is no edit any more.
    driver.ask(opened, "The third question?")
    driver.wait_for_answer(opened, 3)
    driver.act(opened, "Duplicate")
    expect(versions).to_have_text("Version 3 of 3")
    expect(asked).to_have_count(3)
    opened.get_by_label("Earlier conversations").click()
    expect(opened.locator('[data-menu="history"] .title', has_text="question?")).to_have_count(3)


def test_conversations_of_all_documents_are_in_one_list(opened: Page, report: Path, tmp_path: Path) -> None:
    other = tmp_path / "Minutes of May.pdf"
    other.write_bytes(b"%PDF-1.7 minutes " + tmp_path.name.encode())
    for path, question in ((report, "Who signed the report?"), (other, "Who took the minutes?")):
        driver.upload(opened, path)
        expect(opened.locator(".document[aria-current] .title")).to_have_text(path.stem)
        driver.ask(opened, question)
        driver.wait_for_answer(opened)
    talks = opened.locator(".conversations li")
    expect(talks.first).to_be_hidden()
    opened.get_by_role("button", name="Conversations", exact=True).click()
    expect(opened.locator(".document").first).to_be_hidden()
    expect(talks.nth(0)).to_contain_text("Who took the minutes?Minutes of May")
    expect(talks.nth(1)).to_contain_text("Who signed the report?Annual report 2017")
    expect(opened.locator(".conversations [aria-current]")).to_contain_text("Who took the minutes?")
    talks.nth(1).get_by_role("button").click()
    expect(opened.locator("#history .question")).to_have_text("Who signed the report?")
    expect(opened.locator("#head h2")).to_have_text("Annual report 2017")
    expect(opened).to_have_url(re.compile("c="))
    address = opened.url.partition("#")[0]
    opened.goto("about:blank")
    # As after a restart: the page opens where it was, without being told.
    driver.open_page(opened, address)
    expect(opened.locator("#history .question")).to_have_text("Who signed the report?")
    opened.get_by_role("button", name="Conversations", exact=True).click()
    # The list stays until something is searched for, which shows documents too.
    expect(opened.locator(".conversations [aria-current]")).to_contain_text("Who signed the report?")
    opened.get_by_label("Search titles, pages and conversations").fill("minutes")
    expect(opened.locator(".document .title")).to_have_text(["Minutes of May"])
    expect(talks.first).to_be_hidden()


def test_an_answer_is_copied_with_question_and_pages(opened: Page, report: Path) -> None:
    driver.upload(opened, report)
    driver.ask(opened, QUESTION)
    driver.wait_for_answer(opened)
    box = opened.locator("#question textarea")
    whole = re.compile(
        rf"^{report.stem}\n\n{re.escape(QUESTION)}\n\nThe company had .*availability\.\n\n"
        r"“We ended .*” \(p\. 12\)\n\n“.*” \(p\. F-2\)$",
        re.DOTALL,
    )
    without_https = "() => Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    never = "() => { document.execCommand = () => false; }"
    for change, said, pasted in (("", "Copied", whole), (without_https, "Copied", whole), (never, "Could not be", "-")):
        opened.evaluate(change or "() => {}")
        box.fill("-")
        box.select_text()
        box.press("Control+c")
        opened.get_by_label("Copy answer").click()
        expect(opened.locator(".copied")).to_contain_text(said)
        box.fill("")
        box.press("Control+v")
        expect(box).to_have_value(pasted)
        expect(opened.locator(".copied")).to_have_count(0)


def test_a_conversation_is_exported_from_its_menu(opened: Page, report: Path, read_on: Callable[[], None]) -> None:
    pdf = FPDF()
    pdf.set_compression(False)
    pdf.add_page()
    pdf.set_font("helvetica")
    pdf.multi_cell(0, text="There were 117 members. " * 40)
    pdf.output(str(report))
    driver.upload(opened, report)
    expect(opened.get_by_text("Export as Markdown")).to_have_count(0)
    driver.ask(opened, QUESTION)
    driver.wait_for_answer(opened)
    read_on()
    for name, suffix, holds in (
        ("Export as Markdown", "md", f"## {QUESTION}"),
        ("as PDF with highlights", "pdf", "with 2 marks"),
    ):
        opened.get_by_label("More", exact=True).click()
        # Opening it is no reason to close it, nor is a head that is drawn anew.
        opened.wait_for_timeout(1500)
        with opened.expect_download() as downloading:
            opened.get_by_role("link", name=name).click()
        assert downloading.value.suggested_filename == f"{QUESTION.removesuffix('?')}.{suffix}"
        assert holds in downloading.value.path().read_text()
        expect(opened.get_by_role("link", name=name)).to_be_hidden()


def test_names_are_given_and_a_deleted_conversation_comes_back(
    opened: Page, report: Path, read_on: Callable[[], None]
) -> None:
    driver.upload(opened, report)
    driver.ask(opened, QUESTION)
    driver.wait_for_answer(opened)
    read_on()
    driver.act(opened, "Rename document")
    name = opened.get_by_label("The name")
    expect(name).to_have_value("Annual report 2017")
    name.fill("Our <b>best</b> year")
    name.press("Enter")
    expect(opened.locator("#head h2")).to_have_text("Our <b>best</b> year")
    expect(opened.locator(".document[aria-current] .title")).to_have_text("Our <b>best</b> year")
    opened.get_by_label("More", exact=True).focus()
    opened.keyboard.press("Enter")
    opened.get_by_role("button", name="Rename document").focus()
    opened.keyboard.press("Enter")
    opened.keyboard.press("Escape")
    expect(opened.locator("#head h2")).to_have_text("Our <b>best</b> year")
    opened.get_by_label("Earlier conversations").click()
    opened.get_by_label("Rename conversation").click()
    opened.get_by_label("The name").fill("Members")
    opened.get_by_role("button", name="Rename", exact=True).click()
    expect(opened.locator('[data-menu="history"] .title')).to_have_text("Members")
    opened.get_by_label("Earlier conversations").click()
    opened.get_by_label("Delete conversation").click()
    expect(opened.locator("#history .welcome")).to_be_visible()
    opened.wait_for_timeout(2500)
    opened.get_by_role("button", name="Undo").click()
    expect(opened.locator("#history .question")).to_have_text(QUESTION)
    expect(opened.get_by_role("button", name="Undo")).to_have_count(0)


def test_of_two_quick_clicks_the_last_one_wins(opened: Page, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name} of two clicks.pdf" for name in ("Log", "Map", "Oath")]
    for path in paths:
        path.write_bytes(b"%PDF-1.7 " + path.name.encode())
    driver.upload(opened, *paths)
    expect(opened.locator(f'[title="{paths[2].name}"]')).to_be_visible()
    opened.evaluate(
        """names => {
          for (const name of names) document.querySelector(`.document:has([title="${name}"]) .document-open`).click();
        }""",
        [path.name for path in paths[1:]],
    )
    expect(opened.locator("#head h2")).to_have_text(paths[2].stem)
    expect(opened.locator(".document[aria-current]")).to_contain_text(paths[2].stem)
