"""The list of documents: one row each, with what is known about it and what can be done with it."""

from collections.abc import Sequence

from app.events import ConversationEntry, DocumentEntry, Forecast, Progress
from app.listing import SORTS, TAG
from app.queue import IN_QUEUE, Waiting
from app.readers import ACCEPT
from app.scans import INSTALL, ocr_installed
from app.search import DocumentHits, Excerpt, Found, TurnHit
from ui.render.icons import icon
from ui.render.words import about, count, figure, size, t, text, translated, when
from ui.trouble import Trouble


def brand(max_upload_mb: int) -> str:
    """The name, and the switch between light and dark; the script learns here what may be uploaded."""
    return (
        f'<h1 class="brand" data-most-mb="{max_upload_mb}" data-accept="{ACCEPT}">DocPod</h1>'
        f'<button class="quiet-button" data-do="settings" aria-haspopup="dialog" aria-label="{t("Settings")}"'
        f' title="{t("Settings")}">{icon("gear")}</button>'
        f'<button class="quiet-button keys" data-do="shortcuts" aria-label="{t("Keyboard shortcuts")}"'
        f' title="{t("Keyboard shortcuts (?)")}">{icon("keys")}</button>'
        f'<button class="quiet-button" data-do="theme" aria-label="{t("Light or dark")}"'
        f' title="{t("Light or dark")}">{icon("theme")}</button>'
    )


def documents(entries: Sequence[DocumentEntry], search: str, found: Found, queue: Sequence[Waiting] = ()) -> str:
    """All rows and what was found inside, or a line that says why there are none."""
    inside = hits(found)
    if not entries and not inside:
        if search.strip():
            return f'<p class="quiet pad">{t("Nothing matches “{words}”.", words=text(search))}</p>'
        return f'<p class="quiet pad nothing-yet">{t("Documents you add are kept here.")}</p>'
    turns = {each.entry.document_id: _turn(each, place, len(queue)) for place, each in enumerate(queue, 1)}
    rows = "".join(row(entry, turns.get(entry.document_id, ("", ""))) for entry in entries)
    listed = f'<ul class="documents" aria-label="{t("Documents")}">{rows}</ul>' if rows else ""
    return listed + inside


def lists() -> str:
    """Which of the two lists is shown."""
    names = (("documents", t("Documents")), ("conversations", t("Conversations")))
    return "".join(f'<button data-do="list" data-list="{each}">{name}</button>' for each, name in names)


def conversations(entries: Sequence[ConversationEntry]) -> str:
    """The conversations about all documents, each with what it is about."""
    rows = "".join(
        f'<li><button data-event="select"'
        f' data-pane="chat" data-document="{text(each.documents[0])}" data-conversation="{text(each.conversation_id)}">'
        f'<span class="title" dir="auto">{text(each.title)}</span><span class="facts" dir="auto">{text(each.about)}<br>'
        f"{when(each.updated_at)}</span></button></li>"
        for each in entries
    )
    rows = rows or f'<li class="quiet pad">{t("What you ask is kept here.")}</li>'
    return f'<ul class="conversations" aria-label="{t("Conversations")}">{rows}</ul>'


def hits(found: Found) -> str:
    """The pages and conversations that hold the words, each of which opens."""
    shown = "".join(_pages_found(each) for each in found.documents)
    turns = "".join(_turn_found(each) for each in found.turns)
    if turns:
        left = t("and {more}", more=count(found.more_turns, "more answer"))
        more = f'<p class="more">{left}</p>' if found.more_turns else ""
        shown += f'<section class="found"><h3>{t("Conversations")}</h3><ul>{turns}</ul>{more}</section>'
    return shown


def _pages_found(each: DocumentHits) -> str:
    rows = "".join(
        f'<li><button class="hit" data-event="select" data-pane="page" data-page="{hit.page}"'
        f' data-document="{text(each.document_id)}"><span class="where">'
        f"{t('p. {page}', page=text(hit.label or str(hit.page)))}</span>"
        f" {_excerpt(hit.excerpt)}</button></li>"
        for hit in each.pages
    )
    if not rows:
        return (
            f'<button class="hit" data-event="select" data-pane="chat" data-document="{text(each.document_id)}">'
            f'<span class="where" dir="auto">{text(each.title)}</span> {count(each.count, "page")}</button>'
        )
    left = each.count - len(each.pages)
    more = f'<p class="more">{t("and {more}", more=count(left, "more page"))}</p>' if left else ""
    return f'<section class="found"><h3 dir="auto">{text(each.title)}</h3><ul>{rows}</ul>{more}</section>'


