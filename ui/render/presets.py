"""The presets: by which recipe the open document is kept, as four steps with one line on what that costs and keeps."""

from app.events import PresetState, RecipeStep
from ui.render.words import about, figure, size, t, text, translated
from ui.trouble import Trouble


def presets(state: PresetState | None, trouble: Trouble | None = None) -> str:
    """The steps and their line; empty where there is nothing to choose yet."""
    if state is None:
        return ""
    steps = "".join(_step(state, step) for step in state.steps)
    refused = "".join(
        f'<p class="line">{t("{recipe} is not there:", recipe=_name(step.name))} '
        f"<bdi>{text(translated(step.why_not))}</bdi></p>"
        for step in state.steps
        if step.why_not
    )
    wrong = f'<p class="line bad" role="alert">{text(trouble.message)} {text(trouble.hint)}</p>' if trouble else ""
    return (
        '<section class="dial"><div class="steps" role="group"'
        f' aria-label="{t("How the memory is kept")}">{steps}</div>'
        f'<p class="line">{text(line(state))}.{_beside(state)}</p>{refused}{wrong}</section>'
    )


def line(state: PresetState) -> str:
    """What the chosen recipe keeps and costs, and what answers until it is there."""
    step = next(each for each in state.steps if each.name == state.chosen)
    meanwhile = ""
    if not state.ready and state.answers_from not in ("", step.name):
        meanwhile = f". {t('Until it is there, the {recipe} memory answers', recipe=translated(state.answers_from))}"
    keeps = translated(step.keeps)
    return f"{keeps[0].upper()}{keeps[1:]} · {costs(step, ' · ')}{meanwhile}"


def costs(step: RecipeStep, between: str = "") -> str:
    """`7,158 bytes a token, 31 % of exact, 12 MB on disk`."""
    share = [t("{n}\u00a0% of exact", n=round(100 * step.share))] if step.share < 0.995 else []
    disk = t("{size} on disk" if step.ready else "about {size} on disk", size=size(step.disk_bytes))
    return (between or t(", ")).join((t("{n} bytes a token", n=figure(step.bytes_per_token, ",.0f")), *share, disk))


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
    label = _name(step.name)
    if step.name == state.chosen:
        return f'<button type="button" aria-pressed="true" title="{text(translated(step.parts))}">{label}</button>'
    if step.why_not:
        return f'<button type="button" aria-pressed="false" disabled title="{text(step.why_not)}">{label}</button>'
    return (
        f'<button type="button" aria-pressed="false" data-event="click" data-act="choose"'
        f' data-document="{text(state.document_id)}" data-recipe="{text(step.name)}"'
        f' title="{text(translated(step.parts))}: {text(costs(step))}"'
        f' data-ask="{t("Change the memory to {recipe}?", recipe=text(translated(step.name)))}"'
        f' data-words="{text(change(state, step))}"'
        f' data-yes="{t("Change")}" data-no="{t("Leave it")}" data-look="strong">{label}</button>'
    )


def _name(recipe: str) -> str:
    return text(translated(recipe).capitalize())


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
            f' {kept} <button type="button" class="link"'
            f' data-event="click" data-act="drop" data-document="{text(state.document_id)}"'
            f' data-recipe="{text(name)}" data-ask="{t("Remove the {recipe} memory?", recipe=recipe)}"'
            f' data-words="{t("{size} become free.", size=takes)} {after}" data-yes="{t("Remove")}">'
            f"{t('Remove')}</button>"
        )
    return "".join(pieces)
