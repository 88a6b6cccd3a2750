"""A page whose model is elsewhere says what a single process says, whatever happens to the replicas."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from unittest.mock import Mock

import pytest

from app.cluster.line import ReplicasAway
from app.conversations import Asked
from app.errors import Busy, NotRead
from app.events import Answer, AskEvent, TextDelta
from app.main import App
from app.questions import Questions
from app.settings import Settings
from storage import read_block, takeover
from tests.app.paper import code, wait_until
from tests.cluster.conftest import ANSWERERS, PATIENCE_SECONDS, Begun, Cluster, replica

pytestmark = pytest.mark.cluster
Papers = Callable[[int], list[Path]]
Said = tuple[str, str, tuple[object, ...]]
Expected = dict[str, tuple[list[str], Said]]
QUESTION = "What is the access code of room 2?"


def added(app: App, paths: Sequence[Path]) -> list[str]:
    return [app.library.add(path, path.name, move=False) for path in paths]


def read(app: App, documents: Sequence[str]) -> None:
    for each in documents:
        list(app.library.wait(each))


def ask(app: App, document_id: str, tell: Callable[[], object] = lambda: None) -> Said:
    """What was streamed, what was answered in the end, and what was shown for it."""
    words, answer = "", None
    for event in app.questions.ask(document_id, QUESTION):
        if isinstance(event, TextDelta):
            words += event.text
            tell()
        elif isinstance(event, Answer):
            answer = event
    assert answer is not None
    return words, answer.answer, answer.citations


def checksums(app: App, document_id: str) -> list[str]:
    """Of the blocks of a document's pods: the bytes of keys and values, and whose they are."""
    (reading,) = app.library.catalogue.readings(document_id)
    sections = app._store.sections(reading.id)
    return [block.checksum for section in sections for block in app._store.blocks(section.id)]


@pytest.fixture(scope="session")
def expected(begun: Begun, alone: App, twenty: list[Path]) -> Expected:
    """By document, what a single process has read and answers, which it does while the cluster begins."""
    documents = added(alone, twenty)
    read(alone, documents)
    return {each: (checksums(alone, each), ask(alone, each)) for each in documents}


def reads_as(app: App) -> str:
    return app.model.wait().loaded.recipes["exact"].reader


def test_a_replica_killed_while_it_reads_is_followed_by_another_from_the_last_chunk(
    expected: Expected,
    cluster: Cluster,
    open_page: Callable[[], App],
    twenty: list[Path],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = open_page()
    documents, kept, entered = added(page, twenty), threading.Semaphore(0), Counter[int]()
    loaded, asked, victims = page.model.wait(), threading.local(), list[int]()
    # Some answers are the proxy's, which says of a replica that was killed that there was an error.
    loaded.loaded.line._client.event_hooks["response"].append(lambda response: setattr(asked, "answer", response))
    blocks = loaded.reader._block_store
    keep = blocks.keep

    def counted(section_id: int, rows: Sequence[object]) -> None:
        # The first replica that ends a chunk stops there, so that it has work left when it is killed.
        if not victims:
            victims.append(replica(asked.answer))
            os.kill(victims[0], signal.SIGSTOP)
        keep(section_id, rows)  # type: ignore[arg-type]
        entered[section_id] += 1
        kept.release()

    monkeypatch.setattr(blocks, "keep", counted)
    with ThreadPoolExecutor(len(documents)) as pool:
        reading = [pool.submit(read, page, [each]) for each in documents]
        for _ in range(10):
            assert kept.acquire(timeout=PATIENCE_SECONDS)
        cluster.kill(victims[0])
        for each in reading:
            each.result()
    assert "another replica is asked" in caplog.text
    for document_id in documents:
        assert checksums(page, document_id) == expected[document_id][0]
    # No chunk was entered twice.
    assert sum(entered.values()) == sum(len(checksums(page, each)) for each in documents)


def test_a_long_queue_of_one_document_flows_over_to_other_replicas(
    open_page: Callable[[], App], twenty: list[Path]
) -> None:
    page = open_page()
    (document_id,) = added(page, twenty[:1])
    read(page, [document_id])
    expected, seen = ask(page, document_id), Counter[str]()
    page.model.wait().loaded.line._client.event_hooks["response"].append(
        lambda response: seen.update([response.headers["x-replica"]])
    )
    for _ in range(3):
        assert ask(page, document_id) == expected
    assert len(seen) == 1
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(lambda _: ask(page, document_id), range(12))) == [expected] * 12
    assert len(seen) > 1


def test_a_store_that_is_away_is_waited_for_and_nothing_of_it_is_forgotten(
    cluster: Cluster, open_page: Callable[[], App], papers: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    page = open_page()
    (document_id,) = added(page, papers(1))
    read(page, [document_id])
    before = checksums(page, document_id)
    away = cluster.link.with_name("away")
    cluster.link.rename(away)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, page, document_id)
        wait_until(lambda: "the store is away" in caplog.text, "a replica to say so")
        assert not asked.done()
        away.rename(cluster.link)
        assert asked.result()[1]
    assert checksums(page, document_id) == before


