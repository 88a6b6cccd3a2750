"""The conversation: the document's own words first, in its own type, then the model's words."""

import json
import re
from collections.abc import Sequence

from app.events import Answer, Cited, ConversationEntry, DocumentEntry, Evidence, Turn
from app.readers import NAMES
from ui.render.icons import icon
from ui.render.library import controls, state_line
from ui.render.words import count, duration, prose, text
from ui.trouble import Trouble

CLOSING_TAGS = re.compile(r"(?:</(?:p|li|ol|ul)>)+$")
SHOWN_QUOTES = 3
"""Passages shown at once; further ones fold away."""


def welcome() -> str:
    """The page of someone who has no document yet."""
    return (
        '<section class="welcome big"><h2>Read it once.<br>Ask for ever.</h2>'
        "<p>Add a long PDF. It is read once, on this computer, and remembered: every later question is answered "
        "from memory, with the passage marked on its page.</p>"
        '<div class="controls"><button class="strong" data-event="click" data-act="sample">Try the sample</button>'
        '<button data-do="choose">Add a document</button></div>'
        f'<p class="quiet">{NAMES}. Nothing leaves this computer.</p></section>'
    )


def choose() -> str:
    """A library, but nothing open."""
    return (
        '<section class="welcome"><h2>Open a document</h2><p>Choose one from the library, or add another.</p></section>'
    )


def invitation(entry: DocumentEntry) -> str:
    """An open document without a question yet."""
    return (
        f'<section class="welcome"><h2 dir="auto">{text(entry.title or entry.file_name)}</h2>'
        "<p>What would you like to know? Answers begin with the passage they rest on.</p></section>"
    )


def head(entry: DocumentEntry, conversations: Sequence[ConversationEntry], conversation_id: str) -> str:
    """Title and state of the open document, and its conversations."""
    rows = "".join(_conversation(entry, each, each.conversation_id == conversation_id) for each in conversations)
    earlier = ""
    if rows:
        name = "Earlier conversations"
        earlier = (
            f'<details class="menu"><summary aria-label="{name}" title="{name}">{icon("history")}</summary>'
            f"<ul>{rows}</ul></details>"
        )
    return (
        f'<header class="head" data-stage="{text(entry.progress.stage)}">'
        f'<div class="what"><h2 dir="auto">{text(entry.title or entry.file_name)}</h2>'
        f'<p class="facts">{state_line(entry)}</p>{controls(entry)}</div><div class="tools">{earlier}'
        f'<button class="quiet-button" data-event="edit" data-document="{text(entry.document_id)}"'
        f' aria-label="New conversation" title="New conversation">{icon("plus")}</button></div></header>'
    )


def _conversation(entry: DocumentEntry, each: ConversationEntry, is_open: bool) -> str:
    ids = f'data-document="{text(entry.document_id)}" data-conversation="{text(each.conversation_id)}"'
    return (
        f'<li{" aria-current=true" if is_open else ""}><button data-event="select" data-do="fold" {ids}>'
        f'<span class="title" dir="auto">{text(each.title)}</span>'
        f"<time>{each.updated_at.astimezone():%d %b %Y, %H:%M}</time></button>"
        f'<button class="quiet-button" data-event="delete" {ids} aria-label="Delete conversation" title="Delete"'
        f' data-ask="Delete this conversation?" data-words="{text(each.title)}" data-yes="Delete">'
        f"{icon('trash')}</button></li>"
    )


def history(turns: Sequence[Turn]) -> str:
    """Finished turns; the last one can be asked again."""
    last = len(turns) - 1
    return "".join(
        f'<article class="turn">{question(turn.question)}{answer(turn.answer, again=position == last)}</article>'
        for position, turn in enumerate(turns)
    )


def question(words: str) -> str:
    """What the user asked, with its line breaks."""
    return f'<div class="question" dir="auto">{text(words)}</div>'


