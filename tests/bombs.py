"""Files that are made to do harm, by grammar: nesting without end, loops, and few bytes that become many."""

import io
import zlib
from collections.abc import Callable, Sequence
from random import Random
from zipfile import ZIP_DEFLATED, ZipFile

SECRET = "/etc/passwd"
"""What an entity of XML asks for; a text that holds the root's line has got it."""
Bomb = Callable[[Random], bytes]


def _depth(random: Random) -> int:
    return random.choice((10, 300, 3_000, 30_000, 300_000))


def _pdf(objects: Sequence[bytes], trailer: bytes = b"", prev: int | None = None) -> bytes:
    """Objects from 1 on, of which the first is the catalogue, with a table of where they are."""
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    at = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    more = b"/Prev %d" % (at if prev is None else prev)
    out += b"trailer\n<</Size %d/Root 1 0 R%b%b>>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        trailer,
        more if prev != -1 else b"",
        at,
    )
    return bytes(out)


def _stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<</Length %d%b>>\nstream\n%b\nendstream" % (len(data), entries, data)


def _page(content: bytes, *more: bytes, page: bytes = b"", filters: bytes = b"", resources: bytes = b"") -> bytes:
    """One page (3) with this content (4), a font (5), and further objects from 6 on."""
    tree = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    own = page or b"/MediaBox[0 0 300 300]"
    of_page = b"<</Type/Page/Parent 2 0 R%b/Contents 4 0 R/Resources<</Font<</F 5 0 R>>%b>>>>" % (own, resources)
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    return _pdf([b"<</Type/Catalog/Pages 2 0 R>>", tree, of_page, _stream(content, filters), font, *more], prev=-1)


def _nested_objects(random: Random) -> bytes:
    begins, ends = random.choice(((b"[", b"]"), (b"<</A ", b">>"), (b"[<</A[", b"]>>]"), (b"(", b")"), (b"<<", b"")))
    deep = _depth(random)
    value = begins * deep + b"1" + ends * random.choice((deep, deep - 1, 0))
    if random.random() < 0.5:
        return _page(b"BT /F 9 Tf (x) Tj ET", page=b"/MediaBox[0 0 9 9]/A " + value)
    return _page(b"BT /F 9 Tf " + value + b" Tj ET")


def _page_tree(random: Random) -> bytes:
    count = random.choice((-1, 0, 3, 10**6, 2**31, 2**63))
    deep = min(_depth(random), 30_000)
    leaf = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"
    kids = random.choice((b"2 0 R", b"3 0 R " * deep, b"1 0 R", b"99 0 R", b"3 0 R 2 0 R"))
    chain = [b"<</Type/Pages/Count 1/Kids[%d 0 R]/Parent %d 0 R>>" % (n + 1, n - 1) for n in range(3, 3 + deep)]
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count %d/Kids[%b]>>" % (count, kids)]
    return _pdf([*objects, *(chain if random.random() < 0.5 else ()), leaf], prev=-1)


