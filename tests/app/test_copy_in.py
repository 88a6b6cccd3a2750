"""A team that outgrows one machine: the library goes on in a server's database, as it was in its folder."""

import pytest

from tests.app.test_cli import QUESTION, Cli, cli, document_id, source
from tests.servers import PostgresServer

__all__ = ["cli", "document_id", "source"]
pytestmark = pytest.mark.usefixtures("in_this_process")


def test_a_library_goes_on_in_a_database_of_a_server(
    cli: Cli, document_id: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cli("ask", document_id, QUESTION, "--json").json
    assert cli("copy-in").code == 2
    monkeypatch.setenv("DOCPOD_DATABASE", postgres.url())
    assert cli("copy-in", "--json").json["messages"] == 2
    after = cli("ask", document_id, QUESTION, "--json").json
    assert (after["answer"], after["citations"]) == (before["answer"], before["citations"])
    assert "a library is in that database already" in cli("copy-in").err
