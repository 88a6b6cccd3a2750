"""The conversation pane: asking, watching the answer grow, stopping it, asking again, earlier conversations.

It shows each conversation as the app has it; what a handler draws sooner, the timer would draw a moment later.
"""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import gradio as gr

from app.events import Answer, Cited, Turn
from app.main import App
from ui import page_panel
from ui.language import count, i18n, t, translated
from ui.render import conversation
from ui.render.page import failed
from ui.render.words import text
from ui.trouble import explain
from ui.view import AT_ONCE, POLLING, QUIET, Open, Page, View

PACE_SECONDS = 0.06
"""Shortest time between two redrawings of a growing answer: faster ones cannot be read, only cost."""


PANE = "chat-pane"


def build(page: Page) -> None:
    """The conversation, and the box for a question under it."""
    with gr.Column(elem_id="talk"):
        page.surface("history")
        page.surface("live")
    page.surface("status", template='<p role="status" aria-live="polite">${value}</p>')
    # What came of the last action here. The timer knows nothing of it, and so cannot take it away.
    page.surface("said", template='<div role="status" aria-live="polite">${value}</div>')
    question = gr.Textbox(
        placeholder=i18n("Open a document to ask it"),
        label=i18n("Your question"),
        show_label=False,
        container=False,
        lines=1,
        max_lines=8,
        interactive=False,
        submit_btn="Send",
        elem_id="question",
        max_length=100_000,
    )
    page.region("question", question)
    # The answer whose question is asked otherwise, by its message; 0 for none.
    page.region("instead_of", gr.State(0))


def bind(page: Page) -> None:
    """Wires the pane, and says which events answer."""

    def ask(document_id: str, conversation_id: str, question: str, instead_of: int) -> Iterator[list[Any]]:
        yield from page.stream(on_ask(page, document_id, conversation_id, question, instead_of))

    def edit(conversation_id: str, event: gr.EventData) -> list[Any]:
        return page.guarded(lambda: on_edit(page, conversation_id, int((event._data or {}).get("edit", 0))))

    def again(document_id: str, conversation_id: str) -> Iterator[list[Any]]:
        yield from page.stream(on_again(page, document_id, conversation_id))

    def stop(document_id: str, conversation_id: str) -> list[Any]:
        return page.guarded(lambda: on_stop(page, document_id, conversation_id))

    ids, question = [page["document_id"], page["conversation_id"]], page["question"]
    answering = {"outputs": page.outputs, "concurrency_limit": 32, **QUIET}
    page.answering += [
        question.submit(
            ask, [*ids, question, page["instead_of"]], api_name="ask", trigger_mode="multiple", **answering
        ),
        page["history"].retry(again, ids, api_name="regenerate", **answering),
    ]
    question.stop(stop, ids, page.outputs, api_name="stop", **AT_ONCE)
    for source, name in (("history", "edit"), ("said", "edit_leave")):
        page[source].edit(edit, ids[1:], page.outputs, api_name=name, **AT_ONCE)
    page["history"].stop(stop, ids, page.outputs, api_name="stop_waiting", **AT_ONCE)


def live(app: App, at: Open) -> View:
    """The conversation as it stands; its last turn apart while it is answered."""
    if at.entry is None:
        return {"history": conversation.choose() if at.library else conversation.welcome(), "live": "", "status": ""}
    if not at.turns:
        suggested = () if at.several or not app.may_ask else app.library.suggested(at.document_id)
        read = not at.several and at.entry.progress.stage == "ready"
        guide = app.library.guide(at.document_id) if read else None
        history = conversation.invitation(at.entry, at.several, suggested, guide)
        return {"history": history, "live": "", "status": "", "question": box(busy=False)}
    *before, last = at.turns
    read = bool(at.several) or at.entry.progress.stage == "ready"
    apart = last.state == "answering" or (last.state == "looking" and read)
    return {
        "history": conversation.history(
            before if apart else at.turns,
            at.entry,
            not last.is_open,
            app.status().better,
            ", ".join(each.name for each in at.several),
        ),
        "live": conversation.growing(last.question, last.evidence, last.answer.answer) if apart else "",
        "status": status_line(app, last),
        "question": box(_is_busy(at)),
    }


def _is_busy(at: Open) -> bool:
    return bool(at.turns) and at.turns[-1].state in ("looking", "answering")


def box(busy: bool) -> dict[str, Any]:
    """The button of the box: it sends a question, or stops its answer."""
    return {"submit_btn": not busy and t("Send"), "stop_btn": busy and t("Stop"), "__type__": "update"}


