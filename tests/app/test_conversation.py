"""One conversation with the embedded model: each question its own passage, and no word that no passage holds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.answer_support import unsupported
from app.main import App
from app.settings import Settings
from tests.app import paper

FILLER = "The works department keeps eleven depots, and the clerk of each writes the day book by hand.\n\n"
FACTS = (
    "In 2018 the Alta yard built 41 boats.",
    "In 2019 the Alta yard built 52 boats.",
    "In 2019 the Vardo yard built 17 boats.",
    "The guarantee of the Kirkenes winch lasts nine years. The winch was not oiled in 2021.",
    "The pilot of Hammerfest is Odd Brekke. He was appointed in May 2014 and lives beside the church.",
)
ASKED = (
    ("How many boats did the Alta yard build in 2018?", "", 1, "41"),
    ("And in 2019?", "How many boats did the Alta yard build in 2019?", 2, "52"),
    ("And the Vardo yard?", "How many boats did the Vardo yard build in 2019?", 3, "17"),
    ("Is there a guarantee for the Kirkenes winch?", "", 4, "nine"),
    ("Who was it that became pilot of Hammerfest?", "", 5, "Odd Brekke"),
)


@pytest.fixture(scope="module")
def reader(embedded_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app with the embedded model, which is fetched by nobody."""
    home = tmp_path_factory.mktemp("embedded") / "home"
    (home / "models").mkdir(parents=True, mode=0o700)
    (home / "models" / embedded_model_dir.name).symlink_to(embedded_model_dir)
    app = App(replace(Settings(home=home, prepare=False), model="embedded", max_answer_tokens=40))
    yield app
    app.close()


def test_each_question_has_its_own_passage(reader: App, tmp_path: Path) -> None:
    rows = paper.PAGE_ROWS
    pages = [f"{FILLER}{fact}\n\n{FILLER}".rstrip().split("\n") for fact in FACTS]
    (tmp_path / "yards.txt").write_text(
        "\n".join("\n".join([*each, *[""] * (rows - len(each))]) for each in pages).rstrip()
    )
    document_id = paper.read_here(reader, tmp_path / "yards.txt")
    conversation_id = ""
    for question, understood, page, holds in ASKED:
        answer = paper.last(reader.questions.ask(document_id, question, conversation_id))
        conversation_id = answer.conversation_id
        assert (answer.found, answer.understood) == (True, understood)
        assert answer.citations[0].page == page
        assert holds in answer.citations[0].quote
        assert holds in answer.answer
        quotes = [cited.quote for cited in answer.citations]
        words = answer.answer.replace("[1]", "").replace("[2]", "").replace("[3]", "")
        assert unsupported(words, [*quotes, f"p. {page}"]) == [], answer.answer


def test_a_pronoun_stands_for_the_name_that_answered(reader: App, tmp_path: Path) -> None:
    text = "The director of the station is Odd Lien, who is 54 years old.\n\nThe mast is 38 metres high.\n"
    (tmp_path / "station.txt").write_text(text)
    document_id = paper.read_here(reader, tmp_path / "station.txt")
    answer = paper.last(reader.questions.ask(document_id, "Who runs the station?"))
    assert answer.citations[0].words == "Odd Lien"
    answer = paper.last(reader.questions.ask(document_id, "How old is he?", answer.conversation_id))
    assert answer.understood == "How old is Odd Lien?"
    assert answer.found and answer.citations[0].words == "54 years"
