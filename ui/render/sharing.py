"""Sharing as it is shown: the form that starts it, what runs, and the line that tells visitors what they are."""

from collections.abc import Mapping, Sequence

from app.events import DocumentEntry
from app.sharing import ShareState
from ui.render.icons import icon
from ui.render.words import count, t, text, translated
from ui.trouble import Trouble

LENGTHS = (3_600, 28_800, 86_400, 604_800)
"""Seconds for which a share may last."""


def form(entries: Sequence[DocumentEntry], roads: Mapping[str, str], trouble: Trouble | None = None) -> str:
    """What to share, how, and for how long; nothing is chosen beforehand."""
    if not entries:
        return ""
    documents = "".join(
        f'<label><input type="checkbox" name="document-{text(entry.document_id)}">'
        f'<span dir="auto">{text(entry.name)}</span></label>'
        for entry in entries
    )
    ways = "".join(f'<option value="{text(name)}">{text(translated(label))}</option>' for name, label in roads.items())
    lengths = "".join(
        f'<option value="{seconds}"{" selected" if seconds == 86_400 else ""}>{_length(seconds)}</option>'
        for seconds in LENGTHS
    )
    opened = " open" if trouble else ""
    words = t(
        "Visitors see the chosen documents and their own conversations, and nothing else. Without a password, each "
        "link lets one person in. A link on the internet goes through a server of Gradio’s, which could read what "
        "passes."
    )
    return (
        f'<details class="share"{opened}><summary>{icon("share")} {t("Share")}</summary>{_trouble(trouble)}'
        f'<form data-event="click" data-act="start"><fieldset><legend>{t("Documents")}</legend><div'
        f' class="choices scroll" tabindex="0" aria-label="{t("Documents to share")}">{documents}</div></fieldset>'
        f'<label>{t("Visitors")}<select name="may_ask"><option value="yes">{t("may read and ask")}</option>'
        f'<option value="">{t("may only read")}</option></select></label>'
        f'<label>{t("Way")}<select name="road">{ways}</select></label>'
        f'<label>{t("Ends after")}<select name="seconds">{lengths}</select></label>'
        f'<label>{t("Password")}<input type="password" name="password" autocomplete="new-password"'
        f' placeholder="{t("none")}"></label>'
        f'<div class="controls"><button class="small strong">{t("Start sharing")}</button></div></form>'
        f'<p class="quiet">{words}</p></details>'
    )


def opening() -> str:
    """While the way is being opened, which may take half a minute."""
    return f'<div class="share"><p role="status" tabindex="-1">{t("Opening the link…")}</p></div>'


def running(state: ShareState, titles: Sequence[str], trouble: Trouble | None = None) -> str:
    """What is shared, the link, who came, and the end of it."""
    may = t("visitors may read and ask" if state.terms.may_ask else "visitors may only read")
    visitors = "".join(
        f'<li><span class="dot" data-here="{str(here).lower()}"></span>'
        f'<span class="name" dir="auto">{text(name)}</span>'
        f'<span class="unseen">{t("is here" if here else "was here")}</span>'
        f'<button class="link" data-event="click" data-act="remove" data-visitor="{text(visitor_id)}"'
        f' aria-label="{t("Show out {name}", name=text(name))}">{t("Show out")}</button></li>'
        for visitor_id, name, here in state.visitors
    )
    here = sum(each[2] for each in state.visitors)
    shared = ", ".join(f'<bdi title="{text(title)}">{text(title)}</bdi>' for title in titles)
    sharing = t("Sharing {documents}", documents=count(len(titles), "document"))
    present = t("{visitors} here now", visitors=count(here, "visitor")) if here else t("Nobody is here now")
    left = t("{time} left", time=_left(state.seconds_left))
    return (
        f'<section class="share on" aria-label="{t("Sharing")}">{_trouble(trouble)}<p class="facts">'
        f"<strong>{sharing}</strong> · {left} · {may}</p>"
        f'<p class="facts shared">{shared}</p>{_link(state)}<p class="facts">{present}</p>'
        f"{f'<ul>{visitors}</ul>' if visitors else ''}"
        '<div class="controls"><button class="small danger" data-event="click" data-act="stop">'
        f"{t('Stop sharing')}</button></div></section>"
    )


def visiting(may_ask: bool, name: str = "") -> str:
    """For a visitor; the style hides what he cannot do because this is there."""
    words = t("You are visiting. These documents are shared with you to read.")
    if name:
        words = t("These documents are shared with you to read and ask; what you ask is shown to nobody else.")
    elif may_ask:
        words = t(
            "You are visiting. These documents are shared with you to read and ask; what you ask is shown to nobody "
            "else, and forgotten when sharing ends."
        )
    return f'<section class="share" data-visiting><p class="facts">{words}</p></section>'


def _link(state: ShareState) -> str:
    if state.by_password:
        note = t("Whoever has the password may come in here:")
    elif state.link_is_used:
        note = t("The link was used. Each lets one person in.")
        more = f'<button class="small" data-event="click" data-act="invite">{t("Make another link")}</button>'
        return f'<p class="facts">{note}</p><div class="controls">{more}</div>'
    else:
        note = t("This link lets one person in:")
    another = f'<button class="small" data-event="click" data-act="invite">{t("Another link")}</button>'
    return (
        f'<label class="facts">{note}<input class="address" readonly value="{text(state.link)}"></label>'
        f'<div class="controls"><button class="small strong" data-do="copyLink">{t("Copy link")}</button>'
        f"{'' if state.by_password else another}</div>"
    )


def _left(seconds: float) -> str:
    """Coarse, so that the line does not change all the time."""
    if seconds > 7_200:
        return _length(seconds)
    return t("{n} min", n=max(1, round(seconds / 300) * 5))


def _length(seconds: float) -> str:
    if seconds == 86_400 or seconds > 172_800:
        return count(round(seconds / 86_400), "day")
    return count(round(seconds / 3_600), "hour")


def _trouble(trouble: Trouble | None) -> str:
    if trouble is None:
        return ""
    return f'<p class="bad" role="alert">{text(trouble.message)} {text(trouble.hint)}</p>'
