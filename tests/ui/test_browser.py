"""The page in a real Chromium, over the fake app."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from tests.ui import driver
from tests.ui.fake_server import Clock, serving_fake
from tests.ui.served_process import unused_port

pytestmark = pytest.mark.browser

QUESTION = "How many members were there at the end of the year?"
EARLY = "How many members were there, asked early?"
READ_SECONDS = 30.0
NASTY = "<img src=x onerror=window.hacked=1>“q” ${window.hacked=1} {{x}}.pdf"


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[str]:
    home = tmp_path_factory.mktemp("browser") / "home"
    with serving_fake(home, read_seconds=READ_SECONDS, word_seconds=0.08, max_upload_mb=1, clock=clock) as url:
        yield url


@pytest.fixture
def read_on(opened: Page, clock: Clock) -> Callable[[], None]:
    """Reads the open document to its end, without the time that this takes."""

    def read_on() -> None:
        clock.skip(READ_SECONDS)
        driver.wait_until_read(opened)

    return read_on


@pytest.fixture
def opened(browser: Browser, url: str) -> Iterator[Page]:
    with driver.new_page(browser) as (page, complaints):
        driver.open_page(page, url)
        yield page
        assert complaints.remote == []
        assert complaints.errors == []


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "Annual report 2017.pdf"
    path.write_bytes(b"%PDF-1.7 " + tmp_path.name.encode())
    return path


def test_every_format_can_be_chosen(opened: Page) -> None:
    chosen = opened.locator("#library-pane input[type=file]")
    expect(chosen).to_have_attribute(
        "accept", re.compile(r"^\.pdf,application/pdf,.*,\.epub,application/epub\+zip,.*\.md,.*,\.docpod$")
    )


def test_upload_read_ask_stop_regenerate_cite_reload(opened: Page, report: Path, read_on: Callable[[], None]) -> None:
    driver.upload(opened, report)
    line = driver.see_progress(opened)
    assert "Reading page" in line
    assert "tokens/s" in line
    driver.ask(opened, QUESTION)
    assert driver.stop_answer(opened)
    pieces = driver.regenerate(opened, 1)
    assert len(pieces) > 3
    assert "wider international availability." in opened.locator("#history .words").inner_text()
    assert opened.locator("#history .turn").count() == 1
    first = driver.click_citation(opened)
    assert driver.click_citation(opened, 1) != first
    read_on()
    driver.restored(opened, opened.url, QUESTION)


def test_a_hostile_name_and_hostile_words_stay_text(opened: Page, tmp_path: Path) -> None:
    path = tmp_path / NASTY
    path.write_bytes(b"%PDF-1.7 hostile")
    driver.upload(opened, path)
    expect(opened.locator(".document[aria-current] .title")).to_have_text(NASTY.removesuffix(".pdf"))
    driver.ask(opened, "${window.hacked=1} {{constructor}} <img src=x onerror=window.hacked=1>")
    driver.wait_for_answer(opened)
    assert opened.evaluate("() => window.hacked") is None
    assert opened.locator(".document img, #history img").count() == 0


def test_no_script_runs_but_those_that_the_page_came_with(browser: Browser, url: str) -> None:
    with driver.new_page(browser) as (page, complaints):
        driver.open_page(page, url)
        assert complaints.errors == []
        page.evaluate(
            """() => {
              const drawn = document.createElement("div"), script = document.createElement("script");
              drawn.innerHTML = "<img src=data:, onerror='window.hacked = 1'>";
              script.textContent = "window.hacked = 2";
              document.body.append(drawn, script);
            }"""
        )
        page.wait_for_function("() => document.querySelector('body > div > img').complete")
        assert page.evaluate("() => window.hacked") is None
        for kind in ("inline script", "inline event handler"):
            assert any(kind in each for each in complaints.errors)


def test_shift_enter_is_a_line_and_enter_sends(opened: Page, report: Path) -> None:
    driver.upload(opened, report)
    box = opened.locator("#question textarea")
    box.fill("First line")
    box.press("Shift+Enter")
    box.type("second line")
    expect(box).to_have_value("First line\nsecond line")
    box.press("Enter")
    expect(opened.locator("#live .question")).to_contain_text("second line")
    expect(box).to_have_value("")
    driver.wait_for_answer(opened)


def test_not_found_and_errors_are_said_without_a_traceback(opened: Page, report: Path) -> None:
    driver.upload(opened, report)
    driver.ask(opened, "Is there a unicorn?")
    driver.wait_for_answer(opened)
    expect(opened.locator(".not-found")).to_contain_text("Not found in the document. I looked through all 98 pages")
    opened.locator("#question textarea").fill("a bug")
    opened.locator("#question textarea").press("Enter")
    expect(opened.locator("#said .trouble")).to_contain_text("Something went wrong (id ")
    expect(opened.locator("#question textarea")).to_have_value("a bug")
    expect(opened.get_by_role("button", name="Send")).to_be_visible()


def test_files_that_are_refused_are_named(opened: Page, report: Path, tmp_path: Path) -> None:
    driver.upload(opened, report)
    bad = [tmp_path / "photo.png", tmp_path / "empty.txt"]
    bad[0].write_bytes(b"\x89PNG\0\0")
    bad[1].write_bytes(b"")
    opened.locator("#library-pane input[type=file]").set_input_files(bad)
    expect(opened.locator(".notice")).to_contain_text("neither a PDF nor text")
    expect(opened.locator(".notice")).to_contain_text("empty.txt")


def test_a_file_over_the_limit_is_named_and_the_others_are_added(opened: Page, report: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.pdf"
    large.write_bytes(b"%PDF" + b"x" * 1_200_000)
    opened.locator("#library-pane input[type=file]").set_input_files([large, report])
    expect(opened.get_by_role("dialog")).to_contain_text("Too large: “large.pdf”")
    expect(opened.get_by_role("dialog")).to_contain_text("up to 1 MB")
    opened.get_by_role("button", name="OK", exact=True).click()
    expect(opened.locator(".document[aria-current]")).to_contain_text("Annual report 2017")


def test_deleting_asks_first(opened: Page, report: Path) -> None:
    driver.upload(opened, report)
    row = opened.locator(".document[aria-current]")
    row.get_by_role("button", name="Delete").click()
    expect(opened.locator("dialog")).to_contain_text("every conversation about it")
    opened.get_by_role("button", name="Keep").click()
    expect(row).to_be_visible()
    row.get_by_role("button", name="Delete").click()
    opened.locator("dialog").get_by_role("button", name="Delete").click()
    expect(opened.locator(".document[aria-current]")).to_have_count(0)
    # The list may lose the row before the page's own answer arrives, which also clears the address.
    expect(opened).not_to_have_url(re.compile("#d="))


def test_the_dial_asks_then_changes_the_memory_while_the_old_one_answers(
    opened: Page, report: Path, read_on: Callable[[], None]
) -> None:
    driver.upload(opened, report)
    read_on()
    presets = opened.locator(".dial")
    kept = presets.locator("summary")
    kept.click()
    expect(presets.get_by_role("button", name=re.compile("^Exact "))).to_have_attribute("aria-pressed", "true")
    expect(presets.get_by_role("button", name="Compact")).to_be_disabled()
    presets.get_by_role("button", name="Balanced").click()
    expect(opened.locator("dialog")).to_contain_text("made from the exact memory")
    opened.get_by_role("button", name="Leave it").click()
    expect(kept).to_contain_text("Exact · ")
    kept.click()
    presets.get_by_role("button", name="Balanced").click()
    opened.get_by_role("button", name="Change").click()
    expect(kept).to_contain_text("Balanced · 16\u00a0% of exact · about")
    expect(presets).to_contain_text("the exact memory answers")
    driver.ask(opened, QUESTION)
    driver.wait_for_answer(opened)
    read_on()
    expect(presets).to_contain_text("The exact memory is kept too")
    presets.get_by_role("button", name="Remove").click()
    opened.locator("dialog").get_by_role("button", name="Remove").click()
    expect(presets).not_to_contain_text("kept too")


def test_pages_turn_and_the_contents_lead_to_them(opened: Page, report: Path) -> None:
    driver.upload(opened, report)
    opened.get_by_role("button", name="Next page").click()
    expect(opened.get_by_label("Go to page")).to_have_value("2")
    opened.get_by_label("Go to page").fill("40")
    opened.get_by_label("Go to page").press("Enter")
    expect(opened.get_by_alt_text("Page 40 of Annual report 2017")).to_be_visible()
    opened.get_by_text("Contents").click()
    opened.get_by_role("button", name="Risk factors").click()
    expect(opened.get_by_alt_text("Page 9 of Annual report 2017")).to_be_visible()


def test_asked_the_moment_a_file_is_added_it_waits_is_answered_and_checked(
    browser: Browser, tmp_path: Path, report: Path
) -> None:
    slowly = serving_fake(tmp_path / "home", read_seconds=60, clock=(clock := Clock()))
    with slowly as url, driver.new_page(browser) as (page, complaints):
        driver.open_page(page, url)
        driver.upload(page, report)
        driver.ask(page, EARLY)
        waiting, standing = page.locator("#history .hits"), page.locator("#history .standing")
        expect(waiting).to_contain_text("117.6 million")
        expect(waiting).to_contain_text("The answer follows as soon as these pages are read.")
        expect(page.locator(".sheet .mark.chosen").first).to_be_visible()
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        address = page.url
        assert complaints.errors == []
        page.goto("about:blank")
        # What is under way when a page is left is given up, which Gradio says.
        complaints.errors.clear()
        driver.open_page(page, address)
        expect(page.locator("#history .answer")).to_contain_text("117.6 million")
        clock.skip(15)
        expect(standing).to_contain_text("So far from pages 1-")
        expect(page.locator("#history .words")).to_contain_text("wider international availability.")
        expect(page.get_by_label("Answer again")).to_have_count(0)
        clock.skip(60)
        expect(standing).to_have_text("Checked all 98 pages.")
        expect(page.get_by_label("Answer again")).to_have_count(1)
        expect(page.locator("#history .turn")).to_have_count(1)
        assert complaints.errors == [] and complaints.remote == []


def test_a_waiting_question_can_be_stopped_and_others_asked_meanwhile(
    opened: Page, report: Path, read_on: Callable[[], None]
) -> None:
    driver.upload(opened, report)
    driver.ask(opened, EARLY)
    expect(opened.locator("#history .hits")).to_contain_text("The answer follows")
    opened.locator("#history .hits").get_by_role("button", name="Stop").click()
    expect(opened.locator("#history .hits")).to_contain_text("Stopped.")
    expect(opened.locator("#history .hits")).to_contain_text("117.6 million")
    driver.ask(opened, QUESTION)
    driver.wait_for_answer(opened, 2)
    read_on()
    expect(opened.locator("#history .hits")).to_contain_text("Stopped.")


def test_a_server_that_is_gone_is_said_once_and_the_page_goes_on_when_it_is_back(
    browser: Browser, tmp_path: Path, report: Path
) -> None:
    port = unused_port()
    with driver.new_page(browser) as (page, _):
        with serving_fake(tmp_path / "home", port=port) as url:
            driver.open_page(page, url)
            driver.upload(page, report)
        expect(page.locator("#gone")).to_contain_text("goes on by itself", timeout=60_000)
        page.wait_for_timeout(3_000)
        expect(page.locator("#gone")).to_have_count(1)
        expect(page.locator(".toast-wrap:visible")).to_have_count(0)
        with serving_fake(tmp_path / "home", port=port):
            expect(page.locator("#gone")).to_have_count(0, timeout=60_000)
            expect(page.locator("#history .welcome")).to_be_visible()


def test_a_look_that_arrives_late_is_mended_by_the_next(browser: Browser, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.pdf" for name in ("First", "Second", "Third")]
    for path in paths:
        path.write_bytes(b"%PDF-1.7 " + path.name.encode())
    late: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        answer = route.fetch()
        if "Third.pdf" in answer.text() and not late:
            late.append((route, answer))
        else:
            route.fulfill(response=answer)

    with (
        serving_fake(tmp_path / "home", read_seconds=0.2) as url,
        driver.new_page(browser) as (page, complaints),
        driver.new_page(browser) as (other, _),
    ):
        driver.open_page(page, url)
        driver.upload(page, *paths[:2])
        driver.wait_until_read(page)
        driver.open_page(other, url)
        page.route("**/run/**", hold)
        driver.upload(other, paths[2])
        driver.wait_until_read(other)
        second = page.locator(".document", has=page.locator('[title="Second.pdf"]'))
        while not late:
            page.wait_for_timeout(100)
        second.locator(".document-open").click()
        expect(second).to_have_attribute("aria-current", "true")
        route, answer = late[0]
        with page.expect_request("**/run/**"):
            route.fulfill(response=answer)
        expect(second).to_have_attribute("aria-current", "true")
        # One that is on its way when the page is closed would fail.
        page.unroute_all(behavior="wait")
        assert complaints.errors == []


def test_on_a_phone_one_pane_at_a_time(browser: Browser, url: str, report: Path) -> None:
    with driver.new_page(browser, 390, 844) as (page, complaints):
        driver.open_page(page, url)
        expect(page.locator("#library-pane")).to_be_hidden()
        page.get_by_role("button", name="Library").click()
        expect(page.locator("#chat-pane")).to_be_hidden()
        driver.upload(page, report)
        page.get_by_role("button", name="Chat").click()
        driver.ask(page, QUESTION)
        driver.wait_for_answer(page)
        driver.click_citation(page)
        expect(page.locator("#page-pane")).to_be_visible()
        expect(page.locator("#chat-pane")).to_be_hidden()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert complaints.errors == []


def test_light_and_dark_follow_the_system_until_told(opened: Page) -> None:
    def wait_for_theme(theme: str) -> None:
        opened.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)

    opened.emulate_media(color_scheme="dark")
    wait_for_theme("dark")
    opened.get_by_role("button", name="Light or dark").click()
    wait_for_theme("light")
    opened.reload()
    expect(opened.locator("#history .welcome")).to_be_visible()
    wait_for_theme("light")


def test_search_finds_pages_and_conversations_and_opens_them(opened: Page, report: Path) -> None:
    driver.upload(opened, report)
    driver.ask(opened, "How many members, of whatever kind?")
    driver.wait_for_answer(opened)
    driver.ask(opened, QUESTION)
    driver.wait_for_answer(opened, 2)
    opened.keyboard.press("Control+k")
    box = opened.get_by_label("Search titles, pages and conversations")
    expect(box).to_be_focused()
    opened.keyboard.type("streaming memberships")
    hit = opened.locator(".hit", has_text="p. 12").first
    expect(hit.locator("mark")).to_have_text("streaming memberships")
    opened.keyboard.press("ArrowDown")
    expect(hit).to_be_focused()
    opened.keyboard.press("Enter")
    expect(opened.get_by_label("Go to page")).to_have_value("12")
    expect(opened.locator(".sheet .mark.chosen").first).to_be_in_viewport()
    # The conversation stays, and the search too.
    expect(opened.locator("#history .turn")).to_have_count(2)
    box.fill("whatever kind")
    opened.locator(".hit", has_text="whatever kind").click()
    expect(opened.locator(".turn.sought .question")).to_have_text("How many members, of whatever kind?")
    expect(opened.locator(".turn.sought .question")).to_be_in_viewport()
    opened.evaluate("document.querySelector('.turn.sought').className = 'turn'")
    expect(opened.locator(".turn.sought .question")).to_be_in_viewport()
    box.press("Escape")
    expect(opened.locator(".hit")).to_have_count(0)
    expect(box).to_have_value("")


def test_several_documents_are_chosen_asked_and_restored(
    opened: Page, tmp_path: Path, read_on: Callable[[], None]
) -> None:
    reports = [tmp_path / f"{name} of several.pdf" for name in ("Minutes", "Budget")]
    for path in reports:
        path.write_bytes(b"%PDF-1.7 " + path.name.encode())
    driver.upload(opened, *reports)
    ask = opened.locator("[data-several]")
    expect(ask).to_have_text(re.compile(r"Ask all \d+ documents"))
    expect(opened.get_by_role("button", name="Clear")).to_be_hidden()
    first, second = (opened.get_by_label(f"Choose {path.stem} for a question") for path in reports)
    opened.locator(".document", has_text=reports[0].stem).hover()
    first.check()
    expect(ask).to_have_text("Ask 1 chosen document")
    second.focus()
    opened.keyboard.press("Space")
    expect(ask).to_have_text("Ask 2 chosen documents")
    # Through every redrawing of the list.
    opened.wait_for_timeout(2500)
    expect(first).to_be_checked()
    ask.focus()
    opened.keyboard.press("Enter")
    expect(opened.locator("#history .several")).to_contain_text("Ask 2 documents at once")
    expect(opened.locator("#history .several li")).to_have_count(2)
    driver.ask(opened, QUESTION)
    driver.wait_for_answer(opened)
    expect(opened.locator("#head h2")).to_have_text("2 documents")
    chips = opened.locator("#history blockquote .chip")
    for place, path in enumerate(reports):
        expect(chips.nth(place)).to_contain_text(path.stem)
        chips.nth(place).click()
        expect(opened.locator(".leaf > .of")).to_have_text(path.stem)
        expect(opened.locator(".sheet .mark.chosen").first).to_be_in_viewport()
    opened.get_by_role("button", name="Next page").click()
    expect(opened.get_by_label("Go to page")).to_have_value("45")
    expect(opened.locator(".leaf > .of")).to_have_text(reports[1].stem)
    address = opened.url
    opened.goto("about:blank")
    driver.open_page(opened, address)
    expect(opened.locator("#head h2")).to_have_text("2 documents")
    expect(opened.locator("#history blockquote .chip").nth(1)).to_contain_text(reports[1].stem)
    # It is in the history of each, and neither opens with it.
    opened.locator(".document-open", has_text=reports[1].stem).click()
    expect(opened.locator("#history .welcome")).to_be_visible()
    # What is read draws its head anew, and the menu is then closed.
    read_on()
    opened.get_by_label("Earlier conversations").click()
    opened.locator(".menu li", has_text="2 documents").locator("button").first.click()
    expect(opened.locator("#head h2")).to_have_text("2 documents")
