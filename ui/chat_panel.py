"""The conversation pane: asking, watching the answer grow, stopping it, asking again, earlier conversations."""

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import gradio as gr

from app.events import Answer, AskEvent, Evidence, TextDelta
from app.main import App
from ui import page_state, presets_panel
from ui.render import conversation
from ui.render.words import count, text
from ui.stops import Stops
from ui.trouble import explain
from ui.view import POLLING, QUIET, Regions, View, surface

PACE_SECONDS = 0.06
"""Shortest time between two redrawings of a growing answer: faster ones cannot be read, only cost."""
BUSY = {"submit_btn": False, "stop_btn": "Stop", "__type__": "update"}
IDLE = {"submit_btn": "Send", "stop_btn": False, "__type__": "update"}


@dataclass(frozen=True)
class ChatPanel:
    """The components of the pane."""

    head: gr.HTML
    presets: gr.HTML
    history: gr.HTML
    live: gr.HTML
    status: gr.HTML
    question: gr.Textbox


def build() -> ChatPanel:
    """Components only."""
    head = surface("head")
    presets = presets_panel.build()
    with gr.Column(elem_id="talk"):
        history = surface("history")
        live = surface("live")
    status = surface("status", template='<p role="status" aria-live="polite">${value}</p>')
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
    return ChatPanel(head, presets, history, live, status, question)


def bind(panel: ChatPanel, regions: Regions, app: App, stops: Stops) -> list[Any]:
    """Wires the pane; returns the events that answer, for others to cancel."""

    def ask(document_id: str, conversation_id: str, question: str, request: gr.Request) -> Iterator[list[Any]]:
        for view in on_ask(app, stops, request.session_hash or "", document_id, conversation_id, question):
            yield view.values()

    def again(document_id: str, conversation_id: str, request: gr.Request) -> Iterator[list[Any]]:
        for view in on_regenerate(app, stops, request.session_hash or "", document_id, conversation_id):
            yield view.values()

    def stop(request: gr.Request) -> str:
        stops.stop(request.session_hash or "")
        return "Stopping…"

    def open_conversation(event: gr.EventData, request: gr.Request) -> list[Any]:
        stops.stop(request.session_hash or "")
        data = event._data or {}
        return page_state.guarded(
            lambda: page_state.opened(app, str(data.get("document", "")), str(data.get("conversation", "")))
        )

    def delete(document_id: str, conversation_id: str, event: gr.EventData, request: gr.Request) -> list[Any]:
        stops.stop(request.session_hash or "")
        deleted = str((event._data or {}).get("conversation", ""))
        return page_state.guarded(lambda: on_delete(app, document_id, conversation_id, deleted))

    ids = [regions.document_id, regions.conversation_id]
    outputs = regions.outputs()
    asked = panel.question.submit(ask, [*ids, panel.question], outputs, api_name="ask", concurrency_limit=8, **QUIET)
    repeated = panel.history.retry(again, ids, outputs, api_name="regenerate", concurrency_limit=8, **QUIET)
    answering: list[Any] = [asked, repeated]
    panel.question.stop(stop, None, panel.status, api_name="stop", queue=False, **QUIET)
    for name, event in (("conversation", panel.head.select), ("conversation_new", panel.head.edit)):
        event(open_conversation, None, outputs, api_name=name, cancels=answering, concurrency_limit=None, **QUIET)
    panel.head.delete(
        delete, ids, outputs, api_name="conversation_delete", cancels=answering, concurrency_limit=None, **QUIET
    )
    return answering


def on_ask(
    app: App, stops: Stops, session: str, document_id: str, conversation_id: str, question: str
) -> Iterator[View]:
    """Asks; yields the growing answer. A refused question comes back into the box."""
    stop = stops.start(session)
    try:
        turns = app.questions.turns(conversation_id) if conversation_id else []
        yield View(
            history=conversation.history(turns),
            live=conversation.growing(question, None, ""),
            status=waiting(app),
            question={**BUSY, "value": ""},
            timer=POLLING,
        )
        events = app.questions.ask(document_id, question, conversation_id, stop)
        yield from _answer(app, document_id, conversation_id, question, events)
    except Exception as error:
        yield View(live=conversation.failure(question, explain(error)), status="", question={**IDLE, "value": question})
    finally:
        stops.end(session, stop)


def on_regenerate(app: App, stops: Stops, session: str, document_id: str, conversation_id: str) -> Iterator[View]:
    """Answers the last question of a conversation again."""
    stop = stops.start(session)
    try:
        *before, last = app.questions.turns(conversation_id)
        yield View(
            history=conversation.history(before),
            live=conversation.growing(last.question, None, ""),
            status=waiting(app),
            question=BUSY,
            timer=POLLING,
        )
        events = app.questions.regenerate(conversation_id, stop)
        yield from _answer(app, document_id, conversation_id, last.question, events)
    except Exception as error:
        yield View(live=conversation.failure("", explain(error)), status="", question=IDLE)
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
                yield View(
                    live=conversation.growing(question, evidence, ""),
                    status=answering_line(evidence),
                    sheet=page_state.best_sheet(app, document_id, evidence.citations) if shown else gr.skip(),
                )
            case TextDelta():
                words += event.text
                if monotonic() - drawn_at >= PACE_SECONDS:
                    drawn_at = monotonic()
                    yield View(live=conversation.growing(question, evidence, words))
            case Answer():
                conversation_id = event.conversation_id or conversation_id
                yield View(
                    head=page_state.head(app, document_id, conversation_id),
                    history=conversation.history(app.questions.turns(conversation_id)),
                    live="",
                    status=done_line(event),
                    question=IDLE,
                    conversation_id=conversation_id,
                )


def on_delete(app: App, document_id: str, open_id: str, conversation_id: str) -> View:
    """Deletes a conversation; the open one leaves its document open with none."""
    app.questions.delete(conversation_id)
    return page_state.opened(app, document_id, "" if conversation_id == open_id else open_id)


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
