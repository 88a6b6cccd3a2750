"""Programs as they reach DocPod: the official clients, what they send, and what a citation must hold."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from benchmarks.evidence.planted import PlantedFact


class Served(NamedTuple):
    """A running server with a document that is read, and the keys of its programs."""

    url: str
    home: Path
    keys: dict[str, str]
    pdf: Path
    document_id: str
    fact: PlantedFact
    other: PlantedFact


def openai_client(url: str, key: str) -> openai.OpenAI:
    http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{url.partition('?')[0]}v1", api_key=key, http_client=http_client, max_retries=0)


def chat(document_id: str, question: str) -> list[Any]:
    return [{"role": "user", "content": [{"type": "file", "file": {"file_id": document_id}}, text(question)]}]


def text(words: str, kind: str = "text") -> dict[str, str]:
    return {"type": kind, "text": words}


def assert_cited(cited: Any, served: Served) -> None:
    """Page, quote and boxes of the planted fact, however a client holds them."""
    facts = cited if isinstance(cited, dict) else cited.model_dump()
    assert facts["file_id"] == served.document_id
    assert (facts["page"], facts["quote"]) == (served.fact.page, served.fact.sentence)
    assert all(len(box) == 4 and all(0 <= edge <= 1 for edge in box) for box in facts["boxes"]) and facts["boxes"]


@asynccontextmanager
async def agent(served: Served, key: str) -> AsyncIterator[Client]:
    """The MCP client over HTTP."""
    headers = {"Authorization": f"Bearer {served.keys.get(key, key)}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=120) as http_client,
        Client(streamable_http_client(f"{served.url}mcp", http_client=http_client)) as client,
    ):
        yield client


async def called(client: Client, tool: str, **arguments: Any) -> Any:
    """What a tool gives; fails the test where it reports an error."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    content = result.structured_content
    return content["result"] if content and content.keys() == {"result"} else content or result.content
