"""Responses, as OpenAI's clients ask for them; citations are annotations of the text, and conversations are kept."""

import time
from collections.abc import AsyncIterator
from itertools import count
from typing import Any
from uuid import uuid4

from app.events import Answer, Cited
from app.main import App
from ui.api.access import Caller
from ui.api.cited import Event, facts, passage, place
from ui.api.conversation import READER, AskBody, Said
from ui.api.refusals import Refused
from ui.api.reply import Inquiry, Reply


class ResponseBody(AskBody):
    """A request for a response."""

    input: str | list[Said]
    max_output_tokens: int | None = None
    store: bool = True
    previous_response_id: str | None = None

    def question(self, caller: Caller) -> Inquiry:
        """What is asked, in the conversation of the response before it where one is named."""
        said = [Said(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        if self.previous_response_id:
            more: dict[str, Any] = {"kept": True, **_place(caller.app, self.previous_response_id)}
        else:
            # Whoever tells what was said before keeps the conversation himself.
            kept = self.store and not any(each.role == "assistant" for each in said)
            more = {"kept": kept, "conversation_id": uuid4().hex}
        return self.asking(caller, said, self.max_output_tokens, **more)


def response(reply: Reply, answer: Answer) -> dict[str, Any]:
    """The whole answer."""
    cited = answer.citations if answer.found else ()
    part = _part(answer.answer, [_annotation(reply, each, place(answer, each)) for each in cited])
    cut = reply.is_cut(answer)
    prompt = answer.reused_tokens + answer.recomputed_tokens
    return {
        **_frame(answer.model or READER, reply.inquiry),
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [_item(f"msg_{answer.message_id or uuid4().hex}", "completed", [part])],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": answer.reused_tokens},
            "output_tokens": reply.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + reply.tokens,
        },
        "docpod": facts(reply, answer),
    }


async def events(reply: Reply, model: str) -> AsyncIterator[Event]:
    """The answer as it grows: its citations first, then its words."""
    numbers = count()
    begun = {**_frame(model, reply.inquiry), "status": "in_progress", "output": []}
    item_id, text, marks = f"msg_{uuid4().hex}", "", 0
    where = {"item_id": item_id, "output_index": 0, "content_index": 0}

    def event(kind: str, **data: Any) -> Event:
        return f"response.{kind}", {"type": f"response.{kind}", "sequence_number": next(numbers), **data}

    yield event("created", response=begun)
    yield event("in_progress", response=begun)
    yield event("output_item.added", output_index=0, item=_item(item_id, "in_progress", []))
    yield event("content_part.added", **where, part=_part("", []))
    async for each in reply.updates():
        if isinstance(each, str):
            text += each
            yield event("output_text.delta", **where, delta=each, logprobs=[])
        elif isinstance(each, list):
            for mark in [_annotation(reply, cited, len(text)) for cited in each]:
                yield event("output_text.annotation.added", **where, annotation_index=marks, annotation=mark)
                marks += 1
        else:
            ended = response(reply, each)
            item = {**ended["output"][0], "id": item_id}
            ended["output"] = [item]
            (part,) = item["content"]
            yield event("output_text.done", **where, text=each.answer, logprobs=[])
            yield event("content_part.done", **where, part=part)
            yield event("output_item.done", output_index=0, item=item)
            yield event(ended["status"], response=ended)


def trouble(refusal: Refused) -> Event:
    """What went wrong while the answer grew."""
    told = f"{refusal.message} {refusal.hint}"
    return "error", {"type": "error", "code": refusal.code, "message": told, "param": None, "sequence_number": 0}


def _place(app: App, response_id: str) -> dict[str, Any]:
    """Documents, conversation and turn behind a response, which must be the last of a conversation that was kept."""
    _, _, conversation_id, turn, *_ = [*response_id.split("_"), "", "", ""]
    turns = app.questions.turns(conversation_id)
    if not turns or str(len(turns)) != turn:
        message = f"{response_id!r} is not the last response of a conversation that was kept."
        raise Refused(404, "previous_response_not_found", message, "Go on from the last one, or start anew.")
    documents = app.chat.documents(conversation_id)
    place = {"documents": documents, "named": len(documents) == 1}
    return {**place, "conversation_id": conversation_id, "turn": len(turns) + 1}


def _frame(model: str, inquiry: Inquiry) -> dict[str, Any]:
    return {
        "id": f"resp_{inquiry.documents[0].document_id}_{inquiry.conversation_id}_{inquiry.turn}",
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        **dict.fromkeys(("error", "incomplete_details", "instructions", "temperature", "top_p")),
        "metadata": {},
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "tools": [],
        "max_output_tokens": inquiry.max_tokens,
        "store": inquiry.kept,
    }


def _item(item_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def _annotation(reply: Reply, cited: Cited, index: int) -> dict[str, Any]:
    """A file citation, behind the text at `index`, with the passage beside it."""
    where = {"type": "file_citation", "filename": reply.inquiry.document_of(cited).file_name, "index": index}
    return {**where, **passage(reply, cited)}
