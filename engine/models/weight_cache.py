"""Weights that were quantized once, kept as transformers writes them: a third of the bytes, and nothing to quantize."""

import logging
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from engine.models import checksums

log = logging.getLogger(__name__)

MOST_BYTES = 24 << 30
"""Of all models together; those used longest ago go."""
SPARE_BYTES = 8 << 30
"""Disk space that is left free."""
_STALE_SECONDS = 24 * 3600


class WeightCache:
    """Folders by the digest of the model that the weights are of. Several processes may use it."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES, spare_bytes: int = SPARE_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._spare_bytes = spare_bytes

    def find(self, digest: str) -> Path | None:
        """The folder of a model's weights, every byte as it was written; a damaged one goes, and counts as none."""
        folder = self._folder / digest
        try:
            if wrong := checksums.damaged(folder):
                raise ValueError(f"{', '.join(wrong)}: damaged")
            os.utime(folder)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.drop(digest, str(error))
            return None
        return folder

    def drop(self, digest: str, why: str) -> None:
        """Remove a model's weights, with a word in the log."""
        log.warning("the quantized weights in %s are made again: %s", self._folder / digest, why)
        shutil.rmtree(self._folder / digest, ignore_errors=True)

    def keep(self, digest: str, network: Any) -> threading.Thread:
        """Begin to write a network's weights as they are now; the thread that does."""
        thread = threading.Thread(target=self._keep, args=(digest, network, network.state_dict()), name="keep-weights")
        thread.start()
        return thread

    def _keep(self, digest: str, network: Any, state: dict[str, Any]) -> None:
        scratch = self._folder / f".{digest}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._make_room(sum(each.nbytes for each in state.values())):
                log.info("quantized weights are not kept, since the disk has no room for them")
                return
            network.save_pretrained(scratch, state_dict=state)
            checksums.note(scratch)
            os.replace(scratch, self._folder / digest)
        except OSError as error:
            # Another process may have been first, or the disk is full: the weights are quantized again next time.
            log.info("quantized weights are not kept: %s", error)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _make_room(self, num_bytes: int) -> bool:
        """Remove what was used longest ago until so many bytes fit; whether they do."""
        kept = []
        for folder in self._folder.iterdir():
            used = folder.stat().st_mtime
            if not folder.name.startswith("."):
                kept.append((used, folder, sum(path.stat().st_size for path in folder.iterdir())))
            elif used < time.time() - _STALE_SECONDS:
                # Of a process that was killed; a younger one may be at work.
                shutil.rmtree(folder, ignore_errors=True)
        total = sum(size for _, _, size in kept)
        for _, folder, size in sorted(kept):
            if total + num_bytes <= self._most_bytes:
                break
            shutil.rmtree(folder, ignore_errors=True)
            total -= size
        fits = shutil.disk_usage(self._folder).free >= num_bytes + self._spare_bytes
        return fits and num_bytes <= self._most_bytes
