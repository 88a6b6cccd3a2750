"""Readings: the journal of blocks, the sums, and what a crash or a deletion leaves."""

from dataclasses import replace

import pytest

from storage import Block, BlockConflict, NotStored, Reading, ReadingState, Store, unpack_token_ids
from tests.storage.rows import A, B, block, document, filled, section


@pytest.fixture
def reading(store: Store) -> Reading:
    store.add_document(document())
    return store.start_reading(A, "reader", "model", "exact", [section(1, [7, 8]), section(0, [1, 2, 3, 4])])


def test_a_reading_starts_once_for_each_reader(store: Store, reading: Reading) -> None:
    assert (reading.state, reading.num_tokens, reading.num_bytes) == ("queued", 6, 0)
    assert store.start_reading(A, "reader", "model", "exact", [section(0)]) == reading
    assert store.find_reading(A, "reader") == store.reading(reading.id) == reading
    assert store.find_reading(A, "another") is None
    assert [unpack_token_ids(each.token_ids) for each in store.sections(reading.id)] == [[1, 2, 3, 4], [7, 8]]
    other = store.start_reading(A, "another", "model", "exact", [section(0)])
    assert [each.id for each in store.readings(A)] == [reading.id, other.id]
    with pytest.raises(NotStored):
        store.start_reading(B, "reader", "model", "exact", [])


def test_readings_are_found_by_state(store: Store, reading: Reading) -> None:
    store.set_reading_state(reading.id, "failed", {"message": "m", "hint": "h"})
    assert [each.error for each in store.readings(state="failed")] == [{"message": "m", "hint": "h"}]
    assert store.readings(state="queued") == store.readings(B) == []
    store.set_reading_state(reading.id, "queued")
    assert store.reading(reading.id).error is None


def test_a_state_is_only_left_where_that_is_allowed(store: Store, reading: Reading) -> None:
    assert store.set_reading_state(reading.id, "paused", only_from=("queued", "reading"))
    assert not store.set_reading_state(reading.id, "reading", {"message": "m"}, only_from=("queued", "reading"))
    paused = store.reading(reading.id)
    assert (paused.state, paused.error) == ("paused", None)
    assert store.set_reading_state(reading.id, "failed", {"message": "m"})


def test_the_last_section_makes_the_reading_ready(store: Store, reading: Reading) -> None:
    first, second = (each.id for each in store.sections(reading.id))
    store.add_block(first, block(0, "0"))
    assert store.section(first).state == "reading"
    store.add_section_seconds(first, 1.5)
    store.add_block(first, block(1, "1"))
    store.finish_section(first, 0.5)
    assert (store.section(first).state, store.section(first).seconds) == ("ready", 2.0)
    assert (store.reading(reading.id).state, store.reading(reading.id).num_bytes) == ("queued", 200)
    store.add_block(second, block(0, "2"))
    store.finish_section(second, 1.0)
    done = store.reading(reading.id)
    assert (done.state, done.num_bytes, done.num_tokens, done.seconds) == ("ready", 300, 6, 3.0)


def test_how_long_reading_took_is_known_of_what_is_made_from_it(store: Store, reading: Reading) -> None:
    """Whichever memory of the model took longest was read; another model's says nothing, nor does another section's."""
    made = store.start_reading(A, "packed", "model", "light", [section(0), section(1)])
    foreign = store.start_reading(A, "foreign", "another model", "exact", [section(0), section(1)])
    for of, seconds in ((reading, (60.0, 40.0)), (made, (1.0, 2.0)), (foreign, (900.0, 900.0))):
        for each, took in zip(store.sections(of.id), seconds, strict=True):
            store.add_section_seconds(each.id, took)
    first, second = store.sections(made.id)
    assert store.seconds_to_read([first]) == 60.0
    assert store.seconds_to_read([second, first]) == 100.0
    assert store.seconds_to_read(store.sections(foreign.id)) == 1_800.0
    store.delete_reading(reading.id)
    assert store.seconds_to_read([first, second]) == 3.0
    store.delete_reading(made.id)
    assert store.seconds_to_read([first, second]) == 3.0, "as they were known"
    assert store.seconds_to_read([]) == 0.0


def test_how_far_each_section_is_read(store: Store, reading: Reading) -> None:
    first, second = (each.id for each in store.sections(reading.id))
    assert store.read_so_far(reading.id) == [(1, 1, 4, 0), (2, 2, 2, 0)]
    store.add_block(first, block(0, "a"))
    store.add_block(first, block(1, "b"))
    assert [each.tokens_read for each in store.read_so_far(reading.id)] == [4, 0]
    store.drop_blocks(first)
    store.add_block(second, block(0, "c"))
    assert [each.tokens_read for each in store.read_so_far(reading.id)] == [0, 2]


def test_blocks_are_journalled_one_after_the_other(store: Store, reading: Reading) -> None:
    first, second = (each.id for each in store.sections(reading.id))
    with pytest.raises(BlockConflict, match="up to token 0, not 2"):
        store.add_block(first, block(1, "b"))
    store.add_block(first, block(0, "a"))
    with pytest.raises(BlockConflict, match="up to token 2, not 0"):
        store.add_block(first, block(0, "a"))
    store.add_block(first, block(1, "b"))
    assert store.blocks(first) == [
        replace(block(0, "a"), section_id=first),
        replace(block(1, "b"), section_id=first),
    ]
    assert store.blocks(second) == []
    assert store.reading(reading.id).num_bytes == 200


