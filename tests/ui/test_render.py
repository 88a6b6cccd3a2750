"""Values to HTML: what is foreign stays text, and what is said is true."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from app.events import (
    Answer,
    Cited,
    ConversationEntry,
    DocumentEntry,
    Evidence,
    Forecast,
    PresetState,
    Progress,
    ReaderEntry,
    ReaderStatus,
    RecipeStep,
    Turn,
)
from app.preferences import SettingState
from app.search import DocumentHits, Excerpt, Found, PageHit, TurnHit
from app.settings import SETTINGS
from ui.render import conversation, head, library, page, presets, readers, settings
from ui.render.words import about, count, duration, prose, size, text
from ui.trouble import Trouble

NASTY = [
    '<img src=x onerror="alert(1)">.pdf',
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "</li></ul><script>alert(1)</script>",
    "${alert(1)} {{constructor}} `x`",
    "Ünïcödé 文書 🗼 \u202egnp.exe",
    "../../etc/passwd\x00\x1b[31m",
]


class Tags(HTMLParser):
    """Collects the tags and attribute names of a piece of HTML, and checks that it is balanced."""

    VOID = frozenset({"img", "br", "input", "path"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.words = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def entry(stage: str = "ready", title: str = "Report", **changes: object) -> DocumentEntry:
    progress = Progress("d1", stage, 4_000, 83_000, 5, 98, 812.0, 97.0, "It is damaged.", "Save it again.")
    forecast = Forecast(98, 2, 83_000, 13, 180.0, 1_900_000_000, 80_000_000_000)
    made = DocumentEntry("d1", title, title + ".pdf", 98, 2, 1_200_000, 1_900_000_000, progress, forecast)
    return replace(made, **changes)


def cited(mark: int = 1, at: int = 12, label: str = "12", quote: str = "A passage.") -> Cited:
    return Cited(mark, at, label, quote, ((0.1, 0.2, 0.5, 0.25),), 0.9)


def answer(words: str = "Words.", found: bool = True, **changes: object) -> Answer:
    made = Answer(words, found, (cited(),), (0,), 12_800, 31, 0.4, 2.0, 20.0, "m", "exact", reading_seconds=94.0)
    return replace(made, **changes)


def step(name: str = "exact", share: float = 1.0, **changes: object) -> RecipeStep:
    ready = name == "exact"
    made = RecipeStep(name, f"parts of {name}", f"what {name} keeps", share, int(1e9 * share), 180.0)
    return replace(made, ready=ready, needs_text=False, **changes)


def dial_state(chosen: str = "exact", **changes: object) -> PresetState:
    steps = (step(), step("faithful", 0.31), step("balanced", 0.163))
    return replace(PresetState("d1", chosen, "exact", steps), **changes)


@pytest.mark.parametrize("nasty", NASTY)
def test_foreign_text_stays_text_everywhere(nasty: str) -> None:
    turn = Turn(nasty, answer(nasty, citations=(cited(label=nasty, quote=nasty),), coverage=nasty))
    talk = ConversationEntry(nasty, nasty, datetime.now(UTC))
    named = entry(title=nasty, document_id=nasty, outline=((0, nasty, 3),))
    excerpt = Excerpt(nasty, ((0, 3),))
    pages = (PageHit(1, nasty, excerpt),)
    found = Found(
        (DocumentHits(nasty, nasty, pages, 9), DocumentHits(nasty, nasty, (), 9)),
        (TurnHit(nasty, nasty, 1, nasty, excerpt),),
        3,
    )
    other = ReaderEntry(nasty, nasty)
    reader = ReaderEntry(nasty, nasty, licence=nasty, download_bytes=9, pod_bytes=9, used_at=datetime.now(UTC))
    pieces = [
        library.documents([named, entry("failed", nasty), entry("locked", nasty)], nasty, found),
        library.documents([], nasty, Found()),
        library.conversations([replace(talk, documents=(nasty,), about=nasty)]),
        library.notices([(nasty, Trouble(nasty, nasty))]),
        readers.panel(ReaderStatus(nasty, nasty, nasty), [other, reader, replace(reader, choice="")]),
        readers.change(ReaderStatus("loading", nasty, nasty, notice=nasty), True, Trouble(nasty, nasty)),
        readers.change(ReaderStatus("ready", nasty, nasty, nasty, nasty), False),
        head.head(named, [talk], nasty),
        conversation.invitation(named, (), (nasty,)),
        conversation.history([turn, replace(turn, answer=replace(turn.answer, found=False))], named, again=True),
        *(
            conversation.history([replace(turn, state=state, message=nasty, hint=nasty)], named, again=True)
            for state in ("waiting", "looking", "partial", "checking", "stopped", "failed")
        ),
        conversation.growing(nasty, Evidence(True, turn.answer.citations, nasty), nasty),
        page.failed(Trouble(nasty, nasty)),
        page.sheet(named, 12, b"\x89PNG", [page.Mark(1, 12, nasty, ((0.0, 0.0, 1.0, 1.0),))], 1),
        page.outline(named),
        presets.presets(
            PresetState(
                nasty,
                nasty,
                nasty,
                (step(nasty, parts=nasty, keeps=nasty), step("b", parts=nasty, keeps=nasty), step("c", why_not=nasty)),
                ((nasty, 5),),
                (nasty,),
            ),
            Trouble(nasty, nasty),
        ),
        library.state_line(replace(entry("reading"), recipe=nasty, answers_from=nasty)),
    ]
    for html in pieces:
        tags = Tags(html)
        assert "script" not in tags.seen
        assert not {name for name in tags.attributes if name.startswith("on") or name == "autofocus"}
        assert "\u202e" not in html
        assert "\x00" not in html
    assert len(pieces) == 22
    assert "src" not in Tags(pieces[6]).attributes


def test_an_escaped_name_reads_as_it_was_written() -> None:
    assert '<img src=x onerror="alert(1)">.pdf' in Tags(library.documents([entry(title=NASTY[0])], "", Found())).words


def test_a_models_words_are_formatted_but_never_linked() -> None:
    html = prose(
        "A **bold** word.\nSecond line.\n\n- one\n- two `x<y`\n\n1. first\n\n![](http://a.example/?q) [b](http://b)"
    )
    assert html.startswith("<p>A <strong>bold</strong> word.<br>Second line.</p><ul><li>one</li>")
    assert "<code>x&lt;y</code>" in html
    assert "<ol><li>first</li></ol>" in html
    assert not Tags(html).seen & {"a", "img"}
    assert "![](http://a.example/?q)" in html


@pytest.mark.parametrize("words", ["", "**", "`", "**a", "- ", "1.", "#", "\n\n\n", "** **", "*" * 5_000])
def test_half_finished_words_are_balanced(words: str) -> None:
    Tags(conversation.growing("q", Evidence(True, ()), words))


def test_the_cursor_follows_the_last_word() -> None:
    assert conversation.with_cursor("<ul><li>one</li></ul>").startswith("<ul><li>one<span")
    assert conversation.with_cursor("").startswith("<span")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.04 s"), (0.4, "0.4 s"), (9.96, "10 s"), (94, "94 s"), (180, "3 min"), (7_800, "2 h 10 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_figures() -> None:
    assert [about(0.2), about(9.7), about(200)] == ["1 s", "10 s", "3 min"]
    assert [size(0), size(812_000), size(1_200_000), size(1_900_000_000)] == ["0 bytes", "812 KB", "1.2 MB", "1.9 GB"]
    assert [count(1, "page"), count(12_800, "token")] == ["1 page", "12,800 tokens"]
    assert text("a&b") == "a&amp;b"


@pytest.mark.parametrize(
    ("stage", "words", "buttons"),
    [
        ("reading", "Reading page 5 of 98 · 812 tokens/s · about 97 s left", ["Pause", "Cancel"]),
        ("waiting", "98 pages, 83,000 tokens, 13 sections, about 3 min, 1.9 GB on disk", ["Read · 3 min", "Not now"]),
        ("paused", "Paused at page 5 of 98", ["Resume", "Cancel"]),
        ("ready", "Read 96 of 98 pages, 2 without text · 1.9 GB memory", []),
        ("failed", "It is damaged. Save it again.", ["Try again"]),
        ("locked", "Protected by a password", ["Unlock"]),
        ("parsing", "Looking through the pages: page 4,000 of 83,000", []),
        ("cancelled", "Reading was cancelled", ["Read · 3 min"]),
        ("queued", "Waiting for its turn · 98 pages · about 3 min", ["Cancel"]),
    ],
)
def test_a_row_says_its_state_and_offers_what_makes_sense(stage: str, words: str, buttons: list[str]) -> None:
    html = library.row(entry(stage))
    said = Tags(html).words
    assert words in said
    assert re.findall(r">([^<>]+)</button>", html) == buttons


def test_a_row_offers_what_is_attached_whatever_it_is_called() -> None:
    html = library.row(entry(attachments=(("a.pdf", 8_294), ('"><img src=x>\u202efdp.exe', 0))))
    assert Tags(html).seen.isdisjoint({"img"})
    assert re.findall(r'data-number="(\d)"[^>]*>([^<]+)</button>', html) == [
        ("1", "Add a.pdf · 8 KB"),
        ("2", "Add &quot;&gt;&lt;img src=x&gt;fdp.exe"),
    ]


def test_a_forecast_warns_of_a_small_disk() -> None:
    small = Forecast(98, 0, 83_000, 13, 180.0, 1_900_000_000, 1_000_000_000)
    assert "(only 1.0 GB free)" in Tags(library.forecast_line(small)).words


def test_the_dial_says_what_the_chosen_recipe_keeps_and_costs() -> None:
    html = presets.presets(dial_state())
    said = Tags(html).words
    assert "Exact · 1.0 GB on disk" in said
    assert "Faithful 31\u00a0% of exact, about 310 MB on disk. What faithful keeps." in said
    assert html.count('aria-pressed="true"') == 1 and html.count("data-ask=") == 2
    making = Tags(presets.presets(dial_state("balanced"))).words
    assert "Balanced · 16\u00a0% of exact · about 163 MB on disk" in making
    assert "Until it is there, the exact memory answers." in making
    assert "answers" not in Tags(presets.presets(dial_state("balanced", answers_from=""))).words
    assert presets.presets(None) == ""


def test_a_change_is_explained_before_it_is_made() -> None:
    exact, faithful, balanced = dial_state().steps
    assert presets.change(dial_state(), faithful) == (
        "Keeps what faithful keeps: 31\u00a0% of exact, about 310 MB on disk. It is made from the "
        "exact memory, in about 3 min, without reading again. The exact memory stays beside it."
    )
    kept = dial_state("faithful", answers_from="faithful", goes=("faithful",))
    assert presets.change(kept, exact).endswith("It is there already. The faithful memory is removed.")
    again = presets.change(kept, replace(balanced, needs_text=True))
    assert "The text has to be read again for it, in about 3 min." in again
    assert again.endswith("The faithful memory stays until it is ready, and is removed then.")
    unread = presets.change(dial_state(answers_from=""), replace(balanced, needs_text=True))
    assert unread.endswith("Reading takes about 3 min.")


def test_the_dial_offers_only_what_is_there_and_lists_what_is_kept_beside_it() -> None:
    why_not = "The model has no plan to share 35 %."
    steps = (*dial_state().steps, step("compact", 0.0, why_not=why_not))
    html = presets.presets(dial_state("faithful", steps=steps, kept=(("exact", 1_000_000_000),)))
    assert f"Compact {why_not}" in Tags(html).words and html.count("disabled") == 1
    assert 'data-act="drop" data-document="d1" data-recipe="exact"' in html
    assert "1.0 GB become free. Changing the memory then means reading the text again." in html


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("queued", "Becoming compact · waiting for its turn"),
        ("reading", "Becoming compact: page 5 of 98 · 812 tokens/s"),
        ("ready", "Read 96 of 98 pages"),
    ],
)
def test_a_document_that_changes_says_what_it_becomes(stage: str, words: str) -> None:
    assert words in library.state_line(entry(stage, recipe="compact", answers_from="" if stage == "ready" else "exact"))


def test_passages_come_before_words_and_say_their_page() -> None:
    html = conversation.answer(answer("The words.", citations=(cited(label="F-2", at=44),)), again=True)
    assert html.index("A passage.") < html.index("The words.")
    assert "p. F-2" in html
    assert "1 p. F-2: show the passage on page F-2, page 44 of the file" in html
    assert 'data-event="retry"' in html
    assert "0.4 s instead of 94 s · 12,800 tokens reused, 31 new" in html


def test_what_was_not_found_looks_different_and_says_what_was_looked_at() -> None:
    html = conversation.answer(answer("Not found in the document. I looked through 8 pages.", found=False), again=False)
    assert "not-found" in html
    assert html.index("I looked through 8 pages.") < html.index("A passage.")
    growing = conversation.growing("Who?", Evidence(False, (cited(),)), "A guess.")
    assert "No passage stands out. Closest passages:" in growing and "A guess." not in growing
    assert "A guess." in conversation.growing("Who?", Evidence(False, (), answering=True), "A guess.")


def test_what_answers_stands_out_and_leads() -> None:
    passage = replace(cited(quote="The tower is 41.5 metres high & old."), span=(13, 24))
    done = answer("41.5 metres (p. 12)\n\nThe tower is 41.5 metres high. [1]", citations=(passage,), weak=True)
    html = conversation.answer(done, again=False)
    assert '<mark class="span">41.5 metres</mark> high &amp; old.' in html
    assert html.index("<strong>41.5 metres</strong>") < html.index("<blockquote") < html.index('class="words"')
    assert html.count("data-page=") == 3


def test_a_row_of_a_table_stands_under_its_heads() -> None:
    row = replace(cited(quote="Month Anvil Hammer\nSeptember 339 <325>"), span=(33, 38))
    html = conversation.passage(row)
    assert '<tr><th>Month</th><th class="figures">Anvil</th><th class="figures">Hammer</th></tr>' in html
    assert '<td class="figures">339</td><td class="figures"><mark class="span">&lt;325&gt;</mark></td>' in html
    apart = conversation.passage(
        replace(row, quote="CHAPTER 7\nThe year\nIn crowns  2031\nSale of power  1,584", span=None)
    )
    assert '<p>CHAPTER 7</p><p>The year</p><table><tr><th>In crowns</th><th class="figures">2031</th></tr>' in apart
    assert '<tr><td>Sale of power</td><td class="figures">1,584</td></tr></table>' in apart
    notes = conversation.passage(replace(row, quote="Of  Paid  Note\nAda  (1,584)  —\nBea  20 %  in June", span=None))
    assert '<th class="figures">Paid</th><th>Note</th>' in notes and notes.count('class="figures"') == 3
    uneven = conversation.passage(replace(row, quote="Income 2031\nSale of electricity 1,584", span=(32, 37)))
    assert '<p>Income 2031\nSale of electricity <mark class="span">1,584</mark></p>' in uneven


def test_what_no_passage_holds_is_marked_and_said() -> None:
    done = answer("It is **9 metres** high, says Ada <Vale>.", unsupported=((8, 9), (30, 33)))
    html = conversation.answer(done, again=False)
    assert '<strong><mark class="foreign" title="Not in the document\'s passages">9</mark> metres</strong>' in html
    assert "says <mark" in html and "&lt;Vale&gt;" in html
    assert "passages: 9, Ada. Check this" in html.replace("&#x27;", "'")


def test_numbers_lead_to_passages_and_only_to_those_there_are() -> None:
    html = conversation.answer(answer("It is red. [1] It is blue. [7]"), again=False)
    assert html.count('data-mark="1"') == 2
    assert "It is blue. [7]" in html


def test_quotes_are_not_shown_twice() -> None:
    both = (cited(1, quote="The tower is high."), cited(2, quote="The lens is old."))
    html = conversation.answer(answer("- The tower is high. [1]\n- The lens is old. [2]", citations=both), again=False)
    assert html.count("The tower is high.") == 1 and "<blockquote" not in html
    alone = conversation.answer(answer("The tower is high. [1]", citations=both[:1]), again=False)
    assert alone.count("The tower is high.") == 1 and "<blockquote" in alone


def test_a_completed_question_is_shown_and_a_small_reader_is_named_once() -> None:
    turn = Turn("And in 2019?", answer(understood="What did Oslo earn in 2019?", weak=True))
    html = conversation.history([turn, turn], entry(), again=True, better="This machine could run --model X")
    assert html.count("Understood as: What did Oslo earn in 2019?") == 2
    assert html.count("small one") == 1 and html.count("--model X") == 1
    assert "small one" not in conversation.history([Turn("Who?", answer())], entry(), again=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"withheld": True}, "did not match the passages"),
        ({"ended": "cut"}, "was cut"),
        ({"ended": "repeated"}, "repeat itself"),
    ],
)
def test_an_end_that_is_not_the_models_own_is_said(changes: dict[str, object], says: str) -> None:
    assert says in conversation.answer(answer(**changes), again=False)
    assert says not in conversation.answer(answer(), again=False)


def test_marks_travel_through_the_browser_and_back() -> None:
    carried = Tags(conversation.answer(answer(citations=(cited(), cited(2, 44, 'F"2'))), again=False))
    assert "data-citations" in carried.attributes
    marks = page.parse_marks(json.dumps([[1, 12, "12", [[0.1, 0.2, 0.5, 0.25]]], [2, 44, 'F"2', []]]))
    assert [(mark.mark, mark.page, mark.label, len(mark.boxes)) for mark in marks] == [
        (1, 12, "12", 1),
        (2, 44, 'F"2', 0),
    ]


@pytest.mark.parametrize(
    "bad", ["", "null", "{}", "[1]", "[[1]]", '[["a",1,"",[]]]', '[[1,1,"",[[1,2,3]]]]', "[" * 9_999]
)
def test_malformed_marks_are_none(bad: str) -> None:
    assert page.parse_marks(bad) == ()


def test_a_sheet_marks_only_its_own_page_and_clamps_boxes() -> None:
    marks = [page.Mark(1, 12, "12", ((-1.0, 0.5, 2.0, 0.6),)), page.Mark(2, 13, "13", ((0.0, 0.0, 1.0, 1.0),))]
    html = page.sheet(entry(), 12, b"\xff\xd8\xff", marks, 1, ["x"] * 11 + ["F-2"], "There is no page 999.")
    assert html.count('class="mark') == 1
    assert "left:0.00%;top:50.00%;width:100.00%;height:10.00%" in html
    assert "data:image/jpeg;base64," in html
    assert 'aria-label="Previous page" title="Previous page">' in html
    assert html.count('class="number"') == 1 and "There is no page 999." in html
    assert 'value="F-2" aria-label="Go to the page printed"' in html
    assert 'Previous page" title="Previous page" disabled' in page.sheet(entry(), 1, b"", [], 0)
    assert 'Next page" title="Next page" disabled' in page.sheet(entry(), 98, b"", [], 0)


def test_settings_tell_where_each_comes_from_and_when_another_holds() -> None:
    def shown(source: str, name: str, value: str, saved: str, wrong: tuple[str, Trouble] | None = None) -> str:
        state = SettingState(SETTINGS[name], value, saved, source)
        return settings.panel([state], name, wrong)

    default = shown("", "passages", "3", "")
    assert "Default: 3." in default and "Back to the default" not in default and 'value="3"' in default
    saved = shown("", "passages", "5", "5")
    assert (
        "Saved. Default: 3." in saved and 'data-act="reset" data-setting="passages"' in saved and 'value="5"' in saved
    )
    held = shown("--passages", "passages", "4", "5")
    assert "Given by --passages for this run. 5 is saved, for a start without it." in held and 'value="4"' in held
    later = shown("", "threads", "0", "2")
    assert "From the next start on; now 0." in later and 'value="2"' in later
    assert "From the next start on" not in shown("", "threads", "2", "2")
    wrong = shown("", "passages", "3", "", ('<"x">', Trouble("No.", "A <b> hint.")))
    assert 'role="alert">No. A &lt;b&gt; hint.' in wrong and 'value="&lt;&quot;x&quot;&gt;"' in wrong
    start = shown("--home", "home", "/<home>", "")
    assert "<input" not in start and "/&lt;home&gt;" in start and "Given at the start: --home." in start
