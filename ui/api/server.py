"""The API as routes for the server of the page: they stand before Gradio's, and hide none of them."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route

from app.main import App
from ui.api import refusals
from ui.api.access import Keyed, MayRead
from ui.api.asking import asking
from ui.api.files import files
from ui.api.models import models

THREADS = 8
"""Questions that are answered at a time; further ones wait their turn."""


class Api:
    """The routes under /v1, and /mcp where the extra `mcp` is installed, for `app_kwargs` of Gradio's launch."""

    def __init__(self, app: App) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "api")
        # Base64 takes a third more than the file.
        max_bytes = app.settings.max_upload_mb * 1_400_000 + 1_000_000
        api = FastAPI(title="DocPod", openapi_url=None, docs_url=None, redoc_url=None)
        refusals.install(api)
        for router in (asking(self._pool), files(), models()):
            api.include_router(router)

        @api.get("/openapi.json", include_in_schema=False)
        def schema(request: Request, caller: MayRead) -> dict[str, Any]:
            """What there is."""
            return {**api.openapi(), "servers": [{"url": "/v1"}]}

        if find_spec("prometheus_client"):
            from app.metrics import AppMetrics

            metrics = AppMetrics(app)

            @api.get("/metrics", include_in_schema=False)
            def measured(key: MayRead) -> PlainTextResponse:
                """What Prometheus asks for."""
                return PlainTextResponse(metrics.text())

        self.routes: list[BaseRoute] = [Mount("/v1", Keyed(api, app, max_bytes))]
        self._mcp = None
        if find_spec("mcp"):
            from ui.api import mcp_tools

            self._mcp = mcp_tools.over_http(self._pool, max_bytes)
            self.routes.append(Route(mcp_tools.PATH, Keyed(self._mcp, app, max_bytes)))

    @asynccontextmanager
    async def lifespan(self, server: FastAPI) -> AsyncIterator[None]:
        """What the routes need while the server runs."""
        try:
            async with AsyncExitStack() as stack:
                if self._mcp:
                    await stack.enter_async_context(self._mcp.router.lifespan_context(self._mcp))
                yield
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
