"""Where the Python package index that this machine uses keeps a file; pip itself need not be there.

https://packaging.python.org/en/latest/specifications/simple-repository-api/
"""

import configparser
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

from platformdirs import site_config_path, user_config_path

from engine.models.download import request

PUBLIC = "https://pypi.org/simple"
SHARED_FOLDERS = (site_config_path("pip", appauthor=False), Path("/etc"))
"""Where pip's settings for all users of a machine lie; a later folder goes before an earlier one."""
_JSON = "application/vnd.pypi.simple.v1+json"
_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")


def configured() -> str:
    """The index that uv or pip is told to use, by the environment or else by pip's files; else the public one."""
    for variable in _VARIABLES:
        if os.environ.get(variable):
            return os.environ[variable]
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    own_folders = (Path.home() / ".pip", user_config_path("pip", appauthor=False, roaming=True), Path(sys.prefix))
    files = [folder / name for folder in (*SHARED_FOLDERS, *own_folders)]
    # pip expands no variables, and so percent signs in a password are left as they are.
    settings = configparser.RawConfigParser(strict=False)
    try:
        # A later file overrules an earlier one.
        settings.read([*files, os.environ.get("PIP_CONFIG_FILE", os.devnull)])
    except configparser.Error as error:
        raise OSError(f"pip's settings cannot be read: {error}") from error
    return settings.get("global", "index-url", fallback=PUBLIC)


def locate(index: str, project: str, file: str) -> str:
    """The URL of a project's file. Raises NoAnswer, or FileNotFoundError where it is not listed."""
    page = f"{index.rstrip('/')}/{re.sub('[-_.]+', '-', project).lower()}/"
    with request(page, Accept=f"{_JSON}, text/html;q=0.5") as answer:
        is_json, body = answer.headers.get_content_type() == _JSON, answer.read().decode()
    links: list[str] = [each["url"] for each in json.loads(body)["files"]] if is_json else _links(body)
    for link in links:
        if PurePosixPath(unquote(urlsplit(link).path)).name == file:
            return urljoin(page, link)
    raise FileNotFoundError(f"{urlsplit(index).hostname} lists no {file}")


def _links(page: str) -> list[str]:
    """Where the anchors of an HTML page lead, in order."""
    links: list[str] = []

    class Anchors(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            links.extend(value for name, value in attrs if tag == "a" and name == "href" and value)

    Anchors().feed(page)
    return links
