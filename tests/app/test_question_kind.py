"""The kind of a question: what asks for the document, a page or all of it, and what only looks as if it did."""

import pytest

from app.question_kind import Asking, kind_of


@pytest.mark.parametrize(
    ("kind", "questions"),
    [
        (
            "whole",
            [
                "Summarise this document.",
                "What is it about?",
                "What is this document about?",
                "Could you please summarize the report for me?",
                "Give me a summary in five bullet points.",
                "What are the main points?",
                "What are the key findings of this report?",
                "TL;DR",
                "Give me a short overview",
                "What does this document say?",
                "What is this?",
                "What is this report?",
                "Worum geht es in diesem Dokument?",
                "Fasse den Bericht kurz zusammen.",
                "Zusammenfassung bitte",
                "De quoi parle ce document ?",
                "Résume ce texte.",
                "¿De qué trata este documento?",
                "Haz un resumen del informe",
                "请总结这份文件。",
                "这份报告讲了什么？",
                "ما موضوع هذا المستند؟",
                "لخص هذا التقرير",
            ],
        ),
        (
            "pages",
            [
                "How many pages has it?",
                "How many pages are there in this document?",
                "How long is the document?",
                "Number of pages?",
                "Wie viele Seiten hat das Dokument?",
                "Combien de pages a ce rapport ?",
                "¿Cuántas páginas tiene?",
                "这份文件有多少页？",
                "كم صفحة في هذا الكتاب؟",
            ],
        ),
        (
            "author",
            [
                "Who wrote it?",
                "Who is the author of this paper?",
                "By whom was this report written?",
                "Wer hat das Dokument geschrieben?",
                "Qui a écrit ce livre ?",
                "¿Quién es el autor?",
                "作者是谁？",
                "من المؤلف؟",
            ],
        ),
        (
            "outline",
            [
                "List all chapters.",
                "What are the last 4 chapters listed in the table of contents?",
                "What are the chapters of this book?",
                "Show me the table of contents",
                "How is the document structured?",
                "Which sections are there?",
                "Inhaltsverzeichnis",
                "Liste les chapitres",
                "目录",
            ],
        ),
        ("title", ["What is the title?", "What is this document called?", "Titre ?", "标题是什么？"]),
        ("date", ["When was this report published?", "When was it written?", "How old is this document?"]),
        ("language", ["Which language is it in?", "In what language is this document written?"]),
        ("file", ["What is the file name?", "How big is this file?"]),
        ("chat", ["Hello!", "Hi there", "Thanks a lot!", "Thank you.", "你好", "Guten Tag", "What can you do?"]),
        (
            "inside",
            [
                "What is the title of the director?",
                "Who wrote the preface?",
                "Who wrote the weather in the log in full sentences?",
                "How many pages has the full book of procedures?",
                "Summarise the findings on tides.",
                "What does this report say about the toll for a lorry?",
                "What was the main light's range?",
                "What is the report's total income?",
                "What is this crane?",
                "Describe everything about the storm.",
                "On page 6, what is the fee?",
                "When was the crane made?",
                "How long does the warranty last?",
                "Which chapters mention the storm?",
                "Is there a warranty for the Oslo crane?",
                "What is the capital of France?",
                "Which language is the tower guide's seventh?",
            ],
        ),
    ],
)
def test_kinds(kind: str, questions: list[str]) -> None:
    assert {each: kind_of(each).kind for each in questions} == dict.fromkeys(questions, kind)


@pytest.mark.parametrize(
    ("question", "label"),
    [
        ("What is on page 6?", "6"),
        ("What is on page ii?", "ii"),
        ("What does it say on page A-3?", "a-3"),
        ("Show me page 12", "12"),
        ("Summarise page 4, please", "4"),
        ("What's on the last page?", "last"),
        ("Was steht auf Seite 7?", "7"),
        ("Qu'y a-t-il à la page 3 ?", "3"),
        ("¿Qué hay en la página 9?", "9"),
        ("第6页写了什么？", "6"),
        ("ماذا يوجد في الصفحة 6؟", "6"),
    ],
)
def test_pages_by_their_labels(question: str, label: str) -> None:
    asking = kind_of(question)
    assert (asking.kind, asking.page) == ("page", label)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Give me a summary in five bullet points.", (5, True)),
        ("Summarise this in 3 sentences.", (3, False)),
        ("Summarise the document in one paragraph", (1, False)),
        ("What are the most important points?", (0, True)),
        ("Fasse das Dokument in drei Stichpunkten zusammen", (3, True)),
        ("用三点总结这份文件", (3, True)),
        ("List the main points as bullet points", (0, True)),
    ],
)
def test_the_form_that_is_wanted(question: str, expected: tuple[int, bool]) -> None:
    asking = kind_of(question)
    assert (asking.kind, asking.points, asking.bullets) == ("whole", *expected)


def test_a_document_goes_by_the_words_of_its_title() -> None:
    question = "Summarise the Corvane annual report."
    assert kind_of(question).kind == "inside"
    assert kind_of(question, lambda: "Corvane Light: Annual Report 2031").kind == "whole"


def test_a_chapter_by_its_number() -> None:
    assert kind_of("What is chapter 5 about?") == Asking("whole", part="5")
    assert kind_of("Summarise section 2.1").part == "2.1"
    assert kind_of("How many pages has chapter 2?").kind == "inside"


def test_it_may_be_what_went_before() -> None:
    for question in ("What is this?", "Explain it.", "How long is it?", "When was it made?", "What is it called?"):
        assert kind_of(question, goes_on=True).kind == "inside"
    for question in ("What is it about?", "Who wrote it?", "How many pages has it?", "Explain this document."):
        assert kind_of(question, goes_on=True).kind != "inside"
