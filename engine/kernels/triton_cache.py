"""Triton's cache of compiled kernels, of which a file counts only as it was written: what differs is compiled anew."""

from pathlib import Path

from blake3 import blake3
from triton.runtime.cache import FileCacheManager

_SUFFIX = ".blake3"


class CheckedCache(FileCacheManager):
    """Keeps a checksum beside every file; for TRITON_CACHE_MANAGER."""

    def put(self, data: bytes | str, filename: str, binary: bool = True) -> str:
        """Keep a file; returns its path."""
        path: str = super().put(data, filename, binary)
        super().put(_checksum(path), f"{filename}{_SUFFIX}", binary=False)
        return path

    def get_file(self, filename: str) -> str | None:
        """The path of a file; None where there is none, or it is damaged."""
        path: str | None = super().get_file(filename)
        return path if path and _is_whole(path) else None

    def get_group(self, filename: str) -> dict[str, str] | None:
        """The paths of files that belong together, by their names; None where one of them is not there, or damaged."""
        if self.get_file(f"__grp__{filename}") is None:
            return None
        group: dict[str, str] | None = super().get_group(filename)
        return group if group and all(map(_is_whole, group.values())) else None


def _is_whole(path: str) -> bool:
    try:
        return Path(f"{path}{_SUFFIX}").read_text(errors="replace") == _checksum(path)
    except OSError:
        return False


def _checksum(path: str) -> str:
    return blake3(Path(path).read_bytes()).hexdigest()