def _turn_found(hit: TurnHit) -> str:
    return (
        f'<li><button class="hit" data-event="select" data-pane="chat" data-document="{text(hit.document_id)}"'
        f' data-conversation="{text(hit.conversation_id)}" data-turn="{hit.message_id}">'
        f'<span class="where" dir="auto">{text(hit.title)}</span> {_excerpt(hit.excerpt)}</button></li>'
    )


def _excerpt(excerpt: Excerpt) -> str:
    """Text with the words that were searched for marked."""
    shown, last = "", 0
    for start, end in excerpt.spans:
        shown += f"{text(excerpt.text[last:start])}<mark>{text(excerpt.text[start:end])}</mark>"
        last = end
    return f'<span class="excerpt" dir="auto">{shown}{text(excerpt.text[last:])}</span>'


def order(entries: Sequence[DocumentEntry], sort: str) -> str:
    """In which order the documents are shown."""
    choices = "".join(
        f'<option value="{name}"{" selected" if name == sort else ""}>{translated(label)}</option>'
        for name, (label, _, _) in SORTS.items()
    )
    choose = f'<select data-event="click" data-act="sort" aria-label="{t("Order of the documents")}">{choices}</select>'
    return choose if len(entries) > 1 else ""


def _turn(waiting: Waiting, place: int, last: int) -> tuple[str, str]:
    """The state of a document that waits, and the ways to another turn; nothing where no other one waits."""
    if last < 2:
        return "", ""
    entry = waiting.entry
    until = "" if waiting.seconds is None else f" · {t('read in about {time}', time=about(waiting.seconds))}"
    state = t("Number {place} of {last} to be read", place=figure(place), last=figure(last))
    state += f" · {count(entry.pages, 'page')}{until}"
    ways = (
        ("first", t("Read first"), t("Read first"), place > 1),
        ("up", t("Sooner"), icon("sooner"), place > 1),
        ("down", t("Later"), icon("later"), place < last),
    )
    buttons = "".join(
        f'<button class="small" data-event="click" data-act="move" data-step="{step}" title="{label}"'
        f' data-document="{text(entry.document_id)}" aria-label="{label}: {text(entry.name)}">{drawn}</button>'
        for step, label, drawn, can in ways
        if can
    )
    return state if entry.progress.stage == "queued" and not entry.answers_from else "", buttons


def row(entry: DocumentEntry, turn: tuple[str, str] = ("", "")) -> str:
    """One document: title, state, progress, and its verbs, with those of its turn in the queue."""
    return (
        f'<li class="document" data-stage="{text(entry.progress.stage)}"{"" if entry.is_own else " data-shared"}>'
        f'<input type="checkbox" class="pick" value="{text(entry.document_id)}"'
        f' aria-label="{t("Choose {document} for a question", document=text(entry.name))}">'
        f'<button class="document-open" data-event="select" data-pane="chat" data-document="{text(entry.document_id)}"'
        f' title="{text(entry.file_name)}"><span class="title" dir="auto">{text(entry.name)}</span>'
        f'<span class="facts">{turn[0] or state_line(entry)}</span></button>{_tags(entry)}'
        f"{_note(entry)}{_attachments(entry)}{bar(entry.progress)}{password_form(entry)}{controls(entry, turn[1])}"
        f"{_delete_button(entry)}</li>"
    )


def several(entries: Sequence[DocumentEntry]) -> str:
    """Asks the documents that are chosen in the list, which the browser knows, or all; the chosen ones also go."""
    if len(entries) < 2:
        return ""
    return (
        f'<div class="several-bar"><button class="small" data-event="select" data-pane="chat" data-several>'
        f"{t('Ask all {n} documents', n=figure(len(entries)))}</button>"
        f'<button class="quiet-button" data-do="unpick" hidden>{t("Clear")}</button>'
        f'<button class="quiet-button" data-event="delete" hidden title="{t("Delete")}"'
        f' aria-label="{t("Delete the chosen documents")}" data-ask="{t("Delete the chosen documents?")}"'
        f' data-words="{t("Their files, their memory and every conversation about them go for good.")}"'
        f' data-yes="{t("Delete")}">{icon("trash")}</button></div>'
    )


