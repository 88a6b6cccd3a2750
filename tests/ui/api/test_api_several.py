"""Several documents asked by programs: by their ids, one in place of the model, or all of the library."""

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.ui.api.clients import Served, agent, assert_cited, called, chat, text

LAMP = ("What colour is the lamp of room 9?", "The lamp of room 9 is green.")


@pytest.fixture
def lamps(gpt: openai.OpenAI) -> Iterator[str]:
    """A second document, which is gone afterwards."""
    lamps = gpt.files.create(file=("Lamps.txt", f"{LAMP[1]}\nThe door is shut.".encode()), purpose="user_data")
    assert gpt.files.wait_for_processing(lamps.id, poll_interval=0.5).status == "processed"
    yield lamps.id
    gpt.files.delete(lamps.id)


def several(served: Served, lamps: str, question: str, kind: str = "file") -> list[Any]:
    """Both documents, each as a part of its own."""
    ids = [{"file_id": each} for each in (served.document_id, lamps)]
    parts = [{"type": kind, **({"file": each} if kind == "file" else each)} for each in ids]
    return [{"role": "user", "content": [*parts, text(question)]}]


def assert_lamp(cited: Any, lamps: str) -> None:
    facts = cited if isinstance(cited, dict) else cited.model_dump()
    assert (facts["file_id"], facts["title"], facts["page"], facts["quote"]) == (lamps, "Lamps", 1, LAMP[1])


def test_openai_chat_with_several_documents(served: Served, gpt: openai.OpenAI, lamps: str) -> None:
    """As file parts, as one in place of the model and one beside it, and all of the library, whole and as a stream."""
    both = several(served, lamps, LAMP[0])
    beside = chat(served.document_id, LAMP[0])
    question: list[Any] = [{"role": "user", "content": LAMP[0]}]
    for model, messages in (("docpod", both), (lamps, beside), ("docpod-all", question)):
        answer = gpt.chat.completions.create(model=model, messages=messages)
        marks = answer.choices[0].message.annotations
        assert marks and marks[0].url_citation.title == "Lamps, p. 1"
        assert marks[0].url_citation.url == f"/v1/files/{lamps}/pages/1"
        assert_lamp(marks[0], lamps)
        assert answer.model_dump()["docpod"]["looked"] == "Looked through 2 documents, 4 pages in all."
        stream = gpt.chat.completions.create(model=model, messages=messages, stream=True)
        deltas = [chunk.choices[0].delta.model_dump() for chunk in stream]
        assert_lamp(next(each["annotations"][0] for each in deltas if each.get("annotations")), lamps)
    found = gpt.chat.completions.create(model="docpod", messages=several(served, lamps, served.fact.question))
    assert found.choices[0].message.annotations
    assert_cited(found.choices[0].message.annotations[0], served)


def test_openai_responses_with_several_documents_go_on(served: Served, gpt: openai.OpenAI, lamps: str) -> None:
    asked = several(served, lamps, LAMP[0], "input_file")
    with gpt.responses.stream(model="docpod", input=asked) as stream:
        marks: list[Any] = [each.annotation for each in stream if each.type.endswith("annotation.added")]
        first = stream.get_final_response()
    assert_lamp(marks[0], lamps)
    assert marks[0].filename == "Lamps.txt"
    second = gpt.responses.create(input=served.fact.question, previous_response_id=first.id)
    assert_cited(second.output[0].content[0].annotations[0], served)  # type: ignore
    assert second.model_dump()["docpod"]["looked"] == "Looked through 2 documents, 4 pages in all."


def test_anthropic_messages_with_several_documents(served: Served, claude: anthropic.Anthropic, lamps: str) -> None:
    parts = [{"type": "document", "source": {"type": "file", "file_id": each}} for each in (served.document_id, lamps)]
    messages: list[Any] = [{"role": "user", "content": [*parts, text(LAMP[0])]}]
    with claude.messages.stream(model="docpod", max_tokens=50, messages=messages) as stream:
        cited = [event.citation for event in stream if event.type == "citation"]
        final = stream.get_final_message()
    answer = claude.messages.create(model="docpod", max_tokens=50, messages=messages)
    for (block,) in (final.content, answer.content):
        assert block.type == "text" and block.citations
        mark = block.citations[0]
        assert mark.type == "page_location" and mark == cited[0]
        assert (mark.document_index, mark.document_title, mark.start_page_number) == (1, "Lamps", 1)
        assert_lamp(mark, lamps)


def test_mcp_asks_several_or_all(served: Served, lamps: str) -> None:
    async def transcript() -> None:
        async with agent(served, "all") as client:
            for named in ({"documents": ["Collected", lamps]}, {"document": lamps, "documents": ["Collected"]}, {}):
                answer = await called(client, "ask", question=LAMP[0], **named)
                assert_lamp(answer["citations"][0], lamps)
                assert answer["looked"] == "Looked through 2 documents, 4 pages in all."
            wrong = await client.call_tool("ask", {"documents": [lamps, "nowhere"], "question": "Why?"})
            assert wrong.is_error and "No document is called 'nowhere'" in wrong.content[0].text

    asyncio.run(transcript())
