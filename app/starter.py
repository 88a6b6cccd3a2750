"""The starter: DocPod in the menu of the desktop, as a window of its own, and for the files that it reads."""

import os
import plistlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import BadSetting

ICON = Path(__file__).with_name("docpod.svg")
_PIXELS = ICON.with_suffix(".icns")
"""The same drawing as pixels, which Apple's format wants."""
_TYPES = ("application/pdf", "application/epub+zip", "text/markdown", "text/plain")


def install(command: Sequence[str], platform: str = sys.platform, user: Path | None = None) -> Path:
    """Write a starter of this command for the user; returns it. Raises BadSetting where there is no kind for it."""
    user = user or Path.home()
    try:
        if platform == "linux":
            return _desktop_entry(command, Path(os.environ.get("XDG_DATA_HOME") or user / ".local" / "share"))
        if platform == "darwin":
            return _application(command, user / "Applications" / "DocPod.app")
    except OSError as error:
        raise BadSetting(f"The starter cannot be written: {error}.", "Make that folder writable.") from error
    raise BadSetting("Starters are made on Linux and macOS.", "Start DocPod with: docpod serve --window")


def _desktop_entry(command: Sequence[str], data: Path) -> Path:
    """As of the Desktop Entry Specification 1.5."""
    icon = data / "icons" / "hicolor" / "scalable" / "apps" / "docpod.svg"
    entry = data / "applications" / "docpod.desktop"
    for path in (icon, entry):
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ICON, icon)
    lines = (
        "[Desktop Entry]",
        "Type=Application",
        "Name=DocPod",
        "Comment=Read a long PDF once, ask for ever",
        f"Exec={' '.join(_quoted(part) for part in command)} %F",
        f"Icon={icon}",
        "Terminal=false",
        "Categories=Office;Viewer;",
        f"MimeType={';'.join(_TYPES)};",
        "StartupWMClass=DocPod",
    )
    entry.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return entry


def _quoted(part: str) -> str:
    """An argument of Exec: quoted for its shell-like syntax, then once more as a string of the file."""
    escaped = "".join(f"\\{letter}" if letter in '"`$\\' else letter for letter in part)
    return f'"{escaped}"'.replace("\\", "\\\\").replace("%", "%%")


def _application(command: Sequence[str], bundle: Path) -> Path:
    """A bundle around a script; macOS hands files over by other means, so these are dropped on the window."""
    for name in ("MacOS", "Resources"):
        (bundle / "Contents" / name).mkdir(parents=True, exist_ok=True)
    script = bundle / "Contents" / "MacOS" / "DocPod"
    script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n", encoding="utf-8")
    script.chmod(0o755)
    shutil.copyfile(_PIXELS, bundle / "Contents" / "Resources" / "DocPod.icns")
    facts = {
        "CFBundleName": "DocPod",
        "CFBundleIdentifier": "org.docpod.DocPod",
        "CFBundleExecutable": "DocPod",
        "CFBundleIconFile": "DocPod",
        "CFBundlePackageType": "APPL",
        "NSHighResolutionCapable": True,
    }
    (bundle / "Contents" / "Info.plist").write_bytes(plistlib.dumps(facts))
    return bundle
