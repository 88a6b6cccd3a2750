"""Takes the pictures of docs/screenshots from the real app, over a library whose newest document is the sample.

python -m tests.ui.screenshots --home DIR [--out docs/screenshots]
"""

import argparse
import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.ui import driver
from tests.ui.served_process import ROOT, serving, unused_port

QUESTION = "When was the light of Corvane first shown?"
VIEWS = (
    ("desktop", 1440, 900, "light", "en-US"),
    ("dark", 1440, 900, "dark", "en-US"),
    ("phone", 390, 844, "light", "en-US"),
    ("arabic", 1440, 900, "light", "ar"),
    ("settings", 1440, 900, "light", "en-US"),
)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    parser.add_argument("--question", default=QUESTION)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or sys.exit("Chromium is needed: sudo apt-get install chromium")
    command = (sys.executable, "run_app.py", "--no-browser", "--model", "embedded")
    with serving(command, options.home.absolute(), unused_port()) as url:
        for name, width, height, scheme, language in VIEWS:
            with driver.browser_page(chromium, width, height, language) as (page, _):
                page.emulate_media(color_scheme=scheme)
                driver.open_page(page, url)
                if name == "phone":
                    page.get_by_role("button", name="Library").click()
                page.locator(".document-open").first.click()
                expect(page.locator(".document[aria-current]")).to_have_count(1)
                expect(page.locator(".reader[data-state=ready]")).to_have_count(1, timeout=300_000)
                if not page.locator("#history .turn").count():
                    driver.ask(page, options.question)
                    driver.wait_for_answer(page)
                if name == "settings":
                    page.get_by_role("button", name="Settings").click()
                    expect(page.get_by_label("Longest answer")).to_be_visible()
                page.wait_for_timeout(1500)
                picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
                picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(options.out / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
