"""Remarks: what a person should know about an answer, in plain sentences for the page and the command line."""

from app.events import Answer


def remarks(answer: Answer) -> list[str]:
    """In the order of their weight; empty for an answer that is whole and held by its passages."""
    found = []
    if answer.unsupported:
        foreign = dict.fromkeys(answer.answer[start:end] for start, end in answer.unsupported)
        found.append(f"Not in the document's passages: {', '.join(foreign)}. Check this before you rely on it.")
    if answer.withheld:
        found.append("The reader's own words did not match the passages, and are left out.")
    if answer.ended == "repeated":
        found.append("The reader began to repeat itself; what it said again is left out.")
    if answer.ended == "cut":
        found.append("The answer reached its longest length and was cut. Ask for the rest in a question of its own.")
    return found
