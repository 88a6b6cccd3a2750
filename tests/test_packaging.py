"""What `pip install` brings: every file of the shipped packages, and nothing else."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = ("app", "engine", "storage", "ui")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the tree by the tools that are there."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "LICENSE", ROOT / "run_app.py", *sources(), *(ROOT / "benchmarks").rglob("*.py")):
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(folder / done.stdout.splitlines()[-1])


def sources() -> list[Path]:
    return [
        path
        for top in SHIPPED
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]


def test_every_file_of_the_shipped_packages_is_in_the_wheel_and_no_other(wheel: zipfile.ZipFile) -> None:
    there = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert there == {"run_app.py", *(path.relative_to(ROOT).as_posix() for path in sources())}


def test_the_requirements_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for name, wanted in (("", project["dependencies"] + extras["gpu"] + extras["cpu"]), ("-dev", extras["dev"])):
        lines = (ROOT / f"requirements{name}.txt").read_text().splitlines()
        assert sorted(line for line in lines if line and not line.startswith("#")) == sorted(wanted)


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    entry = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert entry.split() == ["[console_scripts]", "docpod", "=", "run_app:main"]
