"""A cluster on loopback, begun once: three replicas that answer and two that read, of a tiny model."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import torch

from app.cluster.line import slug
from app.cluster.replica import KEY
from app.main import App
from app.settings import Settings
from engine.evidence.heads import EvidenceHeads
from engine.models import loader
from tests.app import paper

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 300.0
ANSWERERS, READERS = 3, 2


def replica(response: httpx.Response) -> int:
    """The process of the replica that answers."""
    return int(response.headers["x-replica"].rpartition(":")[2])


class Begun(NamedTuple):
    """A cluster that begins, and what it says."""

    address: str
    settings: Settings
    link: Path
    process: subprocess.Popen[str]
    said: Path


@dataclass
class Cluster:
    """A running cluster, whose replicas see the store through a link."""

    address: str
    settings: Settings
    link: Path
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"{self.address}/{slug(self.settings.model)}"

    def post(self, verb: str, session: str = "", **values: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {(self.settings.home / KEY).read_text()}", "x-session-id": session}
        return self.client.post(f"{self.url}/{verb}", json=values, headers=headers)

    def who(self, document_id: str, reads_as: str) -> int:
        """The process of the replica that a document goes to."""
        answer = self.post("answer/load", document_id, recipe="exact", reads_as=reads_as, pods=[])
        assert answer.status_code == 200, answer.text
        return replica(answer)

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> tuple[Path, Path]:
    """The tiny model, and a folder of models that says of it that it answers whatever it is asked."""
    models = tmp_path_factory.mktemp("models")
    loaded = loader.load(str(tiny_model_dir), models, lambda sentence: None)
    EvidenceHeads(loaded.name, loaded.digest, ((0, 1), (2, 3)), (0.2, 0.1), "sections").save(models)
    return tiny_model_dir, models


@pytest.fixture(scope="session")
def settings(model_folder: tuple[Path, Path]) -> Settings:
    return Settings(
        model=str(model_folder[0]), chunk_tokens=64, max_answer_tokens=80, meaning=False, prepare=False, coded=False
    )


@pytest.fixture(scope="session")
def begun(
    settings: Settings, model_folder: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Begun]:
    """A cluster that begins, which takes a while: whatever needs none goes on meanwhile."""
    if find_spec("ray") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must run the cluster tests, and the extra `cluster` is not installed.")
        pytest.skip("THE CLUSTER IS NOT TESTED: the extra `cluster` is not installed")
    folder = tmp_path_factory.mktemp("cluster")
    home, link = folder / "home", folder / "link"
    shutil.copytree(model_folder[1], home / "models")
    link.symlink_to(home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        door = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, str(ROOT / "run_app.py"), "cluster", "up", settings.model, "--home", str(link)]
    command += ["--answerers", str(ANSWERERS), "--readers", str(READERS), "--door", door]
    command += ["--chunk-tokens", str(settings.chunk_tokens)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
    said = folder / "said"
    with said.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, text=True)
    yield Begun(f"http://{door}", replace(settings, home=home), link, process, said)
    process.terminate()
    process.wait(120)


@pytest.fixture(scope="session")
def cluster(begun: Begun) -> Iterator[Cluster]:
    patience_ends = time.monotonic() + PATIENCE_SECONDS
    while "Replicas are at" not in begun.said.read_text():
        assert begun.process.poll() is None and time.monotonic() < patience_ends, begun.said.read_text()
        time.sleep(0.2)
    with httpx.Client(timeout=60.0, trust_env=False) as client:
        yield Cluster(begun.address, begun.settings, begun.link, client)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the replicas have: the same sums in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def open_page(cluster: Cluster) -> Iterator[Callable[[], App]]:
    """Opens a page of the cluster's home; all are closed at the end."""
    opened: list[App] = []

    def open_one() -> App:
        opened.append(App(replace(cluster.settings, cluster=cluster.address)))
        return opened[-1]

    yield open_one
    for app in opened:
        app.close()


@pytest.fixture(scope="session")
def alone(
    settings: Settings, model_folder: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[App]:
    """An app that does everything itself, in a home of its own."""
    home = tmp_path_factory.mktemp("alone") / "home"
    shutil.copytree(model_folder[1], home / "models")
    app = App(replace(settings, home=home))
    yield app
    app.close()


@pytest.fixture(scope="session")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """As many texts, which a single process has read too."""
    return written(tmp_path_factory.mktemp("twenty"), 20)


@pytest.fixture
def papers(tmp_path: Path) -> Callable[[int], list[Path]]:
    """So many texts, which no other test has."""

    return lambda count: written(tmp_path, count)


def written(folder: Path, count: int) -> list[Path]:
    """Texts of two pages, each another one."""
    paths = [paper.text(folder / f"{number}.txt", 2) for number in range(count)]
    for path in paths:
        path.write_text(f"Report {folder.name} {path.stem}.\n{path.read_text()}")
    return paths
