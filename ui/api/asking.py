"""The routes that ask: three forms of one question, answered whole or as a stream of server-sent events."""

import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from ui.api import chat_completions, messages, responses
from ui.api.access import Caller, MayAsk
from ui.api.cited import Event
from ui.api.refusals import Refused, refused
from ui.api.reply import Reply


def asking(pool: ThreadPoolExecutor) -> APIRouter:
    """Routes whose answers are made in the threads of a pool."""
    router = APIRouter(tags=["ask"])

    async def begun(request: Request, body: Any, caller: Caller) -> Reply:
        reply = Reply(caller.app, pool, await run_in_threadpool(body.question, caller))
        await reply.begin(request)
        return reply

    @router.post("/chat/completions", response_model=None)
    async def chat(request: Request, caller: MayAsk, body: chat_completions.ChatBody) -> Response | dict[str, Any]:
        """A chat completion. Documents are file parts, or stand in place of the model."""
        reply = await begun(request, body, caller)
        if not body.stream:
            return chat_completions.completion(reply, await reply.finish(request))
        usage = body.stream_options is not None and body.stream_options.include_usage
        return _stream(
            chat_completions.chunks(reply, caller.app.status().name, usage), lambda refusal: ("", refusal.body({}))
        )

    @router.post("/responses", response_model=None)
    async def respond(request: Request, caller: MayAsk, body: responses.ResponseBody) -> Response | dict[str, Any]:
        """A response; the conversation is kept unless `store` is false, and goes on by `previous_response_id`."""
        reply = await begun(request, body, caller)
        if not body.stream:
            return responses.response(reply, await reply.finish(request))
        return _stream(responses.events(reply, caller.app.status().name), responses.trouble)

    @router.post("/messages", response_model=None)
    async def message(request: Request, caller: MayAsk, body: messages.MessageBody) -> Response | dict[str, Any]:
        """A message. Documents are document blocks, or stand in place of the model."""
        reply = await begun(request, body, caller)
        if not body.stream:
            return messages.message(reply, await reply.finish(request), body.citations)
        events = messages.events(reply, caller.app.status().name, body.citations)
        return _stream(events, lambda refusal: ("error", refusal.body({"anthropic-version": ""})))

    return router


def _stream(events: AsyncIterator[Event], trouble: Callable[[Refused], Event]) -> StreamingResponse:
    """Streams the events; the client's going ends them, and what goes wrong on the way is an event of its own."""

    async def lines() -> AsyncIterator[str]:
        try:
            async for event in events:
                yield _line(event)
        except Exception as error:
            # The status was sent long ago; `refused` has explained what is not the client's fault.
            yield _line(trouble(refused(error)))

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _line(event: Event) -> str:
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"
