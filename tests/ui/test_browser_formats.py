"""A file of every format, dropped on the page in a real Chromium: read, asked, and its passage marked."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from pypdf import PdfWriter

from tests.app.test_formats import WRITERS
from tests.app.test_scans import print_and_scan
from tests.ui import driver
from tests.ui.fake_server import serving_real
from tests.ui.served_process import unused_port

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def opened(chromium: str, tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Iterator[Page]:
    """The page of one app for all files."""
    home = tmp_path_factory.mktemp("formats") / "home"
    with (
        serving_real(home, tiny_model_dir, unused_port(), chunk_tokens=128) as url,
        driver.browser_page(chromium) as (page, complaints),
    ):
        driver.open_page(page, url)
        yield page
        assert complaints.errors == []


def drop(page: Page, path: Path) -> None:
    driver.drop(page, path)
    row = page.locator(".document", has=page.locator(f'[title="{path.name}"]'))
    expect(row).to_be_visible(timeout=60_000)
    expect(row).to_have_attribute("aria-current", "true", timeout=60_000)
    # Until it is parsed it is called by its file, then as it calls itself.
    title = re.compile(f"^(?:{re.escape(path.stem)}|Rooms|The Harbour Book)$")
    expect(row.locator(".title")).to_have_text(title, timeout=60_000)
    driver.wait_until_read(page)


def answers(page: Page, question: str, answer: str) -> None:
    driver.ask(page, question)
    driver.wait_for_answer(page)
    expect(page.locator("#history .answer")).to_contain_text(answer)
    driver.click_citation(page)


@pytest.mark.parametrize(
    "suffix",
    # The others differ from this one in their readers only, which tests/app tries.
    [pytest.param(each, marks=() if each == ".docx" else pytest.mark.slow) for each in (*WRITERS, "scan.pdf")],
)
def test_a_file_is_dropped_read_and_asked(opened: Page, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"Rooms {suffix.replace('.', ' ').strip()}{Path(suffix).suffix or suffix}"
    if suffix == "scan.pdf":
        WRITERS[".pdf"](tmp_path / "typed.pdf")
        print_and_scan(tmp_path / "typed.pdf", path)
    else:
        WRITERS[suffix](path)
    drop(opened, path)
    answers(opened, "What is the access code of room 7?", "4711")


def test_what_is_attached_is_added_with_one_click(opened: Page, tmp_path: Path) -> None:
    WRITERS[".pdf"](tmp_path / "typed.pdf")
    writer = PdfWriter(tmp_path / "typed.pdf")
    writer.add_attachment("Annex <b>.txt", b"The harbour master of Tromso is Ingrid Vale.")
    writer.write(path := tmp_path / "Cover.pdf")
    drop(opened, path)
    row = opened.locator(".document[aria-current]")
    expect(row.locator(".note")).to_have_text("Attached, and not read with it:")
    row.get_by_role("button", name="Add Annex <b>.txt").click()
    expect(row.locator(".title")).to_have_text("Annex <b>")
    driver.wait_until_read(opened)
    answers(opened, "Who is the harbour master of Tromso?", "Ingrid Vale")
