"""Request bodies as clients send them: messages whose parts are text, or documents to be asked."""

import base64
import binascii
from collections.abc import Sequence
from io import BytesIO
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator

from ui.api.access import Caller
from ui.api.refusals import Refused
from ui.api.reply import Inquiry

READER = "docpod"
"""The model that is whatever reader is loaded."""
LIBRARY = "docpod-all"
"""The model that is the reader with all documents."""


class TextPart(BaseModel):
    """What somebody said."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class FileContent(BaseModel):
    """A file of the library by its id, or the file itself."""

    file_id: str | None = None
    file_data: str | None = None
    """In base64, plain or as a data URL."""
    filename: str = "document"

    def document_id(self, caller: Caller) -> str:
        """Of a file that comes along once it is added, for which a key must be allowed to write."""
        if self.file_id is not None:
            return caller.app.library.catalogue.find(self.file_id).id
        if self.file_data is None:
            raise Refused(400, "no_file", "A file part has neither file_id nor file_data.", "Nothing is fetched.")
        caller.demand("write")
        try:
            data = base64.b64decode(self.file_data.rpartition("base64,")[2], validate=True)
        except binascii.Error as error:
            raise Refused(400, "no_file", f"file_data is no base64: {error}.", "Upload it to /v1/files.") from error
        return caller.app.library.receive(BytesIO(data), self.filename)


class FilePart(BaseModel):
    """A document of a chat completion."""

    type: Literal["file"]
    file: FileContent


class InputFilePart(FileContent):
    """A document of a response."""

    type: Literal["input_file"]


class Source(BaseModel):
    """A file of the library by its id, or the file itself: in base64, or as text."""

    type: Literal["file", "base64", "text"]
    file_id: str | None = None
    data: str | None = None


class CitationsConfig(BaseModel):
    """Whether passages are wanted."""

    enabled: bool = True


class DocumentPart(BaseModel):
    """A document of an Anthropic message."""

    type: Literal["document"]
    source: Source
    title: str | None = None
    citations: CitationsConfig = CitationsConfig()


Part = Annotated[TextPart | FilePart | InputFilePart | DocumentPart, Discriminator("type")]


class Said(BaseModel):
    """A message of whoever said it."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part] = ""

    @property
    def text(self) -> str:
        """All that was said, without the documents."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def documents(self) -> list[FileContent]:
        """The documents that came with it."""
        parts = self.content if isinstance(self.content, list) else ()
        return [_file(part) for part in parts if not isinstance(part, TextPart)]


class AskBody(BaseModel):
    """What every client's request has; what else is sent has no effect, which the answer says, or is refused."""

    model_config = ConfigDict(extra="allow")
    model: str = READER
    stream: bool = False
    tools: list[Any] | None = None
    n: Literal[1] | None = None

    def asking(self, caller: Caller, messages: Sequence[Said], max_tokens: int | None, **more: Any) -> Inquiry:
        """The question at the end of the messages. Raises Refused where it is not clear what is asked."""
        if self.tools:
            raise Refused(400, "tools", "The reader uses no tools.", "Leave them out.")
        turns = [message for message in messages if message.role in ("user", "assistant")]
        if not turns or turns[-1].role != "user":
            raise Refused(400, "no_question", "The last message is not the user's.", "Put the question there.")
        ignored = {*(self.model_extra or {}), *({each.role for each in messages} - {"user", "assistant"})}
        documents = more.pop("documents", ()) or self._documents(caller, turns)
        return Inquiry(
            documents=tuple(map(caller.app.library.catalogue.entry, documents)),
            question=turns[-1].text,
            said=tuple(turn.text for turn in turns[:-1] if turn.role == "user"),
            max_tokens=max_tokens,
            ignored=tuple(sorted(ignored)),
            **{"named": self.model != LIBRARY, **more},
        )

    def _documents(self, caller: Caller, turns: Sequence[Said]) -> list[str]:
        """The documents that came along, behind the one in place of the model, by which programs that know only models
        can be used; or all there are."""
        found = [file.document_id(caller) for turn in turns for file in turn.documents]
        if self.model not in (READER, caller.app.status().name):
            known = [entry.document_id for entry in caller.app.library.catalogue.entries()]
            if self.model not in (LIBRARY, *known):
                message = f"There is no model {self.model!r}."
                raise Refused(404, "model_not_found", message, f"Use {READER!r}; GET /v1/models lists all.")
            found = known if self.model == LIBRARY else [self.model, *found]
        if not found:
            hint = f"Send its id as a file part, or in place of the model, or ask all with the model {LIBRARY!r}."
            raise Refused(400, "no_document", "No document came with the question.", hint)
        return list(dict.fromkeys(found))


def _file(part: FilePart | InputFilePart | DocumentPart) -> FileContent:
    if isinstance(part, FilePart):
        return part.file
    if isinstance(part, InputFilePart):
        return part
    source, data = part.source, part.source.data
    if source.type == "text" and data is not None:
        data = base64.b64encode(data.encode()).decode()
    return FileContent(file_id=source.file_id, file_data=data, filename=part.title or "document")
