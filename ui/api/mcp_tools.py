"""The library for agents: tools of the Model Context Protocol, over HTTP behind keys or over stdio."""

import base64
import binascii
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from starlette.applications import Starlette

from app.events import Answer, DocumentEntry, Evidence
from app.main import App
from ui.api.access import Caller
from ui.api.cited import facts, passages
from ui.api.files import image_type
from ui.api.refusals import Refused, refused
from ui.api.reply import Inquiry, Reply

PATH = "/mcp"
INSTRUCTIONS = (
    "Long documents that a local model has read. Find one with list_documents, then ask it: answers come with the "
    "passages they rest on. quote gives passages without an answer, page_image the page they stand on."
)
_READS = ToolAnnotations(read_only_hint=True)


def over_http(pool: ThreadPoolExecutor, max_bytes: int) -> Starlette:
    """The server at PATH, without sessions: every call shows its key, whose caller the request's state holds."""
    # Host and Origin are the guard's, in front of everything.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return tools(pool).streamable_http_app(
        streamable_http_path=PATH, stateless_http=True, max_request_body_size=max_bytes, transport_security=security
    )


def over_stdio(app: App) -> None:
    """Serve the program that started this one, which may do everything, until it ends the input."""
    with ThreadPoolExecutor(1, "mcp") as pool:
        anyio.run(tools(pool, app).run_stdio_async)


def tools(pool: ThreadPoolExecutor, local: App | None = None) -> MCPServer[Any]:
    """The tools; for a program of this machine, which has the `local` app, files are named by their path, and no key is
    needed."""
    server: MCPServer[Any] = MCPServer("docpod", title="DocPod", instructions=INSTRUCTIONS, log_level="WARNING")

    @contextmanager
    def allowed(context: Context[Any, Any], scope: str) -> Iterator[App]:
        """The app as the caller has it; tells what goes wrong in the words of an AppError."""
        try:
            if local:
                yield local
                return
            request = context.request_context.request
            assert request is not None, "what comes over HTTP has a request with a key"
            caller: Caller = request.state.caller
            caller.demand(scope)
            yield caller.app
        except Exception as error:
            refusal = refused(error)
            raise ToolError(f"{refusal.message} {refusal.hint}") from error

    def inquiry(app: App, question: str, names: Sequence[str]) -> Inquiry:
        library = app.library
        ids = dict.fromkeys(library.catalogue.find(name).id for name in names)
        entries = map(library.catalogue.entry, ids) if names else library.catalogue.entries()
        if not (documents := tuple(entries)):
            raise Refused(404, "no_document", "The library has no documents.", "Add one with add_document.")
        return Inquiry(documents, question, named=bool(names))

    async def begun(app: App, question: str, names: Sequence[str]) -> Reply:
        reply = Reply(app, pool, await anyio.to_thread.run_sync(inquiry, app, question, names))
        await reply.begin()
        return reply

    @server.tool(annotations=_READS)
    def list_documents(context: Context[Any, Any], search: str = "") -> list[dict[str, Any]]:
        """List the library, newest first; `search` holds words of the title or file name."""
        with allowed(context, "read") as app:
            return [_line(entry) for entry in app.library.catalogue.entries(search)]

    @server.tool(annotations=_READS)
    async def ask(
        context: Context[Any, Any], question: str, document: str = "", documents: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Ask one document, or several `documents`, each named by its id, the start of it, or its title; without any
        the whole library. Gives the answer and its passages, each with its document."""
        with allowed(context, "ask") as app:
            reply = await begun(app, question, [*filter(None, [document]), *documents])
            answer = await reply.finish()
            cited = passages(reply, answer.citations if answer.found else ())
            return {"answer": answer.answer, "citations": cited, **facts(reply, answer)}

    @server.tool(annotations=_READS)
    async def quote(context: Context[Any, Any], document: str, query: str) -> dict[str, Any]:
        """Find the passages of one document that a question or some words are about, as they stand on the page."""
        with allowed(context, "ask") as app:
            reply = await begun(app, query, [document])
            # Closing the events ends the answer.
            async with aclosing(reply.events()) as events:
                shown = await anext(each async for each in events if isinstance(each, Evidence | Answer))
            found = passages(reply, shown.citations)
            return {"found": shown.found, "passages": found, "coverage": shown.coverage}

    @server.tool(annotations=_READS, structured_output=False)
    def page_image(context: Context[Any, Any], document: str, page: int, width: int = 1100) -> Image:
        """A picture of a page, counted from 1."""
        with allowed(context, "read") as app:
            library = app.library
            image = library.page_image(library.catalogue.find(document).id, page, max(16, min(width, 4096)))
            return Image(data=image, format=image_type(image).rpartition("/")[2])

    def added(app: App, document_id: str) -> dict[str, Any]:
        return _line(app.library.catalogue.entry(document_id))

    if local:

        @server.tool("add_document")
        def add_file(context: Context[Any, Any], path: str) -> dict[str, Any]:
            """Add a file of this machine, which is then read; list_documents tells how far it is."""
            with allowed(context, "write") as app:
                file = Path(path).expanduser()
                if not file.is_file():
                    raise Refused(404, "no_file", f"There is no file {path}.", "Give its whole path.")
                return added(app, app.library.add(file, file.name, move=False))
    else:

        @server.tool("add_document")
        def add_content(context: Context[Any, Any], file_name: str, content_base64: str) -> dict[str, Any]:
            """Add a file, which is then read; list_documents tells how far it is."""
            with allowed(context, "write") as app:
                try:
                    data = base64.b64decode(content_base64, validate=True)
                except binascii.Error as error:
                    raise Refused(400, "no_file", f"content_base64 is no base64: {error}.", "") from error
                return added(app, app.library.receive(BytesIO(data), file_name))

    return server


def _line(entry: DocumentEntry) -> dict[str, Any]:
    return {
        "document_id": entry.document_id,
        "title": entry.title,
        "file_name": entry.file_name,
        "pages": entry.pages,
        "stage": entry.progress.stage,
        "done": entry.progress.done,
        "total": entry.progress.total,
        "message": f"{entry.progress.message} {entry.progress.hint}".strip(),
    }
