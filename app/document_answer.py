"""The document answer: what is asked of the document itself comes from its own data and its first page, not a model."""

import re
import threading
import time
from collections.abc import Generator, Sequence

from app.citations import cited
from app.contents import FRONT, HOW_MANY, asked_of, chapters, headings, printed_contents, printed_on
from app.conversations import Asked
from app.errors import DocumentNotFound, NotRead
from app.events import Answer, Cited, Evidence, TextDelta
from app.languages import language_of
from app.passages import Passage, split
from app.question_kind import Asking
from storage import Document, Page, Store

_BYLINE = re.compile(
    r"^[ \t]*(?:(?:written|prepared|edited|compiled|authored) by|by|authors?:?|von|verfasst von|autor(?:en|in)?:|par"
    r"|auteure?s?:|por|autor(?:a|es)?:|作者[:：]|تأليف:?)[ \t]+(\S.{2,120})$",
    re.IGNORECASE | re.MULTILINE,
)
_DATE = re.compile(
    r"\b(?:\d{1,2}\.? (?:[A-Z][a-zé]+|de \w+ de) (?:1[5-9]|20)\d\d|[A-Z][a-z]+ \d{1,2}, (?:1[5-9]|20)\d\d"
    r"|(?:1[5-9]|20)\d\d-\d\d-\d\d|[A-Z][a-z]+ (?:1[5-9]|20)\d\d|(?:1[5-9]|20)\d\d)\b"
)
_FIRST_PAGES = (1, 2)
"""Where a document says who wrote it, and when."""
_MOST_LINES = 40
_CHAT = (
    "Ask me anything about this document: I answer from its own pages and show the passages. You can also ask what it "
    "is about, for its chapters, or what is on a page."
)


def parsed_document(store: Store, document_id: str) -> Document:
    """A document whose pages are known. Raises DocumentNotFound and NotRead."""
    document = store.document(document_id)
    if document is None:
        raise DocumentNotFound("This document is not in the library.", "It may have been deleted; add it again.")
    if document.state != "parsed":
        raise NotRead("The pages of this document are not known yet.", "Ask again in a moment.")
    return document


class DocumentAnswer:
    """A question about a document that is parsed, read or not."""

    def __init__(self, store: Store, asked: Asked, asking: Asking) -> None:
        """Raises DocumentNotFound and NotRead."""
        self._start = time.perf_counter()
        self._store, self._asked = store, asked
        self._document = parsed_document(store, asked.document_id)
        self._found = True
        self._citations: list[Cited] = []
        self._words = {
            "title": self._title,
            "author": self._author,
            "pages": self._num_pages,
            "outline": self._outline,
            "date": self._date,
            "language": self._language,
            "file": self._file,
            "chat": self._chat,
        }[asking.kind]()

    def events(self, stop: threading.Event) -> Generator[Evidence | TextDelta, None, None]:
        """Evidence, and the answer in one piece."""
        yield Evidence(self._found, tuple(self._citations))
        yield TextDelta(self._words)

    def answer(self, stopped: bool) -> Answer:
        """The answer."""
        seconds = time.perf_counter() - self._start
        return Answer(
            answer=self._words,
            found=self._found,
            citations=tuple(self._citations),
            sections=(),
            reused_tokens=0,
            recomputed_tokens=0,
            first_token_seconds=seconds,
            seconds=seconds,
            tokens_per_second=0.0,
            model="",
            recipe="",
            stopped=stopped,
        )

    def _chat(self) -> str:
        return _CHAT

    def _title(self) -> str:
        self._cite(self._pages([1]), self._document.title)
        return self._document.title

    def _author(self) -> str:
        if self._document.author:
            self._cite(self._pages(_FIRST_PAGES), self._document.author)
            where = "" if self._citations else ", as the file itself says"
            return f"{self._document.author}{where}."
        for page in self._pages(_FIRST_PAGES):
            if byline := _BYLINE.search(page.text):
                self._mark(page, *byline.span())
                return f"{byline[1].strip()} (p. {page.label})."
        return self._first_page("The file names no author, and its first page has no line that does.")

    def _date(self) -> str:
        for page in self._pages(_FIRST_PAGES):
            if date := _DATE.search(page.text):
                self._mark(page, *date.span())
                file = f" The file itself was made on {self._document.written}." if self._document.written else ""
                return f"{date[0]} is the first date in it (p. {page.label}).{file}"
        if self._document.written:
            return f"The file was made on {self._document.written}."
        return self._first_page("The file gives no date for itself, and its first page has none.")

    def _first_page(self, sentence: str) -> str:
        """What is said where the document does not tell: what its first page says."""
        self._found = False
        for page in self._pages([1]):
            for passage in split(1, page.text)[:2]:
                self._citations.append(cited(len(self._citations) + 1, page, passage))
        return sentence

    def _num_pages(self) -> str:
        count = self._document.num_pages
        last = self._store.page(self._document.id, count)
        printed = f"; the last one is numbered {last.label}" if last and last.label not in ("", str(count)) else ""
        empty = sum(state != "ok" for _, state in self._store.page_states(self._document.id))
        silent = f" {empty} of them {'have' if empty > 1 else 'has'} no text." if empty else ""
        return f"{count:,} {'page' if count == 1 else 'pages'}{printed}.{silent}"

    def _outline(self) -> str:
        entries = [each for each in self._document.outline if each[1].strip()]
        every = [] if entries else self._store.pages(self._document.id)
        entries = entries or printed_contents(every)
        how = "" if entries else "It has no table of contents. Its headings:\n\n"
        top = asked_of(self._asked.question, chapters(entries or headings(every)))
        if not top:
            return self._first_page("It has no table of contents, and no headings were seen.")
        if HOW_MANY.search(self._asked.question) and entries:
            how = f"{len(top)}, by its table of contents:\n\n"
        listed = top[:_MOST_LINES]
        front = self._pages(range(1, FRONT + 1))
        where = printed_on(front, [title for title, _ in listed]) if entries else None
        if where:
            self._citations.append(cited(1, front[where.page - 1], where))
        words = how
        pages = {page.number: page for page in self._pages({number for _, number in listed})}
        for title, number in listed:
            page = pages.get(number)
            line = f"- {' '.join(title.split())} (p. {page.label if page else number})"
            if where or (page and self._cite([page], title)):
                line += f" [{len(self._citations)}]"
            words += line + "\n"
        if len(top) > _MOST_LINES:
            words += f"\nand {len(top) - _MOST_LINES} more."
        return words.strip()

    def _language(self) -> str:
        pages = self._store.pages(self._document.id, range(1, 31))
        return language_of(" ".join(page.text for page in pages)) or "I cannot tell which language it is in."

    def _file(self) -> str:
        return f"{self._document.file_name}, {self._document.num_bytes / 1e6:,.1f} MB."

    def _pages(self, numbers: Sequence[int] | set[int]) -> list[Page]:
        return self._store.pages(self._document.id, numbers)

    def _cite(self, pages: Sequence[Page], words: str) -> bool:
        """Cite where some words stand on the first of the pages that has them; whether one has."""
        pattern = r"\s+".join(map(re.escape, words.split()))
        for page in pages:
            if pattern and (found := re.search(pattern, page.text, re.IGNORECASE)):
                self._mark(page, *found.span())
                return True
        return False

    def _mark(self, page: Page, start: int, end: int) -> None:
        """Cite characters of a page, or its first passage where there are none."""
        passage = (
            Passage(page.number, start, end, page.text[start:end])
            if end
            else next(iter(split(page.number, page.text)), None)
        )
        if passage:
            self._citations.append(cited(len(self._citations) + 1, page, passage))
