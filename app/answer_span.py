"""The answer span: which characters of a passage answer, by what kind of thing the question asks for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from app.amounts import AMOUNT, CHANGED, COUNTED, MEASURE, NUMBER_WORD, PRICED, amounts, fits
from app.definitions import defined, definition
from app.lines import UNIT
from app.passages import Passage
from app.question_words import AMOUNTS, HOW_MUCH, MONTHS, WHEN, WHERE, WHO
from app.words import is_german, stem, stems, telling_stems, words

Span = tuple[int, int]

_MONTH = f"(?:{MONTHS})"
_ORDINAL = (
    "(?:(?:twenty|thirty)-)?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|[a-z]{3,7}teenth|tenth|twelfth"
    "|eleventh|twentieth|thirtieth)"
)
_MONEY = re.compile(f"(?:{AMOUNT.pattern})", re.IGNORECASE)
_WEEKDAY = (
    r"\b(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?|(?:Mon|Diens|Donners|Frei|Sams|Sonn)tags?|Mittwochs?|(?:lun|mar|mercre|jeu|vendre"
    r"|same)di|dimanche|lunes|martes|miércoles|jueves|viernes|sábado|domingo)\b"
)
_DATE = re.compile(
    rf"\b(?:\d{{1,2}}(?:st|nd|rd|th|er|[.º])?|{_ORDINAL})\s+(?:(?:of|de)\s)?{_MONTH}(?:,?\s(?:del?\s)?\d{{4}})?"
    rf"|\b{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s\d{{4}})?\b"
    rf"|\b{_MONTH}\s(?:del?\s)?\d{{4}}\b|\b\d{{4}}-\d\d-\d\d\b|\b\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}\b|\b(?:1[0-9]|20)\d\d\b"
    r"|\d{2,4}\s?[年년](?:\s?\d{1,2}[月월])?(?:\s?\d{1,2}[日일])?"
)
_MOMENT = re.compile(rf"{_DATE.pattern}|(?i:{_WEEKDAY})|\b\d{{1,2}}:\d\d(?:\s?[ap]\.?m\b\.?)?")
_YEAR = re.compile(r"\b(?:1[0-9]|20)\d\d\b|\d{4}年")
_CLOCK = rf"(?:\d{{1,2}}(?:[:.]\d\d)?(?:\s?[ap]\.?m\b\.?)?|\b(?:{NUMBER_WORD}|noon|midnight)\b)"
_DAY = rf"(?:{_WEEKDAY}|\w*tage?|Monats?|Jahr|mois|mes|spring|summer|autumn|winter|month|week|year|day)\b"
_HABIT = re.compile(
    rf"{_DATE.pattern}|(?i:(?:\bfrom\s)?{_CLOCK}\s?(?:to|till|until|[-–])\s?{_CLOCK}|\b(?:at|from|until)\s{_CLOCK}"
    rf"|\b(?:(?:every|each|on|in)\s)?{_DAY}|\b(?:daily|weekly|monthly|yearly|annually)\b)"
)
"""Times at which something happens again and again."""
_CODE = re.compile(r"\b(?=[\w/-]*\d)[A-Za-z0-9]+(?:[-/ ](?=\w*\d)[A-Za-z0-9]+)*\b|[〇零一二三四五六七八九]{2,}")
_NAME_WORD = r"[A-ZÀ-ÖØ-ÞĀ-ŽА-ЯΑ-ΩΆΈΉΊΌΎΏ][^\W\d_]*(?:[-’'][^\W\d_]+)*\.?"
_NAME = re.compile(rf"{_NAME_WORD}(?:\s(?:(?:de|von|van|der|la|of|al)\s)?{_NAME_WORD})*")
_IN_BRACKETS = re.compile(r"\s\((?:(?:hereinafter|the|der|die|le|la|el)\W+)*([^()]{1,40})\)", re.IGNORECASE)
"""What somebody is, behind his name: (the "Tenant")."""
_OFFICE = re.compile(
    r"(?:(?:Chief|Executive|Officer|President|Vice|Chair(?:man|woman)?|Director|Manager|Secretary|Treasurer|Senior|General"
    r"|Counsel|Board|Financial|Operating|Administrative|Principal|M(?:r|s|rs)|Dr|January|February|March|April|May|June|July"
    r"|August|September|October|November|December)\b\.?\s?)+"
)
"""What is written like a name and names nobody."""
_NOUN = re.compile(
    r"\b(?:d(?:er|ie|as|en|em|es)|(?:[kms]?ein|ihr|unser)(?:e[rsnm]?)?|zum|zur|am|im|beim|vom)\s(?:(?-i:[a-zäöüß]+)e[rsnm]?\s)?"
    r"(?=[^\W\d_])\S+\s?",
    re.IGNORECASE,
)
"""Is written like a name in German."""
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_URL = re.compile(r"\b(?:https?://|www\.)\S+\w|\b[\w-]+\.(?:com|org|net|edu|gov|info|eu|io|uk|de|fr|no|es|it)\b\S*")
_AT = (
    r"\b(?:in|at|near|behind|on|above|below|beside|under|inside|opposite|bei|auf|nahe|neben|hinter|am|im|à|en|dans|sur|sous"
    r"|cerca de|sobre|em|no|na|op|på|i|в|на|у)\s"
)
_PLACE = re.compile(
    rf"{_AT}(?:the\s)?{_NAME.pattern}|{_AT}(?:the|an?)\s(?!same|first|last|time|year)[a-z]+(?:\s[a-z]+)?"
)
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (r"\be-?mail address(?:es)?\b|\bwhat(?: is|['’]s) (?:the|his|her|its|their) e-?mail\b", _EMAIL),
    (r"\b(?:web ?site|web address|url|home ?page)\b(?!['’]s)", _URL),
    (r"\b(?:which|what) year\b|\bin what year\b", _YEAR),
    (
        r"^(?:when|wann|quand|cuándo) (?:is|are|do|does|can|may|must|will|shall|should|ist|sind|wird|muss|est"
        r"|sont|es)\b|\bwhat time\b|\bopening (?:hours|times)\b",
        _HABIT,
    ),
    (WHEN, _MOMENT),
    (
        r"\b(?:\w*code|\w*nummer|numéro|número|номер|licen[cs]e|invoice|id|registration|telephone|phone"
        r"|extension|account|reference|serial|(?:contract|order|policy|case|customer|room) number"
        r"|number (?:is|of (?:the|an?|this|that|my|his|her|its|our|their))|model)\b"
        r"(?! of (?:people|items))(?!.*\bhow (?:much|many)\b)|密码|番号|代码|号码|电话|رقم",
        _CODE,
    ),
    (WHO, _NAME),
    (
        r"\bhow much (?:did|do|does|was|were|is|are|will|has|have|must|should)\b.*\b(?:cost|costs|pay|pays|paid|spent"
        r"|spend|sold|charged?)\b|\b(?:price|fee|toll) of\b|(?:wie ?viel|combien|cu[aá]nto|quanto|hoe ?veel|hur mycket"
        r"|\b(?:was|wat|vad|cosa|qué))\b.*\b(?:kost|coût|cuest|cost)|多少钱|いくら|얼마|\bстоит\b|سعر",
        _MONEY,
    ),
    (
        r"^(?!.*(?:\bpercent|%|\b(?:ratio|rate|growth|change|share|margin)\b))what (?:was|were|is|are)\b"
        r".*\b(?:revenues?|sales|income|assets|liabilities|expenses?|profit|costs?|budget|debt)\b",
        _MONEY,
    ),
    (WHERE, _PLACE),
    (
        rf"{HOW_MUCH}|{AMOUNTS}|\b(?:price|cost|fee|toll|amount"
        r"|total|number of|percent|percentage|ratio|weight|area|length|height|budget|revenues?|sales|income|assets"
        r"|expenses?|share|limit|rent|salary|wages|deposit|temperature|rate|guarantee|warranty|sold|pays?|paid"
        r"|earn(?:ed)?|spen[dt])\b|%",
        AMOUNT,
    ),
)
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_FURTHER = re.compile(
    r",?\s(?:and|und|et|y)\s(?=(?:(?:since|until|from|for|at|in|on|by|to|seit|bis|depuis|par|desde|por)\s)?"
    r"(?:who(?:m|se)?|when|where|what|which|how|why|wer|wann|wo|quand|où|cuándo|dónde)\b)",
    re.IGNORECASE,
)
_BESIDE = re.compile(r"\s*\([^()]*\)\W*$")
"""What stands behind a question in brackets, such as the one that it goes on from."""
_NO_KIND = re.compile(
    r"\W*(?:(?:how )?(?:is|are|was(?! (?:ist|sind|war|hat|haben|wird|\w+(?:et|te)\b))|were|did|does|do|has|have|had|can"
    r"|could|will|would|should|ist|sind|hat|haben|kann|darf|muss|est-ce que)\b|(?:why|warum|wieso|pourquoi|por qué"
    r"|perché|por que|waarom|varför|почему)\b|为什么|なぜ|왜|لماذا|(?:what|which) (?:(?:is|are|was"
    r"|were) (?:all )?(?:the )?)?(?:main |key |different )?(?:method|way|kind|type|sort|reason|purpose|factor|step"
    r"|measure|component|element|part|cause)s?\b)",
    re.IGNORECASE,
)
_WHICH = re.compile(r"\W*(?:which|welche[rsnm]?|quel(?:le)?s?|cuál(?:es)?)\b", re.IGNORECASE)
_VALUE = re.compile(
    r"(?m:^)(?P<label>[^:：\n.!?]{2,40})(?:(?<!\d)[:：]|[:：](?!\d))\s*(?P<value>(?:[^\n;.。]|[.](?![A-Z]\w|\s*$))+)"
)
_CELL = re.compile(r"[-–—(]?[$€£¥]?\s?\(?\d[\d,.]*\)?%?|(?<=\s)[-–—](?=\s|$)")


_UNIT = re.compile(rf"{UNIT}{{1,3}}\s*$")
"""Behind the only figure of a row."""
_SHARE = re.compile(
    r"%|\b(?:per ?cent|percentage|rate|ratio|share|margin|growth|change|increase|decrease)", re.IGNORECASE
)
_CLAUSE = re.compile(r"[,;]\s")
_APART = 25
"""How much farther away a thing is in another clause."""
_OF_YEAR = 5.0
"""How much nearer than other words a year of the question draws what stands beside it."""


def parts(question: str) -> list[str]:
    """What a question asks one after the other: "who is it", "since when"."""
    return _FURTHER.split(question)


def asks_for_words(question: str) -> bool:
    """Whether a yes or no is asked for, or something in words, whatever else the question names."""
    return _NO_KIND.match(question) is not None


def asks_which(question: str) -> bool:
    """Whether one of some things is asked for that have names."""
    return _WHICH.match(question) is not None and asks_for(question) is None


def asks_for_name(question: str) -> bool:
    """Whether somebody's name is asked for."""
    return asks_for(question) is _NAME


