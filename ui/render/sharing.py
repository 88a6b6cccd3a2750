"""Sharing as it is shown: the form that starts it, what runs, and the line that tells visitors what they are."""

from collections.abc import Mapping, Sequence

from app.events import DocumentEntry
from app.sharing import ShareState
from ui.render.icons import icon
from ui.render.words import count, text
from ui.trouble import Trouble

LENGTHS = ((3_600, "1 hour"), (28_800, "8 hours"), (86_400, "1 day"), (604_800, "7 days"))


def form(entries: Sequence[DocumentEntry], roads: Mapping[str, str], trouble: Trouble | None = None) -> str:
    """What to share, how, and for how long; nothing is chosen beforehand."""
    if not entries:
        return ""
    documents = "".join(
        f'<label><input type="checkbox" name="document-{text(entry.document_id)}">'
        f'<span dir="auto">{text(entry.name)}</span></label>'
        for entry in entries
    )
    ways = "".join(f'<option value="{text(name)}">{text(label)}</option>' for name, label in roads.items())
    lengths = "".join(
        f'<option value="{seconds}"{" selected" if seconds == 86_400 else ""}>{label}</option>'
        for seconds, label in LENGTHS
    )
    opened = " open" if trouble else ""
    return (
        f'<details class="share"{opened}><summary>{icon("share")} Share</summary>{_trouble(trouble)}'
        '<form data-event="click" data-act="start"><fieldset><legend>Documents</legend>'
        f'<div class="choices scroll" tabindex="0" aria-label="Documents to share">{documents}</div></fieldset>'
        '<label>Visitors<select name="may_ask"><option value="yes">may read and ask</option>'
        '<option value="">may only read</option></select></label>'
        f'<label>Way<select name="road">{ways}</select></label>'
        f'<label>Ends after<select name="seconds">{lengths}</select></label>'
        '<label>Password<input type="password" name="password" autocomplete="new-password"'
        ' placeholder="none"></label>'
        '<div class="controls"><button class="small strong">Start sharing</button></div></form>'
        '<p class="quiet">Visitors see the chosen documents and their own conversations, and nothing else.'
        " Without a password, each link lets one person in. A link on"
        " the internet goes through a server of Gradio’s, which could read what passes.</p></details>"
    )


def opening() -> str:
    """While the way is being opened, which may take half a minute."""
    return '<div class="share"><p role="status">Opening the link…</p></div>'


def running(state: ShareState, titles: Sequence[str], trouble: Trouble | None = None) -> str:
    """What is shared, the link, who came, and the end of it."""
    may = "may read and ask" if state.terms.may_ask else "may only read"
    visitors = "".join(
        f'<li><span class="dot" data-here="{str(here).lower()}"></span>'
        f'<span class="name" dir="auto">{text(name)}</span>'
        f'<span class="unseen">{"is here" if here else "was here"}</span>'
        f'<button class="link" data-event="click" data-act="remove" data-visitor="{text(visitor_id)}"'
        f' aria-label="Show out {text(name)}">Show out</button></li>'
        for visitor_id, name, here in state.visitors
    )
    here = sum(each[2] for each in state.visitors)
    shared = ", ".join(f'<bdi title="{text(title)}">{text(title)}</bdi>' for title in titles)
    return (
        f'<section class="share on" aria-label="Sharing">{_trouble(trouble)}<p class="facts"><strong>Sharing'
        f" {count(len(titles), 'document')}</strong> · {_left(state.seconds_left)} left · visitors {may}</p>"
        f'<p class="facts shared">{shared}</p>{_link(state)}'
        f'<p class="facts">{count(here, "visitor") + " here now" if here else "Nobody is here now"}</p>'
        f"{f'<ul>{visitors}</ul>' if visitors else ''}"
        '<div class="controls"><button class="small danger" data-event="click" data-act="stop">Stop sharing</button>'
        "</div></section>"
    )


def visiting(may_ask: bool) -> str:
    """For a visitor; the style hides what he cannot do because this is there."""
    may = "read and ask" if may_ask else "read"
    return (
        '<section class="share" data-visiting><p class="facts">You are visiting. These documents are shared with you to'
        f" {may}; what you ask is shown to nobody else, and forgotten when sharing ends.</p></section>"
    )


def _link(state: ShareState) -> str:
    if state.by_password:
        note = "Whoever has the password may come in here:"
    elif state.link_is_used:
        note = "The link was used. Each lets one person in."
        more = '<button class="small" data-event="click" data-act="invite">Make another link</button>'
        return f'<p class="facts">{note}</p><div class="controls">{more}</div>'
    else:
        note = "This link lets one person in:"
    another = (
        "" if state.by_password else '<button class="small" data-event="click" data-act="invite">Another link</button>'
    )
    return (
        f'<label class="facts">{note}<input class="address" readonly value="{text(state.link)}"></label>'
        f'<div class="controls"><button class="small strong" data-do="copyLink">Copy link</button>{another}</div>'
    )


def _left(seconds: float) -> str:
    """Coarse, so that the line does not change all the time."""
    if seconds > 172_800:
        return f"{seconds / 86_400:.0f} days"
    if seconds > 7_200:
        return f"{seconds / 3_600:.0f} hours"
    return f"{max(1, round(seconds / 300) * 5)} min"


def _trouble(trouble: Trouble | None) -> str:
    if trouble is None:
        return ""
    return f'<p class="bad" role="alert">{text(trouble.message)} {text(trouble.hint)}</p>'
