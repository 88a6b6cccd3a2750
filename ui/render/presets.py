"""The presets: by which recipe the open document is kept, as four steps with one line on what that costs and keeps."""

from app.events import PresetState, RecipeStep
from ui.render.words import about, size, text
from ui.trouble import Trouble


def presets(state: PresetState | None, trouble: Trouble | None = None) -> str:
    """The steps and their line; empty where there is nothing to choose yet."""
    if state is None:
        return ""
    steps = "".join(_step(state, step) for step in state.steps)
    refused = "".join(
        f'<p class="line">{text(step.name.capitalize())} is not there: {text(step.why_not)}</p>'
        for step in state.steps
        if step.why_not
    )
    wrong = f'<p class="line bad" role="alert">{text(trouble.message)} {text(trouble.hint)}</p>' if trouble else ""
    return (
        f'<section class="dial"><div class="steps" role="group" aria-label="How the memory is kept">{steps}</div>'
        f'<p class="line">{text(line(state))}.{_beside(state)}</p>{refused}{wrong}</section>'
    )


def line(state: PresetState) -> str:
    """What the chosen recipe keeps and costs, and what answers until it is there."""
    step = next(each for each in state.steps if each.name == state.chosen)
    meanwhile = ""
    if not state.ready and state.answers_from not in ("", step.name):
        meanwhile = f". Until it is there, the {state.answers_from} memory answers"
    return f"{step.keeps[0].upper()}{step.keeps[1:]} · {costs(step, ' · ')}{meanwhile}"


def costs(step: RecipeStep, between: str = ", ") -> str:
    """`7,158 bytes a token, 31 % of exact, 12 MB on disk`."""
    share = [f"{round(100 * step.share)}\u00a0% of exact"] if step.share < 0.995 else []
    forecast = "" if step.ready else "about "
    pieces = (f"{step.bytes_per_token:,.0f} bytes a token", *share, f"{forecast}{size(step.disk_bytes)} on disk")
    return between.join(pieces)


def change(state: PresetState, step: RecipeStep) -> str:
    """What choosing a step means, said before it is done: the cost, the way there, and what goes."""
    sentences = [f"Keeps {step.keeps}: {costs(step)}."]
    if step.ready:
        sentences.append("It is there already.")
    elif not state.answers_from:
        sentences.append(f"Reading takes about {about(step.seconds)}.")
    elif step.needs_text:
        sentences.append(f"The text has to be read again for it, in about {about(step.seconds)}.")
    else:
        sentences.append(f"It is made from the exact memory, in about {about(step.seconds)}, without reading again.")
    goes = " and ".join(name for name in state.goes if name != step.name)
    if goes and step.ready:
        sentences.append(f"The {goes} memory is removed.")
    elif goes:
        sentences.append(f"The {goes} memory stays until it is ready, and is removed then.")
    if state.answers_from == "exact" and "exact" not in state.goes:
        sentences.append("The exact memory stays beside it.")
    return " ".join(sentences)


def _step(state: PresetState, step: RecipeStep) -> str:
    label = text(step.name.capitalize())
    if step.name == state.chosen:
        return f'<button type="button" aria-pressed="true" title="{text(step.parts)}">{label}</button>'
    if step.why_not:
        return f'<button type="button" aria-pressed="false" disabled title="{text(step.why_not)}">{label}</button>'
    return (
        f'<button type="button" aria-pressed="false" data-event="click" data-act="choose"'
        f' data-document="{text(state.document_id)}" data-recipe="{text(step.name)}"'
        f' title="{text(step.parts)}: {text(costs(step))}"'
        f' data-ask="Change the memory to {text(step.name)}?" data-words="{text(change(state, step))}"'
        f' data-yes="Change" data-no="Leave it" data-look="strong">{label}</button>'
    )


def _beside(state: PresetState) -> str:
    """Memories that stay beside the chosen one, and the way to be rid of them."""
    pieces = []
    for name, num_bytes in state.kept:
        after = (
            "Changing the memory then means reading the text again."
            if name == "exact"
            else "It can be made again at any time."
        )
        pieces.append(
            f' The {text(name)} memory is kept too, {size(num_bytes)}. <button type="button" class="link"'
            f' data-event="click" data-act="drop" data-document="{text(state.document_id)}"'
            f' data-recipe="{text(name)}" data-ask="Remove the {text(name)} memory?"'
            f' data-words="{size(num_bytes)} become free. {after}" data-yes="Remove">Remove</button>'
        )
    return "".join(pieces)
