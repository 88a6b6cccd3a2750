"""The desk: every document in turn, stopped where it is told to, and no failure that touches another one."""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping

import pytest

from app.errors import Busy, DamagedDocument, PasswordNeeded
from app.events import Progress
from app.worker import Stage, Worker
from storage import StorageAway
from tests.app.paper import wait_until


class Office:
    """A desk whose parsing takes no time, and whose reading takes a step for every turn that a test gives."""

    def __init__(self) -> None:
        self.parsed: list[str] = []
        self.read: list[str] = []
        self.ended: list[str] = []
        self.turns = threading.Semaphore(0)
        self.parse_error: dict[str, Exception] = {}
        self.read_error: dict[str, Exception] = {}
        self.left: list[str] = []
        self.first: list[str] = []
        self.sizes: dict[str, float] = {}
        self.away = False
        stages = (
            Stage("parsing", lambda each, _: self.parse(each), self.size),
            Stage("reading", self.read_steps, self.size, resumes=True),
        )
        self.worker = Worker(stages, lambda: self.left, lambda: self.first)

    def size(self) -> Mapping[str, float]:
        if self.away:
            raise StorageAway("the database: no answer")
        return {**dict.fromkeys(self.parsed, 3.0), **self.sizes}

    def parse(self, document_id: str) -> Generator[Progress]:
        self.parsed.append(document_id)
        if error := self.parse_error.get(document_id):
            raise error
        yield Progress(document_id, "parsing", 1, 1)

    def read_steps(self, document_id: str, stopped: Callable[[], bool]) -> Generator[Progress]:
        try:
            if error := self.read_error.get(document_id):
                raise error
            for step in range(1, 4):
                self.turns.acquire()
                if stopped():
                    return
                yield Progress(document_id, "reading", step, 3)
            self.read.append(document_id)
        finally:
            self.ended.append(document_id)

    def stage(self, document_id: str) -> str:
        progress = self.worker.progress(document_id)
        return progress.stage if progress else ""

    def give(self, turns: int) -> None:
        self.turns.release(turns)


@pytest.fixture
def office() -> Iterator[Office]:
    office = Office()
    office.worker.start()
    yield office
    office.give(100)
    office.worker.close()


def test_documents_are_parsed_then_read_in_the_order_they_came(office: Office) -> None:
    for document_id in "abc":
        office.worker.parse(document_id)
    office.give(9)
    wait_until(lambda: len(office.read) == 3)
    assert office.parsed == office.read == ["a", "b", "c"]
    wait_until(lambda: office.stage("c") == "")


def test_a_long_reading_does_not_hold_up_parsing(office: Office) -> None:
    office.worker.parse("a")
    wait_until(lambda: office.stage("a") == "")
    office.worker.parse("b")
    wait_until(lambda: office.parsed == ["a", "b"])
    assert office.read == []


def test_documents_that_go_first_do_so_in_their_order_and_between_the_steps_of_others(office: Office) -> None:
    office.sizes |= {"short": 1.0, "b": 60.0, "a": 50.0, "small": 2.0}
    office.worker.parse("short")
    office.give(1)
    wait_until(lambda: office.stage("short") == "reading")
    office.first += ["b", "a"]
    for document_id in ("small", "a", "b"):
        office.worker.parse(document_id)
    wait_until(lambda: len(office.parsed) == 4)
    office.give(20)
    wait_until(lambda: len(office.read) == 4)
    assert office.read == ["b", "a", "short", "small"]


def test_the_shortest_waiting_document_is_next(office: Office) -> None:
    office.sizes |= {"long": 100.0, "longer": 300.0, "short": 1.0}
    office.worker.parse("long")
    wait_until(lambda: office.stage("long") == "")
    for document_id in ("longer", "short"):
        office.worker.parse(document_id)
    wait_until(lambda: len(office.parsed) == 3)
    office.give(9)
    wait_until(lambda: len(office.read) == 3)
    assert office.read == ["short", "long", "longer"]


def test_a_much_shorter_document_comes_between_the_steps_of_a_long_one_which_then_goes_on(office: Office) -> None:
    office.sizes |= {"long": 100.0, "half": 60.0, "short": 49.0}
    office.worker.parse("long")
    office.give(1)
    wait_until(lambda: office.stage("long") == "reading")
    for document_id in ("half", "short"):
        office.worker.parse(document_id)
    wait_until(lambda: len(office.parsed) == 3)
    office.give(1)
    wait_until(lambda: office.ended == ["long"])
    assert office.stage("long") == ""
    office.give(9)
    wait_until(lambda: len(office.read) == 3)
    assert office.read == ["short", "half", "long"]


def test_a_document_that_is_hardly_shorter_waits(office: Office) -> None:
    office.sizes |= {"a": 100.0, "b": 51.0}
    office.worker.parse("a")
    office.give(1)
    wait_until(lambda: office.stage("a") == "reading")
    office.worker.parse("b")
    wait_until(lambda: len(office.parsed) == 2)
    office.give(6)
    wait_until(lambda: office.read == ["a", "b"])
    assert office.ended == ["a", "b"]


def test_progress_is_what_happened_last(office: Office) -> None:
    office.worker.parse("a")
    office.give(2)
    wait_until(lambda: office.worker.progress("a") == Progress("a", "reading", 2, 3))


def test_a_document_that_is_stopped_ends_at_its_next_step_and_the_next_begins(office: Office) -> None:
    office.worker.parse("a")
    office.worker.parse("b")
    office.give(1)
    wait_until(lambda: office.stage("a") == "reading")
    office.worker.stop("a")
    assert office.stage("a") == ""
    office.give(1)
    office.worker.settle("a")
    assert office.ended == ["a"]
    office.give(3)
    wait_until(lambda: office.read == ["b"])


