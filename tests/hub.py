"""A stand-in of the model hub on this machine: it speaks what huggingface_hub's own client asks for."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.engine.models.file_server import FileServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(FileServer):
    """Has the models that are published; gated ones are refused, as the hub does."""

    def publish(self, hub_id: str, folder: Path, gated: bool = False) -> None:
        siblings = []
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            large = {"lfs": lfs} if path.suffix == ".safetensors" else {}
            siblings.append({"rfilename": path.name, "size": len(data), "blobId": "0" * 40, **large})
            self.files[f"/{hub_id}/resolve/{COMMIT}/{path.name}"] = data
        about = {"_id": "0", "id": hub_id, "sha": COMMIT, "siblings": siblings, "gated": "manual" if gated else False}
        self.files[f"/api/models/{hub_id}?blobs=true"] = json.dumps(about).encode()
        self.types[f"/api/models/{hub_id}?blobs=true"] = "application/json"
        if gated:
            self.refusals[f"/{hub_id}/"] = 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}

    def weights(self, hub_id: str) -> str:
        """The path that the weights are asked for at."""
        return f"/{hub_id}/resolve/{COMMIT}/model.safetensors"


@contextmanager
def hub_at(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A hub that this process asks, with an empty cache of the client, in small steps."""
    hub = Hub()
    try:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 20_000)
        yield hub
    finally:
        hub.close()
