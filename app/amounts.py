"""Amounts: which figures of a text say how much or how many, and which ones only name, date or number something."""

import re
from collections.abc import Iterator

from app.number_words import NUMBER_WORDS
from app.words import CLOSED

_OTHERWISE = "un uno null cent mil elf once sept dos".split()
"""Number words that are something else in another language."""
NUMBER_WORD = "|".join(
    sorted(
        {word for word, n in NUMBER_WORDS.items() if n < 1_000_000 and word > "a" and word < "\u0250"} - {*_OTHERWISE}
    )
)
NUMBER_WORD += "|half|dozen"
_GERMAN = "(?:ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf|[a-z]{3,5}zehn|[a-zß]{3,6}[zß]ig|und|hundert|tausend){2,}"
_FIGURE = (
    r"[$€£¥]?\s?(?:\d{1,3}(?:[ '’]\d{3})+(?:[.,]\d+)?(?=\s?(?:[^\W\d_]|[%€$£°]))|\d[\d,.\u00a0\u202f\u066b\u066c]*\d|\d)"
    r"(?!\d|(?:st|nd|rd|th|[eè]me|[eè]re?|er|e|º|ª)\b)"
)
_SIGNS = (
    "公里|千米|厘米|毫米|平方米|米|公斤|千克|克|吨|美元|欧元|元|万元|人次|人|个月|个|次|天|年|小时|分钟|岁|层|级|页|メートル|キロ|トン|円|歳|時間|分|本|"
    "미터|킬로|원|명|개월|개|년|층|살|시간|분"
)
_UNIT = (
    rf"(?:\s?[%％€£¥](?!\d)|\s?°(?:\s?[CF]\b)?|\s?(?:{_SIGNS})|(?:[kcmµ]?m[²³]?|[kmµ]?[gl]|[kM]?W|[km]?V|[kM]?Hz)\b"
    rf"|[-\s](?!(?:{'|'.join(sorted(CLOSED | {'or', 'per', 'since', 'until', 'than', 'as', 'had', 'has', 'have', 'e', 'y', 'и'}))})\b)"
    r"[^\W\d_]{1,14}[²³\d]?\b)?"
)
_SCALE = (
    r"(?:\s(?:million(?:en|s)?|billion|thousand|hundred|m|bn|mio|mrd|milliarden?|milliards?|millones|tausend|mille"
    r"|млн|млрд|тыс|مليون|مليار|ألف)\b\.?|\s?[万亿億])?"
)
AMOUNT = re.compile(
    rf"(?<!\d)(?:minus\s)?(?:(?:{_FIGURE}){_SCALE}{_UNIT}"
    rf"|\b(?:{_GERMAN}|(?:{NUMBER_WORD})(?:[-\s](?:{NUMBER_WORD}|tenths?|thirds?|quarters?))*)\b(?:\s\(\d+\))?{_UNIT})"
    rf"(?:\s(?:and|und|et|y|e|och)\s(?:{NUMBER_WORD}|\d+)(?:[-\s](?:{NUMBER_WORD}))*{_UNIT})?"
    rf"|[〇零一二三四五六七八九十百千万亿两]+(?:{_SIGNS}|月|日|公[斤里]|[%％])?",
    re.IGNORECASE,
)
MEASURE = re.compile(
    r"(?:met(?:re|er)|mètre|metro|feet|foot|fuß|inch|mile|meile|yard|acre|hour|stunde|heure|hora|minute|second|day|tage?|jour"
    r"|día|week|woche|month|monate?|year|jahre?|années?|año|decade|ton|tonne|degree|grad|litre|liter|gram|gallon|page|seite"
    r"|per ?cent|prozent|people|person|personne)(?:e?s?|n)$|[%°]$|\b(?:[kcm]?m|k?g|m[l²]|ft|km/h)$",
    re.IGNORECASE,
)
"""The unit of what is no price."""
PRICED = re.compile(
    r"\bin (?:\w+ (?:of )?)?(?:crowns|dollars|euros?|pounds|francs|yen|yuan|usd|eur|gbp|chf|[$€£¥])", re.IGNORECASE
)
"""Says of the rows of a table that they are money, and no count of anything."""
CHANGED = re.compile(
    r"\b(?:increas|decreas|declin|improv|reduc|rais|lower|grew|grown|rose|risen|fell|fallen|up|down)(?:ed?|es|ing)?\s(?:by\s)?$",
    re.IGNORECASE,
)
"""Stands in front of how much something changed, not of how much it is."""
_LABELS = (
    "amendment annex appendix article art attachment berth box bullet chapter ch clause column drawer equation example "
    "exercise exhibit fig figure floor footnote form gate grade house item level line lot nos? note nr number option page "
    "paragraph para part phase platform point pp? problem proposal question release resolution room route row rule scenario "
    "schedule sec section shelf stage step tab table task test tier type unit version vol volume",
    "abbildung abb absatz abs abschnitt anhang anlage artikel band blatt gleis haus kapitel nummer punkt raum satz seite "
    "tabelle teil vorschlag zeile ziffer zimmer",
    "alinéa annexe chapitre étage numéro partie pièce salle tableau titre",
    "anexo artículo capítulo cláusula numero número página parte sala sección tabla",
    "articolo capitolo pagina sezione tabella artigo seção artikel hoofdstuk paragraaf tabel kapitel sida",
    "глава раздел статья пункт таблица рисунок страница стр",
    "المادة الفصل الجدول الصفحة رقم القسم البند",
)
_NUMBERED = re.compile(
    rf"(?:\b(?:{'|'.join(' '.join(_LABELS).split())})s?\.?\s?(?:[\dA-Z.()]+(?:,\s|\s?[-–]\s?|\s(?:and|or|to|und|et|y)\s))*"
    r"|[§#№]\s?|第|\bn[°º]\s?|[A-Za-zÀ-ɏЀ-ӿ](?<!\bUSD)(?<!\bEUR)(?<!\bGBP)(?<!\bCHF)-?)$",
    re.IGNORECASE,
)
"""Stands in front of a number that names a thing and counts nothing; also within a name, as in "KX-20"."""
_MARKER = re.compile(
    r"(?m:^)[ \t]*\(?(?:\d{1,2}|\d{1,3}(?:\.\d{1,2})+)[.)][ \t]+(?=\S)|\(\d{1,2}\)|\[\d{1,3}\]|\d+(?:\.\d{1,2}){2,}"
)
"""The number of an item of a list, of a footnote, or of a chapter."""
_YEAR = re.compile(r"\s?(?:1[89]|20)\d\d(?!\d|[.,]\d)")
_YEAR_BEFORE = re.compile(
    r"\b(?:fiscal|years?|in|the|our|since|until|during|im|jahr|seit|en|année|depuis|año|desde)\s?$", re.IGNORECASE
)
_YEAR_BEHIND = re.compile(
    r"\s(?:and|or|to|in|for|as|was|were|is|are|had|has|und|et|y|e)\b|\W*$|\s?[,.;)](?!\d)", re.IGNORECASE
)
_TOKEN = re.compile(r"[\d.,]*\d|\w+")
_LABEL_CHARS = 40


def amounts(text: str, begin: int = 0) -> Iterator[tuple[int, int]]:
    """The characters (start, end) of everything from `begin` on that says how much or how many: no label's number, no
    mark of a list or a note, no date and no year."""
    while match := AMOUNT.search(text, begin):
        start, begin = match.end() - len(match[0].lstrip()), match.end()
        end = start + len(match[0].strip().rstrip(".,-"))
        if _counts(text, start, end):
            yield start, end
        elif token := _TOKEN.match(text, start):
            begin = token.end()


def _counts(text: str, start: int, end: int) -> bool:
    if _NUMBERED.search(text, max(0, start - _LABEL_CHARS), start):
        return False
    line = text.rfind("\n", 0, start) + 1
    if any(mark.start() <= start < mark.end() for mark in _MARKER.finditer(text, line, end + 2)):
        return False
    year = _YEAR.match(text, start)
    if year is None or MEASURE.search(text, start, end):
        return True
    return not (_YEAR_BEHIND.match(text, year.end()) or _YEAR_BEFORE.search(text, 0, start))
