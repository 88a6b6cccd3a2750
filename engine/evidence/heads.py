"""Evidence heads: the few attention heads that look at the passage which holds the answer, one small file per model."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.core.atomic import atomic_write

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent / "calibrated"


@dataclass(frozen=True)
class EvidenceHeads:
    """The heads, best first, as (layer, query head), with what calibration saw of each.

    `mass` is the attention on the asked fact less that on the strongest other fact; `answers_from` says whether the
    model's own words were right more often from the "passage" alone or from the whole "sections".
    """

    model: str
    digest: str
    heads: tuple[tuple[int, int], ...]
    mass: tuple[float, ...]
    answers_from: str

    def save(self, folder: Path) -> Path:
        """Write the file that `find` reads; returns its path."""
        path = _path(folder, self.model, self.digest)
        with atomic_write(path) as scratch:
            scratch.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


def find(model: str, digest: str, *folders: Path) -> EvidenceHeads | None:
    """The calibrated heads of a model from the first folder that has them; None if none has.

    Another model of the same name has other heads: its digest tells. A file that holds no heads is none.
    """
    for folder in (*folders, SHIPPED):
        path = _path(folder, model, digest)
        if not path.exists():
            continue
        try:
            facts = json.loads(path.read_text())
            heads = tuple((int(layer), int(head)) for layer, head in facts["heads"])
            if facts["digest"] == digest and heads and facts["answers_from"] in ("passage", "sections"):
                return EvidenceHeads(facts["model"], digest, heads, tuple(facts["mass"]), facts["answers_from"])
            log.warning("%s holds no heads of this model, which are found out anew", path)
        except (OSError, KeyError, TypeError, ValueError) as error:
            log.warning("%s holds no heads, which are found out anew: %s: %s", path, type(error).__name__, error)
    return None


def _path(folder: Path, model: str, digest: str) -> Path:
    return folder / f"{model.replace('/', '--')}.{digest[:12]}.heads.json"
