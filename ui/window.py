"""A window of its own for the page: by pywebview where that is installed, else by an installed browser."""

import json
import logging
import os
import shutil
import signal
import threading
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "brave-browser"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
"""Those that show a page without their own frame; other browsers have no such mode."""
STARTED_SECONDS = 10.0
"""A browser that ends sooner, and not well, has not shown the page."""


class Window(Protocol):
    """What shows the page."""

    def run(self, url: str, ended: threading.Event) -> None:
        """Shows the page; returns when the window was closed, or `ended` is set. For the main thread."""

    def come_to_front(self) -> None:
        """As a second start asks for; from any thread."""


class BrowserTab:
    """A tab of the user's browser; the page is served until it is told to end."""

    def __init__(self, address: Callable[[], str], shown: bool = True) -> None:
        self._address = address
        self._shown = shown

    def run(self, url: str, ended: threading.Event) -> None:
        """Opens the tab, if it is to be."""
        if self._shown:
            webbrowser.open(url)
        while not ended.wait(1.0):
            pass

    def come_to_front(self) -> None:
        """Opens a further tab: no browser lets others choose among its tabs."""
        webbrowser.open(self._address())


class AppWindow:
    """A browser without its frame, in a profile of its own, so that it ends with its window."""

    def __init__(self, program: str, profile: Path, fallback: Window) -> None:
        self._program = program
        self._profile = profile
        self._fallback = fallback
        self._asking = threading.Lock()
        self._ends: tuple[int, int] | None = None

    def run(self, url: str, ended: threading.Event) -> None:
        """Starts the browser and ends it; where it does not start, the fallback shows the page."""
        self._profile.mkdir(mode=0o700, exist_ok=True)
        options = ("--no-first-run", "--no-default-browser-check", "--class=DocPod", "--remote-debugging-pipe")
        command = [self._program, f"--app={url}", f"--user-data-dir={self._profile}", *options]
        (its_in, our_out), (our_in, its_out) = os.pipe(), os.pipe()
        began = time.monotonic()
        # It reads commands from descriptor 3 and answers on 4, which nobody else can reach, unlike a port.
        on_3_and_4 = [(os.POSIX_SPAWN_DUP2, its_in, 3), (os.POSIX_SPAWN_DUP2, its_out, 4)]
        process = os.posix_spawnp(self._program, command, os.environ, file_actions=on_3_and_4)
        os.close(its_in)
        os.close(its_out)
        self._ends = our_out, our_in
        status = None
        while status is None:
            if ended.wait(0.3):
                os.kill(process, signal.SIGTERM)
                ended.wait(0.3)
            pid, code = os.waitpid(process, 0 if ended.is_set() else os.WNOHANG)
            status = code if pid else None
        with self._asking:
            self._ends = None
            os.close(our_out)
            os.close(our_in)
        if status and not ended.is_set() and time.monotonic() - began < STARTED_SECONDS:
            log.warning("%s could not show a window; the page opens in your browser instead", self._program)
            self._fallback.run(url, ended)

    def come_to_front(self) -> None:
        """Has the browser show its window, also where it was made small."""
        if self._ends is None:
            self._fallback.come_to_front()
            return
        with self._asking:
            for target in self._asked("Target.getTargets").get("targetInfos", ()):
                if target["type"] == "page":
                    of_target = {"targetId": target["targetId"]}
                    window = self._asked("Browser.getWindowForTarget", **of_target).get("windowId")
                    self._asked("Browser.setWindowBounds", windowId=window, bounds={"windowState": "normal"})
                    self._asked("Target.activateTarget", **of_target)

    def _asked(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command of its DevTools protocol; nothing once it has ended."""
        if self._ends is None:
            return {}
        out, back = self._ends
        answer = b""
        with suppress(OSError):
            os.write(out, json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\0")
            while not answer.endswith(b"\0"):
                piece = os.read(back, 65_536)
                if not piece:
                    return {}
                answer += piece
        replies = [json.loads(each) for each in answer.split(b"\0") if each]
        return next((each["result"] for each in replies if "result" in each), {})


class WebviewWindow:
    """A window by pywebview; where its libraries miss something, the fallback shows the page."""

    def __init__(self, fallback: Window) -> None:
        import webview

        self._webview = webview
        self._fallback = fallback
        self._window: Any = None

    def run(self, url: str, ended: threading.Event) -> None:
        """Shows the window in this thread, as its libraries want it."""
        self._webview.settings["ALLOW_DOWNLOADS"] = True
        self._window = self._webview.create_window("DocPod", url, width=1440, height=900)
        threading.Thread(target=self._close_at, args=(ended,), daemon=True).start()
        try:
            self._webview.start()
        except self._webview.errors.WebViewException as error:
            log.warning("pywebview cannot show a window: %s", error)
            self._window = None
            self._fallback.run(url, ended)

    def come_to_front(self) -> None:
        """Shows the window, also where it was made small."""
        if self._window is None:
            self._fallback.come_to_front()
        else:
            self._window.restore()
            self._window.show()

    def _close_at(self, ended: threading.Event) -> None:
        ended.wait()
        if self._window is not None:
            self._window.destroy()


def window(home: Path, tab: BrowserTab) -> Window:
    """The best that there is: a window by pywebview, one by a browser, or a tab."""
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    best: Window = AppWindow(program, home / "window", tab) if program else tab
    if find_spec("webview"):
        return WebviewWindow(best)
    if program is None:
        log.warning("For a window: pip install 'docpod[window]', or install Chromium, Chrome or Edge.")
    return best
