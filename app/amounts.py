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
_GERMAN = (
    "(?:ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf|[a-z]{3,5}zehn|[a-zß]{3,6}[zß]ig|und|hundert"
    "|tausend){2,}"
)
_FIGURE = (
    r"(?:[$€£¥]|\b(?:USD|EUR|GBP|CHF|NOK|SEK|DKK|JPY|CNY|INR|CAD"
    r"|AUD))?\s?(?:\d{1,3}(?:[ '’]\d{3})+(?:[.,]\d+)?(?=\s?(?:[^\W\d_]|[%€$£°]))|\d[\d,.\u00a0\u202f\u066b\u066c]*\d"
    r"|\d)(?!\d|(?:st|nd|rd|th|[eè]me|[eè]re?|er|e|º|ª)\b)"
)
_SIGNS = (
    "公里|千米|厘米|毫米|平方米|米|公斤|千克|克|吨|美元|欧元|元|万元|人次|人|个月|个|次|天|年|小时|分钟|岁|层|级|页|メートル|キロ|トン|円|歳|時間|分|本|"
    "미터|킬로|원|명|개월|개|년|층|살|시간|분"
)
_NO_UNIT = sorted(
    CLOSED
    | set("or per since until than as had has have e y и long high wide tall deep thick lang hoch breit tief".split())
)
_UNIT = (
    rf"(?:\s?[%％€£¥](?!\d)|\s?°(?:\s?[CF]\b)?|\s?(?:{_SIGNS})|(?:[kcmµ]?m[²³]?|[kmµ]?[gl]|[kM]?W|[km]?V|[kM]?Hz)\b"
    rf"|[-\s](?!(?:{'|'.join(_NO_UNIT)})\b)"
    r"[^\W\d_]{1,14}[²³\d]?\b(?:/[^\W\d_]{1,5}\b|-hours?\b)?)?"
)
_SCALE = (
    r"(?:\s(?:million(?:en|s)?|billion|thousand|hundred|m(?!/)|bn|mio|mrd|milliarden?|milliards?|millones|tausend|mille"
    r"|млн|млрд|тыс|مليون|مليار|ألف)\b\.?|\s?[万亿億])?"
)
AMOUNT = re.compile(
    rf"(?<!\d)(?:minus\s)?(?:(?:{_FIGURE}){_SCALE}{_UNIT}"
    rf"|\b(?:{_GERMAN}|(?:{NUMBER_WORD})(?:[-\s](?:{NUMBER_WORD}|tenths?|thirds?|quarters?))*)\b(?:\s\(\d+\))?{_UNIT})"
    rf"(?P<more>\s(?:and|und|et|y|e|och)\s(?:{NUMBER_WORD}|\d+)(?:[-\s](?:{NUMBER_WORD}))*{_UNIT})?"
    rf"|[〇零一二三四五六七八九十百千万亿两]+(?:{_SIGNS}|月|日|公[斤里]|[%％])?",
    re.IGNORECASE,
)
_TIME = (
    r"years?|months?|weeks?|days?|hours?|minutes?|seconds?|decades?|century|centuries|jahr\w*|monat\w*|wochen?|tage?n?|stunden?"
    r"|minuten|ans?|années?|mois|semaines?|jours?|heures?|años?|mes(?:es)?|semanas?|días?|horas?|ann[io]|giorni|ore|jaar|maanden|dagen"
    r"|uur|år|dagar|timmar|лет|год\w*|месяц\w*|дней|час\w*|سن\w+|شهر|يوم|ساع\w+"
)
_TIME_SIGNS = "[年岁歳月周天日分]|小时|時間|년|살|개월|시간"
_LENGTH = (
    r"[kcm]?m|\w*met(?:re|er)[sn]?|\w*mètres?|\w*metros?|\w*metri|\w*метр\w*|feet|foot|ft|fuß|inch(?:es)?|miles?|meilen?|yards?"
    r"|متر\w*|كيلومتر|st(?:or(?:e?y|ies))"
)
_LENGTH_SIGNS = "[米里]|メートル|キロ|미터"
_WEIGHT = r"[km]?g|t|\w*ton(?:ne)?s?|tonnen|\w*gramm?e?s?|kilos?|pounds?|lbs?|ounces?|кг|тонн\w*|كيلو\w*"
_POWER = r"[kmgt]?[vw]h?|\w*(?:watt|volt)s?(?:-?(?:hours?|stunden))?|\w*joules?"
_VOLUME = r"[cm]?l|\w*lit(?:re|er)s?|gallons?|barrels?|m³"
_MONEY = r"crowns?|dollars?|euros?|pounds?|francs?|yen|yuan"
MEASURE = re.compile(
    rf"(?<![^\W\d_])(?:{_TIME}|{_LENGTH}|{_WEIGHT}|{_POWER}|acres?|degrees?|grad|lit(?:re|er)s?|gallons?|pages?|seiten?"
    r"|per ?cent|prozent"
    r"|people|persons?|personnes?|m[l²]|km/h|(?:tenth|third|quarter|hundredth|thousandth)s?)$|[%°]$",
    re.IGNORECASE,
)
"""The unit of what is no price."""
_DIMENSIONS = tuple(
    (re.compile(asks, re.IGNORECASE), re.compile(rf"(?<![^\W\d_])(?:{words})$|{signs}", re.IGNORECASE))
    for asks, words, signs in (
        (
            r"\bhow old\b|\bwie alt\b|\bâge\b|\bcuántos años\b|年龄|多大|何歳|عمر",
            rf"(?:{_TIME})(?: old| alt)?",
            _TIME_SIGNS,
        ),
        (
            r"\bhow heavy\b|\bwie schwer\b|\bweight\b|\bgewicht\b|\bpoids\b|\bpeso\b|多重|重量|重さ|وزن",
            _WEIGHT,
            "[斤克吨]|キロ|トン",
        ),
        (
            r"\bhow (?:tall|deep|wide)\b|\bwie (?:breit|tief)\b|\bhauteur\b|\baltura\b|多高|高度|高さ|ارتفاع",
            _LENGTH,
            _LENGTH_SIGNS,
        ),
        (r"\bhow much time\b|\bcombien de temps\b|\bcuánto tiempo\b|\bwie ?viel zeit\b", _TIME, _TIME_SIGNS),
        (
            r"\bhow much (?:energy|electricity|power|current)\b|\bwie ?viel (?:energie|strom|leistung)\b"
            r"|\bcombien d['’](?:énergie|électricité)\b|\bcuánta (?:energía|electricidad)\b",
            _POWER,
            "(?!)",
        ),
        (
            r"\bhow much (?:rain|snow)\b|\bwie ?viel (?:regen|schnee)\b|\bcombien de (?:pluie|neige)\b",
            rf"{_LENGTH}|{_VOLUME}",
            _LENGTH_SIGNS,
        ),
        (
            r"\bhow much (?:water|oil|fuel|milk|mercury|steel|coal|gravel|sand|waste)\b"
            r"|\bwie ?viel (?:wasser|öl|kohle|stahl)\b",
            rf"{_VOLUME}|{_WEIGHT}",
            "[升吨]",
        ),
    )
)
"""By what a question asks for, the units of its answer."""
_MEASURED = re.compile(rf"(?<![^\W\d_])(?:{_TIME}|{_LENGTH}|{_WEIGHT}|{_POWER}|{_MONEY})$|[%°€$£¥]", re.IGNORECASE)
COUNTED = re.compile(
    r"\b(?:how many|number of|wie ?viele|anzahl der|combien d[e'’]|nombre d[e'’]|cu[aá]nt[oa]s|quant[ie]|hoe ?veel"
    r"|hur många) ?((?:[\w-]+ ?){1,3})",
    re.IGNORECASE,
)
_BARE = re.compile(rf"(?:[\s\d.,()-]|\b(?:{NUMBER_WORD})\b)*", re.IGNORECASE)
PRICED = re.compile(rf"\bin (?:\w+ (?:of )?)?(?:{_MONEY}|usd|eur|gbp|chf|[$€£¥])", re.IGNORECASE)
"""Says of the rows of a table that they are money, and no count of anything."""
CHANGED = re.compile(
    r"\b(?:increas|decreas|declin|improv|reduc|rais|lower|grew|grown|rose|risen|fell|fallen|up|down)(?:ed?|es|ing)?\s(?:by\s)?$",
    re.IGNORECASE,
)
"""Stands in front of how much something changed, not of how much it is."""
_LABELS = (
    "amendment annex appendix article art attachment berth box bullet chapter ch clause column drawer equation example "
    "exercise exhibit fig figure floor footnote form gate grade house item level line lot nos? note nr number option pa"
    "ge paragraph para part phase platform point pp? problem proposal question release resolution room route row rule s"
    "cenario schedule sec section shelf stage step tab table task tier type unit version vol volume",
    "abbildung abb absatz abs abschnitt anhang anlage artikel band blatt gleis haus kapitel nummer punkt raum satz seit"
    "e tabelle teil vorschlag zeile ziffer zimmer",
    "alinéa annexe chapitre étage numéro partie pièce salle tableau titre",
    "anexo artículo capítulo cláusula numero número página parte sala sección tabla",
    "articolo capitolo pagina sezione tabella artigo seção artikel hoofdstuk paragraaf tabel kapitel sida",
    "глава раздел статья пункт таблица рисунок страница стр",
    "المادة الفصل الجدول الصفحة رقم القسم البند",
)
_NUMBERED = re.compile(
    rf"(?:\b(?:{'|'.join(' '.join(_LABELS).split())})s?\.?\s?(?:[\dA-Z.()]+(?:,\s|\s?[-–]\s?|\s(?:and|or|to|und"
    r"|et|y)\s))*|[§#№]\s?|第|\bn[°º]\s?|[A-Za-zÀ-ɏЀ-ӿ]-?)$",
    re.IGNORECASE,
)
"""Stands in front of a number that names a thing and counts nothing; also within a name, as in "KX-20"."""
_MARKER = re.compile(
    r"(?m:^)[ \t]*\d{1,3}(?:\.\d{1,2})+[ \t]+[A-ZÀ-ÞА-Я][^\d\n.]{0,40}(?:[.\n]|$)|(?m:^)[ \t]*\(?(?:\d{1,2}"
    r"|\d{1,3}(?:\.\d{1,2})+)[.)][ \t]+(?=\S)|\(\d{1,2}\)|\[\d{1,3}\]|\d+(?:\.\d{1,2}){2,}"
)
"""The number of a chapter, of an item of a list, or of a footnote."""
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
        start, end = match.end() - len(match[0].lstrip()), match.end()
        if match["more"] and not (
            MEASURE.search(text, start, match.start("more")) and MEASURE.search(text, start, end)
        ):
            end = match.start("more")
        begin, end = end, start + len(text[start:end].rstrip(" .,-"))
        if _counts(text, start, end):
            yield start, end
        elif token := _TOKEN.match(text, start):
            begin = token.end()


def fits(question: str, amount: str, is_counted: bool) -> bool:
    """Whether an amount may be what a question asks for, by its unit: no age is in metres. One without a unit may be
    anything; what has to be counted is in no unit, unless in the one that `is_counted`."""
    if is_counted or _BARE.fullmatch(amount):
        return True
    if COUNTED.search(question):
        return _MEASURED.search(amount) is None
    return next((units.search(amount) is not None for asks, units in _DIMENSIONS if asks.search(question)), True)


def _counts(text: str, start: int, end: int) -> bool:
    if _NUMBERED.search(text, max(0, start - _LABEL_CHARS), start):
        return False
    line = text.rfind("\n", 0, start) + 1
    if any(mark.start() <= start < mark.end() for mark in _MARKER.finditer(text, line, end + 4)):
        return False
    year = _YEAR.match(text, start)
    if year is None or MEASURE.search(text, start, end):
        return True
    return not (_YEAR_BEHIND.match(text, year.end()) or _YEAR_BEFORE.search(text, 0, start))
