"""Servers that tests start for themselves, where their programs are installed: PostgreSQL, and a stand-in for S3.

With CI=true one that is missing is a failure; elsewhere what needs it is skipped, and that is said loudly.
"""

import logging
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
        if (self._folder / "data" / "postmaster.pid").exists():
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


class S3Server:
    """A stand-in for S3 in this process, which can be away for a while."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        # It would say every request.
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server, self._buckets = ThreadedMotoServer("127.0.0.1", 0, verbose=False), count(1)
        self.start()

    def start(self) -> None:
        """Go on where it was stopped, at the same address."""
        self._server.start()
        self.port = self._server._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        """Answer nobody."""
        self._server.stop()

    def url(self) -> str:
        """Of a bucket of its own."""
        import boto3

        name = f"bucket-{next(self._buckets)}"
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=name)
        return f"s3://{name}/library"


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """A server of this process, which the usual environment points to."""
    try:
        import moto.server
        import s3fs  # noqa: F401
    except ModuleNotFoundError:
        missing("stand-in for S3", "pip install -r requirements-dev.txt")
    assert moto.server
    server = S3Server()
    known = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in known.items():
            patch.setenv(name, value)
        yield server
        server.stop()
