"""Transfer: read documents leave the library as archives, and come into it from elsewhere without being read again."""

import shutil
from pathlib import Path

from app.block_store import SCORES_AT
from app.conversations import Conversations
from app.errors import BadSetting, DamagedDocument, NotRead
from app.intake import Intake, storing
from app.listing import tags_in
from app.portable import Talk, pack, unpack
from app.recipe_registry import named
from app.titles import name_of
from engine.core.errors import RecipeUnknown
from storage import Document, Home, Store


class Transfer:
    """Archives of documents with their memory and conversations (see `app.portable`)."""

    def __init__(self, store: Store, home: Home, intake: Intake) -> None:
        self._store = store
        self._home = home
        self._intake = intake
        self._conversations = Conversations(store)

    def export(self, document: Document, out: Path) -> None:
        """Write a document with its memory, as it is kept, and the conversations about it alone.

        Raises NotRead, and BadSetting where the file cannot be written.
        """
        ready = [each for each in self._store.readings(document.id) if each.state == "ready"]
        if not ready:
            raise NotRead("This document is not read yet.", "Export it once it is.")
        reading = next((each for each in ready if named(each.recipe) == document.recipe), ready[-1])
        blocks = [
            (section.identity, block, self._home.pods / block.file_name)
            for section in self._store.sections(reading.id)
            for block in self._store.blocks(section.id)
            if block.position != SCORES_AT
        ]
        talks = [
            Talk(
                each.title, tuple(turn for turn in self._conversations.turns(each.conversation_id) if not turn.is_open)
            )
            for each in reversed(self._conversations.entries(document.id))
            if len(each.documents) == 1
        ]
        title = document.title if document.is_named else ""
        recipe = named(reading.recipe)
        partial = out.with_name(f"{out.name}.partial")
        try:
            with self._intake.opened(document) as original:
                pack(partial, document.file_name, title, original, talks, recipe, blocks, document.tags)
            partial.replace(out)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise BadSetting(f"{out} cannot be written: {error.strerror}.", "Choose another with --out.") from error

    def take(self, path: Path, folder: Path) -> Document:
        """Unpack an archive in an empty folder; keep its document and conversations, and its memory until it is read.

        Raises DamagedDocument, UnsupportedFile, DiskFull, BadName, and as `Intake.keep` does; nothing is kept then.
        """
        manifest, talks = unpack(path, folder, self._home.free_bytes())
        try:
            recipe = named(manifest.recipe)
        except RecipeUnknown as error:
            raise DamagedDocument(f"{error}.", "Import it with a later version.") from error
        title, tags = manifest.title and name_of(manifest.title), tags_in(" ".join(manifest.tags))
        named_talks = [(name_of(each.title), each.turns) for each in talks]
        document = self._intake.keep(folder / "original", manifest.file_name, True)
        with storing():
            if not self._store.readings(document.id):
                self._store.choose_recipe(document.id, recipe)
                if title:
                    self._store.rename_document(document.id, title)
                if tags:
                    self._store.tag_document(document.id, tags)
        known = self._conversations.entries(document.id)
        said = [[turn.question for turn in self._conversations.turns(each.conversation_id)] for each in known]
        for name, turns in named_talks:
            if [turn.question for turn in turns] not in said:
                self._conversations.take(document.id, name, turns)
        if not any(each.state == "ready" for each in self._store.readings(document.id)):
            shutil.rmtree(self._home.imports / document.id, ignore_errors=True)
            self._home.take_folder(folder, self._home.imports / document.id)
        return document
