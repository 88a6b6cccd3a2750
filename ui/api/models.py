"""Models: the reader, and each document that was read, for programs that know nothing but models."""

from typing import Any

from fastapi import APIRouter

from app.main import App
from ui.api.access import MayRead
from ui.api.conversation import LIBRARY, READER
from ui.api.refusals import Refused


def models() -> APIRouter:
    """The routes under /models."""
    router = APIRouter(prefix="/models", tags=["models"])

    def known(app: App) -> list[dict[str, Any]]:
        entries = [each for each in app.library.catalogue.entries() if each.progress.stage == "ready"]
        documents = [_model(each.document_id, each.title, "library") for each in entries]
        every = _model(LIBRARY, "All documents", "library")
        return [_model(READER, app.status().name, "docpod"), every, *documents]

    @router.get("")
    def listing(caller: MayRead) -> dict[str, Any]:
        """The reader first, then all documents together and each that was read."""
        found = known(caller.app)
        ends = {"first_id": found[0]["id"], "last_id": found[-1]["id"]}
        return {"object": "list", "data": found, "has_more": False, **ends}

    @router.get("/{model_id:path}")
    def model(caller: MayRead, model_id: str) -> dict[str, Any]:
        """One of them."""
        for each in known(caller.app):
            if model_id in (each["id"], caller.app.status().name if each["id"] == READER else ""):
                return each
        raise Refused(404, "model_not_found", f"There is no model {model_id!r}.", f"Use {READER!r}.")

    return router


def _model(model_id: str, name: str, owner: str) -> dict[str, Any]:
    both = {"id": model_id, "object": "model", "type": "model", "created": 0, "created_at": 0}
    return {**both, "owned_by": owner, "display_name": name}