def test_what_stands_behind_a_block_comes_with_it(store: Store, reading: Reading) -> None:
    """All or none; one without tokens takes the place of the one before."""
    first = store.sections(reading.id)[0].id

    def behind(name: str) -> Block:
        return replace(block(0, name), position=-2, start_token=0, stop_token=0)

    assert store.add_block(first, block(0, "a"), behind("after a")) == []
    with pytest.raises(BlockConflict):
        store.add_block(first, block(0, "again"), behind("after again"))
    assert [each.file_name for each in store.blocks(first)] == ["after a", "a"]
    assert store.add_block(first, block(1, "b"), behind("after b")) == ["after a"]
    assert [each.file_name for each in store.blocks(first)] == ["after b", "a", "b"]
    assert (store.tokens_read(first), store.reading(reading.id).num_bytes) == (4, 300)


def test_a_section_that_was_dropped_meanwhile_is_not_finished(store: Store, reading: Reading) -> None:
    first, _ = (each.id for each in store.sections(reading.id))
    store.add_block(first, block(0, "a"))
    store.drop_blocks(first)
    with pytest.raises(BlockConflict, match="up to token 0, not 4"):
        store.finish_section(first, 1.0)
    assert store.section(first).state == "waiting"


def test_a_damaged_section_goes_back_to_the_queue(store: Store, reading: Reading) -> None:
    first, second = (each.id for each in store.sections(reading.id))
    for section_id in (first, second):
        store.add_block(section_id, block(0, f"{section_id}"))
    store.add_block(first, block(1, "last"))
    for section_id in (first, second):
        store.finish_section(section_id, 1.0)
    assert store.drop_blocks(first) == [f"{first}", "last"]
    assert (store.section(first).state, store.section(second).state) == ("waiting", "ready")
    again = store.reading(reading.id)
    assert (again.state, again.num_bytes, again.seconds) == ("queued", 100, 1.0)
    assert store.blocks(first) == []


def test_blocks_that_were_replaced_are_not_dropped(store: Store, reading: Reading) -> None:
    first, _ = (each.id for each in store.sections(reading.id))
    store.add_block(first, block(0, "a"))
    store.add_block(first, block(1, "b"))
    assert store.drop_blocks(first, only_with=["a", "gone"]) == []
    assert [each.file_name for each in store.blocks(first)] == ["a", "b"]
    assert store.drop_blocks(first, only_with=["a"]) == ["a", "b"]


@pytest.mark.parametrize("state", ["paused", "reading", "cancelled", "failed"])
def test_a_reading_that_was_not_ready_keeps_its_state_when_a_section_is_dropped(
    store: Store, reading: Reading, state: ReadingState
) -> None:
    first, _ = (each.id for each in store.sections(reading.id))
    store.add_block(first, block(0, "a"))
    store.set_reading_state(reading.id, state)
    store.drop_blocks(first)
    assert store.reading(reading.id).state == state


def test_work_on_a_deleted_document_is_refused(store: Store, reading: Reading) -> None:
    first = store.sections(reading.id)[0].id
    store.delete_document(A)
    with pytest.raises(NotStored):
        store.add_block(first, block(0, "a"))
    with pytest.raises(NotStored):
        store.finish_section(first, 1.0)
    with pytest.raises(NotStored):
        store.set_reading_state(reading.id, "ready")
    assert store.delete_reading(reading.id) == []


def test_ids_are_never_given_twice(store: Store, reading: Reading) -> None:
    """Block files are named by them, and those of a deleted reading may still wait to be unlinked."""
    sections = {each.id for each in store.sections(reading.id)}
    store.delete_reading(reading.id)
    again = store.start_reading(A, "reader", "model", "exact", [section(0), section(1)])
    assert again.id != reading.id
    assert not sections & {each.id for each in store.sections(again.id)}


def test_a_file_that_another_block_uses_is_not_given_up(store: Store, reading: Reading) -> None:
    first, second = (each.id for each in store.sections(reading.id))
    store.add_block(first, block(0, "shared"))
    store.add_block(second, block(0, "shared"))
    store.add_document(document(B))
    other = store.start_reading(B, "reader", "model", "exact", [section(0)])
    store.add_block(store.sections(other.id)[0].id, block(0, "shared"))
    assert store.drop_blocks(first) == []
    assert store.delete_reading(reading.id) == []
    assert store.all_block_files() == {"shared"}
    again = store.start_reading(A, "reader", "model", "exact", [section(0)])
    store.add_block(store.sections(again.id)[0].id, block(0, "shared"))
    assert store.doom_document(A)[0] == []
    store.delete_document(A)
    assert store.doom_document(B)[0] == ["shared"]
    store.delete_document(B)
    assert store.all_block_files() == set()


def test_deleting_a_reading_leaves_the_document(store: Store) -> None:
    reading_id, _, conversation_id = filled(store)
    assert len(store.delete_reading(reading_id)) == 2
    assert store.sections(reading_id) == store.readings(A) == []
    assert store.document(A) is not None
    assert len(store.pages(A)) == len(store.messages(conversation_id)) == 2


def test_touch_moves_the_last_use(store: Store, reading: Reading) -> None:
    store.touch_reading(reading.id)
    assert store.reading(reading.id).last_used_at > reading.last_used_at
