"""What axe-core finds on the page, as it is drawn at this moment."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

RULES = {"resultTypes": ["violations"], "rules": {"label-content-name-mismatch": {"enabled": True}}}
"""All rules that are on by default, and the experimental one for names that hold the visible text."""
DESKTOP, PHONE = (1440, 900), (390, 844)


def found(page: Page, state: str) -> list[str]:
    """What axe finds serious or critical in a state: light and dark, on a desktop and in each pane on a phone."""
    wrong = []
    switched = ("library", "chat", "page") if page.locator("#switch").count() else ("",)
    for (width, height), panes in ((DESKTOP, ("",)), (PHONE, switched)):
        page.set_viewport_size({"width": width, "height": height})
        for pane in panes:
            if pane:
                page.evaluate("pane => document.querySelector(`#switch [data-show=${pane}]`).click()", pane)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                for rule in Axe().run(page, options=RULES).response["violations"]:
                    if rule["impact"] in ("serious", "critical"):
                        nodes = [f"{each['target']} {each['html'][:120]}" for each in rule["nodes"]]
                        wrong.append(f"{state}, {width} px {pane}, {scheme}: {rule['id']}: {nodes}")
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    return wrong
