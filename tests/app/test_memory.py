"""Memory: read once, recalled bit by bit the same, and never wrong, whatever happened to the files meanwhile."""

import shutil
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch

from app.block_store import BlockStore
from app.document_reader import DISK_SPARE_BYTES
from app.errors import Busy, DiskFull, NotRead
from app.idle import Idle
from app.main import App
from app.recall import Recaller
from app.settings import Settings
from engine.runtime.prefill.builder import PodBuilder
from storage import Home, Reading, Section, StorageFull, Store, unpack_token_ids, write_block
from tests.app import paper
from tests.app.conftest import PAGES, OpenApp

pytestmark = pytest.mark.usefixtures("in_this_process")

QUESTION = "What is the access code of room 3?"


@pytest.fixture
def document_id(read_document: str) -> str:
    """A document that is read."""
    return read_document


def read_some(app: App, reading: Reading, chunks: int) -> None:
    """Read so many chunks and abandon the rest in the middle, as a process does that ends."""
    work = app.model.wait().reader.read(reading)
    for _ in range(chunks):
        next(work)


def files(settings: Settings) -> list[Path]:
    return sorted((settings.home / "pods").iterdir())


def pod_bytes(recaller: Recaller, section: Section) -> bytes:
    recalled = recaller.recall(section)
    assert recalled is not None
    return b"".join(part.view(torch.uint8).numpy().tobytes() for part in (recalled.pod.keys, recalled.pod.values))


