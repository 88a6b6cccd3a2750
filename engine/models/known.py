"""Readers that are known to do well here, best first: the one place where their facts stand."""

from dataclasses import dataclass

from engine.models import embedded


@dataclass(frozen=True)
class KnownReader:
    """A reader that can be chosen; `weight_bytes` are those of its weights in 16 bits."""

    choice: str
    """What `--model` takes: `embedded`, or a hub id, which is its name too."""
    name: str
    billions: float
    """Of parameters."""
    licence: str
    weight_bytes: int
    download_bytes: int


def _on_hub(hub_id: str, billions: float, licence: str, num_bytes: int) -> KnownReader:
    return KnownReader(hub_id, hub_id, billions, licence, num_bytes, num_bytes)


GPU_DEFAULT = "Qwen/Qwen3-4B-Instruct-2507"
"""What `auto` takes on a GPU with the room for it."""
EMBEDDED = KnownReader("embedded", embedded.NAME, 0.135, "Apache-2.0", 269_000_000, 93_000_000)
READERS = (
    _on_hub(GPU_DEFAULT, 4.0, "Apache-2.0", 8_050_000_000),
    _on_hub("Qwen/Qwen3-1.7B", 1.7, "Apache-2.0", 4_070_000_000),
    _on_hub("Qwen/Qwen3-0.6B", 0.6, "Apache-2.0", 1_510_000_000),
    EMBEDDED,
)
