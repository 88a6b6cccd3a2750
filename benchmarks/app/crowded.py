"""How quick the page is with a full library: until it can be used, for each action, and to search.

    python -m benchmarks.app.crowded --home DIR --chromium FILE [--model FOLDER] [--documents 50] [--pages 40]

Fills an empty home with made-up reports and conversations about them. Nothing is read by a model: pages are parsed and
planned as ever, and reading is paused. Serves it as a user starts it, without meaning, and uses it in a headless
Chromium: milliseconds from a click until the page shows what it is for, median and worst of `--repeats`.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from app.events import Answer, Cited, Turn
from app.main import App
from app.passages import split
from app.settings import Settings
from benchmarks.evidence.planted import planted_report

_SETTLE_MS = 1_500
"""So long nothing is done between two actions, as a user does nothing."""
_TIMED = """async () => {
  const all = (selector) => [...document.querySelectorAll(selector)], $ = (selector) => all(selector)[0];
  const before = %s;
  const began = performance.now();
  %s;
  while (!(%s)) {
    if (performance.now() - began > 30_000) throw new Error("nothing came of: %s");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""
_CLICKED = '$("dialog .strong, dialog .danger").click()'


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="filled where it is empty")
    parser.add_argument("--chromium", required=True, help="the browser's program")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--pages", type=int, default=40, help="of each document")
    parser.add_argument("--messages", type=int, default=200, help="questions and answers, two a conversation")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    if not options.home.exists():
        fill(options.home, options.model, options.documents, options.pages, options.messages)
    with serving(options.home, options.model) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        figures = measure(url, lambda: browser.new_page(viewport={"width": 1440, "height": 900}), options.repeats)
        browser.close()
    for name, seen in figures.items():
        print(f"{name:24} median {statistics.median(seen):6,.0f} ms   worst {max(seen):6,.0f} ms")
    print(json.dumps({name: [round(each, 1) for each in seen] for name, seen in figures.items()}))


def fill(home: Path, model: str, documents: int, pages: int, messages: int) -> None:
    """A library of documents, each with its share of the conversations."""
    app = App(Settings(home=home, model=model, meaning=False, prepare=False))
    try:
        for number in range(documents):
            path = home / f"Report {number}.pdf"
            facts = planted_report(path, pages, seed=number)
            document = app.library.intake.keep(path, f"Report {number:02} of the council.pdf", move=True)
            for _ in app.library.intake.parse(document):
                pass
            app.library.rename(document.id, f"Report {number:02} of the council")
            reading = app.model.wait().presets.plan(document.id)
            app._store.set_reading_state(reading.id, "paused")
            for first in range(0, messages // 2 // documents, 2):
                turns = [_turn(app, document.id, fact.question, fact.page) for fact in facts[first : first + 2]]
                app.questions._conversations.take(document.id, f"{facts[first].question} ({number})", turns)
            print(f"{number + 1} of {documents} documents", file=sys.stderr)
        # What is found out about a model at first would run beside what is timed.
        while not app.model.calibrated(60.0):
            print(app.status().doing, file=sys.stderr)
    finally:
        app.close()


def _turn(app: App, document_id: str, question: str, number: int) -> Turn:
    """A question and an answer with a passage of its page."""
    page = app._store.page(document_id, number)
    assert page is not None
    passage = split(number, page.text)[0]
    cited = Cited(1, number, page.label, passage.text, ((0.1, 0.1, 0.5, 0.02),), 1.0)
    return Turn(question, Answer(answer=f"{passage.text} [1]", found=True, citations=(cited,), seconds=0.2))


@contextmanager
def serving(home: Path, model: str) -> Iterator[str]:
    """The address of the page, served by a process of its own."""
    command = [sys.executable, "-u", "run_app.py", "serve", "--home", str(home), "--model", model]
    command += ["--no-browser", "--no-meaning", "--no-prepare"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+key=\S+", line)))
    finally:
        process.terminate()
        process.wait()


def measure(url: str, new_page: Callable[[], Page], repeats: int) -> dict[str, list[float]]:
    """Milliseconds by what was done."""
    figures: dict[str, list[float]] = {"page usable": []}
    page = new_page()
    _open(page, url)
    # A home that was just opened is looked through once.
    page.wait_for_timeout(8_000)
    for _ in range(repeats):
        page.close()
        page = new_page()
        figures["page usable"].append(_open(page, url))
        page.wait_for_timeout(_SETTLE_MS)
    for number in range(repeats):
        for name, before, act, done in _steps(number):
            page.wait_for_timeout(_SETTLE_MS)
            figures.setdefault(name, []).append(page.evaluate(_TIMED % (before, act, done, name)))
    return figures


def _open(page: Page, url: str) -> float:
    began = time.perf_counter()
    page.goto(url)
    page.wait_for_function(
        "() => document.querySelector('.document') && document.querySelector('#history .welcome, #history .turn')"
    )
    return 1000 * (time.perf_counter() - began)


def _steps(number: int) -> Sequence[tuple[str, str, str, str]]:
    """What is done in turn: its name, what is remembered before, how it begins, and when it is done, in JavaScript."""
    row = f"{3 * number + 2}"
    typed = '$("#search textarea").value = %s; $("#search textarea").dispatchEvent(new Event("input", {bubbles: true}))'
    found = '$("#documents .hit mark")'
    return (
        (
            "open a document",
            f'all(".document-open")[{row}]',
            "before.click()",
            '$("#head h2")?.textContent === before.querySelector(".title").textContent'
            ' && $(".document[aria-current] .document-open")?.dataset.document === before.dataset.document',
        ),
        (
            "open a conversation",
            f'all(".conversations button")[{row} + 9]',
            "before.click()",
            '$("#history .question")?.textContent.trim() === before.querySelector(".title").textContent'
            '.replace(/ \\(\\d+\\)$/, "")'
            ' && $(".conversations [aria-current] button")?.dataset.conversation === before.dataset.conversation',
        ),
        (
            "rename a document",
            f'($("#head .rename button").click(), $("dialog input").value = "Named anew {number}")',
            '$("dialog .strong").click()',
            '$(".document[aria-current] .title")?.textContent === before && $("#head h2").textContent === before',
        ),
        ("search", "0", typed % f'"tower {number}"'.replace(f" {number}", "s"[: number % 2]), found),
        ("end the search", "0", typed % '""', f"!{found}"),
        (
            "delete a conversation",
            'all("#head [data-event=delete]").length',
            '$("#head [data-event=delete]").click()',
            'all("#head [data-event=delete]").length < before && $("#said button")',
        ),
        (
            "undo",
            'all("#head [data-event=delete]").length',
            '$("#said button").click()',
            'all("#head [data-event=delete]").length > before',
        ),
        (
            "unfold the readers",
            '($("#reader details").open && $("#reader summary").click())',
            '$("#reader summary").click()',
            '$("#reader details").open',
        ),
        (
            "unfold sharing",
            '($("#share details").open && $("#share summary").click())',
            '$("#share summary").click()',
            '$("#share details").open',
        ),
        (
            "delete a document",
            '($(".document:last-child .delete").click(), all(".document").length)',
            _CLICKED,
            'all(".document").length < before',
        ),
    )


if __name__ == "__main__":
    main()
