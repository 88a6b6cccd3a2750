"""The catalogues hold what the page says and nothing else; each language has its own numbers, plurals and way."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from tests.ui.served_process import ROOT
from ui.language import CATALOGUES, count, direction, figure, language, speaking, t, translated

PLURALS = {"de": {"one", "other"}, "zh-CN": {"other"}, "ar": {"zero", "one", "two", "few", "many", "other"}}


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("t", "i18n", "count"):
            yield node


def keys(call: ast.Call) -> Iterator[str]:
    """What is looked up: constants, of `a if b else c` both."""
    words = call.args[call.func.id == "count"]  # type: ignore[attr-defined]
    for each in [words.body, words.orelse] if isinstance(words, ast.IfExp) else [words]:
        assert isinstance(each, ast.Constant), f"line {call.lineno}: no plain string"
        yield f"{{n}} {each.value}" if call.func.id == "count" else each.value  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def used() -> set[str]:
    """Every key of the page's Python and script."""
    paths = [*(ROOT / "ui").glob("*.py"), *(ROOT / "ui" / "render").glob("*.py")]
    paths = [path for path in paths if path.name != "language.py"]
    found = {key for path in paths for call in calls(path) for key in keys(call)} | {",."}
    script = (ROOT / "ui" / "script.js").read_text("utf-8")
    found |= set(re.findall(r'\bt\("([^"]+)"', script))
    return (
        found
        | {f"{{n}} {one}" for one in re.findall(r'\bcount\([^"()]+, "([^"]+)"', script)}
        | {name.strip('"') for name in re.findall(r'--[a-z-]+", JSON.stringify\(t\(("[^"]+")', script)}
    )


@pytest.fixture(scope="module")
def said() -> str:
    """Every string of what speaks through the page, behind each other."""
    own = [ROOT / "ui" / name for name in ("access.py", "tunnel.py")]
    paths = [*own, *(ROOT / "app").rglob("*.py"), *(ROOT / "engine").rglob("*.py")]
    trees = [ast.parse(path.read_text("utf-8")) for path in paths]
    parts = [each.value for tree in trees for each in ast.walk(tree) if isinstance(each, ast.Constant)]
    return "\n".join(each for each in parts if isinstance(each, str))


def names(words: str) -> list[str]:
    return sorted(name for _, name, _, _ in Formatter().parse(words) if name is not None)


@pytest.mark.parametrize("tongue", PLURALS)
def test_every_key_is_there_and_no_other(tongue: str, used: set[str], said: str) -> None:
    there = set(CATALOGUES[tongue])
    assert used - there == set()
    of_the_app = there - used
    dead = [key for key in of_the_app if not all(part.strip() in said for part in key.split("{}"))]
    assert dead == []
    assert there == set(CATALOGUES["de"])


@pytest.mark.parametrize("tongue", PLURALS)
def test_values_have_their_places_and_words_break_no_markup(tongue: str) -> None:
    for key, entry in CATALOGUES[tongue].items():
        forms = entry if isinstance(entry, dict) else {"": entry}
        assert isinstance(entry, str) or set(entry) == PLURALS[tongue], key
        for form, words in forms.items():
            assert names(words) == names(key) or form in ("zero", "one", "two"), key
            assert set(re.findall(r'["<>&]', words)) <= set(re.findall("[<>]", key)), key
            assert words.strip(), key


@pytest.mark.parametrize(
    ("accepted", "tongue", "runs"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de", "ltr"),
        ("zh-CN,zh;q=0.9", "zh-CN", "ltr"),
        ("ZH", "zh-CN", "ltr"),
        ("ar", "ar", "rtl"),
        ("fr,de;q=0.5", "en", "ltr"),
        ("*", "en", "ltr"),
        ("", "en", "ltr"),
    ],
)
def test_the_first_language_of_the_browser_is_spoken(accepted: str, tongue: str, runs: str) -> None:
    with speaking(accepted):
        assert (language(), direction()) == (tongue, runs)
    assert language() == "en"


@pytest.mark.parametrize(
    ("tongue", "shown"),
    [
        ("en", ["0 pages", "1 page", "2 pages", "1,204 pages"]),
        ("de", ["0 Seiten", "1 Seite", "2 Seiten", "1.204 Seiten"]),
        ("zh", ["0 页", "1 页", "2 页", "1,204 页"]),
        ("ar", ["لا صفحات", "صفحة واحدة", "صفحتان", "1,204 صفحات"]),
    ],
)
def test_plurals_and_figures(tongue: str, shown: list[str]) -> None:
    with speaking(tongue):
        assert [count(number, "page") for number in (0, 1, 2, 1204)] == shown


def test_every_arabic_form_is_reached() -> None:
    with speaking("ar"):
        forms = CATALOGUES["ar"]["{n} page"]
        for number, form in ((3, "few"), (110, "few"), (11, "many"), (199, "many"), (100, "other"), (502, "other")):
            assert count(number, "page") == forms[form].format(n=number)


def test_values_are_islands_where_words_run_to_the_left() -> None:
    with speaking("ar"):
        assert "\u2068Report (2017).pdf\u2069" in t("Add {file}", file="Report (2017).pdf")
    with speaking("de"):
        assert t("Add {file}", file="{x}.pdf") == "{x}.pdf hinzufügen"
        assert figure(1234.5, ",.1f") == "1.234,5"


def test_what_the_app_says_is_told_sentence_by_sentence() -> None:
    both = "Not found in the document. “Corvane” stands nowhere in it. I looked through all 98 pages; "
    with speaking("de"):
        assert translated("The question is empty.") == "Die Frage ist leer."
        assert translated(f"{both}the closest passages are shown.") == (
            "Nicht im Dokument gefunden. “Corvane” kommt darin nirgends vor. "
            "Durchgesehen wurde: alle 98 Seiten; die ähnlichsten Stellen werden gezeigt."
        )
        assert translated("Corvane shone. The question is empty. So {0}") == "Corvane shone. Die Frage ist leer. So {0}"
    assert translated(both) == both