def asks_for_amount(question: str) -> bool:
    """Whether an amount is asked for."""
    return asks_for(question) in (AMOUNT, _MONEY)


@lru_cache
def asks_for(question: str) -> re.Pattern[str] | None:
    """What the thing looks like that a question asks for first; None where its words do not tell."""
    question = _BESIDE.sub("", parts(question)[0])
    if term := defined(question):
        return definition(term)
    if asks_for_words(question):
        return None
    return next((kind for asks, kind in _KINDS if re.search(asks, question, re.IGNORECASE)), None)


def may_answer(question: str, quotes: Sequence[str], part: str = "") -> bool:
    """Whether something of the kind that a question, or a part of it, asks for stands in any of the quotes, as far as
    it tells that. A place may be told in any words, and names can be told only in scripts with capitals."""
    kinds = [kind for each in ([part] if part else parts(question)) if (kind := asks_for(each))]
    if (
        asks_for(part or question) is None
        or _PLACE in kinds
        or (_NAME in kinds and question.lower() == question.upper())
    ):
        return True
    asked = _asked(question)
    if COUNTED.search(question):
        quotes = [quote for quote in quotes if not PRICED.search(quote)]
    found = ((quote, span) for kind in kinds for quote in quotes for span in _things(kind, quote, 0))
    return any(_may_be(question, asked, quote[slice(*span)]) for quote, span in found)


