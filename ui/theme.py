"""How Gradio's own parts look: system fonts and quiet colours, so that nothing is fetched from elsewhere."""

from pathlib import Path

import gradio as gr

SYSTEM_FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """A plain Gradio theme without web fonts."""
    return gr.themes.Base(primary_hue="indigo", neutral_hue="stone", font=SYSTEM_FONTS, font_mono=SYSTEM_MONO)


def head() -> str:
    """Style and script of the page, inline: Gradio would rewrite the selectors of a stylesheet given to it."""
    here = Path(__file__).parent
    style = (here / "style.css").read_text(encoding="utf-8")
    scripts = ((here / name).read_text(encoding="utf-8") for name in ("pdf_frame.js", "script.js"))
    return (
        '<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'
        f"<style>{style}</style>{''.join(f'<script>{script}</script>' for script in scripts)}"
    )
