"""The conversation pane: asking, watching the answer grow, stopping it, asking again, earlier conversations."""

from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any

import gradio as gr

from app.events import Answer, AskEvent, Evidence, TextDelta, Working
from app.main import App
from ui import head_panel, page_panel
from ui.render import conversation
from ui.render.words import count, text
from ui.stops import Stops
from ui.trouble import explain
from ui.view import POLLING, QUIET, Open, Page, View

PACE_SECONDS = 0.06
"""Shortest time between two redrawings of a growing answer: faster ones cannot be read, only cost."""
BUSY = {"submit_btn": False, "stop_btn": "Stop", "__type__": "update"}
IDLE = {"submit_btn": "Send", "stop_btn": False, "__type__": "update"}


PANE = "chat-pane"


def build(page: Page) -> None:
    """The conversation, and the box for a question under it."""
    with gr.Column(elem_id="talk"):
        page.surface("history")
        page.surface("live")
    page.surface("status", template='<p role="status" aria-live="polite">${value}</p>')
    question = gr.Textbox(
        placeholder="Open a document to ask it",
        label="Your question",
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


def bind(page: Page) -> None:
    """Wires the pane, and says which events answer."""

    def ask(document_id: str, conversation_id: str, question: str, request: gr.Request) -> Iterator[list[Any]]:
        for view in on_ask(page.app, page.stops, request.session_hash or "", document_id, conversation_id, question):
            yield page.values(view)

    def again(document_id: str, conversation_id: str, request: gr.Request) -> Iterator[list[Any]]:
        for view in on_regenerate(page.app, page.stops, request.session_hash or "", document_id, conversation_id):
            yield page.values(view)

    def stop(request: gr.Request) -> str:
        page.stops.stop(request.session_hash or "")
        return "Stopping…"

    ids, question = [page["document_id"], page["conversation_id"]], page["question"]
    answering = {"outputs": page.outputs, "concurrency_limit": 8, **QUIET}
    page.answering += [
        question.submit(ask, [*ids, question], api_name="ask", **answering),
        page["history"].retry(again, ids, api_name="regenerate", **answering),
    ]
    question.stop(stop, None, page["status"], api_name="stop", queue=False, **QUIET)


def live(app: App, at: Open) -> Mapping[str, str]:
    """Words stay as they are."""
    return {}


def opened(app: App, at: Open) -> View:
    """A conversation as it was, an invitation to the first question, or what to do before."""
    if at.entry is None:
        known = at.found or app.library.catalogue.entries()
        history = conversation.choose() if known else conversation.welcome()
        question = gr.update(interactive=False, placeholder="Open a document to ask it")
    else:
        history = conversation.history(at.turns, app.status().better) if at.turns else conversation.invitation(at.entry)
        question = gr.update(interactive=True, placeholder="Ask this document", submit_btn="Send", stop_btn=False)
    return {"history": history, "live": "", "status": "", "question": question}


def on_ask(
    app: App, stops: Stops, session: str, document_id: str, conversation_id: str, question: str
) -> Iterator[View]:
    """Asks; yields the growing answer. A refused question comes back into the box."""
    stop = stops.start(session)
    try:
        turns = app.questions.turns(conversation_id) if conversation_id else []
        yield {
            "history": conversation.history(turns, app.status().better),
            "live": conversation.growing(question, None, ""),
            "status": waiting(app),
            "question": {**BUSY, "value": ""},
            "timer": POLLING,
        }
        events = app.questions.ask(document_id, question, conversation_id, stop)
        yield from _answer(app, document_id, conversation_id, question, events)
    except Exception as error:
        yield {
            "live": conversation.failure(question, explain(error)),
            "status": "",
            "question": {**IDLE, "value": question},
        }
    finally:
        stops.end(session, stop)


def on_regenerate(app: App, stops: Stops, session: str, document_id: str, conversation_id: str) -> Iterator[View]:
    """Answers the last question of a conversation again."""
    stop = stops.start(session)
    try:
        *before, last = app.questions.turns(conversation_id)
        yield {
            "history": conversation.history(before, app.status().better),
            "live": conversation.growing(last.question, None, ""),
            "status": waiting(app),
            "question": BUSY,
            "timer": POLLING,
        }
        events = app.questions.regenerate(conversation_id, stop)
        yield from _answer(app, document_id, conversation_id, last.question, events)
    except Exception as error:
        yield {"live": conversation.failure("", explain(error)), "status": "", "question": IDLE}
    finally:
        stops.end(session, stop)


def _answer(
    app: App, document_id: str, conversation_id: str, question: str, events: Iterator[AskEvent]
) -> Iterator[View]:
    """Draws the stream: passages with their page, words at a readable pace, then the stored turn."""
    evidence: Evidence | None = None
    words, drawn_at = "", 0.0
    for event in events:
        match event:
            case Evidence():
                evidence = event
                shown = evidence.found and evidence.citations
                yield {
                    "live": conversation.growing(question, evidence, ""),
                    "status": answering_line(evidence),
                    **({"sheet": page_panel.best_sheet(app, document_id, evidence.citations)} if shown else {}),
                }
            case Working():
                yield {"status": text(f"{event.doing}… ({event.done} of {event.total})")}
            case TextDelta():
                words += event.text
                if monotonic() - drawn_at >= PACE_SECONDS:
                    drawn_at = monotonic()
                    yield {"live": conversation.growing(question, evidence, words)}
            case Answer():
                conversation_id = event.conversation_id or conversation_id
                yield {
                    **head_panel.live(app, Open(document_id, conversation_id, "", ())),
                    "history": conversation.history(app.questions.turns(conversation_id), app.status().better),
                    "live": "",
                    "status": done_line(event),
                    "question": IDLE,
                    "conversation_id": conversation_id,
                }


def waiting(app: App) -> str:
    """What a question waits for."""
    if app.status().state == "loading":
        return "The reader is still loading. Your question waits and is answered as soon as it is ready."
    return "Looking for the passage…"


def answering_line(evidence: Evidence) -> str:
    """What is happening while words arrive."""
    if not evidence.found:
        return "Not found."
    return f"Answering from {text(evidence.coverage)}, the part read so far…" if evidence.coverage else "Answering…"


def done_line(answer: Answer) -> str:
    """Says the end to a screen reader; sighted users see it."""
    passages = count(len(answer.citations), "passage")
    return f'<span class="unseen">{"Stopped" if answer.stopped else "Answer complete"}, {passages}.</span>'
