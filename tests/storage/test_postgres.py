"""PostgreSQL: the pages that SQLite finds, locks among processes, servers that go away, and what is its operator's."""

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from storage import Home, HomeBusy, PlaceRefused, StorageAway, Store, Viewer, open_library
from tests.servers import PostgresServer, running_postgres
from tests.storage.rows import A, B, document, filled, page

HOLD = """
import sys
from pathlib import Path
from storage import Home, open_library
store = open_library(Home(Path(sys.argv[1]), database=sys.argv[2])).store
if len(sys.argv) > 3:
    lock = store.lock(sys.argv[3])
    lock.__enter__()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.url()


@pytest.fixture
def served(url: str) -> Iterator[Store]:
    with closing(Store.open(url)) as store:
        yield store


@pytest.fixture
def elsewhere(tmp_path: Path, url: str) -> Iterator[Home]:
    """A home whose database is on a server."""
    with closing(Home(tmp_path / "elsewhere", database=url)) as home:
        yield home


@contextmanager
def another_machine(folder: Path, url: str, *lock: str) -> Iterator[None]:
    """Has the library open in a home of its own, and a lock, and is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, url, *lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


WORDS = (
    "fleet fleets Fleet's streaming revenue revenues café CAFE naïve 3.5% 1,200 $12 re-read e-mail a b the of in-house "
    "Zürich ﬁnance don't x² über ÜBER 東京都 東京 グループ_pod C++ U.S. a.b@c.de http://x.org/y ß İstanbul ½ "
    "... -- 'q' \\ "
).split(" ")


@pytest.mark.parametrize("seed", range(6))
def test_both_databases_find_the_same_pages(served: Store, seed: int) -> None:
    chance = random.Random(seed)

    def text(words: int) -> str:
        return " ".join(chance.choices(WORDS, k=words)).strip()

    pages = [page(number, text(chance.choice((0, 3, 40, 700)))) for number in range(1, 15)]
    terms = [text(chance.choice((1, 1, 2, 3))) for _ in range(40)]
    begun = [each[: chance.randint(1, 12)] for each in terms if any(map(str.isalnum, each.split(" ")[-1][:1]))]
    with closing(Store.open("sqlite://")) as local:
        for store in (local, served):
            store.add_document(document())
            store.save_pages(A, "T", [], pages[:10])
            store.add_document(document(B))
            store.draft_pages(B, 14, pages[:4])
            store.draft_pages(B, 14, pages[4:])
            store.replace_page(A, page(3, "fleet café 12"))
        for asked in (terms, *([term] for term in terms)):
            ours, theirs = (store.search_pages(A, asked, 20) for store in (served, local))
            assert [number for number, _ in ours] == [number for number, _ in theirs]
            assert [score for _, score in ours] == pytest.approx([score for _, score in theirs])
        assert served.pages_holding([B, A], terms) == local.pages_holding([B, A], terms)
        for words in begun:
            assert served.pages_with([A, B], words, 9) == local.pages_with([A, B], words, 9), words


def test_a_word_may_be_very_long_or_very_frequent(served: Store) -> None:
    served.add_document(document())
    served.save_pages(A, "T", [], [page(1, "x" * 9000 + " y"), page(2, "the " * 70_000 + "end"), page(3, "y" * 9000)])
    assert served.pages_holding([A], ["x" * 9000, "x" * 8999, "the end", "the the"]) == {A: [{1}, set(), {2}, {2}]}


def test_one_at_a_time_among_machines(tmp_path: Path, url: str, served: Store) -> None:
    with served.lock("reading-1"):
        with pytest.raises(HomeBusy, match="reading-1"), served.lock("reading-1"):
            pass
        with served.lock("reading-2"):
            pass
    with another_machine(tmp_path / "other", url, "reading-1"), pytest.raises(HomeBusy), served.lock("reading-1"):
        pass
    # The server notices at once that the holder was killed.
    for _ in range(100):
        try:
            with served.lock("reading-1"):
                return
        except HomeBusy:
            served.documents()
    pytest.fail("a killed process kept its lock")


def test_what_others_are_at_is_left_alone(tmp_path: Path, url: str, elsewhere: Home) -> None:
    visitor = Viewer("visitor", has_all=False, only=frozenset({A}))

    def visitors() -> int:
        with closing(open_library(elsewhere).store) as store:
            return len(store.seen_by(visitor).conversations_of_viewer())

    with closing(open_library(elsewhere).store) as store:
        with another_machine(tmp_path / "other", url):
            filled(store)
            store.seen_by(visitor).start_conversation(A, "mine")
            assert visitors() == 1
            with pytest.raises(HomeBusy, match="in use"):
                open_library(elsewhere, check=True)
        assert len(store.seen_by(visitor).conversations_of_viewer()) == 1
    assert visitors() == 0


def test_nothing_of_the_database_is_in_the_home(elsewhere: Home) -> None:
    with closing(open_library(elsewhere).store) as store:
        filled(store)
        assert (about := store.about()).startswith("PostgreSQL") and about.endswith("backups are its operator's.")
    assert not [path for path in elsewhere.root.rglob("*") if "sqlite3" in path.name or path.name == "library.json"]


def test_writers_take_turns(served: Store, url: str) -> None:
    """Each reads a number and writes the next: without turns some would be written twice."""
    with closing(Store.open(url)) as other:
        threads = [
            threading.Thread(target=lambda store=store: [store.count_backup() for _ in range(25)])
            for store in (served, other, served)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert served.count_backup() == 76


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://x", "no database that DocPod knows"),
        ("no url", "such as postgresql://"),
        ("postgresql://u@127.0.0.1:1/x", "refused"),
        ("postgresql://u@/x?host=/nowhere", "No such file"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_sentence(url: str, said: str) -> None:
    with pytest.raises((PlaceRefused, StorageAway), match=said):
        Store.open(url)


def test_a_server_that_goes_away_comes_back() -> None:
    with running_postgres("--locale=C") as server, closing(Store.open(server.url())) as store:
        filled(store)
        assert "checksums are OFF: damage would not be noticed" in store.about()
        server.stop()
        for verb in (store.documents, lambda: store.rename_document(A, "Lost")):
            with pytest.raises(StorageAway, match="the database"):
                verb()
        server.start()
        store.rename_document(A, "Found")
        assert store.document(A).title == "Found"


def test_a_connection_that_is_cut_in_a_transaction_is_a_sentence(served: Store, postgres: PostgresServer) -> None:
    filled(served)
    with pytest.raises(StorageAway), served._write() as session:
        (number,) = session.connection().exec_driver_sql("SELECT pg_backend_pid()").one()
        postgres.query(f"SELECT pg_terminate_backend({number})")
        session.connection().exec_driver_sql("SELECT 1")
    served.rename_document(A, "Found")


def test_a_server_in_recovery_is_called_away(served: Store, postgres: PostgresServer) -> None:
    """As after a fail-over: connections may still be to the one that became a standby."""
    filled(served)
    with pytest.raises(StorageAway, match="read-only"), served._write() as session:
        session.connection().exec_driver_sql("SET TRANSACTION READ ONLY")
        session.connection().exec_driver_sql("DELETE FROM documents")
    assert served.document(A)
