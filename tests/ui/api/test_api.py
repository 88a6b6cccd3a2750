"""What programs get: transcripts of the official clients with the real server and the embedded reader."""

import asyncio
import base64
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from PIL import Image

from app.main import App
from app.settings import Settings
from benchmarks.evidence.planted import planted_absent
from tests.ui.api.clients import Served, agent, assert_cited, called, chat, openai_client, text
from tests.ui.served_process import ROOT


def test_openai_models_are_the_reader_and_the_documents(served: Served, gpt: openai.OpenAI) -> None:
    assert [model.id for model in gpt.models.list()] == ["docpod", "docpod-all", served.document_id]
    assert gpt.models.retrieve(served.document_id).owned_by == "library"
    assert gpt.models.retrieve("SmolLM2-135M-Instruct").id == "docpod"


def test_openai_files(served: Served, gpt: openai.OpenAI) -> None:
    assert [file.id for file in gpt.files.list()] == [served.document_id]
    assert gpt.files.content(served.document_id).read() == served.pdf.read_bytes()
    added = gpt.files.create(file=("other.txt", b"The lamp of room 9 is green."), purpose="user_data")
    assert [file.id for file in gpt.files.list(limit=1)] == [added.id, served.document_id]
    assert gpt.files.delete(added.id).deleted
    with pytest.raises(openai.NotFoundError, match="not in the library"):
        gpt.files.retrieve(added.id)


def test_openai_chat(served: Served, gpt: openai.OpenAI) -> None:
    answer = gpt.chat.completions.create(model="docpod", messages=chat(served.document_id, served.fact.question))
    (choice,) = answer.choices
    assert served.fact.answer in (choice.message.content or "") and choice.finish_reason == "stop"
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens > 1000 > answer.usage.completion_tokens > 0
    assert choice.message.annotations is not None
    assert_cited(choice.message.annotations[0], served)
    page = choice.message.annotations[0].url_citation.url
    picture = httpx.get(
        served.url + page[1:], headers={"Authorization": f"Bearer {served.keys['reader']}"}, trust_env=False
    )
    assert Image.open(BytesIO(picture.content)).width == 1100


def test_openai_chat_streams_citations_before_words(served: Served, gpt: openai.OpenAI) -> None:
    stream = gpt.chat.completions.create(
        model=served.document_id,
        messages=[{"role": "user", "content": served.fact.question}],
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    deltas = [chunk.choices[0].delta.model_dump() for chunk in chunks]
    cited = next(number for number, delta in enumerate(deltas) if delta.get("annotations"))
    worded = next(number for number, delta in enumerate(deltas) if delta.get("content"))
    assert cited < worded
    assert_cited(deltas[cited]["annotations"][0], served)
    assert served.fact.answer in "".join(delta.get("content") or "" for delta in deltas)
    assert chunks[-1].choices[0].finish_reason == "stop" and chunks[-1].model_dump()["docpod"]["found"] is True
    assert last.usage is not None and last.choices == []


def test_openai_chat_knows_what_was_said_and_its_limits(served: Served, gpt: openai.OpenAI) -> None:
    city = served.other.question.split()[-2]
    before = [*chat(served.document_id, served.fact.question), {"role": "assistant", "content": served.fact.sentence}]
    messages = [
        {"role": "system", "content": "Shout."},
        *before,
        {"role": "user", "content": f"And of the {city} office?"},
    ]
    answer = gpt.chat.completions.create(model="docpod", messages=messages, temperature=0.5, max_completion_tokens=1)
    facts = answer.model_dump()["docpod"]
    assert facts["understood"] == served.other.question and facts["ignored"] == ["system", "temperature"]
    assert answer.choices[0].finish_reason == "length" and answer.usage and answer.usage.completion_tokens == 1
    assert facts["conversation_id"] == ""


def test_what_is_not_there_is_not_cited(served: Served, gpt: openai.OpenAI) -> None:
    messages = chat(served.document_id, planted_absent("one_shape")[0])
    answer = gpt.chat.completions.create(model="docpod", messages=messages)
    assert (answer.choices[0].message.content or "").startswith("Not found in the document.")
    assert answer.choices[0].message.annotations == []
    facts = answer.model_dump()["docpod"]
    assert facts["found"] is False and facts["closest"][0]["page"]
    stream = gpt.chat.completions.create(model="docpod", messages=messages, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == answer.choices[0].message.content


def test_openai_responses_keep_a_conversation(served: Served, gpt: openai.OpenAI) -> None:
    parts = [{"type": "input_file", "file_id": served.document_id}, text(served.fact.question, "input_text")]
    first = gpt.responses.create(model="docpod", input=[{"role": "user", "content": parts}])  # type: ignore
    assert served.fact.answer in first.output_text and first.status == "completed"
    mark = first.output[0].content[0].annotations[0]  # type: ignore
    assert (mark.type, mark.filename) == ("file_citation", "Collected reports.pdf")
    assert_cited(mark, served)
    second = gpt.responses.create(input="And where is that?", previous_response_id=first.id, store=True)
    conversation = second.model_dump()["docpod"]["conversation_id"]
    assert conversation == first.model_dump()["docpod"]["conversation_id"] != ""
    with pytest.raises(openai.NotFoundError, match="not the last response"):
        gpt.responses.create(input="And then?", previous_response_id=first.id)
    app = App(Settings(home=served.home, prepare=False))
    assert [turn.question for turn in app.questions.turns(conversation)] == [served.fact.question, "And where is that?"]
    app.close()
    third = gpt.responses.create(model=served.document_id, input=served.fact.question, store=False)
    assert third.model_dump()["docpod"]["conversation_id"] == ""


def test_openai_responses_stream(served: Served, gpt: openai.OpenAI) -> None:
    with gpt.responses.stream(model=served.document_id, input=served.fact.question) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert kinds.index("response.output_text.annotation.added") < kinds.index("response.output_text.delta")
    assert [event.sequence_number for event in events] == sorted({event.sequence_number for event in events})
    assert served.fact.answer in final.output_text
    short = gpt.responses.create(input=served.other.question, previous_response_id=final.id, max_output_tokens=1)
    assert short.id.endswith("_2")
    assert short.status == "incomplete" and short.incomplete_details is not None
    assert short.incomplete_details.reason == "max_output_tokens"


def claude_messages(source: dict[str, str], question: str, **more: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "document", "source": source, **more}, text(question)]}]


