"""The kind of a question: about the document itself, one of its pages, all of it, something in it, or mere courtesy.

A pattern says what is asked for; every other word must be empty, such as "please" or "this report". So "What is the
title?" asks for the document's title, and "What is the title of the director?" for something in it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from app.contents import SOME
from app.number_words import NUMBER_WORDS
from app.page_names import page_named
from app.question_words import ASKED, ASKED_IF_NAMED, CHAT, EMPTY, EMPTY_ARABIC, EMPTY_CHINESE, PAPER, THING

_POINTS = (
    r"bullet ?points?|bullets?|points?|lines?|items?|sentences?|paragraphs?|stichpunkten?|punkten?|sätzen?|phrases?"
    r"|puntos?|frases?|oraciones|punkte"
)
_FORM = re.compile(
    rf"(?:\b(?:in|as|with|using|of|en|mit)\s+)?\b(?:(?:about|at most|up to|only|exactly|the)\s+)*"
    rf"(?P<number>\d{{1,2}}|{'|'.join(NUMBER_WORDS)})\s+(?:short\s+|brief\s+)?(?:{_POINTS})\b"
    rf"|\b(?:in|as)\s+(?:(?:a|the|some|few|list|of)\s+)*(?:bullet ?points|bullets|list)\b"
    rf"|用?(?P<han>[一二三四五六七八九十]|\d+)\s*(?:个要点|点|句话?)"
)
_BULLETS = re.compile("bullet|point|item|punkt|punto|list|点")
_PART = re.compile(
    r"\b(?:chapter|section|part|appendix|kapitel|abschnitt|chapitre|cap[ií]tulo)\s+(\d+(?:\.\d+)*|[ivx]+|[a-h])\b"
    r"|第\s*(\d+)\s*[章节]"
)
_CHAPTERS = re.compile(r"chapter|section|heading|kapitel|chapitre|cap[ií]tulo")
_LISTED = re.compile(r" (?:listed )?in the table of contents")
_WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")


@dataclass(frozen=True)
class Asking:
    """What a question asks for.

    `kind` is inside (something in the text), whole, page, chat, or what is asked of the document: title, author, pages,
    outline, date, language or file. `page` is a label as it is printed, or a word like "first"; `part` the number of a
    chapter; `points` is 0 where no number of points was asked for.
    """

    kind: str
    page: str = ""
    part: str = ""
    points: int = 0
    bullets: bool = False


def kind_of(question: str, names: Callable[[], str] = str, goes_on: bool = False) -> Asking:
    """The kind of a question; `names` gives words that stand for the document, like those of its title.

    Where it `goes_on` from others, "it" may be what they were about.
    """
    said = " ".join(question.lower().split()).strip(" .?!…。？！؟¿¡\"'")
    if CHAT.fullmatch(re.sub(r"[^\w\s']", "", said)):
        return Asking("chat")
    points, bullets = 0, False
    if form := _FORM.search(said):
        points, bullets = _number(form["number"] or form["han"] or ""), _BULLETS.search(form[0]) is not None
        said = f"{said[: form.start()]} {said[form.end() :]}"
    page, part = page_named(said), _PART.search(said)
    if page:
        rest = f"{said[: page.start]} {said[page.end :]}"
        if not _filled(rest) or kind_of(rest).kind == "whole":
            return Asking("page", page.label, "", points, bullets)
    if part:
        said = f"{said[: part.start()]} {said[part.end() :]}"
    if _CHAPTERS.search(said):
        said = _LISTED.sub("", SOME.sub("", said))
    named = part is not None or not THING.isdisjoint(_WORD.findall(said)) or not goes_on
    for kind, pattern in (*ASKED, *(ASKED_IF_NAMED if named else ())):
        if (match := pattern.search(said)) and (part is None or kind == "whole"):
            filled = _filled(said[: match.start()], *(each or "" for each in match.groups()), said[match.end() :])
            if kind == "whole":
                filled -= PAPER
            if not filled or not filled - set(_WORD.findall(names().lower())):
                number = (part[1] or part[2]) if part else ""
                return Asking(kind, "", number, points, bullets or (kind == "whole" and "point" in match[0]))
    return Asking("inside")


def _filled(*words: str) -> set[str]:
    """Those of the words that are not empty."""
    found = set(_WORD.findall(EMPTY_CHINESE.sub(" ", " ".join(words)))) - EMPTY
    return {word for word in found if not EMPTY_ARABIC.fullmatch(word)}


def _number(word: str) -> int:
    """A number in digits or in words; 0 for none."""
    if word.isdecimal():
        return int(word)
    return NUMBER_WORDS.get(word, 0)
