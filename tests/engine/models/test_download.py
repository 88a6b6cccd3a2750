"""Downloads over a real connection: whole, broken off, gone on with, refused, and behind a password."""

import base64
from pathlib import Path

import pytest

from engine.models.download import NoAnswer, download
from tests.engine.models.file_server import FileServer

CONTENTS = bytes(range(256)) * 4000


@pytest.fixture
def server(file_server: FileServer) -> FileServer:
    file_server.files = {"/file": CONTENTS}
    return file_server


def fetch(server: FileServer, target: Path, path: str = "/file") -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    download(server.url + path, target, lambda have, total: seen.append((have, total)))
    return seen


def test_a_file_arrives_whole_and_its_progress_is_told(server: FileServer, tmp_path: Path) -> None:
    seen = fetch(server, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == CONTENTS
    assert seen == sorted(seen) and len(seen) > 1 and {total for _, total in seen} == {len(CONTENTS)}
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_connection_that_breaks_is_gone_on_with(server: FileServer, tmp_path: Path) -> None:
    server.broken_after = 300_000
    fetch(server, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == CONTENTS
    assert [start for _, start, _ in server.requests] == [f"bytes={n}-" for n in range(0, len(CONTENTS), 300_000)]


def test_a_part_of_an_earlier_start_is_gone_on_with(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "it.part").write_bytes(CONTENTS[:1000])
    fetch(server, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == CONTENTS
    assert server.requests[0][1] == "bytes=1000-"


def test_a_server_without_ranges_sends_everything_again(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "it.part").write_bytes(b"?" * 1000)
    fetch(server, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == CONTENTS


def test_a_part_longer_than_the_file_is_dropped(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "it.part").write_bytes(b"?" * (len(CONTENTS) + 1))
    fetch(server, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == CONTENTS


@pytest.mark.parametrize("ranges", [True, False])
def test_it_ends_where_a_connection_brings_nothing_new(server: FileServer, tmp_path: Path, ranges: bool) -> None:
    """The part stays for a later start."""
    server.ranges, server.broken_after = ranges, 0 if ranges else 1000
    (tmp_path / "it.part").write_bytes(CONTENTS[:1000])
    with pytest.raises(NoAnswer, match=r"^127\.0\.0\.1: the connection ended after 1,000 of 1,024,000 bytes$"):
        fetch(server, tmp_path / "it")
    assert (tmp_path / "it.part").read_bytes() == CONTENTS[:1000]


def test_a_missing_file_is_refused_at_once(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(NoAnswer, match=r"^127\.0\.0\.1: HTTP Error 404"):
        fetch(server, tmp_path / "it", "/other")
    assert len(server.requests) == 1 and list(tmp_path.iterdir()) == []


def test_a_password_in_the_url_goes_to_its_own_host_alone(server: FileServer, tmp_path: Path) -> None:
    """A redirect, as to the storage behind an index, does not carry it on; and no error repeats it."""
    server.redirects = {"/moved": f"{server.url}/file"}
    guarded = server.url.replace("://", "://me:p%40ss@")
    download(f"{guarded}/moved", tmp_path / "it", lambda *_: None)
    assert (tmp_path / "it").read_bytes() == CONTENTS
    basic = f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert [authorization for *_, authorization in server.requests] == [basic, None]
    with pytest.raises(NoAnswer) as caught:
        download(f"{guarded}/other", tmp_path / "other", lambda *_: None)
    assert "p%40ss" not in str(caught.value) and "p@ss" not in str(caught.value)
