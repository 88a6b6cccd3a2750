"""A reply: one answer on its way to one client, which stops once nobody listens to it any longer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Event
from time import monotonic

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from app.events import Answer, AskEvent, DocumentEntry, TextDelta
from app.main import App
from app.prompts import Exchange
from ui.api.refusals import Refused, refused

WAIT_SECONDS = 30.0
"""How long a question waits for a document that is on its way; then the client is told to ask again."""
STEP_SECONDS = 0.5
_ON_ITS_WAY = ("parsing", "queued", "reading")


@dataclass(frozen=True)
class DocumentName:
    """A document, and what clients call it."""

    id: str
    title: str
    file_name: str


@dataclass(frozen=True)
class Asking:
    """What every client's own form of a question comes down to."""

    document: DocumentName
    question: str
    said: tuple[Exchange, ...] = ()
    max_tokens: int | None = None
    kept: bool = False
    """Whether the conversation is remembered; then what was said before it is found under its id."""
    conversation_id: str = ""
    begins: str = ""
    """The id of the conversation that begins with it."""
    turn: int = 1
    """Which question of its conversation it is."""
    ignored: tuple[str, ...] = ()
    """Parameters that were given and have no effect here."""


class Reply:
    """`begin`, then `events` or `finish`."""

    def __init__(self, app: App, pool: ThreadPoolExecutor, asking: Asking) -> None:
        self.asking = asking
        self.tokens = 0
        """Of the answer, so far."""
        self.cut = False
        """Whether the answer ends because it is as long as it was allowed to be."""
        self._app, self._pool = app, pool
        self._stop = Event()
        self._queue: asyncio.Queue[AskEvent | Refused | None] = asyncio.Queue()
        self._first: AskEvent | Refused | None = None

    async def begin(self, request: Request | None = None) -> None:
        """Wait for the passages, also for a document that is being read. Raises Refused."""
        try:
            async with self._watching(request):
                ends = monotonic() + WAIT_SECONDS
                self._first = await self._start()
                while isinstance(self._first, Refused):
                    if self._first.code == "not_read":
                        progress = (await run_in_threadpool(self._entry)).progress
                        if progress.stage in _ON_ITS_WAY and monotonic() < ends and not self._stop.is_set():
                            await asyncio.sleep(STEP_SECONDS)
                            self._first = await self._start()
                            continue
                        self._first = _not_read(progress.stage, progress.done, progress.total, progress.message)
                    raise self._first
        except BaseException:
            self._stop.set()
            raise

    async def events(self) -> AsyncGenerator[AskEvent, None]:
        """The passages, pieces of text, the answer. Raises Refused."""
        try:
            event = self._first
            while event is not None:
                if isinstance(event, Refused):
                    raise event
                yield event
                event = await self._queue.get()
        finally:
            self._stop.set()

    async def finish(self, request: Request | None = None) -> Answer:
        """The answer alone. Raises Refused."""
        async with self._watching(request):
            *_, answer = [event async for event in self.events()]
        assert isinstance(answer, Answer)
        return answer

    async def _start(self) -> AskEvent | Refused | None:
        """Ask in a thread of its own; what it gives comes through the queue, of which this is the first."""
        loop, self._queue = asyncio.get_running_loop(), asyncio.Queue()
        queue = self._queue

        def put(event: AskEvent | Refused | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        self._pool.submit(self._run, put)
        return await queue.get()

    def _run(self, put: Callable[[AskEvent | Refused | None], None]) -> None:
        try:
            for event in self._ask():
                if isinstance(event, TextDelta):
                    self.tokens += 1
                    if self.asking.max_tokens and self.tokens >= self.asking.max_tokens:
                        self.cut = True
                        self._stop.set()
                put(event)
        except Exception as error:
            put(refused(error))
        finally:
            put(None)

    def _ask(self) -> Iterator[AskEvent]:
        asking, questions = self.asking, self._app.questions
        if asking.kept:
            place = {"conversation_id": asking.conversation_id, "begins": asking.begins}
            return questions.ask(asking.document.id, asking.question, stop=self._stop, **place)
        return questions.reply(asking.document.id, asking.question, asking.said, self._stop)

    def _entry(self) -> DocumentEntry:
        return self._app.library.catalogue.entry(self.asking.document.id)

    @asynccontextmanager
    async def _watching(self, request: Request | None) -> AsyncIterator[None]:
        """Stop as soon as the client is gone."""

        async def watch() -> None:
            while request is not None and not await request.is_disconnected():
                await asyncio.sleep(STEP_SECONDS)
            if request is not None:
                self._stop.set()

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()


def _not_read(stage: str, done: int, total: int, message: str) -> Refused:
    """Says how far it is, or why it goes no further."""
    if stage in _ON_ITS_WAY:
        far = f": {done:,} of {total:,} {'pages' if stage == 'parsing' else 'tokens'}" if total else ""
        told = f"The document is still being read ({stage}{far})."
        return Refused(409, "not_read", told, "Ask again once GET /v1/files/ID says that it is processed.")
    told = message or "It is locked and needs its password." * (stage == "locked")
    hint = "See to it on the page, or with the command `read`, and ask again."
    return Refused(409, "not_read", f"The document has not been read ({stage}). {told}".strip(), hint)
