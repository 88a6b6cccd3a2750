"""One running server for whatever programs ask, with a document that is read, and the clients that ask it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest

from app.main import App
from app.settings import Settings
from benchmarks.evidence.planted import planted_report
from tests.ui.api.clients import Served, openai_client
from tests.ui.served_process import serving, unused_port

RUN_APP = (sys.executable, "run_app.py")
OPTIONS = ("--no-browser", "--model", "embedded", "--max-upload-mb", "1", "--no-prepare")
SCOPES = {"all": ("read", "ask", "write"), "reader": ("read",), "asker": ("ask",), "busy": ("read",)}


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, embedded_model_dir: Path) -> Iterator[Served]:
    """The document comes by OpenAI's client, which waits for it as its own manual says."""
    folder = tmp_path_factory.mktemp("api")
    home, pdf = folder / "home", folder / "Collected reports.pdf"
    (home / "models").mkdir(mode=0o700, parents=True)
    (home / "models" / embedded_model_dir.name).symlink_to(embedded_model_dir)
    app = App(Settings(home=home, prepare=False))
    keys = {name: app.keys.create(name, scopes)[1] for name, scopes in SCOPES.items()}
    app.close()
    _, fact, other, *_ = planted_report(pdf, pages=3)
    with serving(RUN_APP, home, unused_port(), *OPTIONS) as address:
        url = address.partition("?")[0]
        with openai_client(url, keys["all"]) as client:
            file = client.files.create(file=pdf, purpose="user_data")
            assert file.status == "uploaded"
            assert client.files.wait_for_processing(file.id, poll_interval=0.5).status == "processed"
        yield Served(url, home, keys, pdf, file.id, fact, other)


@pytest.fixture
def gpt(served: Served) -> Iterator[openai.OpenAI]:
    with openai_client(served.url, served.keys["all"]) as client:
        yield client


@pytest.fixture
def claude(served: Served) -> Iterator[anthropic.Anthropic]:
    http_client = anthropic.DefaultHttpxClient(trust_env=False)
    key = served.keys["all"]
    with anthropic.Anthropic(base_url=served.url, api_key=key, http_client=http_client, max_retries=0) as client:
        yield client


@pytest.fixture
def plain(served: Served) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {served.keys['all']}"}
    with httpx.Client(base_url=served.url, headers=headers, trust_env=False, timeout=120) as client:
        yield client
