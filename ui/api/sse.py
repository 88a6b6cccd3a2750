"""Server-sent events: an answer as it grows, and what goes wrong on the way as an event of its own."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.responses import StreamingResponse

from ui.api.refusals import Refused, refused

Event = tuple[str, Any]
"""Its name, which may be empty, and its data: text as it is, anything else as JSON."""


def stream(events: AsyncIterator[Event], trouble: Callable[[Refused], Event]) -> StreamingResponse:
    """Streams the events; the client's going ends them."""

    async def lines() -> AsyncIterator[str]:
        try:
            async for event in events:
                yield _line(event)
        except Exception as error:
            # The status was sent long ago; `refused` has explained what is not the client's fault.
            yield _line(trouble(refused(error)))

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _line(event: Event) -> str:
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"
