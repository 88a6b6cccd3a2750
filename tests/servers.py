"""Servers that tests start for themselves, where their programs are installed: PostgreSQL, and a stand-in for S3.

With CI=true one that is missing is a failure; elsewhere what needs it is skipped, and that is said loudly.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import pytest

_NUMBERS = count(1)
_QUICK = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60 -c listen_addresses="


def missing(what: str, how: str) -> NoReturn:
    """End or skip the test."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must run the tests with {what}, which is not installed: {how}")
    print(f"\n*** No {what} here: ITS TESTS ARE SKIPPED. To run them: {how} ***")
    pytest.skip(f"no {what} here")


def programs() -> Path | None:
    """The folder with PostgreSQL's programs."""
    named = shutil.which("initdb")
    found = [Path(named).resolve().parent] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((each for each in reversed(found) if (each / "postgres").exists()), None)


class PostgresServer:
    """A server in a folder of its own, reached by a socket there. It does not run as root: then as user postgres."""

    def __init__(self, folder: Path, bin: Path, *options: str) -> None:
        self._bin, self._folder = bin, folder
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", folder / "data", "-U", "docpod", "-A", "trust", "--no-sync", *options)
        self.start()
        self._run("createdb", "-h", folder, "-U", "docpod", "docpod")

    def start(self) -> None:
        """Go on where it was stopped."""
        options = f"{_QUICK} -k {self._folder}"
        self._run("pg_ctl", "-D", self._folder / "data", "-w", "-o", options, "-l", self._folder / "log", "start")

    def stop(self, how: str = "immediate") -> None:
        """As by a power cut, if nothing else is said."""
        self._run("pg_ctl", "-D", self._folder / "data", "-w", "-m", how, "stop")

    def url(self, schema: str = "") -> str:
        """Of a library of its own, in a schema that is made."""
        schema = schema or f"library_{next(_NUMBERS)}"
        self.query(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        options = quote(f"-csearch_path={schema}")
        return f"postgresql://docpod@/docpod?host={quote(str(self._folder), safe='')}&options={options}"

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Run SQL beside the program."""
        import psycopg

        with psycopg.connect(host=str(self._folder), user="docpod", dbname="docpod", autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *options: str | Path) -> None:
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*as_user, self._bin / program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        assert not done.returncode, f"{program}: {done.stderr}"


@contextmanager
def running_postgres(*options: str) -> Iterator[PostgresServer]:
    """A server of this process, whose pages have checksums unless the options of `initdb` say otherwise."""
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError:
        missing("psycopg", "pip install '.[postgres]'")
    if (bin := programs()) is None:
        missing("PostgreSQL", "sudo apt-get install postgresql")
    # In a folder whose path is short enough for a socket, and that the server's user can reach.
    with tempfile.TemporaryDirectory(prefix="docpod-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder), bin, *(options or ["--data-checksums"]))
        try:
            yield server
        finally:
            server.stop()
