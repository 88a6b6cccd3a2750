"""Chat completions, as OpenAI's clients ask for them; citations are annotations of the message."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from app.events import Answer, Cited
from ui.api.access import Caller
from ui.api.cited import Event, facts, passage, place
from ui.api.conversation import READER, AskBody, Said
from ui.api.reply import Inquiry, Reply


class StreamOptions(BaseModel):
    """What a stream ends with."""

    include_usage: bool = False


class ChatBody(AskBody):
    """A request for a chat completion."""

    messages: list[Said]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | None = None

    def question(self, caller: Caller) -> Inquiry:
        """What is asked."""
        return self.asking(caller, self.messages, self.max_completion_tokens or self.max_tokens)


def completion(reply: Reply, answer: Answer) -> dict[str, Any]:
    """The whole answer."""
    cited = answer.citations if answer.found else ()
    message = {
        "role": "assistant",
        "content": answer.answer,
        "refusal": None,
        "annotations": [_annotation(reply, each, place(answer, each)) for each in cited],
    }
    choice = {"index": 0, "message": message, "finish_reason": _reason(reply, answer), "logprobs": None}
    return {
        **_head("chat.completion", answer.model or READER),
        "choices": [choice],
        "usage": _usage(reply, answer),
        "docpod": facts(reply, answer),
    }


async def chunks(reply: Reply, model: str, usage: bool) -> AsyncIterator[Event]:
    """The answer as it grows: its citations first, then its words."""
    head, text = _head("chat.completion.chunk", model), ""

    def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return "", {**head, "choices": [choice], **more}

    yield chunk({"role": "assistant", "content": ""})
    async for each in reply.updates():
        if isinstance(each, str):
            text += each
            yield chunk({"content": each})
        elif isinstance(each, Answer):
            yield chunk({}, _reason(reply, each), docpod=facts(reply, each))
            if usage:
                yield "", {**head, "choices": [], "usage": _usage(reply, each)}
        else:
            yield chunk({"annotations": [_annotation(reply, cited, len(text)) for cited in each]})
    yield "", "[DONE]"


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _reason(reply: Reply, answer: Answer) -> str:
    return "length" if reply.is_cut(answer) else "stop"


def _annotation(reply: Reply, cited: Cited, length: int) -> dict[str, Any]:
    """The only kind that chat completions know, with the page's picture as address, and the passage beside it."""
    document = reply.inquiry.document_of(cited)
    url = f"/v1/files/{document.document_id}/pages/{cited.page}"
    where = {"start_index": 0, "end_index": length, "url": url, "title": f"{document.title}, p. {cited.label}"}
    return {"type": "url_citation", "url_citation": where, **passage(reply, cited)}


def _usage(reply: Reply, answer: Answer) -> dict[str, Any]:
    prompt = answer.reused_tokens + answer.recomputed_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": reply.tokens,
        "total_tokens": prompt + reply.tokens,
        "prompt_tokens_details": {"cached_tokens": answer.reused_tokens},
    }
