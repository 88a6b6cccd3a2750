"""SharingPlan: PoD's blocks of layers for one model, which layer's keys serve which layers (arXiv 2412.02252, stage 1).

Far from a question, consecutive layers look at nearly the same tokens. So the distant keys of a block of layers are
those of its lowest layer, the root; values stay with every layer, and so do the keys of proximal tokens.

    python -m engine.training.sharing.plan_search --model embedded --models DIR --saving 0.35 --out DIR

searches a plan for any model that DocPod reads with; `engine.training.sharing.plan_search` does it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.core.atomic import atomic_write
from engine.core.errors import PlanMissing

SHIPPED = Path(__file__).parent / "plans"


@dataclass(frozen=True)
class SharingPlan:
    """`roots[layer][kv_head]` is the lowest layer of the block that the layer belongs to for that head.

    `facts` says how the plan was found, for people.
    """

    model: str
    digest: str
    roots: tuple[tuple[int, ...], ...]
    facts: dict[str, str | float]

    def __post_init__(self) -> None:
        for head, column in enumerate(zip(*self.roots, strict=True)):
            for layer, root in enumerate(column):
                if root != layer and (layer == 0 or root != column[layer - 1]):
                    raise ValueError(f"KV head {head}: layer {layer} is neither a root nor of the block below it")

    @property
    def saving(self) -> float:
        """The share of all keys and values that is not stored, for a text so long that proximal tokens do not count."""
        heads = [(layer, root) for layer, row in enumerate(self.roots) for root in row]
        return sum(root != layer for layer, root in heads) / (2 * len(heads))

    def save(self, folder: Path, asked: float | None = None) -> Path:
        """Write the file that `find` reads; returns its path.

        It is found under the saving that was asked for, which blocks may meet only nearly, or else under its own.
        """
        path = _path(folder, self.model, self.digest, self.saving if asked is None else asked)
        rows = ",\n  ".join(json.dumps(row) for row in self.roots)
        head = json.dumps({key: value for key, value in asdict(self).items() if key != "roots"}, indent=1)
        with atomic_write(path) as scratch:
            scratch.write_text(f'{head[:-2]},\n "roots": [\n  {rows}\n ]\n}}\n')
        return path


def find(model: str, digest: str, saving: float, *folders: Path) -> SharingPlan | None:
    """The plan of a model for a saving (0.35 is 35 %) from the first folder that has it; None if none has.

    Raises PlanMissing for a file that holds no plan.
    """
    for folder in (*folders, SHIPPED):
        path = _path(folder, model, digest, saving)
        if not path.exists():
            continue
        try:
            facts = json.loads(path.read_text())
            if facts["digest"] == digest:
                return SharingPlan(facts["model"], digest, tuple(map(tuple, facts["roots"])), facts["facts"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise PlanMissing(
                f"{path} holds no plan: {error}; make it anew with python -m engine.training.sharing.plan_search"
            ) from error
    return None


def _path(folder: Path, model: str, digest: str, saving: float) -> Path:
    return folder / f"{model.replace('/', '--')}.{digest[:12]}.pod{round(100 * saving)}.json"
