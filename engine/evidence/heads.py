"""Evidence heads: the few attention heads that look at the passage which holds the answer, one small file per model."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

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
        folder.mkdir(parents=True, exist_ok=True)
        path = _path(folder, self.model)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


def find(model: str, digest: str, *folders: Path) -> EvidenceHeads | None:
    """The calibrated heads of a model from the first folder that has them; None if none has.

    Another model of the same name, which a folder may well hold, has other heads: its digest tells.
    """
    for folder in (*folders, SHIPPED):
        path = _path(folder, model)
        if path.exists() and (facts := json.loads(path.read_text()))["digest"] == digest:
            heads = tuple((int(layer), int(head)) for layer, head in facts["heads"])
            return EvidenceHeads(facts["model"], digest, heads, tuple(facts["mass"]), facts["answers_from"])
    return None


def _path(folder: Path, model: str) -> Path:
    return folder / f"{model.replace('/', '--')}.heads.json"
