"""Evidence: which passage comes first, and when none of them is called an answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.answer_span import answer_span, asks_for, counts, may_answer
from app.derived_figures import derived_figure
from app.evidence import Ranked, rank
from app.page_names import page_named, page_number
from app.passages import split
from app.query_terms import core_question
from app.routing import Route
from app.words import terms
from storage import Document, Page, Store, pack_words

ID = "a" * 64
PAGES = (
    "Harbour of Vardo\n\nThe year 2031",
    "The gate code of the Oslo office is 4411. A clerk wrote it down.\n\nThe crane of the Bergen quay was sold.",
    "The crane in section. Heights are in metres.\n\nThe quay has a crane, which for as long as anyone knows was "
    "painted grey every spring by the masons, is 14 metres high.\n\nThe crane is 12 metres high.",
    "Balance sheets\n2031 2030\nTotal current assets 912,400 880,100\nTotal current liabilities 410,200 398,700",
    "The chaplain of the seamen's home is Tove Lind. She came in June 2027 and keeps bees.\n\nThe estimate for the "
    "slipway is 700 crowns.\n\nNote: The slipway estimate was lowered to 650 crowns.\n\nNote: Check the bees.\n\n"
    "The home at Skei was built in 1987 by Ada Lind.",
    "Ледокол чинили в Вардё. Лоцман порта получает 900 крон.\n\n港の灯台の高さは四十メートルです。",
    "The pilots are paid by the harbour. Their boats were built in Alta, and the oldest was sold to Hammerfest.",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path / 'test.sqlite3'}")
    store.add_document(Document(id=ID, title="t", file_name="f", media_type="text/plain", num_bytes=1))
    store.save_pages(ID, "t", [], [page(number, text) for number, text in enumerate(PAGES, 1)])
    yield store
    store.close()


def page(number: int, text: str, label: str = "") -> Page:
    return Page(
        number=number,
        label=label or str(number),
        text=text,
        state="ok",
        width_pt=1.0,
        height_pt=1.0,
        words=pack_words([]),
    )


def best(store: Store, question: str, document_id: str = ID) -> Ranked:
    route = Route(question, document_id, store)
    return rank(question, route.terms, route.candidates, [])[0]


def best_of(store: Store, text: str, question: str) -> Ranked:
    """Of a document of one page."""
    other = "b" * 64
    store.add_document(Document(id=other, title="t", file_name="f", media_type="text/plain", num_bytes=1))
    store.save_pages(other, "t", [], [page(1, text)])
    return best(store, question, other)


@pytest.mark.parametrize(
    "question",
    [
        "What is the gate code of the Bergen office?",
        "What is the gate code of the office in Hammerfest?",
        "What is the gate code of the Trondheim office?",
        "Who sold the crane of the Trondheim quay?",
    ],
)
def test_what_is_told_of_another_name_or_of_none_is_no_answer(store: Store, question: str) -> None:
    assert not best(store, question).found
    assert best(store, "What is the gate code of the Oslo office?").found


def test_a_name_that_stands_nowhere_is_told(store: Store) -> None:
    assert Route("What is the gate code of the Trondheim office?", ID, store).terms.absent == ("Trondheim",)
    assert Route("What is the gate code of the Bergenn office?", ID, store).terms.absent == ()
    assert Route("Wie lautet der Code des Trondheim Büros?", ID, store).terms.absent == ()
    assert Route("What Is The Gate Code Of The Trondheim Office?", ID, store).terms.absent == ()


def test_without_anything_of_the_kind_that_is_sought_nothing_is_found(store: Store) -> None:
    assert not best(store, "How heavy were the pilots' boats?").found
    assert best(store, "Where were the pilots' boats built?").found


def together(store: Store, question: str) -> list[tuple[str, str]]:
    """The passages that belong together, the best one first, with the characters that answer."""
    route = Route(question, ID, store)
    first, *others = rank(question, route.terms, route.candidates, [], [])
    assert first.found
    shown = [first, *(each for each in others if each.beside)]
    texts = dict(enumerate(PAGES, 1))
    return [(each.passage.text, texts[each.passage.page][slice(*each.span)] if each.span else "") for each in shown]


def test_every_part_of_a_question_is_answered(store: Store) -> None:
    chaplain, came = "The chaplain of the seamen's home is Tove Lind.", "She came in June 2027 and keeps bees."
    both = [(chaplain, "Tove Lind"), (came, "June 2027")]
    assert together(store, "Who is chaplain of the seamen's home, and since when?") == both
    assert together(store, "When did the chaplain of the seamen's home come?") == [both[1], (chaplain, "")]
    assert together(store, "Who is chaplain of the seamen's home and what is his name?") == both[:1]
    built = "The home at Skei was built in 1987 by Ada Lind."
    assert together(store, "When was the home at Skei built, and by whom?") == [(built, "1987 by Ada Lind")]


def test_a_note_that_says_otherwise_comes_first_and_the_page_beside_it(store: Store) -> None:
    assert together(store, "How much is the estimate for the slipway?") == [
        ("Note: The slipway estimate was lowered to 650 crowns.", "650 crowns"),
        ("The estimate for the slipway is 700 crowns.", "700 crowns"),
    ]
    assert len(together(store, "What should be checked of the bees?")) == 1


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Сколько получает лоцман порта?", True),
        ("Сколько получает повар порта Осло?", False),
        ("灯台の高さは何メートルですか？", True),
        ("市長の名前は何ですか？", False),
    ],
)
def test_in_other_scripts_most_of_the_words_decide(store: Store, question: str, found: bool) -> None:
    assert best(store, question).found is found


def test_what_defines_a_term_comes_before_what_uses_it(store: Store) -> None:
    text = (
        "The hammer costs 40 crowns. The hammer is cleaned on Fridays.\n\nHammer, a heavy tool with a handle.\n\n"
        "Never leave the hammer on the floor."
    )
    found = best_of(store, text, "What does Hammer mean?")
    assert found.found and text[slice(*(found.span or (0, 0)))] == "a heavy tool with a handle"


def test_a_figure_alone_is_not_among_the_closest_passages(store: Store) -> None:
    text = "1\n\nThe harbour has a crane.\n\n0\n\nIt was sold to a yard in the north.\n\n0"
    assert len(best_of(store, text, "Wie hoch ist der Turm?").passage.text) > 1


def test_the_next_sentence_answers_where_it_has_the_deed(store: Store) -> None:
    text = "The chief executive is Odd Lien, who came in 2024. He was born in 1971 in Alta.\n\nThe yard has two cranes."
    found = best_of(store, text, "When was the chief executive born?")
    assert text[slice(*(found.span or (0, 0)))] == "1971"


def test_he_is_who_the_sentences_before_name(store: Store) -> None:
    text = (
        "Ole Brandt kept the light of Sund, wired in 1996, to the end.\n\nThis report is the last that has Ole Brandt. "
        "He came as a boy of nineteen on the relief boat. He retired in October 2031, after thirty-eight years."
    )
    found = best_of(store, text, "When did Ole Brandt retire?")
    assert found.found and text[slice(*found.span)] == "October 2031"
    assert best(store, "How old was Ole Brandt when he came?", "b" * 64).passage.text.startswith("He came")


def test_a_heading_that_answers_is_no_heading_of_what_stands_above_it(store: Store) -> None:
    text = "It was a long year, and all of it is told here. We thank him.\n\nMaud Tarrant, Director\nSund, 18 February"
    found = best_of(store, text, "Who is the director?")
    assert found.found and text[slice(*found.span)] == "Maud Tarrant"


def test_a_name_that_the_question_has_too_is_no_other_one(store: Store) -> None:
    text = "The director is Marta Lien. She has lived at Holm since 2014.\n\nThe huts are old."
    assert best_of(store, text, "Since when has Marta Lien lived at Holm?").found


def test_of_two_that_say_as_much_the_shorter_comes_first(store: Store) -> None:
    assert best(store, "How high is the crane?").passage.text == "The crane is 12 metres high."


def test_the_page_that_is_named_comes_first(store: Store) -> None:
    assert best(store, "Which year stands on the first page?").passage.page == 1
    assert best(store, "What is said of boats on page 7?").passage.page == 7


def test_a_ratio_is_sought_where_its_lines_are(store: Store) -> None:
    found = best(store, "What is the working capital in 2031?")
    assert found.passage.page == 4 and found.missing == 0
    assert derived_figure("What is the working capital?").name == "working capital"
    assert derived_figure("How high is the crane?") == ("", "")
    assert derived_figure("Did the harbour make a profit?").name == ""


@pytest.mark.parametrize(
    ("question", "label"),
    [
        ("What is said on page 7?", "7"),
        ("Which date is on the second page?", "second"),
        ("What stands at the foot of page (3)?", "3"),
        ("Was steht auf der letzten Seite?", "last"),
        ("How many pages are there?", ""),
    ],
)
def test_pages_that_questions_name(question: str, label: str) -> None:
    found = page_named(question)
    assert (found.label if found else "") == label


def test_a_label_goes_before_a_number() -> None:
    pages = [page(1, "", "i"), page(2, "", "1"), page(3, "", "2")]
    assert [page_number(each, pages) for each in ("I", "1", "3", "second", "last", "9")] == [1, 2, 3, 2, 3, 0]


def test_a_place_may_stand_on_the_next_line() -> None:
    (passage,) = split(1, "The boats were built in\nAlta by two brothers.")
    span = answer_span("Where were the boats built?", {"boat": 1.0}, passage)
    assert span and passage.text[slice(*span)] == "Alta"


@pytest.mark.parametrize(
    ("question", "quote", "may"),
    [
        ("How much did the roof cost?", "The roof is five metres long.", False),
        ("How much did the roof cost?", "The roof was paid for with 900 crowns.", True),
        ("Who built the roof?", "The roof was built in a summer.", False),
        ("What happens when the roof leaks?", "Buckets are set out.", True),
        ("Did they pay for the roof?", "The town did.", True),
        ("谁修了屋顶？", "屋顶是王先生修的。", True),
    ],
)
def test_what_may_answer(question: str, quote: str, may: bool) -> None:
    assert may_answer(question, [quote]) is may


def test_a_question_for_words_has_no_kind() -> None:
    assert asks_for("What method did they use to pay?") is None


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Der Zugangscode ist 7731.", "What is the code?"),
        ("The gatecode of Bergen is 7731.", "What is the gatecodeof Bergen?"),
    ],
)
def test_a_word_may_be_part_of_another(store: Store, text: str, question: str) -> None:
    assert best_of(store, text, question).found


def test_who_is_spoken_to_and_what_speaks_are_not_sought() -> None:
    assert core_question("Can you tell me, Ada, what the toll for lorries is?") == "what the toll for lorries is?"
    assert terms(core_question("What does this report say about the toll for lorries?")) == ["toll", "lorries"]


def test_the_cell_below_the_head_that_is_asked_for_answers() -> None:
    table = "| office | year | code |\n| --- | --- | --- |\n| Vardo | 2024 | 5512 |"
    row = split(1, table)[-1]
    span = answer_span("What is the code of Vardo?", {"code": 0.5, "vardo": 0.5}, row)
    assert span and table[slice(*span)] == "5512"


REPORT = """Who answers for what
Duty  Name  Here since
Director  Ida Moe  2021
Ferry Master  Karl Vik  2009
Clerk  Sol Berg  2014

