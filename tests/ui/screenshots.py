"""Takes the pictures of docs/screens from the real app: a new library of the sample and two files of this repository.

python -m tests.ui.screenshots --home DIR [--out docs/screens]

A home that has only `models`, with a reader that was prepared there, shows every form of a memory.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from app.main import App
from app.settings import Settings
from tests.ui import driver
from tests.ui.fake_server import serving_here
from tests.ui.served_process import ROOT, unused_port
from tests.ui.stand_in import StandInTunnel

QUESTION = "When was the light of Corvane first shown?"
BESIDE = (ROOT / "docs" / "team.md", ROOT / "docs" / "deploy.md")
PATIENCE_MS = 900_000
GAP = 24


class Album:
    """Pictures by name, as WebP without loss: fewer bytes than PNG of 256 colours, which lost the rare ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, name: str, *shown: Image.Image) -> None:
        """Side by side, with a gap."""
        width = sum(each.width + GAP for each in shown) - GAP
        whole, left = Image.new("RGB", (width, shown[0].height), "#8a8a90"), 0
        for each in shown:
            whole.paste(each, (left, 0))
            left += each.width + GAP
        whole.save(self._folder / f"{name}.webp", lossless=True, method=6)


def seen(page: Page) -> Image.Image:
    """The page, once all of it is drawn."""
    if page.locator("#sheet iframe").is_visible():
        expect(page.frame_locator("#sheet iframe").locator(".page[data-loaded] canvas").first).to_be_attached()
    page.wait_for_timeout(2_500)
    return Image.open(BytesIO(page.screenshot())).convert("RGB")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screens")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or sys.exit("Chromium is needed: sudo apt-get install chromium")
    app, album = App(Settings(home=options.home.absolute(), port=unused_port(), browser=False)), Album(options.out)
    app.start()
    try:
        with serving_here(app) as served, driver.launched(chromium) as browser:
            app.sharing.roads["link"] = StandInTunnel(served.port, unused_port())
            with driver.new_page(browser) as (page, _):
                driver.open_page(page, served.url)
                if not page.locator(".document").count():
                    fill(page, album)
                sample(page)
                album.take("answer", seen(page))
                panels(page, album)
            others(browser, served.url, album)
    finally:
        app.close()


def fill(page: Page, album: Album) -> None:
    """From the empty library to an answer, and two more documents."""
    album.take("welcome", seen(page))
    page.get_by_role("button", name="Try the sample").click()
    driver.ask(page, QUESTION)
    expect(page.locator("#talk .passages blockquote").first).to_be_visible(timeout=PATIENCE_MS)
    album.take("reading", seen(page))
    driver.wait_until_read(page, PATIENCE_MS)
    expect(page.locator("#history .waits, #history .standing button")).to_have_count(0, timeout=PATIENCE_MS)
    driver.upload(page, *BESIDE)
    expect(page.locator(".document[data-stage=ready]")).to_have_count(3, timeout=PATIENCE_MS)
    driver.tag(page, "operation")


def sample(page: Page) -> None:
    """Opens it, with its conversation."""
    page.locator(".document-open", has_text="Corvane").click()
    expect(page.locator("#history .answer .words, #history .answer .span").first).to_be_visible(timeout=PATIENCE_MS)


def panels(page: Page, album: Album) -> None:
    """What else a desk shows, one after the other."""
    page.locator("[data-menu=dial] > summary").click()
    album.take("forms", seen(page))
    page.keyboard.press("Escape")
    page.locator("#search textarea").fill("password")
    expect(page.locator(".hit").first).to_be_visible()
    page.locator(".hit").first.click()
    expect(page.locator("#sheet .sheet img")).to_be_visible()
    album.take("search", seen(page))
    page.locator("#search textarea").fill("")
    expect(page.locator(".document")).to_have_count(3)
    for box in page.locator(".document", has_not_text="Corvane").locator(".pick").all():
        box.check()
    page.locator("[data-several]").click()
    expect(page.locator("#history .several")).to_be_visible()
    driver.ask(page, "Where are passwords kept?")
    driver.wait_for_answer(page, timeout_ms=PATIENCE_MS)
    album.take("several", seen(page))
    page.locator(".reader summary").click()
    album.take("readers", seen(page))
    page.locator(".reader summary").click()
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Longest answer")).to_be_visible()
    album.take("settings", seen(page))
    page.keyboard.press("Escape")
    sample(page)
    page.locator(".share summary").click()
    page.locator(".share [type=checkbox]").first.check()
    page.get_by_role("button", name="Start sharing").click()
    link = page.locator(".share .address").input_value()
    with driver.another_browser(page) as guest:
        guest.goto(link)
        guest.get_by_label("Your name").fill("Ann")
        album.take("door", seen(guest))
        guest.get_by_role("button", name="Open").click()
        guest.locator(".document-open").click()
        expect(guest.locator("[data-visiting]")).to_be_visible()
        album.take("visitor", seen(guest))
        album.take("share", seen(page))
    page.get_by_role("button", name="Stop sharing").click()


@contextmanager
def opened(browser: Browser, url: str, *how: object) -> Iterator[Page]:
    """The sample in a page of its own; `how`: width, height and language."""
    with driver.new_page(browser, *how) as (page, _):  # type: ignore[arg-type]
        driver.open_page(page, url)
        page.locator(".document-open", has_text="Corvane").evaluate("button => button.click()")
        expect(page.locator("#history .answer").first).to_be_visible()
        yield page


def others(browser: Browser, url: str, album: Album) -> None:
    """The same in the dark, in Arabic, and on a phone."""
    with opened(browser, url) as page:
        page.emulate_media(color_scheme="dark")
        album.take("dark", seen(page))
    with opened(browser, url, 1440, 900, "ar") as page:
        album.take("arabic", seen(page))
    with opened(browser, url, 390, 844) as page:
        shown = []
        for pane in ("Library", "Chat", "Page"):
            page.get_by_role("button", name=pane, exact=True).click()
            page.locator("#talk").evaluate("talk => talk.scrollTo(0, 0)")
            shown.append(seen(page))
        album.take("phone", *shown)


if __name__ == "__main__":
    main()
