"""The house rules that a machine can check: who imports whom, sizes, names, errors, documentation."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from statistics import median
from typing import TypeGuard

import pytest

from app import cli
from app.settings import SETTINGS
from tests import architecture

ROOT = Path(__file__).parent.parent
NOT_OURS = {"pdfjs", ".git", ".venv", "build", "data", ".mypy_cache", ".ruff_cache", ".pytest_cache"}

MAY_IMPORT = {
    "run_app.py": {"ui", "app", "engine", "storage"},
    "ui": {"ui", "app"},
    "app": {"app", "engine", "storage"},
    "engine": {"engine"},
    "storage": {"storage"},
    "benchmarks": {"benchmarks", "app", "engine", "storage"},
}
ROOMS = (
    "core",
    "kernels",
    "attention",
    "models",
    "kvcache",
    "runtime",
    "offload",
    "compression",
    "evidence",
    "training",
)
"""The rooms of engine/: each imports itself and those before it."""
ONLY_IN = {
    "torch": "engine",
    "triton": "engine",
    "numba": "engine",
    "llvmlite": "engine",
    "transformers": "engine",
    "bitsandbytes": "engine",
    "sqlalchemy": "storage",
    "sqlite3": "storage",
    "ray": "app/cluster",
    "prometheus_client": "app",
    "gradio": "ui",
    "pypdf": "app/readers",
    "pypdfium2": "app/readers",
    "pypdfium2_raw": "app/readers",
}

# Where a rule does not hold, and why.
CATCHES_EVERYTHING = {
    "app/chat.py": "rim: whatever goes wrong with one question must neither lose it nor end the thread for the others",
    "app/warming.py": "rim: what cannot be warmed is told to whoever asks, and must not end the thread for the next",
    "app/guide.py": "rim: whatever is wrong with one document must not end the thread that serves the others",
    "app/worker.py": "rim: whatever goes wrong with one document must not end the thread that serves the others",
    "app/readers/worker.py": "rim: whatever a parser raises over one page costs that page only",
    "storage/object_store.py": "rim: whatever a store's own library raises means that the store cannot be used now",
    "engine/models/tokenizer.py": "named: whatever a tokenizer's library raises over a file means that it is spoilt",
    "engine/runtime/backend.py": "tried once: whatever Triton raises here, answers go without it, which is said",
}
BY_NAME = {"import_module", "resolve_name", "__import__"}
IMPORTS_BY_NAME = {
    "app/readers/worker.py": "loads the one reader that the file needs, so that no PDF library is loaded for a text",
    "engine/compression/compress.py": "finds the policy that a recipe names; what a policy needs to read knows recipes",
}


def ours(*suffixes: str) -> list[Path]:
    """Our files with one of these suffixes, relative to the root."""
    tops = (top for top in ROOT.iterdir() if top.name not in NOT_OURS)
    paths = (path for top in tops for path in (top, *top.rglob("*")) if path.suffix in suffixes and path.is_file())
    return sorted(path.relative_to(ROOT) for path in paths if path.parent.name not in NOT_OURS)


PROGRAM = [path for path in ours(".py") if path.parts[0] in MAY_IMPORT]


@cache
def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text(path))))


def imported(path: Path) -> Iterator[str]:
    """Every module that is imported at any depth, inside functions and conditions too."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import has no top that could be compared: it is reported as it is written.
            yield "." * node.level + (node.module or "")


def named(tree: Iterable[ast.AST]) -> set[str]:
    """Every identifier that is used, whether bare or as an attribute."""
    return {node.id for node in tree if isinstance(node, ast.Name)} | {
        node.attr for node in tree if isinstance(node, ast.Attribute)
    }


def is_public(name: str) -> bool:
    return not name.startswith("_")


def test_the_layout_is_there() -> None:
    names = ("requirements.txt", "README.md", "CHANGELOG.md", "LICENSE", "tests", *MAY_IMPORT)
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_imports_follow_the_arrows() -> None:
    against = []
    for path in PROGRAM:
        for module in imported(path):
            top = module.split(".")[0]
            ours_and_not_allowed = top in MAY_IMPORT and top not in MAY_IMPORT[path.parts[0]]
            elsewhere = path.parts[0] != "benchmarks" and not path.is_relative_to(ONLY_IN.get(top, "."))
            if not top or ours_and_not_allowed or elsewhere:
                against.append(f"{path} imports {module}")
    assert against == []


def modules() -> dict[str, Path]:
    """Every module of the program by its dotted name."""
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in PROGRAM}


def imports_of(path: Path) -> Iterator[str]:
    """The program's modules that a file imports at any depth, inside functions too."""
    known = modules()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known or node.module in known:
                    yield whole if whole in known else node.module


def test_the_rooms_of_the_engine_follow_their_arrows() -> None:
    arrows: dict[str, set[str]] = {room: set() for room in ROOMS}
    for name, path in modules().items():
        if name.startswith("engine."):
            arrows[name.split(".")[1]] |= {each.split(".")[1] for each in imports_of(path) if each.count(".")}
    for room, onto in arrows.items():
        print(f"engine/{room} -> {', '.join(sorted(onto - {room})) or 'nothing'}")
    assert {room: onto - set(ROOMS[: ROOMS.index(room) + 1]) for room, onto in arrows.items()} == {
        room: set() for room in ROOMS
    }


def test_no_imports_form_a_circle() -> None:
    graph = {name: set(imports_of(path)) - {name} for name, path in modules().items()}
    while leaves := [name for name, onto in graph.items() if not onto & graph.keys()]:
        for name in leaves:
            del graph[name]
    print(f"{len(graph)} modules in circles")
    assert graph == {}


