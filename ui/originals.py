"""Originals: the files behind the documents, and the frame in which a PDF is shown, as routes of the page.

pdf_viewer/pdfjs has build, viewer, cmaps, standard_fonts and wasm of pdfjs-dist 6.5.438 from npm, unchanged.
"""

from contextlib import ExitStack
from pathlib import Path

import anyio.to_thread
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from app.errors import AppError

FRAME_HEADERS = {
    # A sandbox has no origin, so that its own files are another site's for it; they are the same for everybody.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": "; ".join(
        (
            "sandbox allow-scripts",
            "default-src 'none'",
            # Decoders of images are WebAssembly; the worker is a blob that imports its script from here.
            "script-src 'self' 'wasm-unsafe-eval'",
            "worker-src blob:",
            "connect-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data: blob:",
            "frame-ancestors 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    ),
}
"""Instead of the page's own, for whatever is below /pdf-viewer/."""


def routes() -> list[BaseRoute]:
    """The frame, which is for everybody, and the originals, for whoever sees the document."""
    return [
        Route("/original/{document_id}", original),
        Mount("/pdf-viewer", StaticFiles(directory=Path(__file__).parent / "pdf_viewer", html=True)),
    ]


async def original(request: Request) -> Response:
    """The file as it was added; an encrypted one without its password, once it was unlocked."""
    document_id = request.path_params["document_id"]
    library = request.scope["viewer"].app.library
    try:
        entry = await anyio.to_thread.run_sync(library.catalogue.entry, document_id)
        opened = ExitStack()
        path = await anyio.to_thread.run_sync(opened.enter_context, library.original(document_id))
    except AppError as error:
        return PlainTextResponse(error.message, 404)
    # Never shown by the browser itself, whatever it is.
    kind, ended = "application/octet-stream", BackgroundTask(opened.close)
    return FileResponse(path, media_type=kind, filename=entry.file_name, background=ended)
