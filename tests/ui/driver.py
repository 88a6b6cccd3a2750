"""What a user does, step by step, in a real browser; the same steps for the fake app and for the real one."""

import base64
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect, sync_playwright

QUIET_CHROMIUM = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
)
# On a busy machine a page takes its time.
expect.set_options(timeout=30_000)

STREAM_COUNTER = """() => {
  window.pieces = [];
  const live = document.querySelector("#live");
  new MutationObserver(() => {
    const words = live.querySelector(".words")?.innerText.trim() || "";
    if (words && words !== window.pieces.at(-1)) window.pieces.push(words);
  }).observe(live, { childList: true, subtree: true, characterData: true });
}"""


@dataclass
class Complaints:
    """What the browser had to say: errors of the page, and requests to anyone else."""

    errors: list[str] = field(default_factory=list)
    remote: list[str] = field(default_factory=list)


@contextmanager
def launched(chromium: str) -> Iterator[Browser]:
    """A browser. It must be closed before anything else in this thread runs an event loop."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    arguments = [*QUIET_CHROMIUM, *(["--no-sandbox"] if root else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def new_page(
    browser: Browser, width: int = 1440, height: int = 900, language: str = "en-US"
) -> Iterator[tuple[Page, Complaints]]:
    """A page of a fresh profile; its complaints are collected."""
    complaints = Complaints()
    page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce", locale=language)
    page.on("pageerror", lambda error: _note_error(str(error), complaints))
    page.on("console", lambda line: _note_error(line.text, complaints) if line.type == "error" else None)
    page.on("dialog", lambda dialog: complaints.errors.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: _note_remote(request.url, complaints))
    try:
        yield page, complaints
    finally:
        page.close()


@contextmanager
def browser_page(
    chromium: str, width: int = 1440, height: int = 900, language: str = "en-US"
) -> Iterator[tuple[Page, Complaints]]:
    """A page of a fresh browser; its complaints are collected."""
    with launched(chromium) as browser, new_page(browser, width, height, language) as opened:
        yield opened


@contextmanager
def another_browser(page: Page, width: int = 1440, height: int = 900) -> Iterator[Page]:
    """A page of another profile, which shares nothing with the first but the program."""
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    try:
        yield context.new_page()
    finally:
        context.close()


def _note_error(error: str, complaints: Complaints) -> None:
    # Gradio's client cuts its own stream of events off as the page is left, and does not catch what comes of it.
    if not error.startswith("AbortError: BodyStreamBuffer was aborted"):
        complaints.errors.append(error)


def _note_remote(url: str, complaints: Complaints) -> None:
    if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
        complaints.remote.append(url)


def open_page(page: Page, url: str) -> None:
    """Opens the page and waits until it can be used."""
    page.goto(url)
    expect(page.locator("#history :is(.welcome, .turn)").first).to_be_visible(timeout=30_000)


def upload(page: Page, *files: Path) -> None:
    """Adds files through the library's button; the first of them opens."""
    page.locator("#library-pane input[type=file]").set_input_files(list(files))
    expect(page.locator(".document[aria-current]")).to_be_visible(timeout=30_000)


def drop(page: Page, path: Path) -> None:
    """Drops a file on the page, as from a file manager."""
    data = base64.b64encode(path.read_bytes()).decode()
    page.evaluate(
        """([data, name]) => {
          const dropped = new DataTransfer();
          dropped.items.add(new File([Uint8Array.from(atob(data), (each) => each.charCodeAt(0))], name));
          const options = { dataTransfer: dropped, bubbles: true, cancelable: true };
          for (const type of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(new DragEvent(type, options));
        }""",
        [data, path.name],
    )
    expect(page.locator(".document[aria-current]")).to_be_visible(timeout=30_000)


def act(page: Page, name: str) -> None:
    """Chooses an action on the open document or conversation."""
    page.get_by_label("More", exact=True).click()
    page.locator("#head .menu").get_by_role("button", name=name).click()


