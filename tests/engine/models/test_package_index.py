"""The package index: which one this machine uses, and where it keeps a file."""

import json
from pathlib import Path

import pytest

from engine.models import package_index
from engine.models.download import NoAnswer
from tests.engine.models.file_server import FileServer

FILE = "a_package-1.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor a file of this machine names an index."""
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setattr(package_index, "SHARED_FOLDERS", [tmp_path / "etc"])


def configure(folder: Path, index: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pip.conf"
    path.write_text(f"[global]\nindex-url = {index}\ntimeout = 60\n")
    return path


def test_the_public_index_is_used_where_nothing_is_configured() -> None:
    assert package_index.configured() == package_index.PUBLIC


def test_what_uv_or_pip_is_told_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the weakest to the strongest: the machine's file, the user's, the named one, then the environment."""
    configure(tmp_path / "etc", "https://machine.example/simple")
    assert package_index.configured() == "https://machine.example/simple"
    configure(tmp_path / ".config" / "pip", "https://user:50%25@mine.example/simple")
    assert package_index.configured() == "https://user:50%25@mine.example/simple"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configure(tmp_path / "named", "https://named.example/simple")))
    assert package_index.configured() == "https://named.example/simple"
    for variable in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(variable, f"https://{variable}.example/simple")
        assert package_index.configured() == f"https://{variable}.example/simple"


def test_settings_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    configure(tmp_path / "etc", "x").write_text("index-url = no section\n")
    with pytest.raises(OSError, match="pip's settings cannot be read"):
        package_index.configured()


def test_a_file_is_found_on_a_page_of_either_kind(file_server: FileServer) -> None:
    page = {"files": [{"url": f"https://files.example/x/{name}"} for name in (f"{FILE}.metadata", FILE)]}
    anchors = f'<a href="../../f/other-{FILE}">{FILE}</a><a href="../../f/{FILE}#sha256=1">it</a>'
    file_server.files = {
        "/json/a-package/": json.dumps(page).encode(),
        "/html/a-package/": anchors.encode(),
    }
    file_server.types = {"/json/a-package/": "application/vnd.pypi.simple.v1+json"}
    locate = package_index.locate
    assert locate(f"{file_server.url}/json", "A_Package", FILE) == f"https://files.example/x/{FILE}"
    guarded = file_server.url.replace("://", "://me:secret@")
    assert locate(f"{guarded}/html/", "a-package", FILE) == f"{guarded}/f/{FILE}#sha256=1"


def test_a_file_that_is_not_listed(file_server: FileServer) -> None:
    file_server.files = {"/a-package/": b"<html>nothing here</html>"}
    with pytest.raises(FileNotFoundError, match=rf"127\.0\.0\.1 lists no {FILE}"):
        package_index.locate(file_server.url, "a-package", FILE)
    with pytest.raises(NoAnswer, match="404"):
        package_index.locate(file_server.url, "another", FILE)
