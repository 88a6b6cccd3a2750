"""The routes that ask: three forms of one question."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from app.keys import Key
from app.main import App
from ui.api import chat_completions, messages, responses
from ui.api.access import MayAsk
from ui.api.reply import Reply
from ui.api.sse import stream


def asking(app: App, pool: ThreadPoolExecutor) -> APIRouter:
    """Routes whose answers are made in the threads of a pool."""
    router = APIRouter(tags=["ask"])

    async def begun(request: Request, body: Any, key: Key) -> Reply:
        reply = Reply(app, pool, await run_in_threadpool(body.question, app, key))
        await reply.begin(request)
        return reply

    @router.post("/chat/completions", response_model=None)
    async def chat(request: Request, key: MayAsk, body: chat_completions.ChatBody) -> Response | dict[str, Any]:
        """A chat completion. Documents are file parts, or stand in place of the model."""
        reply = await begun(request, body, key)
        if not body.stream:
            return chat_completions.completion(reply, await reply.finish(request))
        usage = body.stream_options is not None and body.stream_options.include_usage
        return stream(chat_completions.chunks(reply, app.status().name, usage), chat_completions.trouble)

    @router.post("/responses", response_model=None)
    async def respond(request: Request, key: MayAsk, body: responses.ResponseBody) -> Response | dict[str, Any]:
        """A response; the conversation is kept unless `store` is false, and goes on by `previous_response_id`."""
        reply = await begun(request, body, key)
        if not body.stream:
            return responses.response(reply, await reply.finish(request))
        return stream(responses.events(reply, app.status().name), responses.trouble)

    @router.post("/messages", response_model=None)
    async def message(request: Request, key: MayAsk, body: messages.MessageBody) -> Response | dict[str, Any]:
        """A message. Documents are document blocks, or stand in place of the model."""
        reply = await begun(request, body, key)
        if not body.stream:
            return messages.message(reply, await reply.finish(request), body.citations)
        return stream(messages.events(reply, app.status().name, body.citations), messages.trouble)

    return router
