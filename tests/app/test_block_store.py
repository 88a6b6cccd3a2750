"""Blocks of sections: several files at once, of which none is left behind that no row stands for."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.errors import DiskFull
from storage import StorageFull, Store, write_block
from tests.app import paper
from tests.app.conftest import OpenApp


@pytest.mark.parametrize("fails", [3, 6, 8])
def test_a_chunk_of_which_one_file_cannot_be_written_leaves_none(
    fails: int, open_app: OpenApp, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app(chunk_tokens=300)
    token_bytes = app.model.wait().loaded.runner.model.shape.token_bytes
    monkeypatch.setattr("engine.kvcache.exact.MOST_BYTES", 50 * token_bytes)

    def stops(folder: Path, name: str, meta: Mapping[str, object], payload: Any) -> tuple[int, str]:
        if meta["start"] == 50 * (fails - 1):
            # The files beside it are written meanwhile.
            time.sleep(0.3)
            raise StorageFull(1, 0)
        return write_block(folder, name, meta, payload)

    monkeypatch.setattr("app.block_store.write_block", stops)
    document = app.library.intake.keep(source, source.name, move=False)
    for _ in app.library.intake.parse(document):
        pass
    assert isinstance(paper.failure(app.library.wait(document.id)), DiskFull)
    (reading,) = store.readings(document.id)
    blocks = [block for section in store.sections(reading.id) for block in store.blocks(section.id)]
    assert [block.start_token for block in blocks] == [50 * number for number in range((fails - 1) // 6 * 6)]
    assert {path.name for path in (app.settings.home / "pods").iterdir()} == {block.file_name for block in blocks}