def test_anthropic_messages(served: Served, claude: anthropic.Anthropic) -> None:
    source, question = {"type": "file", "file_id": served.document_id}, served.fact.question
    messages = claude_messages(source, question, citations={"enabled": True})
    answer = claude.messages.create(model="docpod", max_tokens=100, messages=messages)
    (block,) = answer.content
    assert block.type == "text" and served.fact.answer in block.text and answer.stop_reason == "end_turn"
    assert block.citations is not None and block.citations[0].type == "page_location"
    assert (block.citations[0].cited_text, block.citations[0].start_page_number) == (
        served.fact.sentence,
        served.fact.page,
    )
    assert block.citations[0].document_title == "Collected reports"
    assert_cited(block.citations[0], served)
    assert answer.usage.cache_read_input_tokens and answer.usage.cache_read_input_tokens > 1000
    without = claude_messages(source, question, citations={"enabled": False})
    (block,) = claude.messages.create(model="docpod", max_tokens=2, messages=without).content
    assert block.type == "text" and block.citations is None


def test_anthropic_streams(served: Served, claude: anthropic.Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": served.fact.question}]
    with claude.messages.stream(model=served.document_id, max_tokens=100, messages=messages) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds.index("citation") < kinds.index("text") and kinds[-1] == "message_stop"
    (block,) = final.content
    assert block.type == "text" and served.fact.answer in block.text and block.citations
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 0


def test_anthropic_document_that_comes_along_is_waited_for(claude: anthropic.Anthropic) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "The lamp of room 9 is green.\nThe door is shut."}
    waiting = claude.with_options(max_retries=20)
    answer = waiting.messages.create(
        model="docpod",
        max_tokens=50,
        messages=claude_messages(source, "What colour is the lamp of room 9?", title="Lamps.txt"),
    )
    (block,) = answer.content
    assert block.type == "text" and block.citations and "green" in block.citations[0].cited_text
    (lamps,) = [file for file in claude.beta.files.list() if file.filename == "Lamps.txt"]
    assert claude.beta.files.retrieve_metadata(lamps.id).mime_type == "text/plain"
    assert b"green" in claude.beta.files.download(lamps.id).read()
    assert claude.beta.files.delete(lamps.id).id == lamps.id


