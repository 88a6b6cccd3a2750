"""Downloads: what a viewer takes home, made for him when he asks for it; the guard stands before it as before all."""

import shutil
from pathlib import Path
from urllib.parse import quote

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.errors import AppError
from app.portable import SUFFIX


def _export(request: Request) -> Response:
    app = request.scope["viewer"].app
    try:
        made = app.export.conversation(**request.path_params, document_id=request.query_params.get("document", ""))
    except AppError as error:
        return PlainTextResponse(f"{error.message} {error.hint}", 404)
    disposition = f"attachment; filename*=UTF-8''{quote(made.name, safe='')}"
    headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
    return Response(made.content, media_type=made.media_type, headers=headers)


def _archive(request: Request) -> Response:
    library, document_id = request.scope["viewer"].app.library, request.path_params["document_id"]
    try:
        name = Path(library.catalogue.entry(document_id).file_name).with_suffix(SUFFIX).name
        made = library.archive(document_id)
    except AppError as error:
        return PlainTextResponse(f"{error.message} {error.hint}", 404)
    gone = BackgroundTask(shutil.rmtree, made.parent)
    return FileResponse(made, media_type="application/octet-stream", filename=name, background=gone)


ROUTES = [Route("/export/{form}/{conversation_id}", _export), Route("/archive/{document_id}", _archive)]
