"""Several documents asked at once: the best one answers, passages say whose they are, and nothing is lost."""

import threading
from pathlib import Path

import pytest

from app.errors import DocumentNotFound, NotRead
from app.events import Answer, Cited
from app.main import App
from app.retrieval import Retriever
from app.several_answer import _BY_WORDS, _likely
from storage import Store
from tests.app.conftest import OpenApp
from tests.app.paper import wait_until
from tests.app.test_search import add

TEXTS = {
    "harbour": "The dredging of the harbour of Sund took nine weeks. Its keeper was Ole Brandt.",
    "orchard": "Pears ripen in the orchard of Vik in October. The orchard was planted by Maren Lund.",
    "quarry": "Granite is cut in the quarry of Moss. The dredging of its pond took two weeks.",
}
QUESTION = "Who planted the orchard of Vik?"


def added(app: App, folder: Path, name: str, read: bool = True) -> str:
    path = folder / f"{name}.txt"
    path.write_text(TEXTS[name])
    document_id = app.library.add(path, path.name)
    if read:
        for _ in app.library.wait(document_id):
            pass
    return document_id


@pytest.fixture
def documents(app: App, tmp_path: Path) -> dict[str, str]:
    return {name: added(app, tmp_path, name) for name in TEXTS}


def asked(app: App, question: str, documents: list[str], conversation_id: str = "") -> Answer:
    first, *others = documents
    *_, answer = app.questions.ask(first, question, conversation_id, beside=others)
    assert isinstance(answer, Answer)
    return answer


def whose(cited: tuple[Cited, ...]) -> list[str]:
    return [each.title for each in cited]


def test_the_best_document_answers_whichever_comes_first(app: App, documents: dict[str, str]) -> None:
    ids = list(documents.values())
    for order in (ids, ids[::-1]):
        answer = asked(app, QUESTION, order)
        assert answer.found and whose(answer.citations)[0] == "orchard"
        assert answer.citations[0].document_id == documents["orchard"]
        assert "Maren Lund" in answer.citations[0].quote
        assert answer.looked == "Looked through 3 documents, 3 pages in all."


def test_passages_of_others_stand_behind_with_their_documents(app: App, documents: dict[str, str]) -> None:
    answer = asked(app, "How long did the dredging take?", list(documents.values()))
    assert {"harbour", "quarry"} <= set(whose(answer.citations))
    assert [each.mark for each in answer.citations] == list(range(1, len(answer.citations) + 1))
    assert len({(each.title, each.quote) for each in answer.citations}) == len(answer.citations)


def test_what_stands_in_none_is_not_found_and_says_where_it_was_sought(app: App, documents: dict[str, str]) -> None:
    answer = asked(app, "How many zebras does the circus have?", list(documents.values()))
    assert not answer.found
    assert answer.answer.startswith("Not found in these documents.")
    assert answer.looked == "Looked through 3 documents, 3 pages in all."


def test_documents_that_are_not_read_are_named(app: App, tmp_path: Path) -> None:
    unread = added(app, tmp_path, "orchard", read=False)
    other = added(app, tmp_path, "quarry", read=False)
    with pytest.raises(NotRead, match="None of these documents"):
        asked(app, QUESTION, [unread, other])
    read = added(app, tmp_path, "harbour")
    answer = asked(app, QUESTION, [unread, read])
    assert answer.looked.startswith("Looked through 1 document, 1 page in all. Not read yet: orchard")
    assert set(whose(answer.citations)) <= {"harbour"}


def test_a_conversation_goes_on_and_survives_a_restart(app: App, open_app: OpenApp, documents: dict[str, str]) -> None:
    ids = list(documents.values())
    first = asked(app, QUESTION, ids)
    second = asked(app, "Who was the keeper of the harbour of Sund?", ids, first.conversation_id)
    assert whose(second.citations)[0] == "harbour"
    app.close()
    again = open_app()
    turns = again.questions.turns(first.conversation_id)
    assert [whose(turn.answer.citations)[0] for turn in turns] == ["orchard", "harbour"]
    assert turns[0].answer.looked == first.looked
    assert again.chat.documents(first.conversation_id) == tuple(ids)
    for each in ids:
        (listed,) = again.questions.conversations(each)
        assert (listed.conversation_id, listed.documents) == (first.conversation_id, tuple(ids))


@pytest.mark.parametrize("name", list(TEXTS))
def test_it_goes_with_any_of_its_documents(app: App, documents: dict[str, str], name: str) -> None:
    answer = asked(app, QUESTION, list(documents.values()))
    app.library.delete(documents[name])
    assert app.questions.turns(answer.conversation_id) == []
    assert app.search.find("planted orchard").turns == ()


def test_the_chat_asks_several_in_the_background(app: App, documents: dict[str, str]) -> None:
    ids = list(documents.values())
    conversation_id = app.chat.open(ids)
    assert app.questions.conversations(ids[0]) == []
    app.start()
    assert app.chat.ask(ids[0], conversation_id, QUESTION) == conversation_id
    wait_until(lambda: not app.chat.turns(conversation_id)[-1].is_open, "the answer")
    (turn,) = app.chat.turns(conversation_id)
    assert (turn.state, whose(turn.answer.citations)[0]) == ("done", "orchard")
    assert [each.title for each in app.questions.conversations(ids[1])] == [QUESTION]
    app.chat.again(conversation_id)
    wait_until(lambda: not app.chat.turns(conversation_id)[-1].is_open, "the other answer")
    assert whose(app.chat.turns(conversation_id)[0].answer.citations)[0] == "orchard"


def test_a_conversation_in_which_nothing_was_asked_goes(app: App, open_app: OpenApp, documents: dict[str, str]) -> None:
    conversation_id = app.chat.open(list(documents.values()))
    assert app.chat.documents(conversation_id) == tuple(documents.values())
    app.close()
    assert open_app().chat.documents(conversation_id) == ()


def test_a_document_that_is_gone_cannot_be_asked(app: App, documents: dict[str, str]) -> None:
    with pytest.raises(DocumentNotFound):
        app.chat.open([documents["harbour"], "0" * 64])


def test_the_likely_ones_of_many_are_looked_at(app: App, documents: dict[str, str], store: Store) -> None:
    """Also where each of the others holds some of the question's words."""
    others = [add(store, name, ["The orchard is by the sea.", "Vik is a town."]) for name in "abcdefgijk"]
    likely = _likely(store, Retriever(store), QUESTION, [*others, documents["orchard"]])
    assert likely[0] == documents["orchard"] and len(likely) == _BY_WORDS


def test_stopping_ends_it(app: App, documents: dict[str, str]) -> None:
    stop = threading.Event()
    stop.set()
    first, *others = documents.values()
    *_, answer = app.questions.ask(first, QUESTION, stop=stop, beside=others)
    assert isinstance(answer, Answer) and answer.stopped
