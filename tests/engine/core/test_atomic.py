"""Files that are whole or not there."""

from pathlib import Path

import pytest

from engine.core.atomic import atomic_write


def test_a_file_takes_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with atomic_write(path) as scratch:
            scratch.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_what_is_not_finished_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(OSError, match="no room"), atomic_write(path) as scratch:
        scratch.write_text("half")
        raise OSError("no room")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
