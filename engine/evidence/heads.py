"""Evidence heads: the few attention heads that look at the passage which holds the answer, one small file per model."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.core.atomic import atomic_write

log = logging.getLogger(__name__)

DEFAULT_DEPTHS = (0.5, 0.6, 0.7)
"""Where the heads lie that look things up (arXiv 2404.15574), as shares of a model's layers."""
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

    @property
    def calibrated(self) -> bool:
        """Whether these were found for this model, and not taken for want of better ones."""
        return bool(self.mass)

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


def default(model: str, digest: str, layers: int, heads: int) -> EvidenceHeads:
    """What to look at until a model's own heads are found: all heads of some layers behind its middle.

    Of the embedded model they look at the asked fact as surely as its own do, with a fifth of the mass.
    """
    depths = sorted({int(layers * share) for share in DEFAULT_DEPTHS})
    every = tuple((layer, head) for layer in depths for head in range(heads))
    return EvidenceHeads(model, digest, every, (), "sections")


def _path(folder: Path, model: str, digest: str) -> Path:
    return folder / f"{model.replace('/', '--')}.{digest[:12]}.heads.json"