@lru_cache
def counted(question: str) -> frozenset[str]:
    """The stems of what is to be counted: "visitors" of "how many visitors came"."""
    found = COUNTED.search(question)
    return telling_stems(found[1]) if found else frozenset()


def counts(question: str, quote: str) -> bool:
    """Whether a number of a quote counts what is counted, "twelve visitors", or stands in a row of it; true where
    nothing is counted."""
    named = counted(question)
    if not named:
        return True
    if named.isdisjoint(stems(quote)):
        return False
    for start, end in _things(AMOUNT, quote, 0):
        label = quote[quote.rfind("\n", 0, start) + 1 : start]
        if not fits(question, quote[start:end], not named.isdisjoint(stems(quote[start:end]))):
            continue
        near = quote[start : end + 30] + ("" if re.search(r"[^\W\d_]", quote[end:]) else f" {label}")
        if not named.isdisjoint(stems(near)):
            return True
    return False


@lru_cache
def _asked(question: str) -> frozenset[str]:
    return stems(question)


def _may_be(question: str, asked: frozenset[str], thing: str) -> bool:
    """Whether it may be what is asked for: nothing that the question names itself, and in a unit that fits."""
    is_counted = not counted(question).isdisjoint(stems(thing))
    return _is_new(asked, thing) and (not asks_for_amount(question) or fits(question, thing, is_counted))