Traffic, in crowns  2031  2030
Passengers and freight  97,315  88,760

Passengers carried  6,418

The damage
The quay lost two of its piles in the gale.

What we learned
Three things went well in the gale: the radio, the pumps and the night watch.

The harbour board gave the ferry slip to the town.
Vera Lund, a builder of bridges, was asked to design it.
"""


def test_an_article_is_no_other_name(store: Store) -> None:
    text = "Pears ripen in the orchard of Vik. The orchard was planted by Maren Lund."
    found = best_of(store, text, "Who planted the orchard of Vik?")
    assert "Maren Lund" in found.passage.quote and found.found


def test_what_is_counted_and_addresses() -> None:
    assert counts("How many sailors came?", "Twelve sailors came by boat.")
    assert counts("What is the number of sailors?", "Crew\n2031 2030\nSailors 12 14")
    assert not counts("How many sailors came?", "Sailors over the age of 18 who have a ticket may land.")
    assert not may_answer("What is the e-mail address?", ["Write to us at 3 Capstan Row."])
    assert may_answer("What is the e-mail address?", ["Write to us: post@harbour.example"])
    assert may_answer("What is the web address of the harbour?", ["See www.harbour.example"])
    assert asks_for("What is the total number of boats?") is asks_for("How many boats are there?")


@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("Who runs the ferry?", "Director  Ida Moe  2021"),
        ("Who is in charge of the ferry?", "Director  Ida Moe  2021"),
        ("Since when is Sol Berg here?", "Clerk  Sol Berg  2014"),
        ("How many passengers came?", "6,418"),
        ("What went wrong in the gale?", "The quay lost two"),
        ("Who designed the ferry slip?", "Vera Lund"),
    ],
)
def test_what_a_report_says_in_other_words(store: Store, question: str, right: str) -> None:
    found = best_of(store, REPORT, question)
    assert right in found.passage.quote and not found.other


@pytest.mark.parametrize(
    ("text", "question", "found"),
    [
        ("The mill\n\nThe mill is 19 metres tall.\n\nThe mill of Vik stands alone.", "How tall is the mill?", True),
        ("The mill\n\nThe old mill stands alone.\n\nThe sails are 19 metres wide.", "How broad are the sails?", True),
        ("The tower is 41 metres high.\n\nA lighthouse warns ships.", "How tall is the lighthouse tower?", True),
        ("The optic weighs 4 tonnes.\n\nIt is old.\n\nGlass is heavy.", "How heavy is the optic?", True),
        ("The mill stands on lot 7 beside the inn, in section 12.", "How tall is the mill by the inn?", False),
        ("Drills\n\nDrill with boats\n\nDrill with ropes", "How many drills are there?", True),
    ],
)
def test_what_is_near_enough_to_be_found(store: Store, text: str, question: str, found: bool) -> None:
    assert best_of(store, text, question).found is found


def test_one_of_some_things_is_no_row_of_figures(store: Store) -> None:
    text = "Loss from closed piers 48 52\n\nThe eastern yard counts as closed since May, and so do its piers."
    question = "Which yard is treated as closed?"
    assert "eastern yard" in best_of(store, f"Accounts of Vik\n2031 2030\n{text}", question).passage.quote


def test_the_row_of_that_name_comes_before_what_it_is_made_of(store: Store) -> None:
    rows = "Income from boats 48 52\nOther income, net 12 11\nNet income 912 880\nTax on net income 31 30"
    text = f"Accounts of Vik\n2031 2030\n{rows}"
    assert best_of(store, text, "What was the net income in 2031?").passage.text.startswith("Net income 912")
