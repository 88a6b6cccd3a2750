"""The whole way of a newcomer in a real Chromium, over the real app and the embedded model, with a restart between."""

import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from benchmarks.evidence.planted import planted_report
from storage import Home, Store
from tests.ui import driver
from tests.ui.served_process import serving, unused_port

pytestmark = pytest.mark.browser

RUN_APP = (sys.executable, "run_app.py")
OPTIONS = ("--no-browser", "--model", "embedded", "--chunk-tokens", "128", "--no-prepare")


@pytest.fixture
def home(tmp_path: Path, embedded_model_dir: Path) -> Path:
    """A home without documents; its model is the shared one, so that nothing is fetched."""
    models = tmp_path / "home" / "models"
    models.mkdir(mode=0o700, parents=True)
    (models / embedded_model_dir.name).symlink_to(embedded_model_dir)
    return tmp_path / "home"


def test_upload_read_ask_stop_regenerate_cite_restart(chromium: str, home: Path, tmp_path: Path) -> None:
    pdf = tmp_path / "Collected reports.pdf"
    fact = planted_report(pdf, pages=4)[2]
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
            # A short answer: whoever waits for words is too late, and sometimes whoever does not.
            for _ in range(5):
                if driver.stop_answer(page, once="#live .turn"):
                    break
                page.get_by_role("button", name="Answer again").click()
            expect(page.locator("#history .turn").last).to_contain_text("Stopped.")
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


def test_main_points_are_there_and_an_archive_takes_all_home_and_elsewhere(
    chromium: str, home: Path, tmp_path: Path
) -> None:
    """Each point leads to its page; the archive comes with its conversation, and is asked without being read again."""
    pdf = tmp_path / "Three reports.pdf"
    fact, other, *_ = planted_report(pdf, pages=3)[1:]
    with serving(RUN_APP, home, unused_port(), *OPTIONS) as url, driver.browser_page(chromium) as (page, complaints):
        driver.open_page(page, url)
        driver.upload(page, pdf)
        driver.wait_until_read(page)
        points = page.locator("#history .guide li")
        expect(points).to_have_count(5)
        expect(page.locator("#history .guide")).to_contain_text("3 pages")
        last = points.last.locator(".chip")
        where = last.inner_text()
        last.click()
        expect(page.locator("#sheet .toolbar input").first).to_have_value(where.removeprefix("p. "))
        page.get_by_role("button", name="Summarise it in five points").click()
        driver.wait_for_answer(page, 1)
        expect(page.locator("#history .answer li")).to_have_count(5)
        driver.ask(page, fact.question)
        driver.wait_for_answer(page, 2)
        with page.expect_download() as download:
            page.get_by_label("More", exact=True).click()
            page.get_by_text("Export as .docpod").click()
        archive = tmp_path / download.value.suggested_filename
        download.value.save_as(archive)
        assert archive.name == "Three reports.docpod" and archive.stat().st_size > 1_000_000
        page.locator(".document").get_by_role("button", name="Delete").click()
        page.locator("dialog").get_by_role("button", name="Delete").click()
        expect(page.locator(".document")).to_have_count(0)
        driver.drop(page, archive)
        expect(page.locator("#history .turn")).to_have_count(2)
        driver.wait_until_read(page)
        driver.ask(page, other.question)
        driver.wait_for_answer(page, 3)
        expect(page.locator("#history")).to_contain_text(other.answer)
        assert complaints.errors == [] and complaints.remote == []
    store = Store.open(Home(home).database_url)
    assert [(each.state, each.seconds) for each in store.readings()] == [("ready", 0.0)]
    store.close()
