"""The words that carry a question: what is searched for, and what a passage is compared with."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from storage.scripts import RUN, pairs

Found = tuple[str, int, int]
"""A word as it is compared, and the characters (start, end) that it covers."""

_MARK = "".join(chr(code) for code in range(0x300, 0x11FFF) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
_MARK += "\u00ad\u200c\u200d"
_WORD = re.compile(
    r"\d{1,3}(?:[,\u00a0\u202f]\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)+"
    rf"|[^\W_]+(?:(?=[^\x00-\xac\xae-\u02ff])[{_MARK}]+[^\W_]*)*(?:['’][^\W\d_]{{1,2}}\b)?"
)
"""A number with groups of three digits, decimals, or a date with points; else letters and digits with their marks."""
_FISCAL = re.compile(r"(?:fy|cy)(?:(\d\d)|(\d{4}))?", re.IGNORECASE)
_DROPPED = re.compile(
    "[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0640\u00ad\u200c\u200d,\u00a0\u202f]"
)
"""Accents, points that readers of a script leave out, and what stands between the digits of a number."""
_ALIKE = str.maketrans(dict(zip("øłđðæœıىةکی", "o l d d ae oe i ي ه ك ي".split(), strict=True)))
"""Letters that are typed for one another and that Unicode does not take apart."""
_CLOSED_WORDS = (
    "a about all also am an and any are as at be been but by came can come could did do does don't during for "
    "from give go had happen happened has have he her him his how i if in into is it its list many me much must name "
    "of on or our please shall she should state tell than that the their them there these they this those to under us "
    "was we were what when where which who whom whose why will with would you your document",
    "der die das den dem des ein eine einer einem ist sind war wie wer wo wann warum wird und oder von zu zum "
    "zur im in für mit auf an welche welcher welches viel viele hat",
    "le la les l' un une du de des d' est sont qui que quoi quel quelle quels quelles combien où quand "
    "pourquoi comment et ou dans pour avec sur à au aux a",
    "el la los las una un es son de del quién qué cuál cuánto cuánta cuántos cuántas dónde cuándo cómo y en "
    "por para con a",
    "il lo la gli le i uno una un è sono di del della che chi quale quanto quanti dove quando come e in per con a",
    "o os as a um uma é são de do da dos das quem que qual quanto quantos onde quando como e em por para com no na",
    "de het een is zijn was van wat wie waar wanneer waarom hoe veel en of in op voor met te welke",
    "den det de en et er var hva hvad hvem hvor hvornår når hvordan hvorfor mange mye og eller i på av af for "
    "til med som är vad vem var hur många mycket när och av till",
    "что кто где когда как какой какая какое какие каков какова сколько почему чем и а в во на с со из к по "
    "для от до о это был была было есть у ли",
    "ما من هو هي اين متى كم عدد كيف لماذا في على الى عن هل و اي",
    "क्या कौन कहाँ कब कैसे कितना कितनी कितने का की के है हैं था में से को और पर किस",
)
"""By language, the words that every text has and that tell nothing of what is sought."""
_ASKING = re.compile(
    "为什么|[什甚]么(?:颜色|地方|名字|样子|时[候间])?|多少|哪里|哪儿|哪个|哪些|谁|何时|怎么|怎样|是否|几[次个年天种条]?|哪一?[年天月次]|多[长久大高远重]|请问|吗|呢"
    "|[的是了在和与有]"
    "|何[年月日時色人個]?|誰|です|ます|ください|[ぁ-ん]+|무엇|누구|어디|언제|얼마|어떻게|입니까|인가요|[은는이가을를의]$"
    "|อะไร|ใคร|ที่ไหน|เมื่อไร|เท่าไร|อย่างไร|ทำไม|คือ"
)
"""The same where no spaces part them from what is sought."""
_ENDINGS = "ations ation ments ment ings ing ies ied ers es ed er ly s e y".split()
_CASES = re.compile("(?<=[а-яёіїє]{3})(?:[ыи]ми|[ао]ми|[ое]го|[ое]му|[ыи]х|[ая]х|[оеыи][йм]|[уюаяоеыиьій]{1,2})$")
"""Cyrillic case endings."""
_AFFIXES = re.compile("^(?:[وفبك]?ال|لل)(?=[^ ]{3})|(?<=[^ ]{3})(?:ها|ات|ان|ون|ين|[هيا])$")
"""Arabic articles, plurals and endings, as a light stemmer takes them off."""


def words(text: str) -> list[Found]:
    """Every word of a text in order; "11,692.7" is one word, "X-220" two, "FY19" the words "fiscal" and "2019".

    Of scripts without spaces every two signs that stand together are a word.
    """
    found: list[Found] = []
    for match in _WORD.finditer(text):
        word, (start, end) = match.group(), match.span()
        if word[0] in "FfCc" and (fiscal := _FISCAL.fullmatch(word)):
            found.append(("fiscal", start, end))
            if year := fiscal[2] or (fiscal[1] and f"20{fiscal[1]}"):
                found.append((year, start, end))
        elif word.isascii() or not RUN.search(word):
            found.append((fold(word), start, end))
        else:
            found += ((fold(text[a:b]), a, b) for a, b in _pieces(word, start))
    return found


def _pieces(word: str, start: int) -> Iterator[tuple[int, int]]:
    """Pairs of signs of scripts without spaces, and what stands between such runs whole."""
    for run in re.finditer(rf"{RUN.pattern}|.+?(?={RUN.pattern}|$)", word):
        own = pairs(*run.span()) if RUN.match(run[0]) else [run.span()]
        yield from ((start + a, start + b) for a, b in own)


@lru_cache(maxsize=1 << 16)
def fold(word: str) -> str:
    """A word as it is compared: without case, accents, possessive, full width, and commas in its number."""
    plain = unicodedata.normalize("NFKD", _DROPPED.sub("", word.casefold())).replace("’", "'").removesuffix("'s")
    return unicodedata.normalize("NFC", _DROPPED.sub("", plain).translate(_ALIKE)) or word


_CLOSED = tuple(frozenset(map(fold, language.split())) for language in _CLOSED_WORDS)
CLOSED = frozenset(word for language in _CLOSED_WORDS for word in language.split() if word.isalpha())
"""Of all languages."""


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A crude stem: enough for "closed" to meet "closing", and never for a word with digits."""
    if any(map(str.isdigit, word)):
        return word
    if "а" <= word[:1] <= "є":
        return _CASES.sub("", word)
    if "\u0620" <= word[:1] <= "\u064a":
        return _AFFIXES.sub("", word)
    if len(word) == 4 and word[3] == "s" and word[2] not in "sui":
        return word[:3]
    if len(word) < 5:
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def terms(text: str) -> list[str]:
    """The words of a question that say what it is about, in order and once each; all words if none is left."""
    found = [word for word, _, _ in words(text)]
    closed = max(_CLOSED, key=lambda language: sum(word in language for word in found))
    telling = [word for word, _, _ in words(_ASKING.sub(" ", text)) if word not in closed]
    # A sign that stood beside one of those is in no pair of a text.
    whole = [word for word in telling if len(word) > 1 or not RUN.match(word)]
    return list(dict.fromkeys(whole or telling or found))


def is_german(text: str) -> bool:
    """Whether a text has more of the words that every German one has than of those of English."""
    found = [word for word, _, _ in words(text)]
    english, german = (sum(word in language for word in found) for language in _CLOSED[:2])
    return german > english


def telling_stems(text: str) -> frozenset[str]:
    """The stems of a text's words that tell something."""
    return frozenset(map(stem, terms(text)))


def stems(text: str) -> frozenset[str]:
    """The stems of a text."""
    return frozenset(stem(word) for word, _, _ in words(text))
