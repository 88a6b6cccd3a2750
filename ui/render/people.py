"""People as they are shown: who is signed in, his shared tags, and the form that shares one."""

from collections.abc import Mapping, Sequence

from app.people import EVERYBODY
from ui.render.icons import icon
from ui.render.words import t, text
from ui.trouble import Trouble


def panel(
    name: str, role: str, signs_out: bool, shares: Mapping[str, Sequence[str]] | None, trouble: Trouble | None = None
) -> str:
    """A fold with the name; the style hides what only owners have because the role is there. Without shares he has no
    documents of his own."""
    wrong = f'<p class="bad" role="alert">{text(trouble.message)} {text(trouble.hint)}</p>' if trouble else ""
    leave = (
        f'<div class="controls"><button class="small" data-do="leave">{t("Sign out")}</button></div>'
        if signs_out
        else ""
    )
    return (
        f'<details class="share" data-menu="who" data-role="{text(role)}"><summary>{icon("person")} '
        f'<span dir="auto">{text(name) or t("People")}</span></summary>{wrong}'
        f"{'' if shares is None else _sharing(shares)}{leave}</details>"
    )


def _sharing(shares: Mapping[str, Sequence[str]]) -> str:
    rows = "".join(
        f'<li><span class="name" dir="auto">#{text(tag)} · '
        f"{t('everybody') if EVERYBODY in names else text(', '.join(names))}</span>"
        f'<button class="link" data-event="click" data-act="stop" data-tag="{text(tag)}">{t("Stop sharing")}</button>'
        "</li>"
        for tag, names in shares.items()
    )
    words = t("Whoever a tag is shared with sees every document of yours that has it, and may ask it.")
    return (
        f"{f'<ul>{rows}</ul>' if rows else ''}"
        f'<form data-event="click" data-act="share"><label>{t("Tag")}<input name="tag" required></label>'
        f'<label>{t("People")}<input name="people" placeholder="{t("everybody")}"></label>'
        f'<div class="controls"><button class="small strong">{t("Share the tag")}</button></div></form>'
        f'<p class="quiet">{words}</p>'
    )
