"""Settings: what each is for, which values it takes, and when another one takes effect, in one place for all who ask.

A value comes from the command line, else from the environment, else from what is saved in the home; else it is the
default.
"""

from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from app.errors import BadSetting
from engine.core.errors import ReaderUnknown, RecipeUnknown
from engine.kvcache import readers
from engine.kvcache import recipe as recipes

Value = int | bool | str | Path
When = Literal["live", "next", "start"]
"""At once; from the next start on, saved until then; or by an option or a variable alone, and never saved."""
GROUPS = ("Answers", "Documents", "Memory and speed", "The page")
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_RECIPES, _READERS = tuple(recipes.NAMED), tuple(readers.READERS)
_PARSED = {_RECIPES: recipes.parse, _READERS: readers.parse}
"""What takes more than the choices that are shown for it."""


@dataclass(frozen=True)
class Described:
    """What is known of one setting."""

    name: str
    kind: type
    default: Value
    title: str
    about: str
    """For whoever uses the page, in whole sentences."""
    group: str
    when: When
    unit: str = ""
    least: int = 1
    most: int = 0
    """0 where there is no limit."""
    choices: Sequence[str] = ()
    shown: str = ""
    """What stands for the default where that is worked out."""
    secret: bool = False

    @property
    def option(self) -> str:
        """As the command line takes it."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """As the environment has it."""
        return f"DOCPOD_{self.name.upper()}"

    def parsed(self, source: str, given: str) -> Value:
        """The value that some words stand for; raises BadSetting, which names their source."""
        if not given.strip():
            raise BadSetting(f"{source} is empty.", "Give it a value, or leave it out.")
        wrong = f"{given!r} is no value of {source}."
        if self.kind is bool:
            if given.lower() in (*_YES, *_NO):
                return given.lower() in _YES
            raise BadSetting(wrong, "Give 1 or 0.")
        if self.kind is int:
            if given.isascii() and given.isdigit() and self.least <= int(given) <= (self.most or int(given)):
                return int(given)
            hint = f"Give a whole number, at least {self.least}."
            raise BadSetting(wrong, f"Give a whole number, from {self.least} to {self.most}." if self.most else hint)
        if parse := _PARSED.get(tuple(self.choices)):
            try:
                parse(given)
            except (ReaderUnknown, RecipeUnknown) as error:
                raise BadSetting(f"{wrong[:-1]}: {error}.", f"Give one of {', '.join(self.choices)}.") from error
        elif self.choices and given not in self.choices:
            raise BadSetting(wrong, f"Give one of {', '.join(self.choices)}.")
        return Path(given).expanduser() if self.kind is Path else given


def _setting(default: Any, group: str, when: When, title: str, about: str, *, repr: bool = True, **more: Any) -> Any:
    return field(default=default, repr=repr, metadata={**_of(group, when, title, about), **more})


def _of(group: str, when: When, title: str, about: str) -> dict[str, Any]:
    return {"group": group, "when": when, "title": title, "about": about}


_ANSWERS, _DOCUMENTS, _MEMORY, _PAGE = GROUPS


# fmt: off
@dataclass
class Settings:
    """Every setting; each is an option of `docpod` and an environment variable. One object is shared by all parts of a
    run: what can change live is looked up when it is used (`app.preferences` changes it).
    """

    max_answer_tokens: int = _setting(256, _ANSWERS, "live", "Longest answer",
        "An answer ends after so many tokens; 100 tokens are about 75 words.", unit="tokens")
    passages: int = _setting(3, _ANSWERS, "live", "Passages",
        "So many passages of the document are shown with an answer, at most.", most=9)
    meaning: bool = _setting(True, _ANSWERS, "live", "Other words",
        "Passages are found in other words than the question's too. A small text encoder does it, which is fetched "
        "once (91 MB).")
    guides: bool = _setting(True, _ANSWERS, "live", "Main points",
        "What a document is about is worked out in the background, before anybody asks, while nobody else is at work.")
    reader: str = _setting("", _ANSWERS, "live", "Sparse attention",
        "Each token of an answer attends only those tokens of the document that a published method chooses: NAME, or "
        "NAME:PERCENT of them. What is kept does not change.", choices=_READERS, shown="all tokens")
    recipe: str = _setting("", _DOCUMENTS, "live", "Memory of new documents",
        "How the memory of a document that you add is compressed. What is chosen for a document holds for the next "
        "ones too.", choices=_RECIPES, shown="automatic")
    prepare: bool = _setting(True, _DOCUMENTS, "live", "Preparing readers",
        "A small reader is prepared for coded memories in the background, once, when something is read and nobody "
        "else is at work.")
    coded: bool = _setting(True, _DOCUMENTS, "live", "Coded memory",
        "Where nobody chose a recipe and the reader is prepared, documents are kept coded instead of exactly, those "
        "that were read before too: about nine times smaller on the disk, and some seconds longer to open.")
    ocr: bool = _setting(True, _DOCUMENTS, "live", "Pictures of text",
        "Pages of a new document that are pictures of text are read by OCR, where that is installed.")
    max_upload_mb: int = _setting(200, _DOCUMENTS, "next", "Largest file", "Larger files are refused.", unit="MB")
    max_pages: int = _setting(100_000, _DOCUMENTS, "live", "Longest document",
        "Documents of more pages are refused.", unit="pages")
    page_seconds: int = _setting(20, _DOCUMENTS, "live", "Time for a page",
        "Processor time that the text of one page may take. Then the page is named unreadable.", unit="seconds")
    chunk_tokens: int = _setting(0, _DOCUMENTS, "next", "Between two saves",
        "So much is read between two saves, and a crash loses no more. With 0 it is 1024, and up to 4096 on a GPU.",
        unit="tokens", least=0)
    model: str = _setting("", _MEMORY, "start", "Reader",
        "The model that reads and answers: auto, embedded, a folder, a GGUF file, or a hub id such as Qwen/Qwen3-4B. "
        "While DocPod runs, it is chosen at the foot of the library.", shown="the last chosen, at first auto")
    memory_mb: int = _setting(0, _MEMORY, "live", "Memory for documents",
        "Memory in which what was read may stay, so that the next question need not load it. With 0 it is a quarter "
        "of what is free.", unit="MB", least=0)
    gpu_memory_mb: int = _setting(0, _MEMORY, "live", "Memory of the GPU",
        "The same on a GPU. With 0 it is half of what the loaded model leaves free.", unit="MB", least=0)
    threads: int = _setting(0, _MEMORY, "next", "Processor threads",
        "For the model. With 0 it is all physical cores.", unit="threads", least=0)
    cluster: str = _setting("", _MEMORY, "start", "Replicas",
        "Address of a cluster whose replicas read and answer, as docpod cluster up says it.", shown="this process")
    browser: bool = _setting(True, _PAGE, "next", "Browser", "The page opens in the browser at the start.")
    window: bool = _setting(False, _PAGE, "next", "Own window",
        "The page opens in a window of its own, and closing it ends DocPod. It takes pywebview (the extra window), "
        "Chromium, Chrome or Edge.")
    port: int = _setting(7860, _PAGE, "next", "Port", "The first port to try; the next free one is taken.",
        least=0, most=65_535)
    listen: bool = _setting(False, _PAGE, "next", "Local network",
        "What you share can be reached on the local network too, by a link or a password.")
    log_level: str = _setting("info", _PAGE, "live", "Log", "How much is written into the log in the home folder.",
        choices=("debug", "info", "warning", "error"))
    log_json: bool = _setting(False, _PAGE, "start", "Log for programs",
        "Each entry of the log is one line of JSON.")
    home: Path = field(default_factory=lambda: user_data_path("docpod", appauthor=False), metadata=_of(_PAGE, "start",
        "Home folder", "Holds the library, what was read, and the embedded model.")
        | {"shown": "the platform's data folder"})
    database: str = _setting("", _PAGE, "start", "Database",
        "postgresql://user@host/name keeps what is known of the library on a server, for several machines.", repr=False,
        shown="a file in the home folder", secret=True)
    store: str = _setting("", _PAGE, "start", "Store",
        "Another folder, such as a mounted share, or s3://bucket/prefix, keeps the original files and what was read.",
        shown="the home folder")
    cache_mb: int = _setting(20_000, _PAGE, "start", "Copies of the store",
        "So much of what an object store keeps may be in the home folder too.", unit="MB")
    host: str = _setting("127.0.0.1", _PAGE, "start", "Address",
        "Where the page is served. Any address but this machine's own takes a password.")
    names: str = _setting("", _PAGE, "start", "Names",
        "Further host names under which the page is reached, with commas between them, such as that of a proxy.",
        shown="none")
    trusted_header: str = _setting("", _PAGE, "start", "Header of a proxy",
        "A header in which a proxy names whoever it has signed in, such as X-Forwarded-Email or Remote-User.",
        shown="none")
    trusted_proxy: str = _setting("", _PAGE, "start", "Addresses of the proxy",
        "Addresses or networks that this header is believed from, with commas between them; from others it is refused.",
        shown="none")
    unknown_people: str = _setting("member", _PAGE, "start", "Unknown people",
        "Whether somebody whom the proxy names for the first time becomes a member, or is refused.",
        choices=("member", "refused"))
    page_password: str = _setting("", _PAGE, "start", "Password of the page",
        "Lets whoever has it in from other machines, to everything.", repr=False, shown="none", secret=True)
    share: bool = _setting(False, _PAGE, "start", "Shared from the start",
        "All documents are shared by a link that lets one person in, for a day.")
    share_only: str = _setting("", _PAGE, "start", "Documents shared from the start",
        "These documents alone are shared so: ids or titles, separated by commas.", shown="all")
# fmt: on

    @property
    def places(self) -> dict[str, Any]:
        """Where the library is kept, as `Home` takes it."""
        return {"database": self.database, "store": self.store, "cache_bytes": self.cache_mb * 1_000_000}



def _described(each: Field[Any]) -> Described:
    assert isinstance(each.type, type)
    return Described(name=each.name, kind=each.type, default=getattr(Settings(), each.name), **each.metadata)


SETTINGS = {each.name: _described(each) for each in fields(Settings)}
"""All settings by name, in the order in which they are shown."""
