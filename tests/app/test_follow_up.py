"""Follow-ups: what is left out comes from the question before, and a whole question takes nothing from it."""

import pytest

from app.follow_up import complete

EARNED = "What did the Oslo office earn in 2018?"
CODE = "What is the access code of the Bergen office?"
TOLL = "What is the toll for a lorry on the Narvik bridge?"
MASTER = "Who is the harbour master of Tromso?"


@pytest.mark.parametrize(
    ("earlier", "question", "expected"),
    [
        (EARNED, "And in 2019?", "What did the Oslo office earn in 2019?"),
        (EARNED, "2020?", "What did the Oslo office earn in 2020?"),
        (EARNED, "And in 2019 and 2020?", "What did the Oslo office earn in 2019 and 2020?"),
        (EARNED, "And the Bergen office?", "What did the Bergen office earn in 2018?"),
        (EARNED, "What about Bergen in 2020?", "What did the Bergen office earn in 2020?"),
        (EARNED, "Why?", "Why did the Oslo office earn in 2018?"),
        (EARNED, "Are you sure?", EARNED),
        (CODE, "And of the Oslo office?", "What is the access code of the Oslo office?"),
        (CODE, "How about the phone number?", "What is the phone number of the Bergen office?"),
        (TOLL, "And for a bicycle?", "What is the toll for a bicycle on the Narvik bridge?"),
        (TOLL, "and on the Alta bridge?", "What is the toll for a lorry on the Alta bridge?"),
        ("How much rain fell in May?", "And in June?", "How much rain fell in June?"),
        ("When did Ingrid Vale move to Tromso?", "And Odd Brekke?", "When did Odd Brekke move to Tromso?"),
        ("When did Ingrid Vale move to Tromso?", "And to Narvik?", "When did Ingrid Vale move to Narvik?"),
        ("What is the code of room 3?", "And of room 5?", "What is the code of room 5?"),
        ("What does the ferry cost?", "in winter?", "What does the ferry cost in winter?"),
        ("Was verdiente das Büro 2018?", "Und 2019?", "Was verdiente das Büro 2019?"),
        ("Combien a gagné le bureau en 2018 ?", "Et en 2019 ?", "Combien a gagné le bureau en 2019 ?"),
        (MASTER, "When was she appointed?", "When was the harbour master of Tromso appointed?"),
        (MASTER, "Where does she live?", "Where does the harbour master of Tromso live?"),
        (MASTER, "What is her salary?", "What is the salary of the harbour master of Tromso?"),
        ("What did the Oslo crane cost?", "When was it inspected?", "When was the Oslo crane inspected?"),
        ("How tall is the tower?", "Who designed it?", "Who designed the tower?"),
        ("Who designed the bridge?", "When was he born?", "When was the one who designed the bridge born?"),
        ("Which ferries sail to Alta?", "What about the second one?", None),
    ],
)
def test_a_fragment_is_completed(earlier: str, question: str, expected: str | None) -> None:
    done = complete(question, [earlier])
    if expected is None:
        # Beside the question before, where nothing can take the place of the words.
        assert question.rstrip("?").split()[-1] in done and earlier.rstrip("?") in done
    else:
        assert done == expected


@pytest.mark.parametrize("earlier", [EARNED, CODE, MASTER])
@pytest.mark.parametrize(
    "question",
    [
        "Is there a warranty for the Oslo crane?",
        "Who was it that became harbour master of Tromso?",
        "What does this report say about the toll for a lorry?",
        "What did the crane cost and when was it inspected?",
        "Is it true that the lamp was out?",
        "How long does the warranty last?",
        "And who is the pilot of Vardo?",
        "Where do the keepers live, and how do they cook?",
        "List the offices with their codes.",
        "Maximum depth of the harbour basin?",
    ],
)
def test_a_whole_question_stands_alone(earlier: str, question: str) -> None:
    assert complete(question, [earlier]) == question


@pytest.mark.parametrize(
    ("earlier", "question", "told", "expected"),
    [
        ("Who runs the station?", "How old is he?", "Odd Lien", "How old is Odd Lien?"),
        ("Who runs the station?", "How old is he?", "", "How old is the one who runs the station?"),
        ("Who runs the station?", "When was it founded?", "Odd Lien", "When was the station founded?"),
        ("Who is the director of the station?", "When was it founded?", "", "When was the station founded?"),
        ("Who designed the bridge?", "Where was she born?", "Ada Moe", "Where was Ada Moe born?"),
        ("How tall is the tower?", "Where does he live?", "", "Where does he live? (How tall is the tower)"),
        ("How much were sales?", "When was it signed?", "", "When was the document signed?"),
        ("How much were sales?", "Why did it fall?", "", "Why did it fall? (How much were sales)"),
        ("What is the rent under the lease?", "When was it signed?", "", "When was the lease signed?"),
        ("How much is the warranty?", "When does it expire?", "", "When does the warranty expire?"),
        ("How much is the annual fee?", "When is it due?", "", "When is the annual fee due?"),
        ("What is the height of the tower?", "When was it built?", "", "When was the tower built?"),
        ("What are the fees of the board?", "Who decides it?", "", "Who decides it? (What are the fees of the board)"),
        ("What are the fees of the board?", "Who decides them?", "", "Who decides the fees of the board?"),
        ("When was the plant at Moss opened?", "Who is its manager?", "", "Who is the manager of the plant at Moss?"),
        ("Wer leitet die Station?", "Wie alt ist sie?", "Ada Moe", "Wie alt ist sie? (Ada Moe)"),
        ("Qui dirige la station ?", "Quel âge a-t-il ?", "Odd Lien", "Quel âge a-t-il? (Odd Lien)"),
        ("¿Quién dirige la estación?", "¿Cuántos años tiene?", "", "¿Cuántos años tiene?"),
    ],
)
def test_a_pronoun_stands_for_what_fits_it(earlier: str, question: str, told: str, expected: str) -> None:
    assert complete(question, [earlier], told) == expected


def test_a_person_is_sought_further_back_and_what_stood_beside_a_question_is_gone_on_from() -> None:
    asked = ["Who is the treasurer?", "How long has the treasurer kept the books?"]
    assert complete("Who is her successor?", asked) == "Who is the successor of the treasurer?"
    assert complete("When was it written?", ["Why did it fall? (How much were sales)"]).startswith(
        "When was the document"
    )


def test_a_chain_goes_on() -> None:
    chain = [EARNED]
    for question in ("And in 2019?", "And in 2020?", "And Bergen?", "In 2018?"):
        chain.append(complete(question, chain))
    assert chain[1:] == [
        "What did the Oslo office earn in 2019?",
        "What did the Oslo office earn in 2020?",
        "What did the Bergen office earn in 2020?",
        "What did the Bergen office earn in 2018?",
    ]


def test_the_first_question_has_nothing_to_take_from() -> None:
    assert complete("And in 2019?", []) == "And in 2019?"
