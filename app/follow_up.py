"""Follow-ups: a question that leaves something out is completed from the one before; a whole one stands alone."""

import re
from collections.abc import Sequence

from app.question_words import EMPTY

_LEAD = re.compile(
    r"^(?:(?:and|but|or|also|then|so|ok|what about|how about|und|aber|oder|was ist mit|et|mais|ou|y|pero|o)\b[,\s]*)+"
    r"|^那么?",
    re.IGNORECASE,
)
_ASKS = (
    r"what|who|whom|whose|when|where|why|which"
    r"|how(?: (?:many|much|long|old|tall|high|far|often|big|large|heavy|deep|wide))?"
    r"|was|wer|wann|wo|warum|wieso|welche[rsn]?|wie(?: ?viele?)?|qui|quand|où|pourquoi|comment|combien|quel(?:le)?s?"
    r"|quién|cuándo|dónde|por qué|cómo|cuánt[oa]s?"
)
_DOES = (
    r"is|are|was|were|do|does|did|has|have|had|can|could|will|would|shall|should|may|might|must|ist|sind|war|hat|haben"
    r"|est|sont|es|son|fue"
)
_BEGINS = re.compile(
    r"^(?:(?:in|at|on|to|for|from|by|of|with|since|until|seit|bis|von|mit|für|an|auf|um|depuis|pour|avec|de|à"
    rf"|desde|para|con) )?(?:{_ASKS}|{_DOES}|list|give|tell|show|name|describe"
    r"|explain|compare|find|please)\b",
    re.IGNORECASE,
)
_BARE = re.compile(
    rf"^(?:(?:since|until|by|from|to|for|with|in|at) )?(?:{_ASKS})(?: (?:not|so|exactly|else))?$", re.IGNORECASE
)
_SURE = re.compile(r"^(?:(?:are you )?sure|really|is that (?:so|true|right|correct))$", re.IGNORECASE)
_CLEFT = re.compile(
    r"\bit (?:that|who|which|when|where|true|false|possible|necessary|allowed|likely|important|the case)\b"
    r"|\b(?:is|was) it\b.*\b(?:that|who|which)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\b(?:(?P<own>its|his|their|her(?= \w))|(?P<self>it|he|she|they|him|them|her|(?:this|that|these|those)(?= (?:"
    + _DOES
    + r"|mean|happen)\b|$)|(?P<foreign>(?-i:er|sie|ihn|ihm)|(?<=-)(?:il|elle)s?)"
    r"|(?:the )?(?:first|second|third|last|other|same|next) (?:one|ones)|that one|this one))\b",
    re.IGNORECASE,
)
_FOREIGN = re.compile(r"(?:seit |bis |von |mit )?W\w+ |(?!.*\by a-).*-(?:il|elle)", re.IGNORECASE)
"""Begins a question in German, or is one in French."""
_STANDS_BEFORE = re.compile(r"\b(?:the|an?|our|every|each|all|some|any) [^\W\d_]+|(?<!^)\b[A-Z][^\W\d_]+|\d")
_YEAR = r"\b(?:1[5-9]|20)\d\d\b"
_MONTH = (
    r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)\b"
)
_NAME = rf"(?!{_MONTH})\b[A-Z][\w'’-]*(?: (?:(?:of|de|von|van) )?[A-Z][\w'’-]*)*"
_NUMBER = r"\b(?:No\.? ?)?\d[\d.,]*\b"
_SLOTS = tuple(re.compile(rf"{each}(?:(?:,| and| or| to|-|–) ?{each})*") for each in (_YEAR, _MONTH, _NAME, _NUMBER))
_WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_IS = "is are was were".split()
_OF_PERSONS, _OF_MANY = "he she him her his".split(), "they them their these those".split()
_PERSON = (
    r"(?:\w+)?(?:man|woman|master|mistress)|captain|chair|director|president|keeper|officer|manager|minister|mayor|doctor"
    r"|engineer|architect|secretary|owner|founder|author|clerk|pilot|tenant|landlord|buyer|seller|chaplain|teacher|professor"
)
_OF_PAPERS = re.compile(
    r"\b(?:signed|countersigned|notari[sz]ed|drafted|dated|written|published|issued|amended|terminated?|expires?|renewed)\b"
)
"""What is done to papers, and to few other things."""
_PAPER = (
    r"agreement|contract|lease|letter|deed|treaty|licen[cs]e|permit|polic(?:y|ies)|warranty|guarantee|insurance|offer|invoice"
    r"|report|document|book|article|study|will|statement|certificate|bond|note|minutes|plan|order"
)
_MEASURED = (
    r"height|length|width|depth|weight|size|area|age|price|cost"
    r"|value|code|number|name|colou?r|title|address|speed|distance"
)
_PREPOSITION = r"in|on|at|for|to|from|by|with|of|during|under|after|before|since|until"