def opened(app: App, at: Open) -> View:
    """The box, as it can be used."""
    usable = at.entry is not None and app.may_ask
    if at.entry is None:
        hint = t("Open a document to ask it")
    elif not app.may_ask:
        hint = t("This document is shared for reading only")
    else:
        hint = t("Ask these documents" if at.several else "Ask this document")
    button = box(usable and _is_busy(at))
    return {"question": {**button, "interactive": usable, "placeholder": hint}, "instead_of": 0, "said": ""}


def on_edit(page: Page, conversation_id: str, answer: int) -> View:
    """Puts the question of an answer into the box, to be asked otherwise; without an answer takes that back."""
    asked = next(
        (each.question for each in page.app.chat.turns(conversation_id) if each.answer.message_id == answer), ""
    )
    return {
        "question": gr.update(value=asked),
        "instead_of": answer if asked else 0,
        "said": conversation.editing() if asked else "",
    }


def on_ask(page: Page, document_id: str, conversation_id: str, question: str, instead_of: int = 0) -> Iterator[View]:
    """Asks; yields the growing answer. A refused question comes back into the box."""
    try:
        conversation_id = page.app.chat.ask(document_id, conversation_id, question, instead_of=instead_of)
        at = page.place(document_id, conversation_id)
        view = page.live(at)
        yield {
            **view,
            **(_sheet(page.app, at) if at.turns[-1].state == "waiting" else {}),
            "question": {**view["question"], "value": ""},
            "instead_of": 0,
            "said": "",
            "conversation_id": conversation_id,
            "timer": POLLING,
        }
        yield from _follow(page, document_id, conversation_id)
    except Exception as error:
        yield {"said": failed(explain(error)), "question": {**box(busy=False), "value": question}}


def on_again(page: Page, document_id: str, conversation_id: str) -> Iterator[View]:
    """Answers the last question of a conversation again."""
    try:
        page.app.chat.again(conversation_id)
        yield {**page.live(page.place(document_id, conversation_id)), "said": "", "timer": POLLING}
        yield from _follow(page, document_id, conversation_id)
    except Exception as error:
        yield {"said": failed(explain(error))}


def on_stop(page: Page, document_id: str, conversation_id: str) -> View:
    """Ends what is open in a conversation; it stands as far as it came."""
    page.app.chat.stop(conversation_id)
    at = page.place(document_id, conversation_id)
    ended = {"status": done_line(at.turns[-1].answer)} if at.turns else {}
    return {**page.current(at), **ended}


def _follow(page: Page, document_id: str, conversation_id: str) -> Iterator[View]:
    """Draws the answer that is on its way: passages with their page, words at a readable pace, then the stored turn."""
    shown: tuple[Cited, ...] | None = None
    drawn_at = 0.0
    for turn in page.app.chat.follow(conversation_id):
        if turn.state in ("waiting", "answering") and turn.answer.citations != shown:
            shown = turn.answer.citations
            at = page.place(document_id, conversation_id)
            yield {**page.live(at), **_sheet(page.app, at)}
        elif monotonic() - drawn_at >= PACE_SECONDS:
            drawn_at = monotonic()
            words = (
                {"live": conversation.growing(turn.question, turn.evidence, turn.answer.answer)}
                if turn.state == "answering"
                else {}
            )
            yield {**words, "status": status_line(page.app, turn)}
    at = page.place(document_id, conversation_id)
    last = at.turns[-1] if at.turns else None
    ended = {"status": done_line(last.answer)} if last and not last.is_open else {}
    sheet = _sheet(page.app, at) if last and last.answer.citations != shown else {}
    yield {**page.current(at), **sheet, **ended}


def _sheet(app: App, at: Open) -> View:
    """The page of the best passage of the last turn, with the marks of no other."""
    return {"sheet": page_panel.best_sheet(app, at.document_id, at.turns[-1].answer.citations)} if at.turns else {}


def status_line(app: App, turn: Turn) -> str:
    """What the last question of a conversation waits for, in a line."""
    if turn.state == "waiting" and app.status().state == "loading":
        return t("The reader is still loading. Your question waits and is answered as soon as it is ready.")
    match turn.state:
        case "looking":
            return text(translated(turn.doing)) or t("Looking for the passage…")
        case "answering" if turn.answer.coverage:
            return t("Answering from {pages}, the part read so far…", pages=text(translated(turn.answer.coverage)))
        case "answering":
            return t("Answering…")
    return ""


def done_line(answer: Answer) -> str:
    """Says the end to a screen reader; sighted users see it."""
    passages = count(len(answer.citations), "passage")
    return f'<span class="unseen">{t("Stopped" if answer.stopped else "Answer complete")}, {passages}.</span>'
