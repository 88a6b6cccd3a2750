"""What is asked of a document itself: told from its own data, by whatever reader, and read or not."""

from pathlib import Path

import pytest
from fpdf import FPDF

from app.contents import headings
from app.events import Answer
from app.languages import language_of
from app.main import App
from storage import Page, Store
from tests.app import paper

pytestmark = pytest.mark.usefixtures("in_this_process")

TEXTS = (
    "The Ferry Book\n\nby Ada Whitlock\n\nPrinted in Vardo, 4 March 2019.",
    "Preface\n\nThis book was printed on grey paper. It tells of three ferries and of the people who sail them.",
    "The Alta ferry\n\nThe Alta ferry carries 48 carts. It was built in 1911 and still sails on every day but Sunday.",
    "The Narvik ferry\n\nThe Narvik ferry carries 12 carts. Its captain is Odd Brekke, who came aboard as a boy.",
)


@pytest.fixture
def book(app: App, tmp_path: Path) -> str:
    """Two pages numbered i and ii, then two from 1 on; parsed, and not read. Its metadata name no author."""
    pdf = FPDF()
    pdf.set_font("helvetica", size=12)
    pdf.set_title("The Ferry Book")
    for number, text in enumerate(TEXTS):
        pdf.add_page(label_style="r" if number < 2 else "D", label_start=1 if number in (0, 2) else None)
        if number:
            pdf.start_section(text.split("\n")[0])
        pdf.multi_cell(0, text=text)
    pdf.output(str(tmp_path / "ferries.pdf"))
    document = app.library.intake.keep(tmp_path / "ferries.pdf", "ferries.pdf", move=False)
    assert list(app.library.intake.parse(document))
    return document.id


def ask(app: App, document_id: str, question: str) -> Answer:
    return paper.last(app.questions.ask(document_id, question))


@pytest.mark.parametrize(
    ("question", "says", "pages"),
    [
        ("What is the title?", "The Ferry Book", [1]),
        ("Who wrote it?", "Ada Whitlock (p. i).", [1]),
        ("Who is the author of the ferry book?", "Ada Whitlock (p. i).", [1]),
        ("How many pages has it?", "4 pages; the last one is numbered 2.", []),
        ("Wie viele Seiten hat dieses Buch?", "4 pages", []),
        ("List all chapters.", "- Preface (p. ii) [1]\n- The Alta ferry (p. 1) [2]", [2, 3, 4]),
        ("When was it published?", "4 March 2019 is the first date in it (p. i).", [1]),
        ("In which language is it written?", "English", []),
        ("What is the file name?", "ferries.pdf", []),
        ("Hello!", "Ask me anything", []),
    ],
)
def test_facts(app: App, book: str, question: str, says: str, pages: list[int]) -> None:
    answer = ask(app, book, question)
    assert answer.found
    assert answer.answer.startswith(says)
    assert [cited.page for cited in answer.citations] == pages
    assert all(cited.boxes for cited in answer.citations)


@pytest.mark.parametrize(
    ("question", "begins", "holds", "page"),
    [
        ("What is on page ii?", "Page ii (page 2 of the file).", "grey paper", 2),
        ("What is on page 2?", "Page 2 (page 4 of the file).", "Odd Brekke", 4),
        ("What does page 1 say?", "Page 1 (page 3 of the file).", "48 carts", 3),
        ("What is on the last page?", "Page 2 (page 4 of the file).", "12 carts", 4),
        ("What is on page 3?", "Page 1 (page 3 of the file).", "48 carts", 3),
    ],
)
def test_pages_by_printed_number_first(app: App, book: str, question: str, begins: str, holds: str, page: int) -> None:
    answer = ask(app, book, question)
    assert answer.found and answer.answer.startswith(begins) and holds in answer.answer
    assert {cited.page for cited in answer.citations} == {page}


def test_no_such_page_and_no_such_chapter(app: App, book: str) -> None:
    answer = ask(app, book, "What is on page 99?")
    assert not answer.found and answer.answer == "There is no page 99: the document has 4 pages."
    assert "no chapter 7" in ask(app, book, "Summarise chapter 7").answer


def test_where_the_document_does_not_tell_its_first_page_is_shown(app: App, tmp_path: Path) -> None:
    document_id = paper.read_here(app, paper.text(tmp_path / "a.txt", 2))
    answer = ask(app, document_id, "Who wrote it?")
    assert not answer.found and "names no author" in answer.answer
    assert [cited.page for cited in answer.citations] == [1, 1]


def test_the_files_own_author(app: App, tmp_path: Path, store: Store) -> None:
    pdf = FPDF()
    pdf.set_font("helvetica", size=12)
    pdf.set_author("Ingrid Vale")
    pdf.add_page()
    pdf.multi_cell(0, text="A report on cranes.")
    pdf.output(str(tmp_path / "a.pdf"))
    document_id = paper.read_here(app, tmp_path / "a.pdf")
    assert ask(app, document_id, "Who wrote it?").answer == "Ingrid Vale, as the file itself says."
    document = store.document(document_id)
    assert document is not None and (document.author, len(document.written)) == ("Ingrid Vale", 10)


def test_headings_of_a_text_without_a_table_of_contents() -> None:
    texts = [
        "The Ferries\n\nThey sail daily.\n\n1 The Alta ferry\n\nIt carries carts.",
        "Running head\n\nMore.",
        "Running head",
    ]
    pages = [
        Page(number=number, label="", text=text, state="ok", width_pt=1, height_pt=1, words=b"")
        for number, text in enumerate(texts, 1)
    ]
    assert headings(pages) == [(1, "The Ferries", 1), (1, "1 The Alta ferry", 1)]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The keeper of the light was at the door.", "English"),
        ("Der Wärter des Turms ist nicht in der Stadt.", "German"),
        ("Le gardien du phare est dans la tour.", "French"),
        ("El guardián del faro está en la torre con las llaves.", "Spanish"),
        ("灯塔的守护人在门口。", "Chinese"),
        ("灯台の守り人はドアのところにいた。", "Japanese"),
        ("حارس المنارة عند الباب", "Arabic"),
        ("1234", ""),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language


def test_bookmarks_without_a_name_or_a_page_do_no_harm(app: App, book: str, store: Store) -> None:
    store.save_pages(book, "The Ferry Book", [(1, " ", 1), (1, "Preface", 2), (1, "Gone", 99)], store.pages(book))
    assert ask(app, book, "List all chapters.").answer == "- Preface (p. ii) [1]\n- Gone (p. 99)"