def complete(question: str, earlier: Sequence[str], told: str = "") -> str:
    """The question, with what it leaves out taken from the last one before it; as it is where it is whole. `told` is
    the name that answered that one, if one did."""
    body = _LEAD.sub("", question.lstrip("¿¡ ")).strip()
    if not earlier or not body:
        return question
    before, said = earlier[-1].strip(), body.rstrip(" ?!.？")
    if _SURE.match(said):
        return before
    if _BARE.match(said):
        return _asked_anew(said, before)
    if pronoun := _leaning(body):
        return _named(body, pronoun, [each.partition("? (")[2].rstrip(")?") or each for each in earlier], told)
    if _BEGINS.match(said) and (_content(said) or said == question.rstrip(" ?!.？")):
        return question
    return _filled(said, before, led=body != question.strip(" ¿¡")) or question


def _content(words: str) -> set[str]:
    """The words that say something, in lower case."""
    found = {word.lower() for word in _WORD.findall(words)}
    return {word for word in found - EMPTY if not re.fullmatch(rf"{_ASKS}|{_DOES}|{_PREPOSITION}", word)}


def _leaning(question: str) -> re.Match[str] | None:
    """The pronoun that stands for something said before, if there is one."""
    for match in _PRONOUN.finditer(question.rstrip(" ?!.")):
        if match["foreign"] and not _FOREIGN.match(question):
            continue
        if not _CLEFT.search(question) and not _STANDS_BEFORE.search(question, 1, match.start()):
            return match
    return None


def _asked_anew(asks: str, before: str) -> str:
    """The earlier question with another question word: "Why?", "Since when?"."""
    rest = re.match(rf"(?:\w+ )?(?:{_ASKS})\b(?: \w+)??(?: \w+)?? (?=(?:{_DOES})\b)(.*)", before, re.IGNORECASE)
    return f"{asks.capitalize()} {rest[1]}" if rest else f"{asks.capitalize()}: {before}"


def _named(question: str, pronoun: re.Match[str], earlier: Sequence[str], told: str) -> str:
    """The question with what the pronoun stands for in its place, or else with the earlier question beside it."""
    before = earlier[-1]
    if pronoun["foreign"]:
        # In a language of which no more is known.
        before, stands_for = told or _subject(before)[0] or before, ""
    else:
        stands_for = "" if " one" in pronoun[0].lower() else _antecedent(question, pronoun, earlier, told)
    if not stands_for:
        return f"{question.rstrip(' ?!.')}? ({before.rstrip(' ?!.')})"
    if pronoun["own"] and re.fullmatch(
        r"(?:what|who|which) (?:is|are|was|were) ", question[: pronoun.start()], re.IGNORECASE
    ):
        return f"{question[: pronoun.start()]}the{question[pronoun.end() :].rstrip(' ?!.')} of {stands_for}?"
    owned = stands_for + ("’" if stands_for.endswith("s") else "’s")
    return question[: pronoun.start()] + (owned if pronoun["own"] else stands_for) + question[pronoun.end() :]


def _antecedent(question: str, pronoun: re.Match[str], earlier: Sequence[str], told: str) -> str:
    """What a pronoun stands for; empty where nothing fits it. `told` is the name that answered the last question."""
    if pronoun[0].lower() in _OF_PERSONS:
        person = next((each for each in map(_person, reversed(earlier)) if each), "")
        return told if told and _subject(earlier[-1])[0].startswith("the one who ") else person
    before = earlier[-1]
    subject, is_person = _subject(before)
    if pronoun[0].lower() in _OF_MANY:
        return subject
    if _OF_PAPERS.search(question):
        named = re.search(rf"\b(?:the|this|our) (?:\w+ )?(?:{_PAPER})\b(?: of [A-Z]\w+)?", before, re.IGNORECASE)
        return named[0] if named else "the document"
    if is_person:
        # Of whom somebody is something, or what somebody did something to.
        subject = subject.removeprefix("the one who ").partition(" ")[2]
        if not subject or before.lower().startswith(("who is ", "who was ")):
            whose = re.search(rf"\b(?:{_PREPOSITION}) (the .+|{_NAME})$", before.rstrip(" ?!."))
            return whose[1] if whose else ""
    if whole := re.match(rf"the (?:\w+ )?(?:{_MEASURED}) of (.+)", subject):
        subject = whole[1]
    plural = re.search(rf"\b(?:are|were|have|do) {re.escape(subject)}\b", before) or re.match("[a-z]+$", subject)
    return "" if plural else subject


