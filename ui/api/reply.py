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

from app.conversations import Asked
from app.events import Answer, AskEvent, Cited, DocumentEntry, Evidence, TextDelta
from app.main import App
from ui.api.refusals import Refused, refused

WAIT_SECONDS = 30.0
"""How long a question waits for a document that is on its way; then the client is told to ask again."""
STEP_SECONDS = 0.5
_STANDS_STILL = ("ready", "paused", "waiting", "failed", "cancelled", "locked")


@dataclass(frozen=True)
class Inquiry:
    """What every client's own form of a question comes down to."""

    documents: tuple[DocumentEntry, ...]
    question: str
    said: tuple[str, ...] = ()
    """Questions before it, where the client keeps the conversation."""
    max_tokens: int | None = None
    kept: bool = False
    """Whether the conversation is remembered."""
    conversation_id: str = ""
    turn: int = 1
    """Which question of its conversation it is; the first one begins it under its id."""
    ignored: tuple[str, ...] = ()
    """Parameters that were given and have no effect here."""
    named: bool = True
    """Whether each document was named, and is waited for; of the whole library those answer that are read."""

    def document_of(self, cited: Cited) -> DocumentEntry:
        """The one that a passage is in."""
        return next((each for each in self.documents if each.document_id == cited.document_id), self.documents[0])


class Reply:
    """`begin`, then `events` or `finish`."""

    def __init__(self, app: App, pool: ThreadPoolExecutor, inquiry: Inquiry) -> None:
        self.inquiry = inquiry
        self.tokens = 0
        """Of the answer, so far."""
        self._app, self._pool = app, pool
        self._stop = Event()
        self._queue: asyncio.Queue[AskEvent | Refused | None] = asyncio.Queue()
        self._first: AskEvent | Refused | None = None

    async def begin(self, request: Request | None = None) -> None:
        """Wait for the document, if it is on its way, and for what comes first of the answer. Raises Refused."""
        try:
            async with self._watching(request):
                await self._until_read()
                self._first = await self._start()
            if isinstance(self._first, Refused):
                if self._first.code == "not_read" and self.inquiry.named:
                    raise _not_read(await run_in_threadpool(self._entry, self.inquiry.documents[0]))
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

    async def updates(self) -> AsyncIterator[list[Cited] | str | Answer]:
        """What a client is told as the answer grows: passages, each once; words; and the answer. Raises Refused."""
        seen: set[tuple[str, int, str]] = set()
        text = ""
        async for event in self.events():
            if isinstance(event, TextDelta):
                text += event.text
                yield event.text
            if isinstance(event, Evidence | Answer) and event.found:
                # Where nothing was found, the closest ones are no citations.
                new = []
                for each in event.citations:
                    if (place := (each.document_id, each.page, each.quote)) not in seen:
                        seen.add(place)
                        new.append(each)
                if new:
                    yield new
            if isinstance(event, Answer):
                # Nothing more where the answer in its end is worded otherwise.
                if event.answer.startswith(text) and event.answer != text:
                    yield event.answer[len(text) :]
                yield event

    async def finish(self, request: Request | None = None) -> Answer:
        """The answer alone. Raises Refused."""
        async with self._watching(request):
            *_, answer = [event async for event in self.events()]
        assert isinstance(answer, Answer)
        return answer

    def is_cut(self, answer: Answer) -> bool:
        """Whether an answer ends because it is as long as it was allowed to be."""
        most = self.inquiry.max_tokens
        return answer.ended == "cut" or (answer.stopped and most is not None and self.tokens >= most)

    async def _until_read(self) -> None:
        """A program is answered from whole documents, or by their earlier memory while another one is made of them."""
        ends = monotonic() + WAIT_SECONDS
        several = len(self.inquiry.documents) > 1
        for document in self.inquiry.documents if self.inquiry.named else ():
            while not self._stop.is_set():
                entry = await run_in_threadpool(self._entry, document)
                stands = entry.progress.stage in _STANDS_STILL
                if entry.answers_from or (stands and not several) or entry.progress.stage == "ready":
                    break
                if stands or monotonic() > ends:
                    raise _not_read(entry)
                await asyncio.sleep(STEP_SECONDS)

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
                    if self.inquiry.max_tokens and self.tokens >= self.inquiry.max_tokens:
                        self._stop.set()
                put(event)
        except Exception as error:
            put(refused(error))
        finally:
            put(None)

    def _ask(self) -> Iterator[AskEvent]:
        inquiry, questions = self.inquiry, self._app.questions
        document_id, *beside = (each.document_id for each in inquiry.documents)
        question = inquiry.question.strip()
        if inquiry.turn > 1:
            return questions.ask(document_id, question, inquiry.conversation_id, self._stop)
        kept, said = inquiry.kept, inquiry.said
        asked = Asked(document_id, question, inquiry.conversation_id, kept=kept, said=said, beside=tuple(beside))
        return questions.answer(asked, self._stop)

    def _entry(self, document: DocumentEntry) -> DocumentEntry:
        return self._app.library.catalogue.entry(document.document_id)

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


def _not_read(entry: DocumentEntry) -> Refused:
    """Says how far it is, or why it goes no further."""
    at, which = entry.progress, f"“{entry.title}”"
    if at.stage not in _STANDS_STILL:
        far = f": {at.done:,} of {at.total:,} {'pages' if at.stage == 'parsing' else 'tokens'}" if at.total else ""
        told = f"{which} is still being read ({at.stage}{far})."
        return Refused(409, "not_read", told, "Ask again once GET /v1/files/ID says that it is processed.")
    told = f"{which} has not been read ({at.stage}). {at.message}".strip()
    return Refused(409, "not_read", told, "See to it on the page, or with the command `read`, and ask again.")