def tag(page: Page, tags: str) -> None:
    """Gives the open document these tags."""
    act(page, "Tags of the document")
    page.get_by_role("dialog").get_by_role("textbox").fill(tags)
    page.get_by_role("button", name="Keep these").click()
    expect(page.locator(".document[aria-current] .tags button")).to_have_text([f"#{each}" for each in tags.split()])


def see_progress(page: Page) -> str:
    """Waits until reading shows how long it will still take; the line that says so."""
    row = page.locator(".document[aria-current]")
    read = row.locator("button[data-act=read]")
    expect(row.locator(".eta").or_(read)).to_be_visible(timeout=120_000)
    if read.is_visible():
        read.click()
    expect(row.locator(".eta")).to_be_visible(timeout=120_000)
    expect(row.get_by_role("progressbar")).to_be_visible()
    return row.locator(".facts").inner_text()


def wait_until_read(page: Page, timeout_ms: int = 600_000) -> None:
    """Waits for the end of reading."""
    expect(page.locator(".document[aria-current][data-stage=ready]")).to_be_visible(timeout=timeout_ms)


def ask(page: Page, question: str) -> None:
    """Asks with Enter, counting the pieces in which the answer arrives."""
    page.evaluate(STREAM_COUNTER)
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#talk .question").last).to_have_text(question, timeout=30_000)


def wait_for_answer(page: Page, number: int = 1, timeout_ms: int = 300_000) -> list[str]:
    """Waits for the end of the answer that is the conversation's `number`th; the texts it grew through."""
    expect(page.locator("#history .answer")).to_have_count(number, timeout=timeout_ms)
    expect(page.locator("#history .waits")).to_have_count(0, timeout=timeout_ms)
    expect(page.locator("#question .submit-button")).to_be_visible(timeout=timeout_ms)
    pieces: list[str] = page.evaluate("() => window.pieces")
    return pieces


def stop_answer(page: Page, timeout_ms: int = 300_000, once: str = "#live .words") -> bool:
    """Presses Stop once words appear, or something else; whether that came before the answer's end."""
    expect(page.locator(once)).to_contain_text(" ", timeout=timeout_ms)
    with suppress(TimeoutError):
        page.get_by_role("button", name="Stop").click(timeout=5_000)
    last = page.locator("#history .turn").last
    expect(last).to_contain_text(re.compile(r"Stopped\.|Answered from memory"), timeout=timeout_ms)
    return "Stopped." in last.inner_text()


def regenerate(page: Page, number: int, timeout_ms: int = 300_000) -> list[str]:
    """Has the last answer given again."""
    page.evaluate(STREAM_COUNTER)
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator("#live .turn")).to_be_visible(timeout=30_000)
    return wait_for_answer(page, number, timeout_ms)


def click_citation(page: Page, position: int = 0) -> str:
    """Clicks a passage's chip; the number of the page, whose marks are in view."""
    chip, leaf = page.locator("#history .turn").last.locator(".chip").nth(position), page.locator("#sheet .leaf")
    number, before = chip.get_attribute("data-page") or "", leaf.get_attribute("data-drawn") or ""
    chip.click()
    # Where that page was in view already, whatever comes next would overtake the click.
    expect(leaf).not_to_have_attribute("data-drawn", before, timeout=30_000)
    expect(page.locator("#sheet [name=page]")).to_have_value(number, timeout=30_000)
    expect(chosen_mark(page, number)).to_be_in_viewport(timeout=30_000)
    return number


def chosen_mark(page: Page, number: str) -> Locator:
    """The first box of the chosen mark on that page: on its picture, or in the frame of a PDF."""
    if page.locator("#sheet iframe").count():
        sheet = page.frame_locator("#sheet iframe").locator(f".page[data-page-number='{number}']")
    else:
        sheet = page.locator("#sheet")
    return sheet.locator(".mark.chosen").first


def restored(page: Page, url: str, question: str) -> None:
    """Opens an address again: library, conversation and page are as they were."""
    page.goto("about:blank")
    open_page(page, url)
    expect(page.locator(".document[aria-current]")).to_be_visible(timeout=30_000)
    expect(page.locator("#history .question").first).to_have_text(question)
    expect(page.locator("#history blockquote").first).to_be_visible()
