"""The conversation: the document's own words first, in its own type, then the model's words."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, repeat

from app.events import Answer, Cited, DocumentEntry, Evidence, Turn
from app.export import plain
from app.readers import READERS
from app.remarks import remarks
from ui.render.icons import icon
from ui.render.library import controls
from ui.render.page import failed
from ui.render.words import count, duration, figure, prose, t, text, translated
from ui.trouble import Trouble

CLOSING_TAGS = re.compile(r"(?:</(?:p|li|ol|ul)>)+$")
_OPEN, _CLOSE = "\ue010", "\ue011"
"""Stand around what no passage holds until the words are HTML."""
_LINK = re.compile(r" ?\[(\d{1,3})\]")
_CELL = re.compile(r"[^|\s]+(?: [^|\s]+)*")
"""Of a row whose cells are two spaces or a stroke apart."""
_LETTER = r"[^\W\d_]"
"""What no cell of a column of figures has below its head."""
SHOWN_QUOTES = 3
"""Passages shown at once; further ones fold away."""


def welcome() -> str:
    """The page of someone who has no document yet."""
    formats = t(", ").join(translated(each.name) for each in READERS)
    return (
        f'<section class="welcome big"><h2>{t("Read it once.<br>Ask for ever.")}</h2><p>'
        + t(
            "Add a long PDF. It is read once, on this computer, and remembered: every later question is answered "
            "from memory, with the passage marked on its page."
        )
        + '</p><div class="controls"><button class="strong" data-event="click" data-act="sample">'
        f'{t("Try the sample")}</button><button data-do="choose">{t("Add a document")}</button></div>'
        f'<p class="quiet">{t("{formats}. Nothing leaves this computer.", formats=formats)}</p></section>'
    )


def choose() -> str:
    """A library, but nothing open."""
    title, words = t("Open a document"), t("Choose one from the library.")
    return f'<section class="welcome"><h2>{title}</h2><p>{words}</p></section>'


def invitation(
    entry: DocumentEntry,
    several: Sequence[DocumentEntry] = (),
    suggested: Sequence[str] = (),
    guide: Answer | None = None,
) -> str:
    """An open document, or several, without a question yet: its main points, and questions that are asked with one
    click."""
    if several:
        titles = "".join(f'<li dir="auto">{text(each.name)}</li>' for each in several)
        return (
            '<section class="welcome several">'
            f"<h2>{t('Ask {documents} at once', documents=count(len(several), 'document'))}</h2>"
            f"<p>{t('The best passages of all of them answer, each with its document.')}</p><ul>{titles}</ul></section>"
        )
    rows = "".join(f'<li><button data-do="ask" dir="auto">{text(each)}</button></li>' for each in suggested)
    asked = f'<ul class="suggested" aria-label="{t("Suggested questions")}">{rows}</ul>' if rows else ""
    lead = f"<p>{t('What would you like to know? Answers begin with the passage they rest on.')}</p>"
    if guide and guide.found:
        said = guide.answer.removeprefix(f"“{entry.title}”, ")
        lead = (
            f'<div class="guide words" dir="auto" data-citations="{citations_json(guide.citations)}">'
            f"{marked(said, guide, pages=True)}</div>"
        )
    return f'<section class="welcome"><h2 dir="auto">{text(entry.name)}</h2>{lead}{asked}</section>'


def deleted(conversation_id: str) -> str:
    """Says that a conversation was deleted, and takes it back."""
    return (
        f'{t("Conversation deleted.")} <button class="link" data-event="click"'
        f' data-conversation="{text(conversation_id)}">{t("Undo")}</button>'
    )


def editing() -> str:
    """Says what becomes of a question that is edited, and takes it back."""
    words = t("Sent, it begins another version; this one stays.")
    return f'{words} <button class="link" data-event="edit">{t("Leave it")}</button>'


def history(turns: Sequence[Turn], entry: DocumentEntry, again: bool, better: str = "", about: str = "") -> str:
    """Turns as they stand; the last one can be asked `again`. `better` says which better reader there could be, and
    `about` the titles of several documents."""
    last = len(turns) - 1
    weak = next((position for position, turn in enumerate(turns) if turn.answer.weak), -1)
    return "".join(
        f'<article class="turn" data-answer="{turn.answer.message_id}">'
        f"{question(turn.question, turn.answer.understood, turn.answer.message_id)}"
        f"{_turn(turn, entry, about or entry.name, again and position == last)}"
        f"{_weak(better) if position == weak else ''}</article>"
        for position, turn in enumerate(turns)
    )


def _turn(turn: Turn, entry: DocumentEntry, about: str, again: bool) -> str:
    done = turn.answer
    if turn.state == "failed":
        tools = f'<footer><span class="cost"></span><span class="tools">{_again()}</span></footer>' if again else ""
        return f'<div class="answer">{failed(Trouble(translated(turn.message), translated(turn.hint)))}{tools}</div>'
    if turn.state in ("waiting", "looking") or (turn.state == "stopped" and not done.found and not done.answer):
        return hits(turn, entry, again)
    return answer(done, again, _standing(turn, entry), plain(about, turn))


def hits(turn: Turn, entry: DocumentEntry, again: bool) -> str:
    """A question that is not answered yet, or was stopped before: the passages that hold its words."""
    found = turn.answer.citations
    lead = t("Passages with your words" if found else "No page with your words so far.")
    line, button = t("Stopped."), _again() if again else ""
    if turn.is_open:
        line, button = f'<span class="waits">{_follows(turn, entry)}</span>', _stop()
    return (
        f'<div class="answer hits" data-citations="{citations_json(found)}"><p class="lead">{lead}</p>'
        f'<div class="passages">{"".join(map(passage, found))}</div>'
        f'<footer><span class="cost">{line}</span><span class="tools">{button}</span></footer></div>'
    )


def _follows(turn: Turn, entry: DocumentEntry) -> str:
    if entry.progress.stage in ("paused", "waiting", "cancelled", "failed", "locked"):
        return t("The answer follows when the document is read.") + controls(entry)
    if turn.state == "looking":
        return t("Looking for the answer…")
    if turn.answer.citations:
        return t("The answer follows as soon as these pages are read.")
    return t("The answer follows when more of the document is read.")


def _again() -> str:
    label = t("Answer again")
    return (
        f'<button class="quiet-button" data-event="retry" aria-label="{label}" title="{label}">{icon("again")}</button>'
    )


def _stop() -> str:
    return f'<button class="small" data-event="stop">{t("Stop")}</button>'


def _standing(turn: Turn, entry: DocumentEntry) -> str:
    """Of how much of the document an answer speaks, where that was not all of it from the beginning."""
    done = turn.answer
    if turn.state == "checking":
        words = t("Checking it against all {pages}…", pages=count(entry.pages, "page"))
        return f'<p class="standing">{words}{_stop()}</p>'
    if turn.state == "partial":
        part = text(translated(done.coverage))
        words = t("So far from {pages}. It is checked again when all are read.", pages=part)
        return f'<p class="standing">{words}{_stop()}</p>'
    if done.checked_pages:
        return f'<p class="standing">{t("Checked all {pages}.", pages=count(done.checked_pages, "page"))}</p>'
    return ""


def question(words: str, understood: str = "", answer: int = 0) -> str:
    """What the user asked, with its line breaks, and as what it was understood; with an answer it may be edited."""
    meant = t("Understood as: {question}", question=text(understood))
    whole = f'<p class="understood" dir="auto">{meant}</p>' if understood else ""
    pencil = (
        f'<button class="quiet-button" data-event="edit" data-edit="{answer}" aria-label="{t("Edit question")}"'
        f' title="{t("Edit")}">{icon("pencil")}</button>'
    )
    shown = f'<h3 class="question">{text(words)}</h3>{pencil if answer else ""}'
    return f'<div class="asked" dir="auto">{shown}</div>{whole}'


def answer(done: Answer, again: bool, standing: str = "", copied: str = "") -> str:
    """A finished answer: passages, words, of how much it speaks, what it cost, and what is `copied` of it as text."""
    tools = (
        f'<button class="quiet-button" data-do="copy" data-copy="{text(copied)}"'
        f' aria-label="{t("Copy answer")}" title="{t("Copy")}">{icon("copy")}</button>'
    )
    if again:
        tools += _again()
    stopped = f'<p class="quiet">{t("Stopped.")}</p>' if done.stopped else ""
    spent = cost(replace(done, coverage="") if standing else done)
    remarked = "".join(f'<p class="remark">{text(translated(remark))}</p>' for remark in remarks(done))
    shown = _found(done) if done.found else passages(translated(done.answer), done.citations)
    return (
        f'<div class="answer{"" if done.found else " not-found"}" data-citations="{citations_json(done.citations)}">'
        f"{shown}{remarked}{stopped}{standing}"
        f'<footer><span class="cost">{spent}</span><span class="tools">{tools}</span></footer></div>'
    )


def _found(done: Answer) -> str:
    """The characters that answer, the passages, and the words, in the order in which they should be trusted; passages
    that the words quote already are folded away."""
    first = done.citations[0] if done.citations else None
    lead, said = "", done.answer
    if done.weak and first and first.words and said.startswith(first.words):
        _, _, said = said.partition("\n\n")
        lead = f'<p class="span" dir="auto"><strong>{text(first.words)}</strong>{chip(first)}</p>'
    elif first and said == f"{first.quote} [1]":
        said = ""
    words = f'<div class="words" dir="auto">{marked(said, done)}</div>' if said.strip() else ""
    if len(done.citations) > 1 and all(each.quote in said for each in done.citations):
        return words
    return f"{lead}{passages('', done.citations)}{words}"


def marked(words: str, done: Answer, pages: bool = False) -> str:
    """The words of an answer as prose: `[1]`, or its page, leads to its passage, and what no passage holds stands
    out."""
    offset = len(done.answer) - len(words)
    words = words.replace(_OPEN, "?").replace(_CLOSE, "?")
    for start, end in sorted(done.unsupported, reverse=True):
        start, end = start - offset, end - offset
        if start >= 0:
            words = f"{words[:start]}{_OPEN}{words[start:end]}{_CLOSE}{words[end:]}"
    why = t("Not in the document's passages")
    foreign = f'<mark class="foreign" title="{why}">'
    html = prose(words).replace(_OPEN, foreign).replace(_CLOSE, "</mark>")
    by_mark = {each.mark: each for each in done.citations}

    def link(match: re.Match[str]) -> str:
        cited = by_mark.get(int(match[1]))
        return (
            chip(cited, t("p. {page}", page=cited.label or cited.page) if pages else f"{cited.mark}")
            if cited
            else match[0]
        )

    return _LINK.sub(link, html)


def _weak(better: str) -> str:
    """Said once in a conversation: how to take a small reader's words."""
    words = t(
        "This reader is a small one: it is good at finding passages and weak at wording. Rely on the "
        "passages; of its own words only those are shown that they hold."
    )
    if better:
        words += " " + t(
            "{reader}: it would say more in its own words. It can be chosen at the foot of the library.",
            reader=text(translated(better)),
        )
    return f'<p class="remark">{words}</p>'


