"""The readers as they are shown: the one in use, those that could be, what they take and keep, and what goes on."""

from collections.abc import Sequence

from app.events import ReaderEntry, ReaderStatus
from ui.render.words import count, size, text
from ui.trouble import Trouble

_STATES = {"loading": "is loading", "ready": "is ready", "failed": "could not be loaded"}


def panel(status: ReaderStatus, entries: Sequence[ReaderEntry] = ()) -> str:
    """The quiet line about the reader, which unfolds to all others."""
    line = (
        f'<span class="dot"></span><span class="name">{text(status.name or "The reader")}</span>'
        f" <span>{_STATES.get(status.state, '')}</span>"
    )
    if not entries:
        return f'<div class="reader" data-state="{text(status.state)}"><p>{line}</p></div>'
    why = "" if status.state == "loading" else f'<p class="why">{text(status.why)}</p>'
    rows = "".join(map(_row, entries))
    return (
        f'<details class="reader" data-menu="readers" data-state="{text(status.state)}"><summary>{line}</summary>'
        f'<ul aria-label="Readers">{rows}</ul><form data-event="click" data-act="use">'
        '<input name="choice" aria-label="Another reader: folder, GGUF file or hub id"'
        ' placeholder="Folder, GGUF file or hub id" required>'
        f'<button class="small">Use</button></form>{why}</details>'
    )


def change(status: ReaderStatus, can_stop: bool, trouble: Trouble | None = None) -> str:
    """What goes on or went wrong with the reader, and what should be known of the library."""
    why = (status.why,) if status.state == "loading" and not status.doing else ()
    lines = "".join(f'<p class="doing">{text(each)}</p>' for each in (status.notice, *why, status.doing) if each)
    stop = (
        '<div class="doing controls"><button class="small" data-event="click" data-act="stop">Stop</button></div>'
        if can_stop
        else ""
    )
    wrong = f'<p class="doing bad" role="alert">{text(trouble.message)} {text(trouble.hint)}</p>' if trouble else ""
    return f"{lines}{stop}{wrong}"


def _row(entry: ReaderEntry) -> str:
    number = f"{entry.billions:g} billion" if entry.billions >= 1 else f"{1000 * entry.billions:g} million"
    facts = [f"{number} parameters"] if entry.billions else []
    facts += [entry.licence] if entry.licence else []
    facts += [f"{size(entry.download_bytes)} to download"] if entry.download_bytes else []
    facts += [f"needs {size(entry.needed_bytes)} of memory"] if entry.needed_bytes else []
    speed = float(f"{entry.tokens_per_second:.1g}" if not entry.measured else f"{entry.tokens_per_second:.2g}")
    facts += [f"reads {'' if entry.measured else 'about '}{speed:,.0f} tokens/s"] if speed else []
    current = " aria-current=true" if entry.in_use else ""
    return (
        f'<li{current}><div><span class="name">{text(entry.name)}</span>{_button(entry)}</div>'
        f'<p class="facts">{text(" · ".join(facts))}</p>{_pods(entry)}</li>'
    )


def _button(entry: ReaderEntry) -> str:
    if entry.in_use:
        return '<span class="facts">in use</span>'
    if not entry.choice:
        return '<span class="facts">no longer here</span>'
    if not entry.fits:
        return '<span class="facts">too large</span>'
    words = f"{size(entry.download_bytes)} are fetched from the model hub, which can be stopped and gone on with."
    ask = f' data-ask="Download {text(entry.name)}?" data-words="{words}" data-yes="Download" data-look="strong"'
    return (
        f'<button class="small" data-event="click" data-act="use" data-choice="{text(entry.choice)}"'
        f' aria-label="Use {text(entry.name)}"{ask if entry.download_bytes else ""}>Use</button>'
    )


def _pods(entry: ReaderEntry) -> str:
    """What it has read, and the end of that."""
    if not entry.pod_bytes:
        return ""
    used = f", last used {entry.used_at.astimezone():%d %b %Y}" if entry.used_at else ""
    kept = f"Has read {count(entry.documents, 'document')}: {size(entry.pod_bytes)}{used}."
    delete = (
        ""
        if entry.in_use
        else f' <button class="link" data-event="click" data-act="forget" data-choice="{text(entry.name)}"'
        f' aria-label="Delete what {text(entry.name)} has read" data-ask="Delete what {text(entry.name)} has read?"'
        f' data-words="{size(entry.pod_bytes)} become free. Documents and conversations stay; for this reader they'
        ' would have to be read again." data-yes="Delete">Delete</button>'
    )
    return f'<p class="facts">{kept}{delete}</p>'
