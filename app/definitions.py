"""Definitions: which questions ask what a term means, and where a text says it."""

import re
from functools import lru_cache

_ASKS = re.compile(
    r"^\W*(?:what (?:does|do|did) (?P<a>.+?) (?:mean|stand for|refer to|denote)"
    r"|(?:what(?: is|['’]s) )?(?:meant by|(?:the )?(?:meaning|definition) of) (?P<b>.+?)|define (?P<c>.+?)"
    r"|how (?:is|are) (?P<d>.+?) defined|what(?: is|['’]s) an? (?P<e>[\w-]+(?: [\w-]+)?)"
    r"|was (?:bedeutet|heißt|ist eine?) (?P<f>.+?)|was (?:ist mit (?P<g>.+?) gemeint|versteht man unter (?P<h>.+?))"
    r"|(?:que signifie|que veut dire|qu['’]est-ce qu['’]une?|qué (?:significa|es una?)|cosa significa|o que significa"
    r"|wat betekent|vad betyder|что (?:значит|означает)|ما معنى|ماذا يعني) (?P<i>.+?)"
    r"|(?P<j>.+?)(?:是什么意思|的意思是什么|指的?是?什么|の意味は何|とは(?:何|どういう)))"
    r"(?: (?:in|under|within|for) (?:the|this|our|my)\b.*)?[\W\s]*(?:ですか)?\W*$",
    re.IGNORECASE,
)
_QUOTES = "\"“”„«»‘’'「」《》"
_ENDS = f"{_QUOTES} ?？؟!."
_FOREWORD = re.compile(r"(?:the |an? )?(?:(?:term|word|phrase|abbreviation|acronym|expression) )?", re.IGNORECASE)
_SAYS = (
    r"\s?[:：]\s?|\s[—–=-]\s|,\s(?=an?\b|the\b|eine?\b|une?\b|una?\b)|,?\s(?:shall |will |here )?(?:means?"
    r"|stands? for|refers? to|denotes?"
    r"|signif(?:y|ies)|(?:is|are) defined as|ha(?:s|ve) the meaning|bedeutet|bezeichnet|heißt|steht für|signifie"
    r"|désigne"
    r"|veut dire|significa|se refiere a|betekent|betyder|означает|это)\b|\s(?:is|are)\s(?=(?:an?|the)\b)"
    r"|\s(?:ist|est|es)\s"
    r"(?=(?:eine?|une?|una?|der|die|das)\b)|\s?(?:是指|指的是|系指|意思是|指|とは)|\s(?:يعني|هو|هي)\s"
)
_REST = r"(?:[^\n.;。]|\n(?!\n)|\.(?=\S))+"
_WHO_IS = re.compile(
    r"\W*(?:who (?:is|are) the|wer ist d(?:er|ie)|qui est l(?:e |a |['’])|qui[eé]n es (?:el|la)) ?(\w+)\W*$",
    re.IGNORECASE,
)


@lru_cache
def defined(question: str) -> str:
    """The term of which a question asks what it means; empty where it asks for something else."""
    asked = _ASKS.match(question)
    term = next(filter(None, asked.groups()), "") if asked else ""
    return _FOREWORD.sub("", term.strip(_ENDS), count=1).strip(_ENDS)


@lru_cache
def said_outright(question: str) -> re.Pattern[str] | None:
    """Finds where a text says outright what is asked for: what a term means, or in brackets who somebody is; None where
    a question asks for neither."""
    if term := defined(question):
        return definition(term)
    who = _WHO_IS.match(question)
    return re.compile(rf"\((?:[^()]{{0,20}}\W)?{re.escape(who[1])}\W?\)", re.IGNORECASE) if who else None


@lru_cache
def definition(term: str) -> re.Pattern[str]:
    """Finds what a text says that a term means, as its last group: behind the term, there in brackets, or before
    it."""
    words = r"\s+".join(map(re.escape, term.split()))
    own = rf"(?<!\w){words}(?:e?s)?(?![\w-])"
    most = len(term) if term.isupper() else 4
    before = rf"(?:[^\W_][\w'’&.-]*\s){{1,{most}}}(?=\((?:[^()]{{0,20}}\W)?{own}[{_QUOTES}]?\))"
    inside = rf"{own}\s\((?P<inside>[^()]{{6,}})\)"
    behind = rf"{own}\s?[{_QUOTES}]?(?:\s\([^()]*\))?(?:{_SAYS})\s?(?P<thing>{_REST})"
    forms = (inside, behind) if term.isupper() else (behind, inside)
    return re.compile(rf"{forms[0]}|{forms[1]}|(?P<before>{before})", re.IGNORECASE)