def growing(asked: str, evidence: Evidence | None, words: str) -> str:
    """A turn that is still being answered."""
    found = evidence.found if evidence else True
    citations = evidence.citations if evidence else ()
    lead = "" if found else t("No passage stands out. Closest passages:" if citations else "No passage stands out.")
    shown = passages(lead, citations) if evidence else ""
    answering = found or (evidence is not None and evidence.answering)
    body = f'<div class="words" dir="auto">{with_cursor(prose(words))}</div>' if answering else ""
    return (
        f'<article class="turn live">{question(asked, evidence.understood if evidence else "")}'
        f'<div class="answer{"" if found else " not-found"}" data-citations="{citations_json(citations)}">{shown}{body}'
        "</div></article>"
    )


def with_cursor(html: str) -> str:
    """A blinking block right after the last word, inside the last paragraph or list item."""
    closing = CLOSING_TAGS.search(html)
    end = closing.start() if closing else len(html)
    return f'{html[:end]}<span class="cursor" aria-hidden="true"></span>{html[end:]}'


def passages(lead: str, citations: Sequence[Cited]) -> str:
    """The quoted passages with the chips that lead to their pages, below what is said of them, if anything is."""
    lead = f'<p class="lead">{text(lead)}</p>' if lead else ""
    quotes = [passage(cited) for cited in citations]
    shown, folded = quotes[:SHOWN_QUOTES], quotes[SHOWN_QUOTES:]
    more = (
        f"<details><summary>{count(len(folded), 'more passage')}</summary>{''.join(folded)}</details>" if folded else ""
    )
    return f'{lead}<div class="passages">{"".join(shown)}{more}</div>' if quotes else lead


