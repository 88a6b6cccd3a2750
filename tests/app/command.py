"""Commands of DocPod as processes that can be killed, forked from one that has loaded the libraries.

Importing torch takes a process seconds; what a test kills, and what it leaves behind, is the same without them.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PRELOADED = ["run_app", "transformers.models.llama.modeling_llama"]


class Command:
    """A running command, to be handled like a `subprocess.Popen` whose output is piped and text."""

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.args = arguments
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name, name) for name in ("out", "err")]
        self._process = context.Process(target=_run, args=(arguments, dict(environment), self._outputs))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """None while it runs, minus the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same, as a call."""
        return self.returncode

    def kill(self) -> None:
        """End it without a word of warning."""
        self._process.kill()

    def communicate(self) -> tuple[str, str]:
        """Wait for its end: what it printed on the standard output and on the error output."""
        self._process.join()
        out, err = (path.read_text() if path.exists() else "" for path in self._outputs)
        self._folder.cleanup()
        return out, err


def _run(arguments: tuple[str, ...], environment: dict[str, str], outputs: list[Path]) -> None:
    """What `run_app.py` does with these arguments, printing to two files."""
    for number, path in enumerate(outputs, start=1):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, number)
        os.close(handle)
    import run_app

    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["run_app.py", *arguments]
    run_app.main()