def _is_new(asked: frozenset[str], thing: str) -> bool:
    """Whether it is not a thing that the question names itself."""
    own = stems(thing)
    return not own or not own <= asked


def answer_span(question: str, weights: Mapping[str, float], passage: Passage, part: str = "") -> Span | None:
    """The characters (start, end) of the page's text, inside the passage, that answer a question, or a part of it; None
    where that is not known.

    `weights` are the stems of the question's words with their weights.
    """
    kind = asks_for(part or question)
    if passage.is_row and kind in (None, AMOUNT, _MONEY, _CODE):
        span = _cell(question, passage)
    else:
        span = _value(weights, passage) or (_nearest(kind, question, weights, passage.text) if kind else None)
    return (passage.start + span[0], passage.start + span[1]) if span else None


def _value(weights: Mapping[str, float], passage: Passage) -> Span | None:
    """What stands behind a label that the question names."""
    for match in _VALUE.finditer(passage.text):
        label = {stem(word) for word, _, _ in words(match["label"])}
        if (
            sum(weight for word, weight in weights.items() if word in label) >= 0.5
            and match["label"].strip() not in "QA"
        ):
            return match.start("value"), match.start("value") + len(match["value"].rstrip().rstrip(".;,"))
    return None


def _cell(question: str, passage: Passage) -> Span | None:
    """The cell of the row in the column that the question names by its year or its head, or else the first one."""
    label = re.match(r".*?[^\W\d_][^\d$€£]*", passage.text, re.DOTALL)
    dates = [match.span() for match in _DATE.finditer(passage.text) if not _YEAR.fullmatch(match[0])]
    found = (match.span() for match in _CELL.finditer(passage.text, label.end() - 1 if label else 0))
    cells = [each for each in found if not any(first < each[1] <= last for first, last in dates)]
    # A mark in brackets leads to a note.
    cells = [each for each in cells if not re.fullmatch(r"\(?\d\)", passage.text[slice(*each)])] or cells
    if not cells:
        return None
    line = passage.above.split("\n")[-1].casefold()
    years = _YEAR.findall(line)
    # A unit in brackets goes with its head.
    between = r"\|" if "|" in line else r"\s{2,}|\t" if re.search(r"\S(?:\s{2,}|\t)", line) else r"\s+(?![(\[])"
    columns = years if len(years) == len(cells) else re.split(between, line.strip("| "))[-len(cells) :]
    heads = [{word for word, _, _ in words(each)} for each in columns]
    amounts = [at for at, each in enumerate(cells) if not passage.text[slice(*each)].endswith("%")]
    likely = range(len(cells)) if _SHARE.search(question) or not amounts else amounts
    asked = [at for word, _, _ in words(question) for at in likely if at < len(heads) and word in heads[at]]
    start, end = cells[asked[-1] if asked and len(heads) == len(cells) else likely[0]]
    if len(cells) == 1 and (unit := _UNIT.match(passage.text, end)):
        end = unit.end()
        if not fits(question, passage.text[start:end], not counted(question).isdisjoint(passage.stems)):
            return None
    return start + len(passage.text[start:end]) - len(passage.text[start:end].lstrip(" -–—(")), end