def test_what_is_no_document_is_refused(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no PDF"):
        gpt.files.create(file=("binary", b"\0\1\2"), purpose="user_data")


def test_mcp_over_http(served: Served) -> None:
    async def transcript() -> None:
        async with agent(served, "all") as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert names == {"list_documents", "add_document", "ask", "quote", "page_image"}
            (listed,) = await called(client, "list_documents", search="collected")
            assert (listed["document_id"], listed["stage"]) == (served.document_id, "ready")
            answer = await called(client, "ask", document="Collected", question=served.fact.question)
            assert served.fact.answer in answer["answer"]
            assert_cited(answer["citations"][0], served)
            quoted = await called(client, "quote", document=served.document_id, query=served.fact.question)
            assert quoted["found"] and quoted["passages"][0]["quote"] == served.fact.sentence
            (picture,) = await called(client, "page_image", document=served.document_id, page=1, width=300)
            assert Image.open(BytesIO(base64.b64decode(picture.data))).width == 300
            content = base64.b64encode(b"The kettle is blue.").decode()
            added = await called(client, "add_document", file_name="kettle.txt", content_base64=content)
            with openai_client(served.url, served.keys["all"]) as gpt:
                assert gpt.files.delete(added["document_id"]).deleted
            wrong = await client.call_tool("ask", {"document": "nowhere", "question": "Why?"})
            assert wrong.is_error and "No document is called 'nowhere'" in wrong.content[0].text
        async with agent(served, "reader") as client:
            refused = await client.call_tool("ask", {"document": served.document_id, "question": "Why?"})
            assert refused.is_error and "lacks the scope 'ask'" in refused.content[0].text

    asyncio.run(transcript())


def test_mcp_over_stdio(served: Served, tmp_path: Path) -> None:
    """A program that starts DocPod itself needs no key; it works on the same library beside the server."""
    arguments = ["run_app.py", "mcp", "--home", str(served.home), "--model", "embedded"]
    parameters = StdioServerParameters(command=sys.executable, args=arguments, cwd=ROOT)
    path = tmp_path / "spoon.txt"
    path.write_text("The spoon is made of horn.")

    async def transcript() -> None:
        async with Client(stdio_client(parameters)) as client:
            quoted = await called(client, "quote", document=served.document_id, query=served.fact.question)
            assert quoted["passages"][0]["page"] == served.fact.page
            added = await called(client, "add_document", path=str(path))
            assert path.exists() and added["file_name"] == "spoon.txt"
            missing = await client.call_tool("add_document", {"path": str(tmp_path / "no.txt")})
            assert missing.is_error and "There is no file" in missing.content[0].text
            with openai_client(served.url, served.keys["all"]) as gpt:
                assert gpt.files.delete(added["document_id"]).deleted

    asyncio.run(transcript())


Call = Callable[[openai.OpenAI, str], object]
CALLS: dict[str, Call] = {
    "read": lambda client, document_id: client.files.retrieve(document_id),
    "ask": lambda client, document_id: client.chat.completions.create(model=document_id, messages=[]),
    "write": lambda client, _: client.files.delete("nothing"),
}


@pytest.mark.parametrize(
    ("key", "scope"), [("reader", "ask"), ("reader", "write"), ("asker", "read"), ("asker", "write")]
)
def test_a_key_does_only_what_it_may(served: Served, key: str, scope: str) -> None:
    with openai_client(served.url, served.keys[key]) as client:
        with pytest.raises(openai.PermissionDeniedError, match=f"scope '{scope}'"):
            CALLS[scope](client, served.document_id)
        if key == "asker":
            inline = {"type": "file", "file": {"file_data": base64.b64encode(b"text").decode(), "filename": "a.txt"}}
            with pytest.raises(openai.PermissionDeniedError, match="scope 'write'"):
                client.chat.completions.create(model="docpod", messages=[{"role": "user", "content": [inline]}])  # type: ignore


def test_a_revoked_key_opens_nothing(served: Served) -> None:
    app = App(Settings(home=served.home, prepare=False))
    _, secret = app.keys.create("short", ["read"])
    with openai_client(served.url, secret) as client:
        assert list(client.models.list())
        app.keys.revoke("short")
        with pytest.raises(openai.AuthenticationError, match="revoked"):
            client.models.list()
    app.close()


ROUTES = [
    ("GET", "v1/models"),
    ("GET", "v1/models/docpod"),
    ("GET", "v1/files"),
    ("POST", "v1/files"),
    ("GET", "v1/files/x"),
    ("DELETE", "v1/files/x"),
    ("GET", "v1/files/x/content"),
    ("GET", "v1/files/x/pages/1"),
    ("POST", "v1/chat/completions"),
    ("POST", "v1/responses"),
    ("POST", "v1/messages"),
    ("GET", "v1/openapi.json"),
    ("GET", "v1/no-such-route"),
    ("POST", "mcp"),
    ("GET", "mcp"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_is_behind_a_key_and_the_guard(served: Served, method: str, path: str) -> None:
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": served.keys["all"][:-1]}):
            nobody = client.request(method, path, headers=headers)
            assert nobody.status_code == 401 and nobody.json()["error"]["type"] == "authentication_error"
        key = {"Authorization": f"Bearer {served.keys['all']}"}
        assert client.request(method, path, headers={**key, "Host": "evil.example"}).status_code == 400
        if method != "GET":
            assert client.request(method, path, headers={**key, "Origin": "https://evil.example"}).status_code == 403


def test_the_schema_names_every_route(plain: httpx.Client) -> None:
    schema = plain.get("v1/openapi.json").json()
    described = {(method.upper(), "v1" + path) for path, methods in schema["paths"].items() for method in methods}
    named = {(method, path.replace("/docpod", "/{model_id}")) for method, path in ROUTES}
    named = {
        (method, path.replace("/x", "/{file_id}").replace("/pages/1", "/pages/{number}")) for method, path in named
    }
    assert described == {each for each in named if each[1] not in ("mcp", "v1/openapi.json", "v1/no-such-route")}


FILE = {"type": "file", "file": {"file_id": "0" * 64}}
WRONG: list[tuple[str, dict[str, Any], int, str]] = [
    ("chat/completions", {"messages": []}, 400, "last message"),
    ("chat/completions", {"messages": [{"role": "user", "content": "Why?"}]}, 400, "No document"),
    ("chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "Why?"}]}, 404, "no model"),
    ("chat/completions", {"messages": [{"role": "user", "content": [FILE]}]}, 404, "No document is called"),
    ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "image_url"),
    ("chat/completions", {"messages": "Why?"}, 400, "messages"),
    ("chat/completions", {"messages": [{"role": "user", "content": [FILE, FILE]}]}, 404, "No document is called"),
    ("responses", {"input": "Why?", "tools": [{"type": "web_search"}]}, 400, "no tools"),
    ("responses", {"input": "Why?", "previous_response_id": "resp_1"}, 404, "not the last"),
    ("messages", {"messages": [{"role": "user", "content": "Why?"}]}, 400, "max_tokens"),
    ("nowhere", {}, 404, "openapi"),
]


@pytest.mark.parametrize(("path", "body", "status", "words"), WRONG)
def test_what_cannot_be_answered_is_explained_in_either_shape(
    plain: httpx.Client, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    told = plain.post(f"v1/{path}", json=body)
    assert told.status_code == status and words in told.json()["error"]["message"]
    assert told.json()["error"].keys() == {"message", "type", "param", "code", "hint"}
    told = plain.post(f"v1/{path}", json=body, headers={"anthropic-version": "2023-06-01"})
    assert (told.status_code, told.json()["type"]) == (status, "error")
    assert words in told.json()["error"]["message"]


def test_an_empty_question_is_refused(served: Served, gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="The question is empty"):
        gpt.chat.completions.create(model="docpod", messages=chat(served.document_id, " "), stream=True)


def test_more_than_the_limit_is_refused(plain: httpx.Client, served: Served) -> None:
    large = plain.post("v1/files", files={"file": ("a.txt", b"x" * 1_100_000)})
    assert large.status_code == 413 and "the limit is 1 MB" in large.json()["error"]["message"]
    assert plain.post("v1/files", files={"file": ("a.txt", b"x" * 3_000_000)}).status_code == 413
    streamed = plain.post("v1/chat/completions", content=(b"x" * 100_000 for _ in range(30)))
    assert streamed.status_code == 413
    assert [path for path in (served.home / "uploads").rglob("*") if path.is_file()] == []


def test_a_key_that_is_used_too_often_waits(served: Served) -> None:
    with openai_client(served.url, served.keys["busy"]) as client, pytest.raises(openai.RateLimitError) as caught:
        for _ in range(400):
            client.models.list()
    assert caught.value.response.headers["retry-after"] == "2"
