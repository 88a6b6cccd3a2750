"""Conversations: exchanges are whole, branches are followed, words are found."""

from dataclasses import replace

import pytest
from sqlalchemy import event, insert, select

from storage import Citation, Conversation, Message, NotStored, Store, Viewer
from tests.storage.rows import A, B, answer, citation, document


@pytest.fixture
def conversation(store: Store) -> Conversation:
    store.add_document(document())
    return store.start_conversation(A, "About the report")


def contents(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


def test_an_exchange_comes_back_as_it_was(store: Store, conversation: Conversation) -> None:
    question, reply = store.add_exchange(conversation.id, "How much?", answer(), [citation(2), citation(1)])
    assert store.messages(conversation.id) == [question, reply]
    assert (question.role, question.parent_id, reply.parent_id) == ("user", None, question.id)
    assert (reply.found, reply.facts, reply.state) == (True, {"reused_tokens": 4}, "done")
    cited = store.citations([question.id, reply.id])
    assert cited[question.id] == []
    assert [(each.mark, each.quote, each.boxes) for each in cited[reply.id]] == [
        (1, "12 million", [(0.1, 0.2, 0.3, 0.4)]),
        (2, "12 million", [(0.1, 0.2, 0.3, 0.4)]),
    ]
    assert store.conversation(conversation.id).updated_at > conversation.updated_at


def test_the_newest_branch_is_the_active_one(store: Store, conversation: Conversation) -> None:
    first, a1 = store.add_exchange(conversation.id, "q1", answer("a1"), [])
    second, _ = store.add_exchange(conversation.id, "q2", answer("a2"), [], a1.id)
    assert contents(store.messages(conversation.id)) == ["q1", "a1", "q2", "a2"]
    again = store.replace_answer(second.id, answer("a2 again"), [citation(1)])
    assert contents(store.messages(conversation.id)) == ["q1", "a1", "q2", "a2 again"]
    assert len(store.citations([again.id])[again.id]) == 1
    store.add_exchange(conversation.id, "q2 edited", answer("a2 edited"), [], a1.id)
    assert contents(store.messages(conversation.id)) == ["q1", "a1", "q2 edited", "a2 edited"]
    store.replace_answer(first.id, answer("a1 again"), [])
    assert contents(store.messages(conversation.id)) == ["q1", "a1 again"]
    store.add_exchange(conversation.id, "q1 edited", answer("a1 edited"), [])
    assert contents(store.messages(conversation.id)) == ["q1 edited", "a1 edited"]


def test_a_conversation_is_copied_up_to_a_question(store: Store, conversation: Conversation) -> None:
    first, a1 = store.add_exchange(conversation.id, "q1", answer("a1"), [citation(2), citation(1)])
    second, a2 = store.add_exchange(conversation.id, "q2", answer("a2"), [], a1.id)
    again = store.replace_answer(second.id, answer("a2 again"), [citation(1)])
    store.add_exchange(conversation.id, "q3", answer("a3"), [], again.id)
    before = store.messages(conversation.id)
    whole = store.copy_conversation(conversation.id, "All of it")
    assert contents(store.messages(whole.id)) == ["q1", "a1", "q2", "a2 again", "q3", "a3"]
    part = store.copy_conversation(whole.id, "Some of it", store.messages(whole.id)[3].id)
    messages = store.messages(part.id)
    assert contents(messages) == ["q1", "a1"]
    assert {each.id for each in messages}.isdisjoint(each.id for each in before)
    assert [each.created_at for each in messages] == [first.created_at, a1.created_at]
    cited = store.citations([messages[1].id])[messages[1].id]
    assert [(each.mark, each.boxes) for each in cited] == [(1, [(0.1, 0.2, 0.3, 0.4)]), (2, [(0.1, 0.2, 0.3, 0.4)])]
    assert store.messages(store.copy_conversation(conversation.id, "None of it", a1.id).id) == []
    # They know of each other, and none changes with another.
    assert {each.first for each in store.conversations(A)} == {conversation.id}
    store.add_exchange(part.id, "q2 edited", answer("a2 edited"), [], messages[1].id)
    store.delete_conversation(whole.id)
    assert store.messages(conversation.id) == before
    assert len(store.citations([again.id])[again.id]) == 1
    # What is not the active branch, of another conversation, or out of sight is not copied.
    for wrong in (a2.id, messages[1].id, 999):
        with pytest.raises(NotStored):
            store.copy_conversation(conversation.id, "t", wrong)
    store.hide_conversation(part.id)
    for gone in (part.id, whole.id):
        with pytest.raises(NotStored):
            store.copy_conversation(gone, "t")
    assert [each.title for each in store.conversations(A)] == ["None of it", "About the report"]


def test_a_copy_is_of_the_same_owner_and_documents(store: Store, conversation: Conversation) -> None:
    store.add_document(document(B))
    several = store.seen_by(Viewer("ann")).start_conversation(A, "Both", beside=[B])
    copied = store.copy_conversation(several.id, "Both again")
    assert (copied.documents, copied.owner, copied.title) == ((A, B), "ann", "Both again")
    assert copied.updated_at >= several.updated_at


def test_a_reply_belongs_to_its_conversation(store: Store, conversation: Conversation) -> None:
    other = store.start_conversation(A, "Another")
    _, elsewhere = store.add_exchange(other.id, "q", answer(), [])
    with pytest.raises(NotStored, match="in conversation"):
        store.add_exchange(conversation.id, "q", answer(), [], elsewhere.id)
    with pytest.raises(NotStored):
        store.add_exchange(conversation.id, "q", answer(), [], 999)
    with pytest.raises(NotStored):
        store.add_exchange("none", "q", answer(), [])
    with pytest.raises(NotStored):
        store.replace_answer(999, answer(), [])
    with pytest.raises(NotStored):
        store.start_conversation(B, "t")
    assert store.messages(conversation.id) == []


def test_a_failing_exchange_leaves_nothing(store: Store, conversation: Conversation) -> None:
    store.add_exchange(conversation.id, "before", answer("before"), [])

    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    event.listen(Citation, "before_insert", fail)
    try:
        with pytest.raises(RuntimeError, match="power cut"):
            store.add_exchange(conversation.id, "torn", answer("torn"), [citation(1)])
    finally:
        event.remove(Citation, "before_insert", fail)
    assert contents(store.messages(conversation.id)) == ["before", "before"]


def test_conversations_are_listed_and_deleted(store: Store, conversation: Conversation) -> None:
    newer = store.start_conversation(A, "Newer")
    assert [each.title for each in store.conversations(A)] == ["Newer", "About the report"]
    store.add_exchange(conversation.id, "unicorn?", answer("no unicorn"), [citation(1)])
    assert [each.title for each in store.conversations(A)] == ["About the report", "Newer"]
    assert store.conversations(B) == []
    store.delete_conversation(conversation.id)
    assert [each.id for each in store.conversations(A)] == [newer.id]
    assert store.messages(conversation.id) == []


def test_a_very_long_conversation_can_be_deleted(store: Store, conversation: Conversation) -> None:
    """SQLite follows at most a thousand deletions that set off each other."""
    _, reply = store.add_exchange(conversation.id, "q", answer("a"), [])
    with store._database.writing.begin() as connection:
        (row,) = connection.execute(select(Message.__table__).where(Message.id == reply.id)).mappings()
        ids = range(reply.id + 1, reply.id + 1099)
        connection.execute(insert(Message), [{**row, "id": own, "parent_id": own - 1} for own in ids])
    assert len(store.messages(conversation.id)) == 1100
    store.delete_document(A)
    assert store.messages(conversation.id) == []


def test_a_hidden_conversation_is_nowhere_until_it_is_brought_back(store: Store, conversation: Conversation) -> None:
    store.add_exchange(conversation.id, "q", replace(answer("a"), state="waiting"), [citation(1)])
    before = store.messages(conversation.id), store.conversations(A), store.all_messages(), len(store.open_answers())
    store.hide_conversation(conversation.id)
    assert (store.conversation(conversation.id), store.messages(conversation.id), store.conversations(A)) == (
        None,
        [],
        [],
    )
    assert (store.all_messages(), store.open_answers()) == ([], [])
    assert not store.seen_by(Viewer("somebody else")).bring_back_conversation(conversation.id)
    assert not store.bring_back_conversation("none")
    assert store.bring_back_conversation(conversation.id)
    after = store.messages(conversation.id), store.conversations(A), store.all_messages(), len(store.open_answers())
    assert before == after


def test_of_one_owner_the_last_hidden_conversation_can_be_brought_back(
    store: Store, conversation: Conversation
) -> None:
    ann = store.seen_by(Viewer("ann"))
    other, theirs = store.start_conversation(A, "Other"), ann.start_conversation(A, "Theirs")
    for each in (conversation, theirs, other):
        store.hide_conversation(each.id)
    assert not store.bring_back_conversation(conversation.id)
    assert ann.bring_back_conversation(theirs.id) and store.bring_back_conversation(other.id)
    store.hide_conversation(other.id)
    store.delete_hidden_conversations()
    assert not store.bring_back_conversation(other.id)
    assert store.conversation(theirs.id) is not None


def test_a_conversation_about_several_goes_with_each(store: Store, conversation: Conversation) -> None:
    store.add_document(document(B))
    several = store.start_conversation(A, "", beside=[B])
    assert [each.id for each in store.conversations(B)] == []
    store.add_exchange(several.id, "A question", answer(), [])
    assert [each.id for each in store.conversations(B)] == [several.id]
    assert store.conversation(several.id).title == "A question"
    with pytest.raises(NotStored):
        store.start_conversation(A, "", beside=["none"])
    store.delete_document(B)
    assert store.conversation(several.id) is None and store.conversation(conversation.id) is not None
