"""The encoding of text files, which do not name it: UTF-8 and UTF-16 for sure, older ones as far as can be told."""

import re
import unicodedata

from charset_normalizer import from_bytes

SAMPLE_BYTES = 1 << 20
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_OLDER = {
    "cp1252": "Windows-1252 (Western European)",
    "cp1250": "Windows-1250 (Central European)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "koi8_r": "KOI8-R (Cyrillic)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp1255": "Windows-1255 (Hebrew)",
    "cp1256": "Windows-1256 (Arabic)",
    "shift_jis": "Shift JIS (Japanese)",
    "gb18030": "GB 18030 (Chinese)",
    "big5": "Big5 (Chinese)",
    "euc_kr": "EUC-KR (Korean)",
}
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r\x1a\x1b"))
_LINES_BEYOND_ASCII = re.compile(rb"[^\n.]*[\x80-\xff][^\n.]*")
_TOLD_BY = 1 << 16
"""Bytes by which an older encoding is told."""
_FEWEST_LETTERS = 3
"""Beyond ASCII, from which on a guess by the language is better than Western Europe."""
_WRONG_LETTERS = "If letters look wrong, save the file as UTF-8 and add it again."


def decode(data: bytes) -> tuple[str, str] | None:
    """The text of a file, and a sentence on what had to be assumed to read it, if anything; None where it is none."""
    for mark, codec in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _replaced(data.decode(codec, "replace"), codec.removesuffix("-sig").upper())
    if len(data.translate(None, _CONTROLS)) < 0.999 * len(data):
        return _utf16_without_mark(data)
    try:
        return data.decode(), ""
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
    bad = text.count("\ufffd")
    # Letters that only UTF-8 makes of two bytes and more; in an older encoding hardly any pair is one.
    if sum(map(len, re.findall(r"[^\x00-\x7f\ufffd]+", text))) >= 4 * bad:
        return _replaced(text, "UTF-8")
    codec = _older(data[:SAMPLE_BYTES])
    return data.decode(codec, "replace"), f"The file is not UTF-8; it was read as {_OLDER[codec]}. {_WRONG_LETTERS}"


def is_text(data: bytes) -> bool:
    """Whether these first bytes of a file begin a text. At the end a character may be cut."""
    return decode(data[: len(data) - len(data) % 4] if len(data) >= SAMPLE_BYTES else data) is not None


def _older(data: bytes) -> str:
    """The likeliest one by the lines that are not plain ASCII; Windows-1252, which covers Latin-1, where none is."""
    lines = b"\n".join(_LINES_BEYOND_ASCII.findall(data))[:_TOLD_BY]
    found = from_bytes(lines, cp_isolation=list(_OLDER))
    best, western = found.best(), next((each for each in found if each.encoding == "cp1252"), None)
    letters = len(lines) - len(lines.translate(None, bytes(range(0x80, 0x100))))
    if best is None or letters < _FEWEST_LETTERS:
        return "cp1252"
    as_likely = western and western.chaos <= best.chaos and western.coherence >= best.coherence
    return "cp1252" if as_likely or str(best) == lines.decode("cp1252", "replace") else best.encoding


def _utf16_without_mark(data: bytes) -> tuple[str, str] | None:
    """Text in which every character is two bytes, recognised by reading as characters that are all assigned."""
    for codec, high in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
        if high.count(0) == 0 or len(data) % 2:
            continue
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        head = text[:4096]
        odd = sum(unicodedata.category(each) in ("Cc", "Cn", "Co") and each not in "\t\n\r" for each in head)
        if odd <= 0.01 * len(head) and re.search(r"\s", head):
            return text, f"The file does not name its encoding; it was read as UTF-16. {_WRONG_LETTERS}"
    return None


def _replaced(text: str, name: str) -> tuple[str, str]:
    bad = text.count("\ufffd")
    if not bad:
        return text, ""
    places = "One place that is" if bad == 1 else f"{bad:,} places that are"
    return text, f"{places} no {name} can only be shown as \ufffd. {_WRONG_LETTERS}"
