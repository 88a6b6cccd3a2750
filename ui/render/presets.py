"""The presets: how the open document is kept, in a line that unfolds to what each other way costs and keeps."""

from app.events import PresetState, RecipeStep
from ui.render.icons import icon
from ui.render.words import about, size, t, text, translated
from ui.trouble import Trouble


def presets(state: PresetState | None, trouble: Trouble | None = None) -> str:
    """How it is kept in a line, which unfolds to the steps; empty where there is nothing to choose yet."""
    if state is None:
        return ""
    steps = "".join(f"<li>{_step(state, step)}</li>" for step in state.steps)
    wrong = f'<p class="bad" role="alert">{text(trouble.message)} {text(trouble.hint)}</p>' if trouble else ""
    return (
        f'<section class="dial"><details class="menu" data-menu="dial"><summary title="{t("How the memory is kept")}">'
        f"{text(line(state))}{icon('later')}</summary>"
        f'<ul aria-label="{t("How the memory is kept")}">{steps}</ul></details>'
        f"{_meanwhile(state)}{_beside(state)}{wrong}</section>"
    )


def line(state: PresetState) -> str:
    """`Faithful · 31 % of exact · 79 MB on disk`."""
    step = next(each for each in state.steps if each.name == state.chosen)
    return f"{translated(step.name).capitalize()} · {costs(step, ' · ')}"


def costs(step: RecipeStep, between: str = "") -> str:
    """`31 % of exact, 12 MB on disk`."""
    share = [t("{n}\u00a0% of exact", n=round(100 * step.share))] if step.share < 0.995 else []
    disk = t("{size} on disk" if step.ready else "about {size} on disk", size=size(step.disk_bytes))
    return (between or t(", ")).join((*share, disk))


def change(state: PresetState, step: RecipeStep) -> str:
    """What choosing a step means, said before it is done: the cost, the way there, and what goes."""
    sentences, time = [t("Keeps {what}: {costs}.", what=translated(step.keeps), costs=costs(step))], about(step.seconds)
    if step.ready:
        sentences.append(t("It is there already."))
    elif not state.answers_from:
        sentences.append(t("Reading takes about {time}.", time=time))
    elif step.needs_text:
        sentences.append(t("The text has to be read again for it, in about {time}.", time=time))
    else:
        sentences.append(t("It is made from the exact memory, in about {time}, without reading again.", time=time))
    goes = t(" and ").join(translated(name) for name in state.goes if name != step.name)
    if goes and step.ready:
        sentences.append(t("The {recipe} memory is removed.", recipe=goes))
    elif goes:
        sentences.append(t("The {recipe} memory stays until it is ready, and is removed then.", recipe=goes))
    if state.answers_from == "exact" and "exact" not in state.goes:
        sentences.append(t("The exact memory stays beside it."))
    return " ".join(sentences)


def _step(state: PresetState, step: RecipeStep) -> str:
    sentences = [translated(step.why_not)] if step.why_not else [f"{costs(step)}.", f"{translated(step.keeps)}."]
    facts = text(" ".join(each[0].upper() + each[1:] for each in sentences))
    if step.name == state.chosen:
        does = 'aria-pressed="true"'
    elif step.why_not:
        does = 'aria-pressed="false" disabled'
    else:
        does = (
            f'aria-pressed="false" data-event="click" data-act="choose" data-do="fold"'
            f' data-document="{text(state.document_id)}" data-recipe="{text(step.name)}"'
            f' data-ask="{t("Change the memory to {recipe}?", recipe=text(translated(step.name)))}"'
            f' data-words="{text(change(state, step))}"'
            f' data-yes="{t("Change")}" data-no="{t("Leave it")}" data-look="strong"'
        )
    return (
        f'<button type="button" {does} title="{text(translated(step.parts))}">'
        f"<strong>{_name(step.name)}</strong> <bdi>{facts}</bdi></button>"
    )


def _name(recipe: str) -> str:
    return text(translated(recipe).capitalize())


def _meanwhile(state: PresetState) -> str:
    """What answers until the chosen one is there."""
    if state.ready or state.answers_from in ("", state.chosen):
        return ""
    words = t("Until it is there, the {recipe} memory answers", recipe=translated(state.answers_from))
    return f"<span>{text(words)}.</span>"


def _beside(state: PresetState) -> str:
    """Memories that stay beside the chosen one, and the way to be rid of them."""
    pieces = []
    for name, num_bytes in state.kept:
        recipe, takes = text(translated(name)), size(num_bytes)
        after = t(
            "Changing the memory then means reading the text again."
            if name == "exact"
            else "It can be made again at any time."
        )
        kept = t("The {recipe} memory is kept too, {size}.", recipe=recipe, size=takes)
        pieces.append(
            f'<span>{kept} <button type="button" class="link"'
            f' data-event="click" data-act="drop" data-document="{text(state.document_id)}"'
            f' data-recipe="{text(name)}" data-ask="{t("Remove the {recipe} memory?", recipe=recipe)}"'
            f' data-words="{t("{size} become free.", size=takes)} {after}" data-yes="{t("Remove")}">'
            f"{t('Remove')}</button></span>"
        )
    return "".join(pieces)