def state_line(entry: DocumentEntry) -> str:
    """What is known about a document at this moment, in one or two plain lines."""
    progress = entry.progress
    match progress.stage:
        case "parsing":
            if not progress.total:
                return t("Looking through the pages")
            done, total = figure(progress.done), figure(progress.total)
            return t("Looking through the pages: page {page} of {pages}", page=done, pages=total)
        case "ocr":
            pages = count(progress.total, "page")
            return t("Reading pictures of text by OCR: {done} of {pages}", done=figure(progress.done), pages=pages)
        case "locked":
            return f"{icon('lock')} {t('Protected by a password')}"
        case "waiting" if entry.forecast:
            return f"{t('Not read yet.')} {forecast_line(entry.forecast)}"
        case "queued":
            if entry.answers_from:
                return t("Becoming {recipe} · waiting for its turn", recipe=text(translated(entry.recipe)))
            plan = f" · {t('about {time}', time=about(entry.forecast.seconds))}" if entry.forecast else ""
            return f"{t('Waiting for its turn')} · {count(entry.pages, 'page')}{plan}"
        case "reading":
            return reading_line(progress, entry.recipe if entry.answers_from else "")
        case "paused":
            done, total = figure(progress.pages_done), figure(progress.pages_total)
            return t("Paused at page {page} of {pages}", page=done, pages=total)
        case "ready":
            return f"{pages_line(entry)} · {t('{size} memory', size=size(entry.pod_bytes))}"
        case "failed":
            return f'<span class="bad">{text(translated(progress.message))}</span> {text(translated(progress.hint))}'
        case "cancelled":
            return f"{t('Reading was cancelled')} · {count(entry.pages, 'page')}"
    return count(entry.pages, "page")


def reading_line(progress: Progress, becoming: str = "") -> str:
    """`Reading page 34 of 98 · 812 tokens/s · 3 min left`; of what is read as another recipe has it, which."""
    done, total = figure(progress.pages_done), figure(progress.pages_total)
    parts = [t("Reading page {page} of {pages}", page=done, pages=total)]
    if becoming:
        parts = [
            t("Becoming {recipe}: page {page} of {pages}", recipe=text(translated(becoming)), page=done, pages=total)
        ]
    if progress.tokens_per_second > 0:
        parts.append(t("{n} tokens/s", n=figure(progress.tokens_per_second, ",.0f")))
    if progress.seconds_left is not None:
        left = t("about {time} left", time=about(progress.seconds_left))
        parts.append(f'<span class="eta">{left}</span>')
    return " · ".join(parts)


def pages_line(entry: DocumentEntry) -> str:
    """`98 pages`, or how many of them hold no text, so that nothing is missing in silence."""
    if not entry.pages_without_text:
        return count(entry.pages, "page")
    read, without = figure(entry.pages - entry.pages_without_text), figure(entry.pages_without_text)
    pages = count(entry.pages, "page")
    return t("Read {read} of {pages}, {without} without text", read=read, pages=pages, without=without)


def forecast_line(forecast: Forecast) -> str:
    """What reading will cost, with a warning where the disk is too small for it."""
    parts = [
        count(forecast.pages, "page"),
        count(forecast.tokens, "token"),
        count(forecast.sections, "section"),
        t("about {time}", time=about(forecast.seconds)),
        t("{size} on disk", size=size(forecast.disk_bytes)),
    ]
    if forecast.pages_without_text:
        parts.append(t("{pages} without text", pages=count(forecast.pages_without_text, "page")))
    line = t(", ").join(parts)
    if forecast.disk_bytes > forecast.free_disk_bytes:
        line += f' <span class="bad">({t("only {size} free", size=size(forecast.free_disk_bytes))})</span>'
    return line


def bar(progress: Progress) -> str:
    """A progress bar while something moves or waits half-way."""
    if progress.stage not in IN_QUEUE | {"paused"} or not progress.total or progress.stage == "queued":
        return ""
    percent = min(100.0, 100.0 * progress.done / progress.total)
    return (
        f'<div class="progress" role="progressbar" aria-label="{t("Progress")}" aria-valuemin="0" aria-valuemax="100"'
        f' aria-valuenow="{percent:.0f}"><span style="width:{percent:.1f}%"></span></div>'
    )


def _tags(entry: DocumentEntry) -> str:
    """Each shows the documents that have it."""
    buttons = "".join(
        f'<button data-do="tag" data-tag="{text(each)}" data-document="{text(entry.document_id)}"'
        f' aria-label="{t("{tag}: show what has this tag", tag=text(TAG + each))}" dir="auto">'
        f"{text(TAG + each)}</button>"
        for each in entry.tags
    )
    return f'<p class="tags">{buttons}</p>' if buttons else ""


