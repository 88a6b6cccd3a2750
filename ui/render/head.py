"""The head of the conversation pane: title and state of the open document, its conversations, and their verbs."""

from collections.abc import Sequence

from app.events import ConversationEntry, DocumentEntry
from ui.render.icons import icon
from ui.render.library import controls, state_line
from ui.render.words import count, t, text, when


def head(
    entry: DocumentEntry,
    conversations: Sequence[ConversationEntry],
    conversation_id: str,
    several: Sequence[DocumentEntry] = (),
) -> str:
    """Title and state of the open document, or of several, and its conversations."""
    rows = "".join(_conversation(entry, each, each.conversation_id == conversation_id) for each in conversations)
    actions, versions = "" if several else _document_actions(entry), ""
    for each in conversations:
        if each.conversation_id == conversation_id:
            actions += _conversation_actions(conversation_id, several or [entry])
            versions = _versions(entry, conversation_id, each.versions)
    tools = _menu(t("More"), "more", actions) + _menu(t("Earlier conversations"), "history", rows)
    if several:
        titles = " · ".join(text(each.name) for each in several)
        return (
            f'<header class="head" data-stage="ready"><div class="what"><h2>{count(len(several), "document")}</h2>'
            f'<p class="facts titles" dir="auto" title="{titles}">{titles}</p>{versions}</div>'
            f'<div class="tools">{tools}</div></header>'
        )
    fresh = t("New conversation")
    return (
        f'<header class="head" data-stage="{text(entry.progress.stage)}"{"" if entry.is_own else " data-shared"}>'
        f'<div class="what"><h2 dir="auto" title="{text(entry.name)}">{text(entry.name)}</h2>'
        f'<p class="facts">{state_line(entry)}</p>{versions}{controls(entry)}</div><div class="tools">{tools}'
        f'<button class="quiet-button" data-event="edit" data-document="{text(entry.document_id)}"'
        f' aria-label="{fresh}" title="{fresh}">{icon("plus")}</button></div></header>'
    )


def _document_actions(entry: DocumentEntry) -> str:
    """Its name and tags, and once it is read all of it as a file to be opened elsewhere."""
    about = f'data-event="click" data-do="fold" data-document="{text(entry.document_id)}"'
    rows = (
        f'<li class="rename"><button {about} data-act="rename" data-rename="{text(entry.name)}">'
        f"{t('Rename document')}</button></li>"
        f'<li class="tag"><button {about} data-act="tag" data-rename="{text(" ".join(entry.tags))}" data-empty'
        f' data-heading="{t("Tags")}" data-about="{t("Words with spaces between them")}" data-yes="{t("Keep these")}">'
        f"{t('Tags of the document')}</button></li>"
    )
    if entry.progress.stage != "ready":
        return rows
    return (
        f'{rows}<li class="export"><a href="archive/{text(entry.document_id)}" download data-do="fold"'
        f' title="{t("Export as .docpod, with memory and conversations")}">{t("Export as .docpod")}</a></li>'
    )


def _menu(name: str, drawing: str, rows: str) -> str:
    if not rows:
        return ""
    summary = f'<summary aria-label="{name}" title="{name}">{icon(drawing)}</summary>'
    return f'<details class="menu" data-menu="{drawing}">{summary}<ul>{rows}</ul></details>'


def _versions(entry: DocumentEntry, conversation_id: str, versions: Sequence[str]) -> str:
    """`Version 2 of 3`, between the ways to the one before and the one behind."""
    if len(versions) < 2:
        return ""
    at = versions.index(conversation_id)

    def way(label: str, drawing: str, to: int) -> str:
        target = f'data-conversation="{text(versions[to])}"' if 0 <= to < len(versions) else "disabled"
        return (
            f'<button class="quiet-button" data-event="select" data-document="{text(entry.document_id)}" {target}'
            f' data-step="{drawing}" aria-label="{label}" title="{label}">{icon(drawing)}</button>'
        )

    before, behind = way(t("Previous version"), "left", at - 1), way(t("Next version"), "right", at + 1)
    words = t("Version {at} of {all}", at=at + 1, all=len(versions))
    return f'<p class="versions">{before}<span>{words}</span>{behind}</p>'


def _conversation_actions(conversation_id: str, documents: Sequence[DocumentEntry]) -> str:
    """The open conversation as files, with a marked copy of each PDF that it is about, and once more."""
    files = [(t("Export as Markdown"), "md", ""), (t("Export as web page"), "html", "")]
    for each in documents:
        name = t("Export as PDF with highlights")
        if len(documents) > 1:
            name = t("Export {document} with highlights", document=each.name)
        files += [(name, "pdf", f"?document={each.document_id}")] if each.is_pdf else []
    rows = "".join(
        f'<li data-form="{form}"><a href="export/{form}/{text(conversation_id)}{text(query)}" download'
        f' data-do="fold"><span class="title" dir="auto">{text(name)}</span></a></li>'
        for name, form, query in files
    )
    return rows + f'<li><button data-event="copy" data-do="fold">{t("Duplicate")}</button></li>'


def _conversation(entry: DocumentEntry, each: ConversationEntry, is_open: bool) -> str:
    first = each.documents[0] if each.documents else entry.document_id
    ids = f'data-document="{text(first)}" data-conversation="{text(each.conversation_id)}"'
    about = f"{count(len(each.documents), 'document')} · " if len(each.documents) > 1 else ""
    return (
        f'<li{" aria-current=true" if is_open else ""}><button data-event="select" data-do="fold" {ids}>'
        f'<span class="title" dir="auto">{text(each.title)}</span>'
        f"<time>{about}{when(each.updated_at)}</time></button>"
        f'<button class="quiet-button" data-event="submit" {ids} data-rename="{text(each.title)}"'
        f' aria-label="{t("Rename conversation")}" title="{t("Rename")}">{icon("pencil")}</button>'
        f'<button class="quiet-button" data-event="delete" {ids} aria-label="{t("Delete conversation")}"'
        f' title="{t("Delete")}">{icon("trash")}</button></li>'
    )
