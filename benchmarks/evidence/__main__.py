"""How often the right page, passage and words are found; a table, and docs/evidence.json with the raw answers beside.

    python -m benchmarks.evidence --home DIR [--data FOLDER ...] [--model MODEL] [--limit N] [--ranking-only]

Sets are the planted reports (twenty facts of one shape and of many, and ten near misses each) and every folder of
`--data`, or below DOCPOD_EVAL_DATA, that holds PDFs and a questions.jsonl. Methods are BM25 over pages, meaning alone,
both with words and figures ("ranked"), and, after the model has read the documents, where it looks ("attention") and
the whole answer ("all").
Shares are of n, but for `false_not_found` (of those that are answered), `wrongly_found` (of those that are not), and
`quote`, `span` and `words` (of those whose answer stands literally on a right page). `unmarked_wrong` is the share of
answers with a number or a name that stands in no quote, and that is not marked as such.
"""

import argparse
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from app.conversations import Asked
from app.document_answer import DocumentAnswer
from app.events import Answer
from app.evidence import Ranked, rank
from app.main import App
from app.meaning import nearest
from app.section_answer import SectionAnswer
from app.settings import Settings
from app.several_answer import SeveralAnswer
from app.whole_answer import WholeAnswer
from benchmarks.evidence.planted import Shape
from benchmarks.evidence.question_sets import KnownQuestion, folder, holds, planted

_SHAPES: tuple[Shape, ...] = ("one_shape", "varied")
_CLAIM = re.compile(r"\d[\d.,]*|(?<=[a-z,] )[A-Z][a-z]+")
_NO_CLAIM = re.compile(r"\(p\. [^)]*\)|\[\d+\]")
"""What an answer says of where its words come from."""


@dataclass
class Row:
    """What one method did with the questions of one set."""

    question_set: str
    method: str
    model: str
    raw: list[dict[str, Any]] = field(default_factory=list)

    def note(
        self, known: KnownQuestion, is_literal: bool, pages: Sequence[int], quotes: Sequence[str], **more: Any
    ) -> None:
        """One question's outcome: pages and quotes, best first; `more` are found, span, words and unsupported."""
        outcome = {
            "question": known.question,
            "answer": known.answer,
            "right": sorted(known.pages),
            "pages": list(pages),
        }
        self.raw.append({**outcome, "literal": is_literal, "quotes": list(quotes), **more})

    def shares(self) -> dict[str, Any]:
        """The row as it is printed and kept."""
        answered = [each for each in self.raw if each["right"]]
        absent = [each for each in self.raw if not each["right"]]
        literal = [each for each in answered if each["literal"]]

        def share(of: list[dict[str, Any]], holds_for: Any) -> float | None:
            return round(sum(map(bool, map(holds_for, of))) / len(of), 3) if of else None

        def hit(count: int) -> float | None:
            return share(answered, lambda each: set(each["right"]) & set(each["pages"][:count]))

        def said(key: str) -> float | None:
            kept = [each for each in literal if each.get(key) is not None]
            return share(kept, lambda each: holds(each[key], each["answer"]))

        unmarked = [each for each in self.raw if "unmarked" in each]
        return {
            "set": self.question_set,
            "method": self.method,
            "model": self.model,
            "n": len(self.raw),
            "hit1": hit(1),
            "hit3": hit(3),
            "quote": share(literal, lambda each: any(holds(quote, each["answer"]) for quote in each["quotes"])),
            "span": said("span"),
            "words": said("words"),
            "unmarked_wrong": share(unmarked, lambda each: each["unmarked"]),
            "false_not_found": share([each for each in answered if "found" in each], lambda each: not each["found"]),
            "wrongly_found": share([each for each in absent if "found" in each], lambda each: each["found"]),
            "seconds": round(sum(each.get("seconds", 0.0) for each in self.raw) / max(1, len(self.raw)), 3),
        }


def add(app: App, path: Path, read: bool) -> str:
    """The id of a document that was parsed, and read where that is asked for; what is there already takes no time."""
    document_id = app.library.add(path, path.name, move=False)
    for progress in app.library.wait(document_id):
        if not read and progress.stage == "reading":
            break
    return document_id


def rankings(app: App, known: Sequence[KnownQuestion], ids: dict[Path, str]) -> Iterator[Row]:
    """BM25, meaning, and all that is known before the model looks."""
    rows = [Row(known[0].question_set, method, "-") for method in ("bm25", "meaning", "ranked")]
    for each in known:
        start = time.perf_counter()
        route = app.questions.route(ids[each.path], each.question)
        candidates = rank(each.question, route.terms, route.candidates, [])
        seconds = time.perf_counter() - start
        best = {one.passage.page: one for one in reversed(candidates)}
        order = list(dict.fromkeys(one.passage.page for one in candidates))
        literal = any(holds(text, each.answer) for text in route.texts(each.pages).values())
        for row, pages in zip(rows, (list(route.pages), list(nearest(route.meanings, 3)), order), strict=True):
            quotes = [best[page].passage.quote for page in pages[:3] if page in best]
            more = {"found": candidates[0].found if candidates else False, "seconds": seconds} if row is rows[2] else {}
            if row is rows[2] and app.questions.needs(asked := Asked(ids[each.path], each.question)) == "pages":
                # What is asked of the document itself never comes to a ranking.
                told = _told(app.questions.begin(asked))
                pages, quotes = [one.page for one in told.citations], [one.quote for one in told.citations]
                more = {"found": told.found, "seconds": told.seconds}
            row.note(each, literal, pages[:3], quotes, **more)
    yield from rows