def test_the_plan_holds_the_exact_tokens_of_every_page(app: App, store: Store, source: Path, tiny_tokenizer) -> None:
    reading = paper.planned(app, source)
    sections = store.sections(reading.id)
    assert len(sections) == 2
    assert [(each.first_page, each.last_page) for each in sections] == [(1, 4), (5, 8)]
    tokens = [unpack_token_ids(each.token_ids) for each in sections]
    assert [len(ids) for ids in tokens] == [each.num_tokens for each in sections]
    assert reading.num_tokens == sum(map(len, tokens))
    texts = [tiny_tokenizer.decode(ids) for ids in tokens]
    for number in range(1, PAGES + 1):
        assert paper.page_text(number) in texts[(number - 1) // 4]
    assert app.model.wait().presets.plan(reading.document_id) == reading


def test_what_is_recalled_is_what_was_read(
    app: App, open_app: OpenApp, store: Store, settings: Settings, document_id: str
) -> None:
    (reading,) = store.readings(document_id)
    sections = store.sections(reading.id)
    in_memory = [pod_bytes(app.model.wait().recaller, section) for section in sections]
    app.close()
    from_disk = [pod_bytes(open_app().model.wait().recaller, section) for section in sections]
    assert from_disk == in_memory
    assert sum(map(len, from_disk)) < reading.num_bytes == sum(path.stat().st_size for path in files(settings))


def test_a_reading_that_was_abandoned_goes_on_where_it_was(
    app: App, open_app: OpenApp, store: Store, settings: Settings, source: Path
) -> None:
    reading = paper.planned(app, source)
    read_some(app, reading, 3)
    begun = paper.blocks(settings.home)
    assert len(begun) == 3
    # The lock is free again although nobody closed the work by hand.
    read_some(app, store.reading(reading.id), 1)
    app.close()
    again = open_app()
    for _ in again.library.wait(reading.document_id):
        pass
    assert store.reading(reading.id).state == "ready"
    assert paper.blocks(settings.home).items() >= begun.items()


def test_a_chunk_larger_than_a_block_is_stored_in_pieces(
    open_app: OpenApp, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app(chunk_tokens=300)
    reading = paper.planned(app, source)
    token_bytes = app.model.wait().loaded.runner.model.shape.token_bytes
    monkeypatch.setattr("engine.kvcache.exact.MOST_BYTES", 100 * token_bytes)
    first, _ = store.sections(reading.id)
    written: list[str] = []

    def stops(folder: Path, name: str, *rest: object) -> tuple[int, str]:
        written.append(name)
        if len(written) == 6:
            raise StorageFull(1, 0)
        return write_block(folder, name, *rest)

    with monkeypatch.context() as patch:
        # In the middle of the second chunk, of which nothing is left then.
        patch.setattr("app.block_store.write_block", stops)
        assert isinstance(paper.failure(app.library.wait(reading.document_id)), DiskFull)
    assert [each.stop_token - each.start_token for each in store.blocks(first.id)] == [100] * 3
    for _ in app.library.wait(reading.document_id):
        pass
    in_memory = pod_bytes(app.model.wait().recaller, first)
    app.close()
    assert pod_bytes(open_app().model.wait().recaller, first) == in_memory


@pytest.mark.parametrize("sizes", [(32, 300), (300, 32)])
def test_a_chunk_size_that_changes_half_way_does_no_harm(
    open_app: OpenApp, store: Store, source: Path, sizes: tuple[int, int]
) -> None:
    first, then = sizes
    before = open_app(chunk_tokens=first)
    reading = paper.planned(before, source)
    read_some(before, reading, 5 if first < then else 1)
    before.close()
    app = open_app(chunk_tokens=then)
    for _ in app.library.wait(reading.document_id):
        pass
    app.close()
    recaller = open_app().model.wait().recaller
    for section in store.sections(reading.id):
        assert recaller.recall(section).pod.num_tokens == section.num_tokens


def test_a_section_that_is_read_in_part_gives_the_pages_that_are_read(
    app: App, open_app: OpenApp, store: Store, source: Path
) -> None:
    reading = paper.planned(app, source)
    read_some(app, reading, 3)
    first, second = store.sections(reading.id)
    app.close()
    recaller = open_app().model.wait().recaller
    recalled = recaller.recall(first)
    assert recalled.pod.num_tokens == len(recalled.text.ids) == 3 * 128
    assert recalled.text.ids == unpack_token_ids(first.token_ids)[: 3 * 128]
    assert recalled.text.last_page < first.last_page
    assert recaller.recall(second) is None


def test_a_section_of_which_only_the_prompt_is_read_counts_as_not_read(
    open_app: OpenApp, store: Store, source: Path
) -> None:
    app = open_app(chunk_tokens=16)
    reading = paper.planned(app, source)
    read_some(app, reading, 1)
    assert app.model.wait().recaller.recall(store.sections(reading.id)[0]) is None
    assert isinstance(paper.failure(app.questions.ask(reading.document_id, QUESTION)), NotRead)


def flip_a_byte(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: list[Callable[[Path], None]] = [flip_a_byte, tear, Path.unlink, lambda path: path.write_bytes(b"")]


@pytest.mark.parametrize("damage", DAMAGES, ids=["flipped", "torn", "missing", "empty"])
def test_a_damaged_block_is_never_used_and_its_section_is_read_again(
    app: App,
    open_app: OpenApp,
    store: Store,
    settings: Settings,
    document_id: str,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    right = paper.last(app.questions.ask(document_id, QUESTION))
    written = paper.blocks(settings.home)
    app.close()
    first, second = store.sections(store.readings(document_id)[0].id)
    damage(settings.home / "pods" / store.blocks(first.id)[2].file_name)

    again = open_app()
    partly = paper.last(again.questions.ask(document_id, QUESTION))
    assert (partly.sections, partly.reused_tokens) == ((1,), second.num_tokens)
    assert [record.name for record in caplog.records] == ["app.block_store"]
    assert {path.name for path in files(settings)} == {block.file_name for block in store.blocks(second.id)}
    assert again.library.catalogue.entry(document_id).progress.stage == "queued"

    again.library.start()
    paper.wait_for(again, document_id, "ready")
    assert paper.blocks(settings.home) == written
    healed = paper.last(again.questions.ask(document_id, QUESTION))
    assert (healed.answer, healed.citations, healed.sections) == (right.answer, right.citations, right.sections)


def test_damage_that_is_found_while_the_background_runs_is_mended_by_itself(
    app: App, open_app: OpenApp, settings: Settings, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = paper.blocks(settings.home)
    pod_bytes = app.library.catalogue.entry(document_id).pod_bytes
    app.close()
    again = open_app()
    again.start()
    again.model.wait()
    for path in files(settings):
        flip_a_byte(path)
    asked, begin = threading.Event(), PodBuilder.begin

    def begin_later(builder: PodBuilder, ids: list[int]) -> object:
        """The question is not to find a chunk that was read again already."""
        assert asked.wait(60)
        return begin(builder, ids)

    monkeypatch.setattr(PodBuilder, "begin", begin_later)
    assert isinstance(paper.failure(again.questions.ask(document_id, QUESTION)), NotRead)
    asked.set()
    paper.wait_until(lambda: again.library.catalogue.entry(document_id).pod_bytes == pod_bytes)
    paper.wait_for(again, document_id, "ready")
    assert paper.blocks(settings.home) == written


def test_what_is_read_again_before_the_damaged_files_are_removed_stays(
    app: App, open_app: OpenApp, settings: Settings, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = paper.blocks(settings.home)
    app.close()
    again = open_app()
    reader = again.model.wait().reader
    drop_blocks = Store.drop_blocks

    def dropped_and_read(self: Store, section_id: int, only_with: Collection[str]) -> list[str]:
        names = drop_blocks(self, section_id, only_with)
        (reading,) = self.readings(document_id)
        assert list(reader.read(reading))
        return names

    flip_a_byte(files(settings)[0])
    with monkeypatch.context() as patch:
        patch.setattr(Store, "drop_blocks", dropped_and_read)
        # As another process reads, which does not make way for questions of this one.
        patch.setattr(Idle, "make_way", lambda *_: None)
        assert paper.last(again.questions.ask(document_id, QUESTION)).sections == (0, 1)
    assert paper.blocks(settings.home) == written
    assert again.verify() == (len(written), [])


def test_a_section_that_a_question_drops_while_it_is_read_is_begun_anew(
    app: App, store: Store, settings: Settings, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reading = paper.planned(app, source)
    work = app.model.wait().reader.read(reading)
    for _ in range(3):
        next(work)
    flip_a_byte(files(settings)[1])
    app.model.wait().recaller.forget(reading.id)
    assert isinstance(paper.failure(app.questions.ask(reading.document_id, QUESTION)), NotRead)
    assert files(settings) == []
    assert list(work)
    assert [record.name for record in caplog.records] == ["app.block_store", "app.document_reader"]
    assert store.reading(reading.id).state == "ready"
    assert app.verify() == (len(files(settings)), [])


def test_the_block_of_another_section_is_refused(
    app: App, open_app: OpenApp, store: Store, settings: Settings, document_id: str
) -> None:
    app.close()
    first, second = store.sections(store.readings(document_id)[0].id)
    ours, theirs = store.blocks(first.id)[1], store.blocks(second.id)[1]
    pods = settings.home / "pods"
    shutil.copy(pods / theirs.file_name, pods / ours.file_name)
    recaller = open_app().model.wait().recaller
    assert recaller.recall(first) is None
    assert recaller.recall(second) is not None


def test_a_block_whose_row_was_forged_too_is_refused(
    app: App, open_app: OpenApp, store: Store, settings: Settings, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksum fits, so only the section's identity inside the block tells."""
    app.close()
    first, second = store.sections(store.readings(document_id)[0].id)
    blocks = Store.blocks

    def forged(self: Store, section_id: int) -> list[object]:
        return blocks(self, second.id if section_id == first.id else section_id)

    recaller = open_app().model.wait().recaller
    with monkeypatch.context() as patch:
        patch.setattr(Store, "blocks", forged)
        assert recaller.recall(first) is None


def test_a_section_whose_blocks_change_at_every_look_counts_as_not_read(
    app: App, open_app: OpenApp, store: Store, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.close()
    section = store.sections(store.readings(document_id)[0].id)[0]
    recaller, blocks = open_app().model.wait().recaller, Store.blocks
    looks: list[int] = []

    def restless(self: Store, section_id: int) -> list[object]:
        looks.append(section_id)
        found = blocks(self, section_id)
        return found[: len(found) - len(looks) % 2]

    with monkeypatch.context() as patch:
        patch.setattr(Store, "blocks", restless)
        patch.setattr(BlockStore, "load", lambda *_: None)
        assert recaller.recall(section) is None
    assert 4 < len(looks) < 20
    assert recaller.recall(section) is not None


def test_a_damaged_block_is_read_again_when_reading_goes_on(
    app: App, open_app: OpenApp, store: Store, settings: Settings, source: Path
) -> None:
    reading = paper.planned(app, source)
    read_some(app, reading, 3)
    app.close()
    for path in files(settings)[:1]:
        flip_a_byte(path)
    again = open_app()
    for _ in again.library.wait(reading.document_id):
        pass
    again.close()
    assert store.reading(reading.id).state == "ready"
    assert open_app().verify() == (len(files(settings)), [])


def test_the_same_document_is_read_by_one_process_at_a_time(
    app: App, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("app.worker.POLL_SECONDS", 0.05)
    reading = paper.planned(app, source)
    read_some(app, reading, 2)
    begun = paper.blocks(settings.home)
    with Home(settings.home).lock(f"reading-{reading.id}"):
        assert isinstance(paper.failure(app.library.wait(reading.document_id)), Busy)
        assert store.reading(reading.id).state == "reading"
        assert paper.blocks(settings.home) == begun
        app.start()
        other = app.library.add(paper.text(tmp_path / "b.txt", 1), "b.txt")
        paper.wait_for(app, other, "ready")
        assert app.library.catalogue.entry(reading.document_id).progress.stage == "queued"
        assert store.reading(reading.id).state == "reading"
    # It goes on by itself where the other process left it.
    paper.wait_for(app, reading.document_id, "ready")


def test_a_document_that_does_not_fit_on_the_disk_is_not_begun(
    app: App, open_app: OpenApp, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = paper.planned(app, source)
    needed = app.model.wait().planner.forecast(reading, *store.shelf(reading.document_id)).disk_bytes + DISK_SPARE_BYTES
    monkeypatch.setattr(Home, "free_bytes", lambda _: needed - 1)
    error = paper.failure(app.library.wait(reading.document_id))
    assert isinstance(error, DiskFull)
    assert "0.3 GB are needed, 0.3 GB are free" in error.message and "--home" in error.hint
    entry = app.library.catalogue.entry(reading.document_id)
    assert (entry.progress.stage, entry.progress.message) == ("failed", error.message)
    assert files(settings) == []

    monkeypatch.setattr(Home, "free_bytes", lambda _: needed)
    app.close()
    again = open_app()
    again.start()
    other = again.library.add(paper.text(source.with_name("b.txt"), 1), "b.txt")
    paper.wait_for(again, other, "ready")
    assert again.library.catalogue.entry(reading.document_id).progress.stage == "failed"
    again.library.read(reading.document_id)
    paper.wait_for(again, reading.document_id, "ready")


def test_a_disk_that_fills_up_while_reading_keeps_what_was_read(
    app: App, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = paper.planned(app, source)
    read_some(app, reading, 3)
    begun = paper.blocks(settings.home)

    def full(*_: object) -> None:
        raise StorageFull(2_000_000_000, 1_000)

    with monkeypatch.context() as patch:
        patch.setattr("app.block_store.write_block", full)
        error = paper.failure(app.library.wait(reading.document_id))
    assert isinstance(error, DiskFull) and "2.0 GB" in error.message
    assert paper.blocks(settings.home) == begun
    assert store.reading(reading.id).state == "failed"
    answer = paper.last(app.questions.ask(reading.document_id, QUESTION))
    assert answer.reused_tokens == 3 * 128
    for _ in app.library.wait(reading.document_id):
        pass
    assert store.reading(reading.id).state == "ready"
    assert paper.blocks(settings.home).items() > begun.items()


def test_a_full_disk_does_not_touch_what_is_ready(
    app: App, store: Store, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Home, "free_bytes", lambda _: 0)
    assert list(app.library.wait(document_id)) == []
    assert store.readings(document_id)[0].state == "ready"


def test_recalled_pods_stay_in_memory_up_to_the_limit(
    app: App, open_app: OpenApp, store: Store, settings: Settings, document_id: str
) -> None:
    sections = store.sections(store.readings(document_id)[0].id)
    app.close()
    roomy, narrow = open_app().model.wait(), open_app(memory_mb=1).model.wait()
    assert narrow.loaded.tiers.device_limit == 1_000_000
    narrow.loaded.tiers.device_limit = 1
    for engine in (roomy, narrow):
        for section in sections:
            engine.recaller.recall(section)
    shutil.rmtree(settings.home / "pods")
    assert roomy.recaller.recall(sections[0]) is not None
    assert narrow.recaller.recall(sections[1]) is not None
    assert narrow.recaller.recall(sections[0]) is None


def test_what_is_read_in_this_run_knows_how_long_it_took(app: App, document_id: str) -> None:
    answer = paper.last(app.questions.ask(document_id, QUESTION))
    assert answer.reading_seconds > 0


def test_a_short_last_chunk_does_not_spoil_the_forecast(app: App, store: Store, tmp_path: Path) -> None:
    planner = app.model.wait().planner
    tiny = paper.text(tmp_path / "tiny.txt", 1)
    tiny.write_text("Hi")
    reading = paper.planned(app, tiny)
    before = planner.forecast(reading, *store.shelf(reading.document_id)).seconds
    assert reading.num_tokens < 128
    paper.read_here(app, tiny)
    assert planner.forecast(reading, *store.shelf(reading.document_id)).seconds == before
