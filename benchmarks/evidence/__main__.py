"""How often the evidence is right, measured on the real model; a table, and one JSON line at the end.

    python -m benchmarks.evidence --home DIR [--data FILINGS] [--facts one_shape varied] [--limit N]

Planted reports of 60 pages hold twenty facts: is the first citation on the right page, does its quote hold the fact, do
the model's own words, and do they when it is given the right page alone? Ten more questions have no answer in them.
`--data` names a folder of real PDFs with a questions.jsonl (zero-based pages of the evidence).
"""

import argparse
import json
from pathlib import Path
from typing import Any

from app.events import Answer
from app.main import App
from app.routing import Route
from app.sections import cut, tokenize
from app.settings import Settings
from benchmarks.evidence.planted import planted_absent, planted_report
from engine.core.sampling import SamplingParams
from engine.runtime.generate import generate
from engine.runtime.prefill.builder import PodBuilder


def read(app: App, path: Path) -> str:
    """Read a file, if it was not read before; returns the document's id."""
    document_id = app.library.add(path, path.name, move=False)
    for _ in app.library.wait(document_id):
        pass
    return document_id


def ask(app: App, document_id: str, question: str) -> Answer:
    """The end of a fresh conversation's only question."""
    *_, answer = app.questions.ask(document_id, question)
    assert isinstance(answer, Answer)
    app.questions.delete(answer.conversation_id)
    return answer


def page_alone(app: App, document_id: str, page: int, question: str) -> str:
    """The model's own words when its document is the right page and nothing else."""
    loaded = app.model.wait().loaded
    stored = app._store.page(document_id, page)
    assert stored is not None
    text = cut([tokenize(page, stored.text, loaded.runner.model.tokenizer)], loaded.prompts.head(), 8000)[0]
    builder = PodBuilder(loaded.runner, len(text.ids))
    builder.feed(text.ids)
    ids = loaded.prompts.suffix(question)
    steps = generate(loaded.runner, [builder.finish()], ids, SamplingParams(64))
    return loaded.runner.model.tokenizer.decode([step.token_id for step in steps])


def planted(app: App, facts: Any, limit: int) -> dict[str, Any]:
    """Counts over the planted facts of one kind."""
    path = app.settings.home / f"planted-{facts}.pdf"
    known = planted_report(path, pages=60, facts=facts, seed=1)[:limit]
    document_id = read(app, path)
    counts = dict.fromkeys(("asked", "first_page", "quote", "own_words", "page_alone", "found"), 0)
    for fact in known:
        answer = ask(app, document_id, fact.question)
        alone = page_alone(app, document_id, fact.page, fact.question)
        first = answer.citations[0] if answer.citations else None
        counts["asked"] += 1
        counts["found"] += answer.found
        counts["first_page"] += first is not None and first.page == fact.page
        counts["quote"] += first is not None and first.page == fact.page and holds(first.quote, fact.answer)
        counts["own_words"] += holds(answer.answer, fact.answer)
        counts["page_alone"] += holds(alone, fact.answer)
        score = first.score if first else 0.0
        print(
            f"{score:5.2f} {fact.question} [{fact.answer}] -> {answer.answer[:70]!r}; alone {alone[:50]!r}", flush=True
        )
    absent = planted_absent(facts)[:limit]
    refused = 0
    for question in absent:
        answer = ask(app, document_id, question)
        refused += not answer.found
        print(f"{answer.citations[0].score:5.2f} absent: {question} -> {answer.answer[:70]!r}", flush=True)
    return {**counts, "absent": len(absent), "absent_refused": refused}


def filings(app: App, folder: Path) -> dict[str, Any]:
    """Page hit rates on real filings: of the citations, of BM25 alone."""
    hits = {"questions": 0, "hit1": 0, "hit3": 0, "bm25_1": 0, "bm25_3": 0, "found": 0}
    for line in (folder / "questions.jsonl").read_text().splitlines():
        filing = json.loads(line)
        document_id = read(app, folder / filing["pdf"])
        for each in filing["questions"]:
            gold = {page + 1 for page in each["pages"]}
            answer = ask(app, document_id, each["question"])
            cited = [citation.page for citation in answer.citations]
            ranked = list(Route(each["question"], [], document_id, app._store).pages)
            hits["questions"] += 1
            hits["found"] += answer.found
            hits["hit1"] += bool(gold & set(cited[:1]))
            hits["hit3"] += bool(gold & set(cited[:3]))
            hits["bm25_1"] += bool(gold & set(ranked[:1]))
            hits["bm25_3"] += bool(gold & set(ranked[:3]))
            print(
                f"{answer.citations[0].score:5.2f} {filing['pdf'][:14]} gold {sorted(gold)} cited {cited} "
                f"bm25 {ranked[:3]} {each['question'][:90]} [{each['answer'][:40]}] -> {answer.answer[:70]!r}",
                flush=True,
            )
    return hits


def holds(text: str, answer: str) -> bool:
    """Whether a text holds an answer, apart from case and spacing."""
    return " ".join(answer.lower().split()) in " ".join(text.lower().split())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--facts", nargs="*", default=["one_shape", "varied"])
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--recipe", default=Settings.recipe)
    options = parser.parse_args()
    app = App(Settings(home=options.home, recipe=options.recipe))
    try:
        report: dict[str, Any] = {facts: planted(app, facts, options.limit) for facts in options.facts}
        if options.data:
            report["filings"] = filings(app, options.data)
        report["model"] = app.status().name
    finally:
        app.close()
    for name, counts in report.items():
        print(name, counts)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
