"""Commands that ask: passages first, the model's own words after them."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

from app.commands.parsers import Parsers
from app.commands.terminal import PROGRAM, show_evidence, wait
from app.errors import BadSetting, DocumentNotFound, NotRead
from app.events import Answer, AskEvent, Evidence, TextDelta
from app.main import App
from app.remarks import remarks


def add(commands: Parsers) -> None:
    """Adds the commands."""
    asking = commands.add("ask", _ask)
    asking.add_argument(
        "document", nargs="*", help="the start of its id, its title or file name; several are asked at once"
    )
    asking.add_argument("--all", action="store_true", help="ask the whole library")
    asking.add_argument("question")
    asking.add_argument("--conversation", default="", help="the id of the conversation that it belongs to")
    asking.add_argument(
        "--instead-of", type=int, metavar="NUMBER", help="in a copy of that conversation up to its question NUMBER"
    )
    commands.add("regenerate", _regenerate).add_argument("conversation", help="its id")


def _ask(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Ask a document, several, or all; the passages come first, the model's own words after them."""
    find = app.library.catalogue.find
    named = [find(each).id for each in options.document]
    every = [each.document_id for each in app.library.catalogue.entries()] if options.all else []
    if not (documents := list(dict.fromkeys([*named, *every]))):
        raise BadSetting("No document is named.", "Name one or several, or give --all for the whole library.")
    conversation_id = options.conversation
    if options.instead_of is not None:
        turns = app.chat.turns(conversation_id)
        if not 1 <= options.instead_of <= len(turns):
            raise DocumentNotFound("There is no such question.", "`conversations show ID` shows them; the first is 1.")
        before = turns[options.instead_of - 1].answer.message_id
        conversation_id = app.chat.copy(conversation_id, options.question, before)
    found, beside = app.library.catalogue.document(documents[0]), documents[1:]
    wait(app.model.settled, lambda: app.status().why)
    recipe = app.settings.recipe
    try:
        return _show(app, app.questions.ask(found.id, options.question, conversation_id, recipe=recipe, beside=beside))
    except NotRead as error:
        by = f" --recipe {recipe}" if recipe else ""
        raise NotRead(error.message, f"Read it first: {PROGRAM} read{by} {found.file_name!r}") from error


def _regenerate(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Answer the last question of a conversation once more, in other words."""
    wait(app.model.settled, lambda: app.status().why)
    return _show(app, app.questions.regenerate(options.conversation))


def _show(app: App, events: Iterator[AskEvent]) -> dict[str, Any]:
    answer: Answer | None = None
    for event in events:
        if isinstance(event, Answer):
            answer = event
        elif isinstance(event, Evidence):
            show_evidence(event)
        elif isinstance(event, TextDelta):
            print(event.text, end="", flush=True)
        else:
            print(f"{event.doing} ({event.done} of {event.total})", file=sys.stderr, flush=True)
    assert answer is not None
    if doing := app.status().doing:
        print(f"\n{doing}", file=sys.stderr)
    _show_end(answer)
    return answer_facts(answer)


def _show_end(answer: Answer) -> None:
    """What is to be known about an answer whose words were printed as they came."""
    print(answer.answer if not answer.found and answer.model else "")
    if answer.looked:
        print(answer.looked)
    for remark in remarks(answer):
        print(f"\n{remark}")
    if answer.reused_tokens:
        first_word, reading = answer.first_token_seconds, answer.reading_seconds
        print(f"\n{first_word:.1f} s to the first word; reading took {reading:.0f} s, once.")


def answer_facts(answer: Answer) -> dict[str, Any]:
    """An answer as JSON."""
    facts = dataclasses.asdict(answer)
    shown = ("page", "label", "quote", "boxes", "span", "document_id")
    citations = [{key: each[key] for key in shown} for each in facts["citations"]]
    foreign = [answer.answer[start:end] for start, end in answer.unsupported]
    kept = {key: value for key, value in facts.items() if key not in ("message_id", "stopped")}
    return {**kept, "citations": citations, "unsupported": foreign}
