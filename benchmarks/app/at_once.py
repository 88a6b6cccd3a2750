"""How long a question waits that is asked at once: of a document just added, and of one while another is read.

python -m benchmarks.app.at_once --home DIR [--model embedded] [--pages 40]
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from app.main import App
from app.settings import Settings
from benchmarks.evidence.planted import planted_report

_LOOK_SECONDS = 0.02


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--pages", type=int, default=40, help="of the document that is read meanwhile")
    options = parser.parse_args()
    app = App(Settings(home=options.home, model=options.model, prepare=False))
    app.start()
    app.model.wait()
    try:
        print(json.dumps(measure(app, options.home, options.pages)))
    finally:
        app.close()


def measure(app: App, folder: Path, pages: int) -> dict[str, float]:
    """Seconds: until the first passage with the words of a question that is asked when its file is added; from asking
    to the first word with nothing else to do, and while another document is read; and until a stop shows.
    """
    facts = planted_report(folder / "asked.pdf", pages=6)
    document_id = app.library.add(folder / "asked.pdf", "asked.pdf")
    began = time.perf_counter()
    conversation_id = app.chat.ask(document_id, "", facts[0].question)
    wait_for(lambda: bool(app.chat.turns(conversation_id)[0].answer.citations))
    hits = time.perf_counter() - began
    wait_for(lambda: not app.chat.turns(conversation_id)[0].is_open)
    alone = first_word(app, document_id, facts[1].question)[0]
    planted_report(folder / "long.pdf", pages=pages)
    other = app.library.add(folder / "long.pdf", "long.pdf")
    wait_for(lambda: app.library.catalogue.entry(other).progress.stage == "reading")
    while_reading, stopped = first_word(app, document_id, facts[2].question, stop=True)
    still = app.library.catalogue.entry(other).progress.stage == "reading"
    found = {"hits": hits, "first_word": alone, "first_word_while_reading": while_reading, "stop": stopped}
    return {**{name: round(seconds, 2) for name, seconds in found.items()}, "still_reading": still}


def first_word(app: App, document_id: str, question: str, stop: bool = False) -> tuple[float, float]:
    """Seconds to the first word, and those that a stop takes then."""
    began = time.perf_counter()
    conversation_id = app.chat.ask(document_id, "", question)
    wait_for(lambda: bool(app.chat.turns(conversation_id)[0].answer.answer))
    said = time.perf_counter()
    if stop:
        app.chat.stop(conversation_id)
    wait_for(lambda: not app.chat.turns(conversation_id)[0].is_open)
    return said - began, time.perf_counter() - said


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds."""
    while not condition():
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main()