def _person(question: str) -> str:
    """Whom a question is about; empty where that seems to be nobody."""
    subject, is_person = _subject(question)
    head = re.split(rf" (?:{_PREPOSITION}) ", subject, maxsplit=1)[0]
    is_named = re.search(rf"^(?!the )(?:.* )?{_NAME}$|\b(?:{_PERSON})$", head) is not None
    return subject if is_person or is_named else ""


def _subject(question: str) -> tuple[str, bool]:
    """What a question is about, as far as its form tells, and whether it is a person: "the Oslo office" of "What did
    the Oslo office earn?"."""
    said = _LEAD.sub("", question).rstrip(" ?!.")
    asked = re.match(rf"(?:(?:{_PREPOSITION}) )?({_ASKS})\b(?: \w+)?? ({_DOES})\b (.+)", said, re.IGNORECASE)
    asked = asked or re.match(rf"()({_DOES}) (.+)", said, re.IGNORECASE)
    if not asked:
        done = re.match(r"who (\w+ .+)", said, re.IGNORECASE)
        return (f"the one who {done[1]}", True) if done else ("", False)
    asks, does, rest = asked[1].lower(), asked[2].lower(), re.sub("^there (?:an?|any) ", "the ", asked[3])
    if asks in ("what", "who", "which") and does in _IS:
        return rest, asks == "who"
    placed = rf"(?:the|an?|our) (?:\w+ )?(?!\w+ed )\w+ (?:at|in|on|of) (?:the )?{_NAME}"
    if does in _IS and (whole := re.match(placed, rest)):
        return whole[0], False
    head = re.split(rf" (?:{_PREPOSITION.replace('|of', '')}) ", rest, maxsplit=1)[0]
    *kept, last = head.split()
    # A verb ends it, unless a name does; "how much is" leaves no other than a participle.
    is_whole = (
        asks.startswith("how ") and does in _IS and not re.search(r"(?:ed|en|sold|built|paid|made|spent|out)$", last)
    )
    head = head if is_whole or last[:1].isupper() or not _content(" ".join(kept)) else " ".join(kept)
    return head if _content(head) else "", False


def _filled(fragment: str, before: str, led: bool) -> str:
    """The earlier question with the fragment in the place of what is of its kind: a year for a year, a name for a name;
    empty where the fragment is about something else."""
    done, fresh = before, fragment
    for slot in _SLOTS:
        if (new := _slot(slot, fresh)) is None:
            continue
        fresh = f"{fresh[: new.start()]} {fresh[new.end() :]}"
        if old := _alike(slot, new, fragment, done):
            done = done[: old.start()] + new[0] + done[old.end() :]
    if done != before and not _content(fresh) - _content(before):
        return done
    if not led and len(_content(fresh) - _content(before)) > 1:
        return ""
    return _replaced(fragment, before) if done == before else done


def _slot(slot: re.Pattern[str], words: str) -> re.Match[str] | None:
    """The first thing of a kind, past words that are capital only because they begin a sentence."""
    return next((each for each in slot.finditer(words) if each[0].split()[0].lower() not in EMPTY), None)


def _alike(slot: re.Pattern[str], new: re.Match[str], fragment: str, before: str) -> re.Match[str] | None:
    """The thing of one kind in the earlier question that stands as the new one does: between the same words, or of as
    many words; or the first."""
    old = [
        each
        for each in slot.finditer(before)
        if not re.match(rf"(?:{_ASKS}|{_DOES}|[A-Z]\w* you)\b", each[0], re.IGNORECASE)
    ]

    def around(text: str, match: re.Match[str]) -> tuple[str, str]:
        left, right = _WORD.findall(text[: match.start()]), _WORD.findall(text[match.end() :])
        return (left[-1] if left else "", right[0] if right else "")

    def unlike(each: re.Match[str]) -> tuple[int, int]:
        pairs = zip(around(before, each), around(fragment, new), strict=True)
        return -sum(bool(mine) and mine == its for mine, its in pairs), abs(len(each[0].split()) - len(new[0].split()))

    return min(old, key=unlike, default=None)


def _replaced(fragment: str, before: str) -> str:
    """The earlier question with the fragment for what stands behind the same preposition, or for its first noun; or at
    its end."""
    noun = r"(?:(?:the|an?|our|its) )?[^\W\d_]+"
    if (by := re.match(rf"(?:{_PREPOSITION})\b", fragment, re.IGNORECASE)) and (
        old := re.search(rf"\b{by[0]} {noun}", before, re.IGNORECASE)
    ):
        return before[: old.start()] + fragment + before[old.end() :]
    if not by and (old := re.search(r"\b(?:the|an?|our|its) (?:[a-z]+ (?=[a-z]+ of\b))?[a-z]+", before)):
        return before[: old.start()] + fragment + before[old.end() :]
    return f"{before.rstrip(' ?!.')} {fragment}?"