def answer(done: Answer, again: bool) -> str:
    """A finished answer: passages, words, and what it cost."""
    tools = f'<button class="quiet-button" data-do="copy" aria-label="Copy answer" title="Copy">{icon("copy")}</button>'
    if again:
        tools += (
            '<button class="quiet-button" data-event="retry" aria-label="Answer again" title="Answer again">'
            f"{icon('again')}</button>"
        )
    stopped = '<p class="quiet">Stopped.</p>' if done.stopped else ""
    words = f'<div class="words" dir="auto">{prose(done.answer)}</div>' if done.found and done.answer.strip() else ""
    return (
        f'<div class="answer{"" if done.found else " not-found"}" data-citations="{citations_json(done.citations)}">'
        f"{passages(done.found, done.citations)}{words}{stopped}"
        f'<footer><span class="cost">{cost(done)}</span><span class="tools">{tools}</span></footer></div>'
    )


def growing(asked: str, evidence: Evidence | None, words: str) -> str:
    """A turn that is still being answered."""
    found = evidence.found if evidence else True
    citations = evidence.citations if evidence else ()
    shown = passages(found, citations) if evidence else ""
    body = f'<div class="words" dir="auto">{with_cursor(prose(words))}</div>' if found else ""
    return (
        f'<article class="turn live">{question(asked)}'
        f'<div class="answer{"" if found else " not-found"}" data-citations="{citations_json(citations)}">{shown}{body}'
        "</div></article>"
    )


def with_cursor(html: str) -> str:
    """A blinking block right after the last word, inside the last paragraph or list item."""
    closing = CLOSING_TAGS.search(html)
    end = closing.start() if closing else len(html)
    return f'{html[:end]}<span class="cursor" aria-hidden="true"></span>{html[end:]}'


def failure(asked: str, trouble: Trouble) -> str:
    """A question that could not be answered, and why."""
    shown = question(asked) if asked.strip() else ""
    return (
        f'<article class="turn">{shown}<div class="trouble" role="alert"><strong>{text(trouble.message)}</strong> '
        f"<span>{text(trouble.hint)}</span></div></article>"
    )


def passages(found: bool, citations: Sequence[Cited]) -> str:
    """The quoted passages with the chips that lead to their pages."""
    lead = "" if found else f'<p class="lead">Not found in the document.{" Closest passages:" if citations else ""}</p>'
    quotes = [passage(cited) for cited in citations]
    shown, folded = quotes[:SHOWN_QUOTES], quotes[SHOWN_QUOTES:]
    more = (
        f"<details><summary>{count(len(folded), 'more passage')}</summary>{''.join(folded)}</details>" if folded else ""
    )
    return f'{lead}<div class="passages">{"".join(shown)}{more}</div>' if quotes else lead


def passage(cited: Cited) -> str:
    """One quote and its chip."""
    return f'<blockquote dir="auto"><p>{text(cited.quote)}</p>{chip(cited)}</blockquote>'


def chip(cited: Cited) -> str:
    """`p. 12`, by the printed label; clicking it turns to the page."""
    label = text(cited.label or str(cited.page))
    where = label if label == str(cited.page) else f"{label} (page {cited.page} of the file)"
    return (
        f'<button class="chip" data-event="select" data-pane="page" data-page="{cited.page}" data-mark="{cited.mark}"'
        f' aria-label="Show the passage on page {where}">p. {label}</button>'
    )


def cost(done: Answer) -> str:
    """`Answered from memory: 0.4 s instead of 94 s · 12,800 tokens reused, 31 new`, after what was read by then."""
    lines = [f"From {text(done.coverage)}, the part that was read by then"] if done.coverage else []
    if done.reused_tokens:
        instead = f" instead of {duration(done.reading_seconds)}" if done.reading_seconds >= 0.05 else ""
        lines.append(
            f"Answered from memory: {duration(done.first_token_seconds)}{instead} · "
            f"{count(done.reused_tokens, 'token')} reused, {done.recomputed_tokens:,} new"
        )
    return "<br>".join(lines)


def citations_json(citations: Sequence[Cited]) -> str:
    """The marks of an answer, carried by the page so that any chip can show all of them."""
    marks = [
        [cited.mark, cited.page, cited.label, [[round(edge, 4) for edge in box] for box in cited.boxes]]
        for cited in citations
    ]
    return text(json.dumps(marks, separators=(",", ":")))
