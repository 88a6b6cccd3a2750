"""All of a document: its main points with a passage each, kept for the next time, and gone with the document."""

import threading
from dataclasses import replace

import pytest

from app import whole_answer
from app.events import Answer, Evidence, Working
from app.main import App
from app.main_points import main_points
from storage import Page, Store
from tests.app import paper
from tests.app.conftest import OpenApp

pytestmark = pytest.mark.usefixtures("in_this_process")

PAGES = 8
SUMMARISE = "Summarise this document in five bullet points."


@pytest.fixture
def document_id(read_document: str) -> str:
    """A document that is read."""
    return read_document


def strong(app: App) -> None:
    """Let the reader be one that answers from whole sections."""
    loaded = app.model.wait().loaded
    loaded.heads = replace(loaded.heads, answers_from="sections")


def ask(app: App, document_id: str, question: str = SUMMARISE, conversation_id: str = "") -> Answer:
    return paper.last(app.questions.ask(document_id, question, conversation_id))


@pytest.mark.parametrize(
    ("question", "points"),
    [
        (SUMMARISE, 5),
        ("What is it about?", 8),
        ("Give me the main points in three bullet points", 3),
        ("Fasse dieses Dokument in vier Stichpunkten zusammen.", 4),
    ],
)
def test_a_weak_reader_quotes_the_main_sentences(app: App, document_id: str, question: str, points: int) -> None:
    answer = ask(app, document_id, question)
    assert answer.found
    assert answer.answer.count("\n- ") == points == len(answer.citations)
    for mark, cited in enumerate(answer.citations, 1):
        assert f"- {cited.quote} [{mark}]" in answer.answer
    assert [cited.page for cited in answer.citations] == sorted({cited.page for cited in answer.citations})
    (turn,) = app.questions.turns(answer.conversation_id)
    assert turn.answer == answer


def test_it_is_not_made_again_even_after_a_restart(
    app: App, open_app: OpenApp, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(app, document_id)
    app.close()
    monkeypatch.setattr(whole_answer, "main_points", lambda *_: pytest.fail("it was made again"))
    assert ask(open_app(), document_id).answer == first.answer


def test_notes_go_with_their_document(app: App, document_id: str, store: Store) -> None:
    ask(app, document_id)
    assert store.notes(document_id)
    app.library.delete(document_id)
    assert store.notes(document_id) == {}


def test_a_strong_reader_goes_over_all_sections_and_puts_its_notes_together(
    app: App, document_id: str, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    strong(app)
    said = iter(
        ["Room 2 has the code 4074.", "Nobody saw the porter of room 9.", "The code of room 2 is 4074. It is 99."]
    )
    monkeypatch.setattr(whole_answer.WholeAnswer, "_ask", lambda *_: next(said))
    *events, answer = app.questions.ask(document_id, "Summarise this document.")
    assert isinstance(answer, Answer)
    progress = [event for event in events if isinstance(event, Working)]
    assert [(each.done, each.total) for each in progress] == [(0, 2), (1, 2), (2, 2)]
    assert isinstance(events[len(progress)], Evidence)
    assert answer.sections == (0, 1)
    assert "The code of room 2 is 4074. [1]" in answer.answer
    assert [answer.answer[start:end] for start, end in answer.unsupported] == ["99"]
    assert len(store.notes(document_id)) == 3
    again = ask(app, document_id, "Summarise this document.")
    assert (again.answer, again.unsupported) == (answer.answer, answer.unsupported)


def test_a_strong_readers_own_words(app: App, document_id: str) -> None:
    strong(app)
    answer = ask(app, document_id, "What is on page 3?")
    assert answer.sections == (0,)
    assert 0 < answer.reused_tokens < app.library.catalogue.entry(document_id).progress.total * 0.45
    assert answer.answer.startswith("Page 3")


def test_stopped_between_sections(app: App, document_id: str, store: Store) -> None:
    strong(app)
    stop = threading.Event()
    for event in app.questions.ask(document_id, "Summarise this document.", stop=stop):
        if isinstance(event, Working) and event.done == 1:
            stop.set()
    assert isinstance(event, Answer) and event.stopped
    assert len(store.notes(document_id)) == 1


def test_questions_about_all_of_it_are_not_what_a_follow_up_goes_on_from(app: App, document_id: str) -> None:
    first = ask(app, document_id, "What is the access code of room 3?")
    whole = ask(app, document_id, "What is it about?", first.conversation_id)
    assert whole.understood == "" and len(whole.citations) > 3
    then = ask(app, document_id, "And of room 5?", first.conversation_id)
    assert then.understood == "What is the access code of room 5?"
    assert then.citations[0].page == 5


def page(number: int, text: str) -> Page:
    return Page(number=number, label=str(number), text=text, state="ok", width_pt=1, height_pt=1, words=b"")


FILLER = "The committee met in the old hall, and the minutes were read aloud to all who came."


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        (["The toll on the Narvik bridge is 85 crowns for a lorry."], 1),
        (
            ["The ferry to Alta was sold to Ada Whitlock.", "The lamp of the pier was mended twice."],
            2,
        ),
    ],
)
def test_what_stands_on_every_page_is_no_point(facts: list[str], kept: int) -> None:
    pages = [page(number, f"{FILLER} {fact}") for number, fact in enumerate(facts, 1)] + [page(9, FILLER)]
    assert [each.quote for each in main_points(pages, kept)] == facts


