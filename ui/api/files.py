"""Files: the documents of the library, in a form that OpenAI's clients and Anthropic's both read."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, Response, UploadFile
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from app.events import DocumentEntry
from app.main import App
from ui.api.access import MayRead, MayWrite
from ui.api.refusals import Refused

_STATUS = {"ready": "processed", "failed": "error", "cancelled": "error", "locked": "error"}
"""OpenAI's word for the stage of a document; any other is still `uploaded`."""


def files() -> APIRouter:
    """The routes under /files."""
    router = APIRouter(prefix="/files", tags=["files"])

    @router.post("")
    def upload(caller: MayWrite, file: Annotated[UploadFile, File()]) -> dict[str, Any]:
        """Add a file, which is then parsed and read; known bytes are the known document."""
        return _told(caller.app, caller.app.library.receive(file.file, file.filename or "document"))

    @router.get("")
    def listing(
        caller: MayRead,
        limit: Annotated[int, Query(ge=1)] = 10_000,
        after: str = "",
        after_id: str = "",
        order: str = "desc",
    ) -> dict[str, Any]:
        """The library, newest first."""
        entries = caller.app.library.catalogue.entries()[:: -1 if order == "asc" else 1]
        ids = [entry.document_id for entry in entries]
        start = _behind(ids, after or after_id)
        page = [_file(caller.app, entry) for entry in entries[start : start + limit]]
        return {"object": "list", "data": page, "has_more": start + limit < len(ids), **_ends(page)}

    @router.get("/{file_id}")
    def status(caller: MayRead, file_id: str) -> dict[str, Any]:
        """What is known of a document, and how far it is."""
        return _told(caller.app, file_id)

    @router.delete("/{file_id}")
    def delete(caller: MayWrite, file_id: str) -> dict[str, Any]:
        """Remove a document with its pages, memory and conversations."""
        caller.app.library.delete(file_id)
        return {"id": file_id, "object": "file", "type": "file_deleted", "deleted": True}

    @router.get("/{file_id}/content")
    def content(caller: MayRead, file_id: str) -> FileResponse:
        """The file as it was added; an encrypted one once it was unlocked, without its password."""
        document = caller.app.library.catalogue.document(file_id)
        opened = ExitStack()
        path, ended = opened.enter_context(caller.app.library.original(file_id)), BackgroundTask(opened.close)
        return FileResponse(path, media_type=document.media_type, filename=document.file_name, background=ended)

    @router.get("/{file_id}/pages/{number}")
    def page_image(
        caller: MayRead, file_id: str, number: int, width: Annotated[int, Query(ge=16, le=4096)] = 1100
    ) -> Response:
        """A picture of a page, 1-based; the boxes of citations are fractions of it."""
        image = caller.app.library.page_image(file_id, number, width)
        return Response(image, media_type=image_type(image))

    return router


def image_type(image: bytes) -> str:
    """Pages come as PNG or as JPEG, whichever is smaller."""
    return "image/png" if image.startswith(b"\x89PNG") else "image/jpeg"


def _told(app: App, document_id: str) -> dict[str, Any]:
    return _file(app, app.library.catalogue.entry(document_id))


def _file(app: App, entry: DocumentEntry) -> dict[str, Any]:
    document, progress = app.library.catalogue.document(entry.document_id), entry.progress
    return {
        "id": entry.document_id,
        "object": "file",
        "type": "file",
        "filename": entry.file_name,
        "bytes": entry.num_bytes,
        "size_bytes": entry.num_bytes,
        "mime_type": document.media_type,
        "created_at": int(document.created_at.timestamp()),
        "purpose": "user_data",
        "downloadable": True,
        "status": _STATUS.get(progress.stage, "uploaded"),
        "status_details": f"{progress.message} {progress.hint}".strip() or None,
        "docpod": {
            "title": entry.title,
            "stage": progress.stage,
            "pages": entry.pages,
            "pages_without_text": entry.pages_without_text,
            "note": entry.note,
            "attachments": [{"name": name, "bytes": num_bytes} for name, num_bytes in entry.attachments],
            "tokens_read": progress.done if progress.stage not in ("parsing", "ocr") else 0,
            "tokens": progress.total if progress.stage not in ("parsing", "ocr") else 0,
            "seconds_left": progress.seconds_left,
            "pod_bytes": entry.pod_bytes,
            "recipe": entry.recipe,
        },
    }


def _behind(ids: Sequence[str], last: str) -> int:
    if not last:
        return 0
    if last not in ids:
        raise Refused(400, "cursor", f"There is no file {last!r} to go on from.", "List from the start.")
    return ids.index(last) + 1


def _ends(page: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
