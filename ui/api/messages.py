"""Messages, as Anthropic's clients ask for them; citations are page locations of the text block."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from app.events import Answer, Cited
from ui.api.access import Caller
from ui.api.cited import Event, facts, passage
from ui.api.conversation import READER, AskBody, DocumentPart, Said
from ui.api.reply import Inquiry, Reply


class MessageBody(AskBody):
    """A request for a message."""

    messages: list[Said]
    max_tokens: int

    def question(self, caller: Caller) -> Inquiry:
        """What is asked."""
        return self.asking(caller, self.messages, self.max_tokens)

    @property
    def citations(self) -> bool:
        """Whether passages are wanted: unless they are switched off."""
        parts = [part for each in self.messages if isinstance(each.content, list) for part in each.content]
        return all(part.citations.enabled for part in parts if isinstance(part, DocumentPart))


def message(reply: Reply, answer: Answer, cite: bool) -> dict[str, Any]:
    """The whole answer."""
    cited = answer.citations if answer.found and cite else ()
    block = {
        "type": "text",
        "text": answer.answer,
        "citations": [_citation(reply, each) for each in cited] or None,
    }
    return {
        **_frame(answer.model or READER, [block]),
        "stop_reason": _reason(reply, answer),
        "usage": _usage(reply, answer),
        "docpod": facts(reply, answer),
    }


async def events(reply: Reply, model: str, cite: bool) -> AsyncIterator[Event]:
    """The answer as it grows: its citations first, then its words."""

    def event(kind: str, **data: Any) -> Event:
        return kind, {"type": kind, **data}

    def delta(kind: str, **data: Any) -> Event:
        return event("content_block_delta", index=0, delta={"type": kind, **data})

    yield event("message_start", message={**_frame(model, []), "usage": {"input_tokens": 0, "output_tokens": 0}})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": "", "citations": None})
    async for each in reply.updates():
        if isinstance(each, str):
            yield delta("text_delta", text=each)
        elif isinstance(each, Answer):
            yield event("content_block_stop", index=0)
            ended = {"stop_reason": _reason(reply, each), "stop_sequence": None}
            yield event("message_delta", delta=ended, usage=_usage(reply, each), docpod=facts(reply, each))
        elif cite:
            for cited in each:
                yield delta("citations_delta", citation=_citation(reply, cited))
    yield event("message_stop")


def _frame(model: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    frame = {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": model, "content": content}
    return {**frame, "stop_reason": None, "stop_sequence": None}


def _reason(reply: Reply, answer: Answer) -> str:
    return "max_tokens" if reply.is_cut(answer) else "end_turn"


def _citation(reply: Reply, cited: Cited) -> dict[str, Any]:
    """The page of a passage, which ends before `end_page_number`, and the passage beside it."""
    document = reply.inquiry.document_of(cited)
    return {
        "type": "page_location",
        "cited_text": cited.quote,
        "document_index": reply.inquiry.documents.index(document),
        "document_title": document.title,
        "start_page_number": cited.page,
        "end_page_number": cited.page + 1,
        **passage(reply, cited),
    }


def _usage(reply: Reply, answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": answer.recomputed_tokens,
        "cache_read_input_tokens": answer.reused_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": reply.tokens,
    }
