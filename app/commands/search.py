"""The command that searches: titles, pages and conversations that hold some words."""

import argparse
import dataclasses
from typing import Any

from app.commands.parsers import Parsers
from app.main import App
from app.search import Found


def add(commands: Parsers) -> None:
    """Adds the command."""
    commands.add("search", _search).add_argument("words", nargs="+", help="the last one may be a word's beginning")


def _search(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Find documents, pages and conversations that hold all the words."""
    words = " ".join(options.words)
    titled, found = app.library.catalogue.entries(words), app.search.find(words)
    for entry in titled:
        print(f"{entry.document_id[:8]}  {entry.title}")
    for document in found.documents:
        print(f"\n{document.document_id[:8]}  {document.title}: {document.count} pages")
        for page in document.pages:
            print(f"  p. {page.label or page.page}: {page.excerpt.text}")
        if document.count > len(document.pages):
            print(f"  and {document.count - len(document.pages)} more pages")
    for turn in found.turns:
        print(f"\nconversation {turn.conversation_id} ({turn.title})\n  {turn.excerpt.text}")
    if found.more_turns:
        print(f"\nand {found.more_turns} more answers")
    if not titled and found == Found():
        print("Nothing has these words.")
    return {"titles": [entry.document_id for entry in titled], **dataclasses.asdict(found)}
