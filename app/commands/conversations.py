"""Commands about conversations: what was asked and answered before."""

import argparse
from pathlib import Path
from typing import Any

from app.commands.parsers import Parsers
from app.commands.questions import answer_facts
from app.commands.terminal import save
from app.errors import DocumentNotFound
from app.events import Turn
from app.export import FORMATS
from app.main import App


def add(commands: Parsers) -> None:
    """Adds the commands."""
    about = "List, show, export, duplicate, rename and delete what was asked before; without a verb: list all"
    verbs = commands.verbs("conversations", about, _list, document="")
    verbs.add("list", _list).add_argument(
        "document", nargs="?", default="", help="the start of its id, its title or file name; all without"
    )
    verbs.add("show", _show).add_argument("conversation", help="its id")
    export = verbs.add("export", _export)
    export.add_argument("conversation", help="its id")
    export.add_argument("--format", choices=FORMATS, default="md", help="pdf: a copy with highlights and notes")
    export.add_argument("--document", default="", help="of several, the PDF that is marked; otherwise the first")
    export.add_argument("--out", type=Path, help="the file; otherwise named after the conversation beside you")
    verbs.add("duplicate", _duplicate).add_argument("conversation", help="its id")
    rename = verbs.add("rename", _rename)
    rename.add_argument("conversation", help="its id")
    rename.add_argument("title", help="what it is called from now on")
    verbs.add("delete", _delete).add_argument("conversation", help="its id")


def _list(app: App, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List the conversations about a document, or all, last used first."""
    entries = app.questions.conversations(options.document and app.library.catalogue.find(options.document).id)
    for entry in entries:
        about = f"  ({entry.about})" if entry.about else ""
        print(f"{entry.conversation_id}  {entry.updated_at:%Y-%m-%d %H:%M}  {entry.title}{about}")
    if not entries:
        print("Nothing has been asked yet.")
    return [
        {
            "conversation_id": each.conversation_id,
            "title": each.title,
            "updated_at": each.updated_at.isoformat(),
            "documents": each.documents,
        }
        for each in entries
    ]


def _show(app: App, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Show a conversation as it was."""
    turns = _turns(app, options.conversation)
    for turn in turns:
        pages = ", ".join(f"p. {each.label}" for each in turn.answer.citations)
        print(f"> {turn.question}\n{turn.answer.answer}\n{pages}\n")
    return [{"question": turn.question, **answer_facts(turn.answer)} for turn in turns]


def _export(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Write a conversation to a file: as Markdown, as a web page, or as highlights and notes in a copy of its PDF."""
    document_id = app.library.catalogue.find(options.document).id if options.document else ""
    made = app.export.conversation(options.conversation, options.format, document_id)
    save(path := options.out or Path(made.name), made.content)
    return {"conversation_id": options.conversation, "file": str(path), "bytes": len(made.content)}


def _duplicate(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Keep a conversation once more; `ask --conversation ID --instead-of NUMBER` edits a question in it."""
    copy = app.chat.copy(options.conversation)
    print(copy)
    return {"conversation_id": copy}


def _rename(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Call a conversation otherwise."""
    app.chat.rename(options.conversation, options.title)
    return {"conversation_id": options.conversation, "title": options.title}


def _delete(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Forget a conversation."""
    _turns(app, options.conversation)
    app.questions.delete(options.conversation)
    print("Deleted the conversation.")
    return {"conversation_id": options.conversation, "deleted": True}


def _turns(app: App, conversation_id: str) -> list[Turn]:
    if turns := app.questions.turns(conversation_id):
        return turns
    raise DocumentNotFound("There is no such conversation.", "`conversations` lists them.")
