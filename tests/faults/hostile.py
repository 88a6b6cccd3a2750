"""Files that do harm: small ones of every format, with bytes changed, cut out, doubled or put in from elsewhere."""

from pathlib import Path
from random import Random

from app.errors import AppError
from app.readers import ReaderLimits, open_document, sniff
from tests.app import made, paper

_TOKENS = (
    b"\xff" * 4,
    b"\x00" * 4,
    b"-1",
    b"99999999999",
    b"<<",
    b"endobj",
    b"<!ENTITY a '&a;&a;'>",
    b"\r\n\r\n",
    b"%s%n",
)
LIMITS = ReaderLimits(page_seconds=5, convert_seconds=10)


def corpus(folder: Path) -> list[Path]:
    """One small file of each format."""
    folder.mkdir()
    (folder / "a.html").write_text(
        "<!DOCTYPE html><html><body><h1>Rooms</h1><table><tr><td>1</td></tr></table></body></html>"
    )
    (folder / "a.csv").write_text("room,code\n1,4037\n2,4074\n")
    (folder / "a.md").write_text("# Rooms\n\n| room | code |\n| --- | --- |\n| 1 | 4037 |\n")
    paper.text(folder / "a.txt", 2)
    paper.pdf(folder / "a.pdf", 2)
    made.docx(folder / "a.docx", made.paragraph("Rooms", "Title") + made.table(("room", "code"), ("1", "4037")))
    made.pptx(folder / "a.pptx", [("Rooms", "One and two")])
    made.xlsx(folder / "a.xlsx", {"Rooms": [["room", "code"], [1, 4037]]})
    return sorted(folder.iterdir())


def spoil(data: bytes, random: Random) -> bytes:
    """The bytes of a file after a few changes."""
    spoilt = bytearray(data)
    for _ in range(random.choice((1, 3, 20))):
        at = random.randrange(len(spoilt) or 1)
        size = random.choice((1, 4, 64, len(spoilt) // 4))
        match random.randrange(5):
            case 0:
                spoilt[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del spoilt[at : at + size]
            case 2:
                spoilt[at:at] = spoilt[at : at + size]
            case 3:
                spoilt[at:at] = random.choice(_TOKENS)
            case 4:
                spoilt[at : at + size] = random.randbytes(size)
    return bytes(spoilt)


def read(path: Path) -> str:
    """What came of a file: the number of pages, or the sentence by which it is refused."""
    try:
        document = open_document(path, sniff(path, path.name), LIMITS)
        return f"{len(list(document.pages()))} of {document.info.num_pages} pages"
    except AppError as error:
        return error.message