def passage(cited: Cited) -> str:
    """One quote and its chip; rows of a table under their heads, as a table where the columns can be told."""
    lines, start, is_parted = [], 0, re.search(r" {2}|\|", cited.quote)
    for line in cited.quote.split("\n"):
        found = re.finditer(_CELL if is_parted else r"\S+", line)
        lines.append([(start + cell.start(), start + cell.end()) for cell in found])
        start += len(line) + 1
    columns = len(lines[-1])
    head = next(number for number, line in enumerate(lines) if len(line) == columns) if is_parted else 0
    if columns > 1 and head < len(lines) - 1 and {len(line) for line in lines[head:]} == {columns}:
        above = "".join(f"<p>{text(cited.quote[line[0][0] : line[-1][1]])}</p>" for line in lines[:head])
        looks = [
            "" if any(re.search(_LETTER, cited.quote[slice(*cell)]) for cell in column) else ' class="figures"'
            for column in zip(*lines[head + 1 :], strict=True)
        ]
        rows = (
            "".join(f"<{tag}{look}>{_marked(cited, *cell)}</{tag}>" for cell, look in zip(cells, looks, strict=True))
            for cells, tag in zip(lines[head:], chain(["th"], repeat("td")), strict=False)
        )
        quote = f"{above}<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
    else:
        quote = f"<p>{_marked(cited, 0, len(cited.quote))}</p>"
    return f'<blockquote dir="auto">{quote}{chip(cited)}</blockquote>'


