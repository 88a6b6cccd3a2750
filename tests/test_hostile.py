"""A sample of `python -m tests.hostile`: each file ends as pages or as a sentence, within the limits of any."""

import subprocess
import sys

from tests.conftest import ROOT


def test_a_few_hostile_files_of_each_format_do_no_harm() -> None:
    command = [sys.executable, "-m", "tests.hostile", "--count", "40", "--first", "1000000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 files, 0 wrong" in done.stdout
