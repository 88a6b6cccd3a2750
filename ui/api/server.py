"""The API as routes for the server of the page: in front of Gradio's, of which they hide none."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.routing import BaseRoute, Mount

from app.main import App
from ui.api import refusals
from ui.api.access import Keyed, MayRead
from ui.api.asking import asking
from ui.api.files import files
from ui.api.models import models

THREADS = 8
"""Questions that are answered at a time; further ones wait their turn."""


class Api:
    """The routes under /v1, for `app_kwargs` of Gradio's launch."""

    def __init__(self, app: App) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "api")
        # Base64 takes a third more than the file.
        max_bytes = app.settings.max_upload_mb * 1_400_000 + 1_000_000
        api = FastAPI(title="DocPod", openapi_url=None, docs_url=None, redoc_url=None)
        refusals.install(api)
        for router in (asking(app, self._pool), files(app), models(app)):
            api.include_router(router)

        @api.get("/openapi.json", include_in_schema=False)
        def schema(request: Request, key: MayRead) -> dict[str, Any]:
            """What there is."""
            return {**api.openapi(), "servers": [{"url": "/v1"}]}

        self.routes: list[BaseRoute] = [Mount("/v1", Keyed(api, lambda: app.keys, max_bytes))]

    @asynccontextmanager
    async def lifespan(self, server: FastAPI) -> AsyncIterator[None]:
        """What the routes need while the server runs."""
        try:
            yield
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