def test_tables_and_fragments_are_no_points_while_there_are_sentences() -> None:
    text = "Contents 1 2 3\n\nRevenue 12 14 15 16 17 18.\n\nThe crane of the harbour was built by Odd Brekke."
    (point,) = main_points([page(1, text)], 3)
    assert point.quote == "The crane of the harbour was built by Odd Brekke."
    assert main_points([page(1, "Revenue 12 14\n\n15 16")], 3)
    assert main_points([], 3) == []


def test_a_document_that_says_itself_what_matters_is_quoted_there() -> None:
    told = ["The pier was lengthened by nine metres in May.", "Two ferries were sold to the town of Alta."]
    noise = " ".join(f"The depot of lane {n} keeps ropes, lamps and nets for the depot." for n in range(9))
    pages = [
        page(1, f"Depots\n\n{noise}"),
        page(2, f"Overview\n\n{' '.join(told)}"),
        page(3, f"Ropes\n\n{noise[:300]}"),
    ]
    assert [each.quote for each in main_points(pages, 1)] == told[:1]


def test_every_part_has_its_share() -> None:
    pages = [page(number, f"{FILLER} Office {number} of the works has {number} clerks.") for number in range(1, 7)]
    points = main_points(pages, 3)
    assert [(each.page + 1) // 2 for each in points] == [1, 2, 3]


def test_a_document_of_chapters_is_told_by_how_they_begin() -> None:
    leads = [
        "A capstan is a drum that winds a cable.",
        "A windlass on a boat is turned by men.",
        "A steam crane lifts stones to the quay.",
        "A block with its rope lifts a sailor.",
    ]
    pages = []
    for number, lead in enumerate(leads, 1):
        words = lead[:-1].split()
        turned = " ".join(" ".join(words[k:] + words[:k]).capitalize() + "." for k in range(1, len(words)))
        pages.append(page(number, f"Chapter {number}\n\nThis chapter is short. {lead} {turned}"))
    entries = [(1, f"{number} Chapter {number}", number) for number in range(1, 5)]
    assert [each.quote for each in main_points(pages, 4, entries)] == leads
    assert len(main_points(pages, 6, entries)) == 4
    assert len(main_points(pages, 8, entries, least=6)) == 6


@pytest.mark.parametrize(
    ("subject", "lead"),
    [
        ("SKUA_2031", "The Skua is a mail boat of nine metres."),
        ("The mail boats of Vik", "Mail boats are the only ships that call there."),
        ("", ""),
        ("Petrels", ""),
    ],
)
def test_what_it_is_about_comes_first(subject: str, lead: str) -> None:
    tides = "The tide at Vik turns at noon. At noon the tide turns the mill of Vik, and the mill grinds at the turn."
    texts = [
        tides,
        f"Contents of the log. {lead} The log is kept by the mate.",
        tides,
        f"{tides.replace('noon', 'dusk')} {lead}",
    ]
    pages = [page(number, text) for number, text in enumerate(texts, 1)]
    (point,) = main_points(pages, 1, subject=subject)
    assert (point.quote == lead) is bool(lead)
