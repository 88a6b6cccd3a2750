"""The whole way of a newcomer in a real Chromium, over the real app and the embedded model, with a restart between."""

import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from benchmarks.evidence.planted import planted_report
from tests.ui import driver
from tests.ui.served_process import serving, unused_port

pytestmark = pytest.mark.browser

RUN_APP = (sys.executable, "run_app.py")
OPTIONS = ("--no-browser", "--model", "embedded", "--chunk-tokens", "128")


@pytest.fixture
def home(tmp_path: Path, embedded_model_dir: Path) -> Path:
    """A home without documents; its model is the shared one, so that nothing is fetched."""
    models = tmp_path / "home" / "models"
    models.mkdir(mode=0o700, parents=True)
    (models / embedded_model_dir.name).symlink_to(embedded_model_dir)
    return tmp_path / "home"


def test_upload_read_ask_stop_regenerate_cite_restart(chromium: str, home: Path, tmp_path: Path) -> None:
    pdf = tmp_path / "Collected reports.pdf"
    fact = planted_report(pdf, pages=8)[3]
    port = unused_port()
    with driver.browser_page(chromium) as (page, complaints):
        with serving(RUN_APP, home, port, *OPTIONS) as url:
            driver.open_page(page, url)
            driver.upload(page, pdf)
            line = driver.see_progress(page)
            assert "Reading page" in line
            assert "tokens/s" in line
            driver.wait_until_read(page)
            driver.ask(page, fact.question)
            # A short answer: whoever waits for words is too late.
            driver.stop_answer(page, once="#live .turn")
            driver.regenerate(page, 1)
            driver.click_citation(page)
            expect(page.locator("#sheet iframe")).to_be_visible()
            address = page.url
            assert complaints.errors == []
            page.locator("#question textarea").fill("half a quest")
            page.locator("#question textarea").blur()
        # A page that outlives its server complains about the lost connection, as it should, and goes on by itself.
        expect(page.locator("#gone")).to_be_visible(timeout=60_000)
        with serving(RUN_APP, home, port, *OPTIONS) as url:
            expect(page.locator("#gone")).to_have_count(0, timeout=60_000)
            expect(page.locator("#question textarea")).to_have_value("half a quest")
            driver.restored(page, f"{url}#{address.partition('#')[2]}", fact.question)
            driver.ask(page, "And what else is said about it?")
            driver.wait_for_answer(page, 2)
        assert complaints.remote == []