def _xref(random: Random) -> bytes:
    whole = _pdf([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count 0/Kids[]>>"], b"/Size 99999999", None)
    return whole.replace(b"0 3\n", random.choice((b"0 3\n", b"0 99999999\n", b"-5 3\n", b"3 0\n")))


def _object_stream(random: Random) -> bytes:
    number = random.choice((1, 10**4, 2**31 - 1))
    packed = zlib.compress(b"".join(b"%d %d " % (n, n * 3) for n in range(min(number, 10**4))) + b"[] " * 10**4)
    of_it = b"/Type/ObjStm/N %d/First %d/Extends 6 0 R/Filter/FlateDecode" % (number, random.choice((0, 9, 2**31)))
    return _page(b"BT /F 9 Tf (x) Tj ET", _stream(packed, of_it))


def _filters(random: Random) -> bytes:
    data = b"BT /F 9 Tf (x) Tj ET " * random.choice((10, 10**5, 3 * 10**6))
    times = random.choice((1, 2, 3, 12))
    for _ in range(times):
        data = zlib.compress(data, 9)
    named = b"/FlateDecode " * times
    if random.random() < 0.4:
        data, named = data.hex().encode() + b">", b"/ASCIIHexDecode " + named
    other = random.choice((b"", b"", b"/LZWDecode ", b"/RunLengthDecode ", b"/ASCII85Decode ", b"/JBIG2Decode "))
    predictor = random.choice((b"", b"/DecodeParms<</Predictor 12/Columns 2147483647/Colors 99>>"))
    return _page(data, filters=b"/Filter[%b%b]%b" % (other, named, predictor))


def _forms(random: Random) -> bytes:
    """Forms, patterns or glyphs that draw themselves or each other."""
    again = b"/B Do " * random.choice((1, 2, 10, 1000))
    size = random.choice((1, 2, 30))
    forms = [
        _stream(
            again + b"BT /F 9 Tf (x) Tj ET",
            b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources"
            b"<</Font<</F 5 0 R>>/XObject<</B %d 0 R>>>>" % (6 + (n + 1) % size),
        )
        for n in range(size)
    ]
    return _page(b"/B Do", *forms, resources=b"/XObject<</B 6 0 R>>")


def _image(random: Random) -> bytes:
    side = random.choice((1, 10**4, 10**5, 2**31 - 1))
    kind = random.choice((b"/FlateDecode", b"/DCTDecode", b"/JPXDecode", b"/CCITTFaxDecode", b"/JBIG2Decode"))
    image = _stream(
        zlib.compress(bytes(10**6)),
        b"/Type/XObject/Subtype/Image/ColorSpace/DeviceRGB/BitsPerComponent 8/Width %d/Height %d/Filter%b"
        % (side, side, kind),
    )
    return _page(b"900 0 0 900 0 0 cm /B Do", image, resources=b"/XObject<</B 6 0 R>>")


def _measures(random: Random) -> bytes:
    box = random.choice(
        (b"[0 0 1e38 1e38]", b"[0 0 0 0]", b"[9 9 -9 -9]", b"[0 0 nan inf]", b"[0 0 1e-30 1e-30]", b"5")
    )
    text = random.choice((b"1e30 0 0 1e30 1e30 0 cm", b"0 0 0 0 0 0 cm", b"90 Tz 1e9 Tc", b"q " * 10**6))
    more = b"/MediaBox" + box + random.choice((b"", b"/UserUnit 1e30", b"/Rotate 2147483647", b"/CropBox[1 1 2 2]"))
    return _page(text + b" BT /F 1e30 Tf (x) Tj ET", page=more)


def _words(random: Random) -> bytes:
    return _page(
        zlib.compress(b"BT /F 1 Tf " + b"(word ) Tj 0 1 Td " * random.choice((10**4, 10**6)) + b"ET"),
        filters=b"/Filter/FlateDecode",
    )


def _xml(random: Random, tag: str, text: str) -> str:
    """An element that is nested, repeated, or asks for an entity."""
    deep, name = _depth(random), tag.split()[0]
    match random.randrange(6):
        case 0:
            return f"<{tag}>" * deep + text + f"</{name}>" * random.choice((deep, 0))
        case 1:
            return f"<{tag}>{text}</{name}>" * deep
        case 2:
            return f"<{tag} x='{'y' * deep * 10}'>{text}</{name}>"
        case 3:
            return f"<{tag}>" + "".join(f"<!--{n}-->" for n in range(deep)) + f"{text}</{name}>"
        case 4:
            return f"<{tag}>&#{random.choice((0, 55296, 1114112, 10**9))};{text}</{name}>"
        case _:
            return f"<{tag}>&z;{text}</{name}>"


def _entities(random: Random) -> str:
    laughs = "".join(f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(24))
    return random.choice(
        (
            "",
            f"<!DOCTYPE x [<!ENTITY a 'ha'>{laughs}<!ENTITY z '&y;'>]>",
            f"<!DOCTYPE x [<!ENTITY z SYSTEM 'file://{SECRET}'>]>",
            f"<!DOCTYPE x [<!ENTITY z '{'x' * 50_000}'>]>".replace("&z;", "&z;" * 9),
            f"<!DOCTYPE x [<!ENTITY % a SYSTEM 'file://{SECRET}'> %a; <!ENTITY z 'x'>]>",
            "<!DOCTYPE x [<!ENTITY z '&z;'>]>",
        )
    )


def archive(data: bytes, random: Random, tags: Sequence[str]) -> bytes:
    """An office file or a book in which one part of XML does harm, or that is a bomb as an archive."""
    out = io.BytesIO()
    with ZipFile(io.BytesIO(data)) as source, ZipFile(out, "w", ZIP_DEFLATED) as copy:
        names = [each for each in source.namelist() if each.endswith((".xml", ".rels", ".xhtml", ".opf", ".ncx"))]
        chosen = random.choice(names)
        for name in source.namelist():
            part = source.read(name)
            if name == chosen:
                text = part.decode("utf-8", "replace")
                head, tag, tail = text.partition(random.choice(("</w:p>", "</a:p>", "</row>", "</p>", ">", "</")))
                text = head + tag + _xml(random, random.choice(tags), "harbour") + tail
                if (doctype := _entities(random)) and "<!DOCTYPE" not in text:
                    at = text.find("?>") + 2 if text.startswith("<?xml") else 0
                    text = text[:at] + doctype + text[at:]
                part = text.encode("utf-8", "replace")
            copy.writestr(name, part)
        match random.randrange(8):
            case 0:
                copy.writestr(f"{chosen}x.xml", b" " * random.choice((10**7, 3 * 10**8)))
            case 1:
                for number in range(20_000):
                    copy.writestr(f"x/{number}.xml", b"")
            case 2:
                copy.writestr("../../../tmp/out.xml", b"<x/>")
    return out.getvalue()


def html(random: Random) -> bytes:
    tag = random.choice(
        ("div", "b", "table", "ul", "blockquote", "svg", "td colspan=999999 rowspan=999999", "font", "a")
    )
    inner = _xml(random, tag, "<td colspan=99999 rowspan=99999>harbour")
    return f"<!DOCTYPE html><html><body><p>harbour{inner}</body></html>".encode()


def csv(random: Random) -> bytes:
    wide = _depth(random)
    rows = ('"' + "x" * wide, ",".join("x" * wide), "\n".join("a,b" for _ in range(wide)), '"a""' * wide, ",\n" * wide)
    return random.choice(rows).encode() + b"\n1,2\n"


def markdown(random: Random) -> bytes:
    deep = min(_depth(random), 30_000)
    begins = random.choice(("> ", "- ", "[", "*", "`", "![](", "# ", "|", "<div>", "1. ", "  - ", "\\", "[a](b"))
    return (
        f"# Rooms\n\n{begins * deep}harbour\n" + random.choice(("", "\n".join(" " * n + "- x" for n in range(300))))
    ).encode()


def text(random: Random) -> bytes:
    wide = _depth(random)
    return random.choice(
        ("x" * wide, "\u0301" * wide, "\u202e" * wide, "a\n" * wide, "\x0c" * wide + "x", "ﷺ" * wide)
    ).encode()


PDFS: tuple[Bomb, ...] = (
    *(_nested_objects, _page_tree, _xref, _object_stream, _filters, _forms, _image, _measures, _words),
)
TEXTS: dict[str, Bomb] = {".html": html, ".csv": csv, ".md": markdown, ".txt": text}
TAGS = {
    ".docx": ("w:p", "w:tbl", "w:r", "w:sdt", "w:ins", "w:txbxContent"),
    ".pptx": ("p:grpSp", "a:p", "p:sp", "a:tbl"),
    ".xlsx": ("row r='1048576'", "c r='XFD1048576'", "mergeCell ref='A1:XFD1048576'", "si"),
    ".epub": ("div", "p", "table", "itemref idref='c0'", "item id='c0' href='a.xhtml'"),
}
