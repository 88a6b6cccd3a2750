"""DocPod as an application: a real window on a virtual screen, one instance, and its starters."""

import json
import os
import plistlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from app import instance, starter
from app.errors import BadSetting, Busy
from tests.ui.fake_app import FakeApp
from tests.ui.fake_server import serving_here
from tests.ui.served_process import ROOT, unused_port

RUN = (sys.executable, "run_app.py")
PATIENCE_SECONDS = 300.0


def wait_for(found: Callable[[], object], what: str) -> object:
    """What is found, as soon as it is."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends_at:
        if value := found():
            return value
        time.sleep(0.2)
    raise TimeoutError(what)


@pytest.fixture
def screen(chromium: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a virtual screen, with the browser of the tests as the one that is installed."""
    programs = tmp_path / "bin"
    programs.mkdir()
    sandbox = "--no-sandbox" if os.geteuid() == 0 else ""
    (programs / "chromium").write_text(f'#!/bin/sh\nexec {chromium} {sandbox} "$@"\n')
    (programs / "chromium").chmod(0o755)
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x800x24", "-nolisten", "tcp"], pass_fds=[writing]
    )
    os.close(writing)
    with os.fdopen(reading) as display:
        number = display.readline().strip()
    yield {**os.environ, "DISPLAY": f":{number}", "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    server.terminate()
    server.wait()


@pytest.mark.browser
@pytest.mark.needs("Xvfb", "xdotool")
def test_a_window_opens_takes_files_from_a_second_start_and_ends_with_its_closing(
    screen: dict[str, str], tmp_path: Path, embedded_model_dir: Path
) -> None:
    home = tmp_path / "home"
    models = home / "models"
    models.mkdir(mode=0o700, parents=True)
    (models / embedded_model_dir.name).symlink_to(embedded_model_dir)
    files = [tmp_path / "first.txt", tmp_path / "second.txt"]
    for path in files:
        path.write_text(f"The code of the {path.stem} box is 4711.\n")
    options = ("--home", str(home), "--model", "embedded", "--window", "--port", str(unused_port()))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, cwd=ROOT, env=screen, capture_output=True, text=True, check=False)

    def window() -> str:
        return run("xdotool", "search", "--onlyvisible", "--class", "DocPod").stdout.strip()

    with (tmp_path / "out").open("w") as output:
        first = subprocess.Popen([*RUN, str(files[0]), *options], cwd=ROOT, env=screen, stdout=output, stderr=output)
    try:
        wait_for(lambda: window() or first.poll() is not None, "a window")
        assert window(), (tmp_path / "out").read_text()
        second = run(*RUN, "serve", str(files[1]), *options)
        assert (second.returncode, second.stdout) == (0, "DocPod is open already.\n"), second.stderr
        listed = json.loads(run(*RUN, "ls", "--json", "--home", str(home)).stdout)
        assert {entry["file_name"] for entry in listed} == {"first.txt", "second.txt"}
        if shots := os.environ.get("DOCPOD_SCREENSHOTS"):
            time.sleep(5.0)
            run("import", "-window", "root", f"{shots}/window.png")
        run("xdotool", "windowfocus", "--sync", window().splitlines()[0], "key", "ctrl+w")
        assert first.wait(PATIENCE_SECONDS) == 0
    finally:
        first.send_signal(signal.SIGKILL) if first.poll() is None else None
        first.wait()
    assert "DocPod has stopped" in (tmp_path / "out").read_text()
    assert not (home / "page.json").exists()


def test_a_second_start_hands_its_files_over(tmp_path: Path) -> None:
    app = FakeApp(tmp_path / "home")
    home = app.settings.home
    taken: list[Path] = []
    with serving_here(app) as served, instance.announced(home, served.address, served.access.key):
        assert (home / "page.json").stat().st_mode & 0o077 == 0
        served.access.on_hand_over = taken.extend
        instance.hand_over(home, [tmp_path / "a b.pdf"], patience=0.0)
        assert taken == [tmp_path / "a b.pdf"]
        with instance.announced(home, served.address, "made up"), pytest.raises(Busy, match="does not answer"):
            instance.hand_over(home, [tmp_path / "a b.pdf"], patience=0.0)
    assert not (home / "page.json").exists()
    with pytest.raises(Busy, match="does not answer"):
        instance.hand_over(home, [], patience=0.0)


def test_a_second_start_waits_for_a_first_that_is_starting(tmp_path: Path) -> None:
    app = FakeApp(tmp_path / "home")
    taken: list[Path] = []
    waiting = threading.Thread(target=instance.hand_over, args=(app.settings.home, [Path("/a.pdf")], 60.0))
    waiting.start()
    with serving_here(app) as served:
        served.access.on_hand_over = taken.extend
        with instance.announced(app.settings.home, served.address, served.access.key):
            waiting.join(60.0)
    assert taken == [Path("/a.pdf")]


def test_a_desktop_entry_says_how_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    entry = starter.install(["/opt/my tools/docpod", "serve", '--home=/a"b$c%d\\e'], "linux", tmp_path)
    assert entry == tmp_path / ".local/share/applications/docpod.desktop"
    lines = entry.read_text().splitlines()
    assert lines[0] == "[Desktop Entry]"
    facts = dict(line.split("=", 1) for line in lines[1:])
    assert facts["Exec"] == r'"/opt/my tools/docpod" "serve" "--home=/a\\"b\\$c%%d\\\\e" %F'
    assert Path(facts["Icon"]).read_bytes() == starter.ICON.read_bytes()
    assert "application/pdf;" in facts["MimeType"]
    assert starter.install(["docpod"], "linux", tmp_path) == entry


def test_a_bundle_for_macos_starts_the_same_command(tmp_path: Path) -> None:
    command = ["/bin/echo", "serve", "it's here"]
    bundle = starter.install(command, "darwin", tmp_path)
    facts = plistlib.loads((bundle / "Contents" / "Info.plist").read_bytes())
    script = bundle / "Contents" / "MacOS" / facts["CFBundleExecutable"]
    started = subprocess.run([script], capture_output=True, text=True, check=True)
    assert started.stdout == "serve it's here\n"
    with Image.open(bundle / "Contents" / "Resources" / f"{facts['CFBundleIconFile']}.icns") as icon:
        width, height = icon.size
        assert width == height >= 512
        assert icon.convert("RGB").getpixel((width // 2, height // 25)) == (0x3F, 0x51, 0xC5)


def test_a_starter_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="Linux and macOS"):
        starter.install(["docpod"], "win32", tmp_path)
    (tmp_path / "Applications").write_text("a file")
    with pytest.raises(BadSetting, match="cannot be written"):
        starter.install(["docpod"], "darwin", tmp_path)
