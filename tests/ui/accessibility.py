"""What axe-core finds on the page, as it is drawn at this moment."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

RULES = {"resultTypes": ["violations"], "rules": {"label-content-name-mismatch": {"enabled": True}}}
"""All rules that are on by default, and the experimental one for names that hold the visible text."""
CONTRAST = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}
DESKTOP, PHONE = (1440, 900), (390, 844)


def found(page: Page, state: str) -> list[str]:
    """What axe finds serious or critical in a state: on a desktop and in each pane on a phone, light and dark.

    In the dark only colours are others, which all panes of a phone have from the desktop but for what leads to them.
    """
    wrong = []
    switched = ("library", "chat", "page") if page.locator("#switch").count() else ("",)
    looks = [(DESKTOP, "", "dark", CONTRAST), (DESKTOP, "", "light", RULES)]
    looks += [*((PHONE, each, "light", RULES) for each in switched), (PHONE, "", "dark", CONTRAST)]
    for (width, height), pane, scheme, rules in looks:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        if pane:
            page.evaluate("pane => document.querySelector(`#switch [data-show=${pane}]`).click()", pane)
        for rule in Axe().run(page, options=rules).response["violations"]:
            if rule["impact"] in ("serious", "critical"):
                nodes = [f"{each['target']} {each['html'][:120]}" for each in rule["nodes"]]
                wrong.append(f"{state}, {width} px {pane}, {scheme}: {rule['id']}: {nodes}")
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    return wrong
