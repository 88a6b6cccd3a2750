"""Rows to store, with everything filled in that a test does not care about."""

from collections.abc import Sequence

from storage import Block, Citation, Document, Message, Page, Section, Store, pack_token_ids, pack_words

A, B = "a" * 64, "b" * 64


def document(document_id: str = A, title: str = "Annual report", file_name: str = "report.pdf") -> Document:
    return Document(id=document_id, title=title, file_name=file_name, media_type="application/pdf", num_bytes=1000)


def page(number: int, text: str, state: str = "ok") -> Page:
    words = pack_words([(0, len(text), 0.1, 0.2, 0.3, 0.4)])
    return Page(number=number, label=f"F-{number}", text=text, state=state, width_pt=612, height_pt=792, words=words)


def section(position: int, token_ids: Sequence[int] = (1, 2, 3, 4)) -> Section:
    return Section(
        position=position,
        first_page=position + 1,
        last_page=position + 1,
        start_char=0,
        end_char=10,
        token_ids=pack_token_ids(token_ids),
        num_tokens=len(token_ids),
        identity=f"{position:064x}",
    )


def block(position: int, file_name: str) -> Block:
    return Block(
        position=position,
        start_token=position * 2,
        stop_token=position * 2 + 2,
        file_name=file_name,
        num_bytes=100,
        checksum="0" * 64,
    )


def answer(content: str = "It was 12 million.") -> Message:
    return Message(role="assistant", content=content, found=True, facts={"reused_tokens": 4})


def citation(mark: int, quote: str = "12 million") -> Citation:
    return Citation(mark=mark, page=2, label="F-2", quote=quote, boxes=[(0.1, 0.2, 0.3, 0.4)], score=0.75)


def filled(store: Store, document_id: str = A, word: str = "zanzibar") -> tuple[int, list[int], str]:
    """A document with pages, a reading of two sections with a block each, and a conversation; their ids."""
    store.add_document(document(document_id))
    store.save_pages(document_id, "Annual report", [], [page(1, f"{word} one"), page(2, f"{word} two")])
    reading = store.start_reading(document_id, "reader", "model", "exact", [section(0), section(1)])
    section_ids = [each.id for each in store.sections(reading.id)]
    for section_id in section_ids:
        store.add_block(section_id, block(0, f"{document_id[:4]}-{section_id}-0.pod"))
    conversation = store.start_conversation(document_id, f"About {word}")
    store.add_exchange(conversation.id, f"Where is {word}?", answer(f"{word} is there."), [citation(1, word)])
    return reading.id, section_ids, conversation.id
