"""The settings as they are shown: what each is for, its field, and where its value comes from."""

from collections.abc import Sequence

from app.preferences import SettingState
from app.settings import GROUPS
from ui.render.icons import icon
from ui.render.words import t, text, translated
from ui.trouble import Trouble

Wrong = tuple[str, Trouble]
"""What was given for a setting, and why it is not taken."""


def panel(states: Sequence[SettingState], changed: str = "", wrong: Wrong | None = None) -> str:
    """All settings by group; of the one that was `changed` it is said what came of it."""
    groups = "".join(
        f'<section aria-labelledby="settings-{number}"><h3 id="settings-{number}">{text(translated(group))}</h3>'
        + "".join(
            _row(each, each.described.name == changed, wrong if each.described.name == changed else None)
            for each in states
            if each.described.group == group
        )
        + "</section>"
        for number, group in enumerate(GROUPS)
    )
    return (
        f'<header><h2>{t("Settings")}</h2><button class="quiet-button" data-do="close" aria-label="{t("Close")}">'
        f"{icon('close')}</button></header>{groups}"
    )


def _row(state: SettingState, changed: bool, wrong: Wrong | None) -> str:
    known, role = state.described, ' role="status"' if changed else ""
    alert = (
        f'<p class="bad" role="alert">{text(wrong[1].message)} {text(wrong[1].hint)}</p>' if wrong is not None else ""
    )
    reset = t("Back to the default")
    back = (
        f' <button class="link" data-event="click" data-act="reset" data-setting="{known.name}"'
        f' aria-label="{reset}: {text(translated(known.title))}">{reset}</button>'
        if state.saved
        else ""
    )
    title = text(translated(known.title))
    named = f"<strong>{title}</strong>" if known.when == "start" else f'<label for="set-{known.name}">{title}</label>'
    return (
        f'<div class="setting"><div>{named}<p id="about-{known.name}">{text(translated(known.about))}</p>'
        f'{alert}<p class="quiet" id="whence-{known.name}"{role}>{_whence(state)}{back}</p></div>'
        f'<div class="field">{_field(state, wrong)}</div></div>'
    )


def _field(state: SettingState, wrong: Wrong | None) -> str:
    known, value = state.described, wrong[0] if wrong else _chosen(state)
    if known.when == "start":
        return f'<span dir="auto">{_words(state.value or state.default)}</span>'
    carries = (
        f'id="set-{known.name}" data-event="click" data-act="change" data-setting="{known.name}"'
        f' aria-describedby="about-{known.name} whence-{known.name}"{" aria-invalid=true" if wrong else ""}'
    )
    if known.kind is bool:
        return f'<input type="checkbox" {carries}{" checked" if value == "on" else ""}>'
    if known.choices:
        options = "".join(
            f'<option value="{text(each)}"{" selected" if each == value else ""}>{_words(each)}</option>'
            for each in dict.fromkeys((*known.choices, value))
        )
        return f"<select {carries}>{options}</select>"
    unit = f"<span>{text(translated(known.unit))}</span>" if known.unit else ""
    return f'<input inputmode="numeric" autocomplete="off" {carries} value="{text(value)}">{unit}'


def _chosen(state: SettingState) -> str:
    """What its user has chosen: saved, unless this run was given something else."""
    return state.value if state.given_by else state.saved or state.default


def _whence(state: SettingState) -> str:
    known, default = state.described, t("Default: {value}.", value=_words(state.default))
    sentences = [default]
    if state.given_by:
        sentences.insert(0, t("Given by {source} for this run.", source=text(state.given_by)))
        if state.waits:
            saved = _words(state.saved)
            sentences.insert(1, t("{value} is saved, for a start without it.", value=saved))
    elif state.restart:
        sentences.insert(0, t("From the next start on; now {value}.", value=_words(state.value)))
    elif state.saved:
        sentences.insert(0, t("Saved."))
    if known.when == "start":
        sentences.append(t("Given at the start: {option}.", option=known.option))
    elif known.when == "next" and not state.restart:
        sentences.append(t("A change takes another start."))
    return " ".join(sentences)


def _words(value: str) -> str:
    return text(translated(value))
