"""Downloads: what a viewer takes home, made for him when he asks for it; the guard stands before it as before all."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.errors import AppError


def _export(request: Request) -> Response:
    app = request.scope["viewer"].app
    try:
        made = app.export.conversation(**request.path_params, document_id=request.query_params.get("document", ""))
    except AppError as error:
        return PlainTextResponse(f"{error.message} {error.hint}", 404)
    disposition = f"attachment; filename*=UTF-8''{quote(made.name, safe='')}"
    headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
    return Response(made.content, media_type=made.media_type, headers=headers)


ROUTES = [Route("/export/{form}/{conversation_id}", _export)]
