"""Known readers: those that do well here, with their facts, which stand nowhere else, and what is on this disk"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.models import embedded, hub
from engine.models.families.registry import reads


@dataclass(frozen=True)
class KnownReader:
    """A reader that can be chosen; what is not known is empty, or 0."""

    choice: str
    """What `--model` takes: `embedded`, a folder, or a hub id, which is its name too."""
    name: str
    weight_bytes: int
    """Of its weights in 16 bits, as the hub keeps them."""
    download_bytes: int = 0
    """About; 0 where it is here."""
    billions: float = 0.0
    """Of parameters."""
    licence: str = ""


def _on_hub(hub_id: str, billions: float, num_bytes: int) -> KnownReader:
    return KnownReader(hub_id, hub_id, num_bytes, num_bytes, billions, "Apache-2.0")


GPU_DEFAULT = "Qwen/Qwen3-4B-Instruct-2507"
"""What `auto` takes on a GPU with the room for it."""
EMBEDDED = KnownReader("embedded", embedded.NAME, 269_000_000, 93_000_000, 0.135, "Apache-2.0")
READERS = (
    _on_hub(GPU_DEFAULT, 4.0, 8_050_000_000),
    _on_hub("Qwen/Qwen3-1.7B", 1.7, 4_070_000_000),
    _on_hub("Qwen/Qwen3-0.6B", 0.6, 1_510_000_000),
    EMBEDDED,
)


def readers(models: Path, chosen: Iterable[str]) -> Iterator[KnownReader]:
    """Those, then what else a home's folder of models holds, and of those that were `chosen` which are here."""
    embedded_folder = embedded.place(models)
    for each in READERS:
        here = embedded_folder.exists() if each.choice == EMBEDDED.choice else hub.found(each.choice, models)
        yield replace(each, download_bytes=0) if here else each
    fetched = (path.name.replace("--", "/", 1) for path in (models / hub.FOLDER).glob("[!.]*--*"))
    own = (str(path) for path in models.iterdir() if path != embedded_folder)
    for choice in dict.fromkeys((*fetched, *own, *chosen)):
        folder = hub.found(choice, models) if hub.is_id(choice) else Path(choice)
        if folder and choice not in {each.choice for each in READERS} and _is_reader(folder):
            yield KnownReader(choice, choice if hub.is_id(choice) else folder.name, hub.weight_bytes(folder))


def _is_reader(folder: Path) -> bool:
    if not hub.is_whole(folder):
        return False
    config = json.loads((folder / "config.json").read_text())
    return reads(config.get("model_type"), config.get("text_config", {}).get("model_type"))