def answers(app: App, known: Sequence[KnownQuestion], ids: dict[Path, str]) -> list[Row]:
    """Where the model looks by itself in the sections that it attends, and what a person gets to see."""
    looked, row = (Row(known[0].question_set, method, app.status().name) for method in ("attention", "all"))
    for each in known:
        found = app.questions.begin(Asked(ids[each.path], each.question))
        answer = _told(found)
        cited, texts = answer.citations, app.questions.route(ids[each.path], each.question).texts(each.pages)
        literal = any(holds(text, each.answer) for text in texts.values())
        if isinstance(found, SectionAnswer):
            by_attention = sorted(
                _looked(app, Asked(ids[each.path], each.question)), key=lambda one: one.attention, reverse=True
            )
            best = {one.passage.page: one.passage.quote for one in reversed(by_attention)}
            pages = list(dict.fromkeys(one.passage.page for one in by_attention))[:3]
            looked.note(each, literal, pages, [best[page] for page in pages])
        row.note(
            each,
            literal,
            [citation.page for citation in cited],
            [citation.quote for citation in cited],
            found=answer.found,
            span=cited[0].words if cited else "",
            words=answer.answer,
            unmarked=unmarked(answer, each.question),
            seconds=answer.seconds,
        )
        print(
            f"{'found' if answer.found else '-':5} {sorted(each.pages)} {each.question[:80]} -> {answer.answer[:70]!r}",
            flush=True,
        )
    return [looked, row]


def _told(found: DocumentAnswer | SeveralAnswer | SectionAnswer | WholeAnswer) -> Answer:
    """The whole answer."""
    for _ in found.events(Event()):
        pass
    return found.answer(stopped=False)


def _looked(app: App, asked: Asked) -> list[Ranked]:
    """The passages after the model has looked at the sections, which a weak one is not asked to."""
    loaded = app.model.wait().loaded
    own, loaded.heads = loaded.heads, replace(loaded.heads, answers_from="sections")
    found = app.questions.begin(asked)
    loaded.heads = own
    assert isinstance(found, SectionAnswer)
    events = found.events(Event())
    next(events)
    events.close()
    return found.ranked


def unmarked(answer: Answer, question: str) -> list[str]:
    """Numbers and names of an answer's words that stand in no quote nor in the question, and are not marked."""
    quotes = " ".join(each.quote for each in answer.citations).replace(",", "")
    said = _NO_CLAIM.sub(lambda match: " " * len(match[0]), answer.answer) if answer.found else ""
    return [
        each[0]
        for each in _CLAIM.finditer(said)
        if each[0].replace(",", "").rstrip(".") not in f"{quotes} {question.replace(',', '')}"
        and not any(start < each.end() and each.start() < end for start, end in answer.unsupported)
    ]


def keep(rows: Sequence[Row], out: Path) -> list[dict[str, Any]]:
    """Write what is known by now: the shares, and the raw answers beside them."""
    report = [row.shares() for row in rows]
    out.write_text(json.dumps({"rows": report}, indent=1) + "\n")
    raw = {f"{row.question_set} / {row.method}": row.raw for row in rows}
    out.with_name(f"{out.stem}-answers.json").write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n")
    return report


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="*")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--recipe", default=Settings.recipe)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--ranking-only", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence.json"))
    options = parser.parse_args()
    folders = options.data
    if folders is None and (root := os.environ.get("DOCPOD_EVAL_DATA")):
        folders = sorted(path.parent for path in Path(root).glob("*/questions.jsonl"))
    options.home.mkdir(parents=True, exist_ok=True)
    sets = [list(planted(options.home, shape, options.limit)) for shape in _SHAPES]
    sets += [list(folder(path))[: options.limit] for path in folders or ()]
    app = App(Settings(home=options.home, model=options.model, recipe=options.recipe, prepare=False))
    rows: list[Row] = []
    report: list[dict[str, Any]] = []
    try:
        for known in sets:
            ids = {
                path: add(app, path, not options.ranking_only) for path in dict.fromkeys(each.path for each in known)
            }
            rows += rankings(app, known, ids)
            if not options.ranking_only:
                rows += answers(app, known, ids)
            report = keep(rows, options.out)
    finally:
        app.close()
    print("| " + " | ".join(report[0]) + " |\n|" + " --- |" * len(report[0]))
    for each in report:
        print("| " + " | ".join("-" if value is None else str(value) for value in each.values()) + " |")


if __name__ == "__main__":
    main()