def _nearest(kind: re.Pattern[str], question: str, weights: Mapping[str, float], text: str) -> Span | None:
    """Of the things of the kind that are sought the one that stands nearest to the question's words."""
    asked = _asked(question)
    held = [
        (weights[stem(word)] * (_OF_YEAR if _YEAR.fullmatch(word) else 1.0), start, end)
        for word, start, end in words(text)
        if stem(word) in weights
    ]
    begin = re.search(r"[?？]\s*(?:A[:.]\s*)?", text)
    found: list[tuple[float, Span]] = []
    for start, end in _things(kind, text, begin.end() if begin else 0):
        if not _may_be(question, asked, text[start:end]):
            continue
        # Behind the words it is likelier than before them, unless that is in another clause.
        far = sum(
            weight * (min(60, start - last) + _APART * (_CLAUSE.search(text, last, start) is not None))
            if last <= start
            else weight * min(60, 1.5 * (first - end) + 5)
            for weight, first, last in held
        )
        if kind is _NAME and (role := _IN_BRACKETS.match(text, end)) and telling_stems(role[1]) <= asked:
            far = 0.0
        found.append((far, (start, end)))
    return min(found)[1] if found else None


def _things(kind: re.Pattern[str], text: str, begin: int) -> Iterator[Span]:
    """The characters (start, end) of all things of a kind from `begin` on."""
    text = text.translate(_FULL_WIDTH)
    if kind in (AMOUNT, _MONEY):
        dates = [match.span() for match in _DATE.finditer(text) if not match[0].isdecimal()]
        for start, end in amounts(text, begin):
            is_date = any(first < end and start < last for first, last in dates)
            is_change = kind is _MONEY and (CHANGED.search(text, 0, start) or MEASURE.search(text, start, end))
            if not is_date and not is_change:
                yield start, end
        return
    nouns = [match.span() for match in _NOUN.finditer(text)] if kind is _NAME and is_german(text) else []
    for match in kind.finditer(text, begin):
        if match.lastgroup:  # a definition's
            yield match.span(match.lastgroup)
            continue
        start, end = match.start(), match.start() + len(match[0].rstrip(" .,-"))
        if kind is _PLACE:
            yield start + len(match[0].split(maxsplit=1)[0]) + 1, end
            continue
        if kind is not _NAME:
            yield start + len(match[0]) - len(match[0].lstrip()), end
            continue
        start = max([start, *(last for first, last in nouns if first <= start < last)])
        if start < end and not _OFFICE.fullmatch(text, start, end) and (start > begin or " " in match[0]):
            yield start, end
