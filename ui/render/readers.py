"""The readers as they are shown: the one in use, those that could be, what they take and keep, and what goes on."""

from collections.abc import Sequence

from app.events import ReaderEntry, ReaderStatus
from ui.render.words import count, figure, size, t, text, translated
from ui.trouble import Trouble


def panel(status: ReaderStatus, entries: Sequence[ReaderEntry] = ()) -> str:
    """The quiet line about the reader, which unfolds to all others."""
    states = {"loading": t("is loading"), "ready": t("is ready"), "failed": t("could not be loaded")}
    name = t("The reader") if status.name in ("", "auto") else text(status.name)
    line = f'<span class="dot"></span><span class="name">{name}</span> <span>{states.get(status.state, "")}</span>'
    if not entries:
        return f'<div class="reader" data-state="{text(status.state)}"><p>{line}</p></div>'
    why = "" if status.state == "loading" else f'<p class="why">{text(translated(status.why))}</p>'
    rows = "".join(map(_row, entries))
    return (
        f'<details class="reader" data-menu="readers" data-state="{text(status.state)}"><summary>{line}</summary>'
        f'<ul aria-label="{t("Readers")}">{rows}</ul><form data-event="click" data-act="use"><input name="choice"'
        f' aria-label="{t("Another reader: folder, GGUF file or hub id")}"'
        f' placeholder="{t("Folder, GGUF file or hub id")}" required>'
        f'<button class="small">{t("Use")}</button></form>{why}</details>'
    )


def change(status: ReaderStatus, can_stop: bool, trouble: Trouble | None = None) -> str:
    """What goes on or went wrong with the reader, and what should be known of the library."""
    why = (status.why,) if status.state == "loading" and not status.doing else ()
    lines = "".join(
        f'<p class="doing">{text(translated(each))}</p>' for each in (status.notice, *why, status.doing) if each
    )
    stop = (
        '<div class="doing controls"><button class="small" data-event="click" data-act="stop">'
        f"{t('Stop')}</button></div>"
        if can_stop
        else ""
    )
    wrong = f'<p class="doing bad" role="alert">{text(trouble.message)} {text(trouble.hint)}</p>' if trouble else ""
    return f"{lines}{stop}{wrong}"


def _row(entry: ReaderEntry) -> str:
    number = t("{n} million parameters", n=figure(1000 * entry.billions, "g"))
    if entry.billions >= 1:
        number = t("{n} billion parameters", n=figure(entry.billions, "g"))
    facts = [number] if entry.billions else []
    facts += [entry.licence] if entry.licence else []
    facts += [t("{size} to download", size=size(entry.download_bytes))] if entry.download_bytes else []
    facts += [t("needs {size} of memory", size=size(entry.needed_bytes))] if entry.needed_bytes else []
    speed = float(f"{entry.tokens_per_second:.1g}" if not entry.measured else f"{entry.tokens_per_second:.2g}")
    reads = t("reads {n} tokens/s" if entry.measured else "reads about {n} tokens/s", n=figure(speed, ",.0f"))
    facts += [reads] if speed else []
    current = " aria-current=true" if entry.in_use else ""
    return (
        f'<li{current}><div><span class="name">{text(entry.name)}</span>{_button(entry)}</div>'
        f'<p class="facts">{text(" · ".join(facts))}</p>{_pods(entry)}{_prepare() if entry.can_prepare else ""}</li>'
    )


def _button(entry: ReaderEntry) -> str:
    if entry.in_use:
        return f'<span class="facts">{t("in use")}</span>'
    if not entry.choice:
        return f'<span class="facts">{t("no longer here")}</span>'
    if not entry.fits:
        return f'<span class="facts">{t("too large")}</span>'
    name, much = text(entry.name), size(entry.download_bytes)
    words = t("{size} are fetched from the model hub, which can be stopped and gone on with.", size=much)
    ask = (
        f' data-ask="{t("Download {name}?", name=name)}" data-words="{words}" data-yes="{t("Download")}"'
        ' data-look="strong"'
    )
    return (
        f'<button class="small" data-event="click" data-act="use" data-choice="{text(entry.choice)}"'
        f' aria-label="{t("Use {name}", name=name)}"{ask if entry.download_bytes else ""}>{t("Use")}</button>'
    )


def _prepare() -> str:
    words = t(
        "Once it is found out how this reader's memory is coded, which takes minutes while nobody asks, documents can "
        "be kept coded: nine to thirty times smaller on the disk, with nothing left out."
    )
    return (
        '<p class="facts"><button class="link" data-event="click" data-act="prepare" data-look="strong"'
        f' data-ask="{t("Prepare coded memories?")}" data-words="{words}" data-yes="{t("Prepare")}">'
        f"{t('Prepare coded memories')}</button></p>"
    )


def _pods(entry: ReaderEntry) -> str:
    """What it has read, and the end of that."""
    if not entry.pod_bytes:
        return ""
    documents, much, name = count(entry.documents, "document"), size(entry.pod_bytes), text(entry.name)
    kept = t("Has read {documents}: {size}.", documents=documents, size=much)
    if entry.used_at:
        day = entry.used_at.astimezone().strftime(t("%d %b %Y"))
        kept = t("Has read {documents}: {size}, last used {day}.", documents=documents, size=much, day=day)
    stay = t("Documents and conversations stay; for this reader they would have to be read again.")
    delete = (
        ""
        if entry.in_use
        else f' <button class="link" data-event="click" data-act="forget" data-choice="{text(entry.name)}"'
        f' aria-label="{t("Delete what {name} has read", name=name)}"'
        f' data-ask="{t("Delete what {name} has read?", name=name)}"'
        f' data-words="{t("{size} become free.", size=much)} {stay}" data-yes="{t("Delete")}">{t("Delete")}</button>'
    )
    return f'<p class="facts">{kept}{delete}</p>'