def _marked(cited: Cited, start: int, end: int) -> str:
    """Some characters of a quote, in which those that answer are marked."""
    first, last = cited.span or (end, end)
    first, last = max(start, min(first, end)), max(start, min(last, end))
    mark = f'<mark class="span">{text(cited.quote[first:last])}</mark>' if first < last else ""
    return text(cited.quote[start:first]) + mark + text(cited.quote[last:end])


def chip(cited: Cited, words: str = "") -> str:
    """`1 p. 12`: the number of the mark, and the printed label, or other words; clicking it turns to the page."""
    label = cited.label or str(cited.page)
    short = t("p. {page}", page=text(label))
    where = t("show the passage on page {page}", page=text(label))
    if label != str(cited.page):
        where = t("show the passage on page {page}, page {number} of the file", page=text(label), number=cited.page)
    of = f'<span class="of" dir="auto">{text(cited.title)}</span> · ' if cited.title else ""
    said = words or f"{cited.mark} {text(cited.title)}{' · ' if cited.title else ''}{short}"
    return (
        f'<button class="chip" data-event="select" data-pane="page" data-page="{cited.page}" data-mark="{cited.mark}"'
        f' data-document="{text(cited.document_id)}" aria-label="{said}: {where}">'
        f"{text(words) or f'<b>{cited.mark}</b> {of}{short}'}</button>"
    )


def cost(done: Answer) -> str:
    """`Answered from memory: 0.4 s instead of 94 s · 12,800 tokens reused, 31 new`, after what was read by then."""
    part = t("From {pages}, the part that was read by then", pages=text(translated(done.coverage)))
    lines = [part] if done.coverage else []
    lines += [text(translated(done.looked))] if done.looked else []
    if done.reused_tokens:
        took, reading = duration(done.first_token_seconds), done.reading_seconds
        spent = t("Answered from memory: {seconds}", seconds=took)
        if reading >= 0.05:
            spent = t("Answered from memory: {seconds} instead of {reading}", seconds=took, reading=duration(reading))
        reused, new = count(done.reused_tokens, "token"), figure(done.recomputed_tokens)
        lines.append(f"{spent} · {t('{tokens} reused, {new} new', tokens=reused, new=new)}")
    return "<br>".join(lines)


def citations_json(citations: Sequence[Cited]) -> str:
    """The marks of an answer, carried by the page so that any chip can show all of them."""
    marks = [
        [
            cited.mark,
            cited.page,
            cited.label,
            [[round(edge, 4) for edge in box] for box in cited.boxes],
            cited.document_id,
        ]
        for cited in citations
    ]
    return text(json.dumps(marks, separators=(",", ":")))