def test_a_queued_document_that_is_stopped_never_begins(office: Office) -> None:
    office.worker.parse("a")
    wait_until(lambda: office.parsed == ["a"])
    office.worker.parse("b")
    wait_until(lambda: office.parsed == ["a", "b"])
    office.worker.stop("b")
    office.worker.settle("b")
    office.give(3)
    wait_until(lambda: office.read == ["a"])
    office.worker.parse("c")
    office.give(3)
    wait_until(lambda: office.read == ["a", "c"])
    assert "b" not in office.ended


def test_stopped_and_asked_for_again_within_a_step_goes_on(office: Office) -> None:
    office.worker.parse("a")
    office.give(1)
    wait_until(lambda: office.stage("a") == "reading")
    office.worker.stop("a")
    office.worker.parse("a")
    office.give(100)
    wait_until(lambda: "a" in office.read)


def test_settling_waits_for_the_reading_also_when_parsing_ends_meanwhile(office: Office) -> None:
    office.worker.parse("a")
    office.give(1)
    wait_until(lambda: office.stage("a") == "reading")
    office.worker.parse("a")
    wait_until(lambda: office.parsed == ["a", "a"])
    # Whatever is parsed behind it shows that the second parsing of the first is over.
    office.worker.parse("b")
    wait_until(lambda: office.parsed == ["a", "a", "b"])
    office.worker.stop("a")
    settled = threading.Thread(target=office.worker.settle, args=("a",))
    settled.start()
    settled.join(0.2)
    assert settled.is_alive() and office.ended == []
    office.give(1)
    settled.join()
    assert office.ended == ["a"]


@pytest.mark.parametrize("where", ["parse_error", "read_error"])
def test_a_failure_is_said_and_touches_no_other_document(office: Office, where: str) -> None:
    getattr(office, where)["a"] = DamagedDocument("It is torn.", "Mend it.")
    office.worker.parse("a")
    office.worker.parse("b")
    office.give(3)
    wait_until(lambda: office.read == ["b"])
    assert office.worker.progress("a") == Progress("a", "failed", message="It is torn.", hint="Mend it.")


def test_a_document_that_needs_a_password_is_locked(office: Office) -> None:
    office.parse_error["a"] = PasswordNeeded("It is encrypted.", "Give its password.")
    office.worker.parse("a")
    wait_until(lambda: office.stage("a") == "locked")
    del office.parse_error["a"]
    office.worker.parse("a")
    office.give(3)
    wait_until(lambda: office.read == ["a"])


def test_a_bug_is_logged_under_an_id_and_ends_no_thread(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    office.parse_error["a"] = ZeroDivisionError("a secret of the code")
    office.worker.parse("a")
    office.worker.parse("b")
    office.give(3)
    wait_until(lambda: office.read == ["b"])
    progress = office.worker.progress("a")
    assert progress is not None and progress.stage == "failed"
    assert "secret" not in progress.message
    (record,) = caplog.records
    assert record.exc_info and record.getMessage()[-8:].strip("() ") in progress.message


def test_what_was_stopped_or_failed_is_not_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.worker.POLL_SECONDS", 0.05)
    office = Office()
    office.parse_error["failed"] = DamagedDocument("The file is damaged.", "Try another.")
    office.worker.start()
    office.worker.parse("failed")
    wait_until(lambda: office.stage("failed") == "failed")
    office.worker.stop("stopped")
    office.left += ["stopped", "failed", "left"]
    office.give(3)
    wait_until(lambda: office.read == ["left"])
    office.worker.close()
    assert set(office.parsed) == {"failed", "left"} and office.parsed.count("failed") == 1


def test_what_failed_since_the_library_was_away_is_taken_up_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.worker.POLL_SECONDS", 0.05)
    away = StorageAway("the database: no answer")
    office.parse_error["a"] = office.read_error["b"] = away
    for document_id in "ab":
        office.worker.parse(document_id)
    wait_until(lambda: office.parsed.count("a") > 2 and office.ended.count("b") > 2)
    failed = office.worker.progress("a")
    assert failed and "cannot be reached" in failed.message and "Nothing is lost" in failed.hint
    office.away = True
    office.parse_error.clear()
    office.read_error.clear()
    office.give(9)
    office.worker.parse("c")
    # Nobody can say whose turn it is.
    assert not office.worker.is_wanted() or office.read == []
    office.away = False
    wait_until(lambda: sorted(office.read) == ["a", "b", "c"])


def test_what_another_process_reads_is_no_failure_here(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    office.read_error["busy"] = Busy("Another process reads this.", "Wait.")
    office.worker.parse("busy")
    office.worker.parse("b")
    office.give(3)
    wait_until(lambda: office.read == ["b"])
    assert office.stage("busy") == "" and caplog.records == []


def test_closing_ends_the_work_at_its_next_step() -> None:
    office = Office()
    office.worker.start()
    for document_id in "ab":
        office.worker.parse(document_id)
    office.give(1)
    wait_until(lambda: office.stage("a") == "reading")
    closing = threading.Thread(target=office.worker.close)
    closing.start()
    wait_until(lambda: office.worker._closed)
    office.give(1)
    closing.join()
    assert (office.ended, office.read) == (["a"], [])


def test_a_desk_that_never_started_closes() -> None:
    worker = Office().worker
    worker.parse("a")
    worker.close()