def controls(entry: DocumentEntry, more: str = "") -> str:
    """The verbs that make sense at this stage, and more."""
    long = f" · {about(entry.forecast.seconds)}" if entry.forecast else ""
    verbs = {
        "waiting": (("read", f"{t('Read')}{long}", "strong"), ("cancel", t("Not now"), "")),
        "ocr": (("cancel", t("Cancel"), ""),),
        "queued": (("cancel", t("Cancel"), ""),),
        "reading": (("pause", t("Pause"), ""), ("cancel", t("Cancel"), "")),
        "paused": (("resume", t("Resume"), "strong"), ("cancel", t("Cancel"), "")),
        "failed": (("read", t("Try again"), ""),),
        "cancelled": (("read", f"{t('Read')}{long}", ""),),
    }.get(entry.progress.stage, ())
    if entry.pages_for_ocr and ocr_installed() and entry.progress.stage in ("ready", "paused", "waiting"):
        verbs += (("ocr", t("Read {pages} by OCR", pages=count(entry.pages_for_ocr, "page")), ""),)
    buttons = "".join(
        f'<button class="small {look}" data-event="click" data-act="{act}" data-document="{text(entry.document_id)}">'
        f"{text(label)}</button>"
        for act, label, look in verbs
    )
    return f'<div class="controls">{buttons}{more}</div>' if buttons or more else ""


def _note(entry: DocumentEntry) -> str:
    """What should be known about the file, and what may be done about pages that are pictures."""
    notes = [translated(entry.note)] if entry.note else []
    if entry.pages_for_ocr and not ocr_installed() and entry.progress.stage == "ready":
        pages = count(entry.pages_for_ocr, "page")
        notes.append(t("OCR would read {pages} more; install it: {command}", pages=pages, command=INSTALL))
    return "".join(f'<p class="facts note">{text(note)}</p>' for note in notes)


def _attachments(entry: DocumentEntry) -> str:
    """The files inside the file, each to be added as a document of its own."""
    buttons = "".join(
        f'<button class="small" data-event="click" data-act="attachment" data-document="{text(entry.document_id)}"'
        f' data-number="{number}" dir="auto">{t("Add {file}", file=text(name))}'
        f"{f' · {size(num_bytes)}' if num_bytes else ''}</button>"
        for number, (name, num_bytes) in enumerate(entry.attachments, 1)
    )
    said = f'<p class="facts note">{t("Attached, and not read with it:")}</p>'
    return f'{said}<div class="controls attachments">{buttons}</div>' if buttons else ""


def password_form(entry: DocumentEntry) -> str:
    """Asks for the password of an encrypted document."""
    if entry.progress.stage != "locked":
        return ""
    wrong = f'<p class="bad">{text(translated(entry.progress.message))}</p>' if entry.progress.message else ""
    return (
        f'<form class="unlock" data-event="click" data-act="unlock" data-document="{text(entry.document_id)}">{wrong}'
        f'<input type="password" name="password" aria-label="{t("Password of this document")}"'
        f' placeholder="{t("Password")}" autocomplete="off" required>'
        f'<button class="small strong">{t("Unlock")}</button></form>'
    )


def _delete_button(entry: DocumentEntry) -> str:
    stored, memory = size(entry.num_bytes), size(entry.pod_bytes)
    words = t("The stored file ({size}) and every conversation about it go for good.", size=stored)
    if entry.pod_bytes:
        words = t(
            "The stored file ({size}), its memory ({memory}) and every conversation about it go for good.",
            size=stored,
            memory=memory,
        )
    name = text(entry.name)
    return (
        f'<button class="quiet-button delete" data-event="click" data-act="delete"'
        f' aria-label="{t("Delete {document}", document=name)}"'
        f' title="{t("Delete")}" data-document="{text(entry.document_id)}"'
        f' data-ask="{t("Delete “{document}”?", document=name)}" data-words="{text(words)}"'
        f' data-yes="{t("Delete")}">{icon("trash")}</button>'
    )


def notices(troubles: Sequence[tuple[str, Trouble]]) -> str:
    """What went wrong with which file; empty when nothing did."""
    if not troubles:
        return ""
    lines = "".join(
        f'<li><strong dir="auto">{text(name)}</strong> {text(trouble.message)} <span>{text(trouble.hint)}</span></li>'
        for name, trouble in troubles
    )
    return f'<div class="notice" role="alert"><ul>{lines}</ul></div>'