def test_rooms_and_files_are_small() -> None:
    """No room of the engine has more than 16 files, no file more than 400 lines, and half of them fewer than 120."""
    lengths = {path: len(text(path).splitlines()) for path in PROGRAM if path.name != "__init__.py"}
    rooms = Counter(path.parent for path in lengths if path.parts[0] == "engine")
    assert {room: files for room, files in rooms.items() if files > 16} == {}
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}
    assert median(lengths.values()) < 120


def test_no_import_goes_round_the_arrows() -> None:
    assert [path for path in PROGRAM if "TYPE_CHECKING" in named(nodes(path))] == []
    by_name = {path.as_posix() for path in PROGRAM if named(nodes(path)) & BY_NAME}
    assert by_name == set(IMPORTS_BY_NAME)


def test_public_names_are_those_of_the_field() -> None:
    """No words of our own for what has a name; docs/architecture.md lists those names."""
    ours_alone = re.compile(
        r"stepper|rehears|stretch|work_?list|turning|turned|park(ed|ing)?$|told$|relief|shortage|quick_?head|journal|sought"
        r"|witness|recipe_?book|desk|dial|whole_file|^looks$|^looked$|^overlaps?$|^choose$",
        re.IGNORECASE,
    )
    allowed = {"Library.choose", "Presets.choose", "choose"}
    found = set()
    for path in PROGRAM:
        for node in nodes(path):
            if isinstance(node, ast.ClassDef):
                members = (each for each in node.body if isinstance(each, ast.FunctionDef))
                found |= {f"{node.name}.{each.name}" for each in members if ours_alone.search(each.name)}
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ours_alone.search(node.name):
                found.add(node.name)
        assert not ours_alone.search(path.stem), path
    assert {name for name in found if is_public(name.rpartition(".")[2])} <= allowed


def test_files_are_small() -> None:
    lengths = {path: len(text(path).splitlines()) for path in ours(".py", ".css", ".js", ".mjs", ".html")}
    assert {path: lines for path, lines in lengths.items() if lines > 500} == {}


def test_files_are_named_for_a_noun() -> None:
    nothing = re.compile(r"(^|_)(utils?|helpers?|common|managers?|misc)(_|$)")
    assert [path for path in ours(".py", ".css", ".js", ".mjs", ".html") if nothing.search(path.stem)] == []


def test_except_names_a_type_and_does_something() -> None:
    silent, catching = [], set()
    for path in PROGRAM:
        for node in nodes(path):
            if isinstance(node, ast.ExceptHandler):
                if all(isinstance(line, ast.Pass) for line in node.body):
                    silent.append(f"{path}:{node.lineno}")
                everything = node.type is None or named(ast.walk(node.type)) & {"Exception", "BaseException"}
                # It is shown, or logged under an id; a bare `raise` at the end keeps nothing.
                explained = path.parts[0] == "ui" and bool({"explain", "refused"} & named(ast.walk(node)))
                raised = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                if everything and not explained and not raised:
                    catching.add(path.as_posix())
    assert silent == []
    assert catching == set(CATCHES_EVERYTHING)


def test_files_of_tensors_are_opened_where_the_system_may_refuse_it() -> None:
    """What safetensors raises there is a RuntimeError, which nobody tells as what it is."""
    opened, guarded = set(), set()
    for path in PROGRAM:
        for node in nodes(path):
            calls = {path.as_posix() + f":{each.lineno}" for each in ast.walk(node) if opens_tensors(each)}
            if isinstance(node, ast.Module):
                opened |= calls
            elif isinstance(node, ast.With) and "as_os_errors" in named(
                part for item in node.items for part in ast.walk(item)
            ):
                guarded |= calls
    assert opened and opened == guarded


def opens_tensors(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and bool(named([node.func]) & {"safe_open", "load_file"})


def test_public_names_have_docstrings() -> None:
    without = []
    for path in PROGRAM:
        module = nodes(path)[0]
        definitions = (node for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef))
        for node in (module, *(node for node in definitions if is_public(node.name))):
            if not ast.get_docstring(node):
                without.append(f"{path}: {getattr(node, 'name', 'the file itself')}")
    assert without == []


def test_every_setting_is_documented_and_reachable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"], lambda app: None)
    usage = " ".join(capsys.readouterr().out.split())
    for each in SETTINGS.values():
        assert re.search(rf"--(no-)?{each.option[2:]}\b", usage), f"{each.name} is not an option of run_app.py"
        assert each.about.split()[0] in usage and each.about.endswith("."), f"{each.name} is not explained"
    table = f"\n\n{architecture.table()}\n"
    assert text(Path("docs/settings.md")).endswith(table), "renew it: python -m tests.architecture"


def test_the_architecture_page_lists_every_file() -> None:
    listed = architecture.listed(text(Path("docs/architecture.md")))
    assert listed.splitlines() == architecture.listing().splitlines(), "renew it: python -m tests.architecture"
    assert [line for line in listed.splitlines() if not re.fullmatch(r" *\S+ +\S.*", line)] == []


def test_readme_is_short() -> None:
    assert len(text(Path("README.md")).splitlines()) <= 180


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    machine = re.compile("/(wor" + "k|far" + "m)/")
    files = ours("", ".py", ".md", ".toml", ".txt", ".json", ".css", ".js", ".html", ".svg", ".sh")
    assert [path for path in files if machine.search(text(path))] == []
