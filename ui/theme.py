"""How Gradio's own parts look: system fonts and quiet colours, so that nothing is fetched from elsewhere."""

from pathlib import Path

import gradio as gr

SYSTEM_FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """A plain Gradio theme without web fonts."""
    return gr.themes.Base(primary_hue="indigo", neutral_hue="stone", font=SYSTEM_FONTS, font_mono=SYSTEM_MONO)


_HERE = Path(__file__).parent
SCRIPTS = tuple((_HERE / name).read_text(encoding="utf-8") for name in ("focus.js", "pdf_frame.js", "script.js"))


def head() -> str:
    """Style and script of the page, inline: Gradio would rewrite the selectors of a stylesheet given to it."""
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    return (
        '<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'
        f"<style>{style}</style>{''.join(f'<script>{script}</script>' for script in SCRIPTS)}"
    )