def test_a_damaged_block_is_read_again_and_never_answered_from(
    cluster: Cluster, open_page: Callable[[], App], papers: Papers
) -> None:
    page = open_page()
    (document_id,) = added(page, papers(1))
    read(page, [document_id])
    before = checksums(page, document_id)
    (reading,) = page.library.catalogue.readings(document_id)
    for section in page._store.sections(reading.id):
        path = cluster.settings.home / "pods" / page._store.blocks(section.id)[0].file_name
        damaged = bytearray(path.read_bytes())
        damaged[-100] ^= 1
        path.write_bytes(damaged)
    with pytest.raises(NotRead):
        ask(page, document_id)
    read(page, [document_id])
    assert checksums(page, document_id) == before
    assert ask(page, document_id)[1]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_two_pages_of_one_database_write_a_pod_once_and_answer_a_question_once(
    database: str,
    cluster: Cluster,
    open_page: Callable[[], App],
    papers: Papers,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if url := request.getfixturevalue("postgres").url() if database == "postgres" else "":
        takeover._copy_rows(open_page()._store, url)
    settings = replace(cluster.settings, cluster=cluster.address, database=url)
    answered, answer = Counter[int](), Questions.answer

    def counted(questions: Questions, asked: Asked, stop: threading.Event) -> Generator[AskEvent]:
        answered[asked.answer_id] += 1
        yield from answer(questions, asked, stop)

    def read_all(page: App) -> None:
        for each in documents:
            try:
                read(page, [each])
            except Busy:
                wait_until(lambda each=each: page.library.catalogue.entry(each).progress.stage == "ready", "the other")

    monkeypatch.setattr(Questions, "answer", counted)
    with ExitStack() as stack:
        pages = [stack.enter_context(closing(App(settings))) for _ in range(2)]
        documents = added(pages[0], papers(3))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(read_all, pages))
        for each in documents:
            (reading,) = pages[0].library.catalogue.readings(each)
            for section in pages[0]._store.sections(reading.id):
                blocks = pages[0]._store.blocks(section.id)
                assert [block.start_token for block in blocks[1:]] == [block.stop_token for block in blocks[:-1]]
                for block in blocks:
                    read_block(pages[0]._home.pods / block.file_name, block.checksum)
        for page in pages:
            page.model.wait()
            page.chat.start()
        chats = [pages[place % 2].chat.ask(each, "", QUESTION) for place, each in enumerate(documents * 2)]
        for each in chats:
            wait_until(lambda each=each: pages[0].chat.turns(each)[-1].state == "done", "the answer")
        assert len(answered) == len(chats) and set(answered.values()) == {1}
        # Three documents, each asked by both pages.
        answers = [pages[1].chat.turns(each)[0].answer.answer for each in chats]
        assert answers[:3] == answers[3:]


def test_replicas_refuse_strangers_other_versions_and_names_that_lead_elsewhere(
    cluster: Cluster, open_page: Callable[[], App]
) -> None:
    version = reads_as(open_page())
    assert cluster.post("answer/load", recipe="exact", reads_as="another version", pods=[]).status_code == 409
    block = {"position": 0, "start_token": 0, "stop_token": 1, "num_bytes": 1, "checksum": ""}
    section = {"id": 1, "identity": "", "num_tokens": 1, "state": "ready"}
    pod = {"section": section, "blocks": [{**block, "file_name": "../cluster.key"}], "passage": None}
    refused = cluster.post("answer/load", recipe="exact", reads_as=version, pods=[pod])
    assert '"error"' in refused.text and "no name of a block" in refused.text
    key = cluster.settings.home / "cluster.key"
    right = key.read_text()
    try:
        key.write_text("another")
        assert cluster.post("answer/load", recipe="exact", reads_as=version, pods=[]).status_code == 401
    finally:
        key.write_text(right)


def test_a_replica_killed_while_it_answers_loses_and_repeats_nothing_and_few_documents_move(
    expected: Expected,
    cluster: Cluster,
    open_page: Callable[[], App],
    twenty: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    page, others = open_page(), [f"{number:064x}" for number in range(300)]
    documents, version = added(page, twenty), reads_as(page)
    read(page, documents)
    before = {each: cluster.who(each, version) for each in [*documents, *others]}
    assert all(cluster.who(each, version) == before[each] for each in documents)
    assert len(set(before.values())) == ANSWERERS
    victim, begun = Counter(before[each] for each in documents).most_common(1)[0][0], threading.Semaphore(0)
    with ThreadPoolExecutor(len(documents)) as pool:
        asked = [pool.submit(ask, page, each, begun.release) for each in documents]
        for _ in range(40):
            assert begun.acquire(timeout=PATIENCE_SECONDS)
        cluster.kill(victim)
        said = [each.result() for each in asked]
    assert said == [expected[each][1] for each in documents]
    assert all(len(words) > 20 and str(code(2)) in str(shown) for words, _, shown in said)
    assert "another replica is asked" in caplog.text
    numbers = count()
    wait_until(lambda: cluster.who(f"{next(numbers)}", version) not in before.values(), "another replica")
    after = {each: cluster.who(each, version) for each in before}
    (new,) = set(after.values()) - set(before.values())
    assert victim not in after.values() and len(set(after.values())) == ANSWERERS
    # Where one goes only its documents move, and where one comes only those that it gets.
    assert all(after[each] in (before[each], new) for each in before if before[each] != victim)
    most = len(others) * (1 / ANSWERERS + 0.1)
    assert sum(before[each] == victim for each in others) <= most and sum(after[each] == new for each in others) <= most


def test_replicas_that_cannot_begin_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployments = pytest.importorskip("app.cluster.deployments")

    def fails(_: object) -> None:
        raise RuntimeError("deploying a model failed")

    monkeypatch.setattr(deployments, "ray", Mock())
    monkeypatch.setattr(deployments, "serve", Mock(run_many=fails))
    plan = deployments.Plan()
    with pytest.raises(ReplicasAway, match="deploying a model failed"):
        deployments.running(Settings(home=tmp_path), ["model"], plan).__enter__()
