"""Languages: in which one a text is, told by its letters and its commonest words."""

import re
from collections import Counter

_LETTERS = {
    "Japanese": "[\u3040-\u30ff]",
    "Chinese": "[\u3400-\u9fff]",
    "Korean": "[\uac00-\ud7af]",
    "Arabic": "[\u0600-\u06ff]",
    "Hebrew": "[\u0590-\u05ff]",
    "Hindi": "[\u0900-\u097f]",
    "Greek": "[\u0370-\u03ff]",
    "Thai": "[\u0e00-\u0e7f]",
    "Russian": "[\u0400-\u04ff]",
}
"""By language, the letters that it is written in: those of a script with several, of the one most written."""
_WORDS = {
    "English": "the of and to in is that was for with were by from which",
    "German": "der die das und ist nicht von den mit für ein eine auf wurde",
    "French": "le la les des et est une dans que pour qui sur pas du",
    "Spanish": "el los las y en que del por una con para se más es",
    "Italian": "il di che è la per non una gli del con sono della nel",
    "Portuguese": "o os as e que do da em um uma não para com dos",
    "Dutch": "de het een en van is niet dat op te voor met zijn aan",
    "Swedish": "och att det som en är på för av inte den med till har",
}
"""By language, its commonest words."""


def language_of(text: str) -> str:
    """The name of the language; empty where that cannot be told."""
    letters = Counter({name: len(re.findall(each, text)) for name, each in _LETTERS.items()})
    name, count = letters.most_common(1)[0]
    if count > 0.2 * len(re.findall(r"[^\W\d_]", text)):
        # Japanese is written with Chinese characters too.
        return "Japanese" if letters["Japanese"] > 0.1 * count else name
    words = Counter(re.findall(r"[^\W\d_]+", text.lower()))
    common = Counter({name: sum(words[word] for word in each.split()) for name, each in _WORDS.items()})
    name, count = common.most_common(1)[0]
    return name if count else ""
