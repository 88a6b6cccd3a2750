"""Keys: what programs may do with the library, each by a key of its own that is shown once and never kept."""

import secrets
from collections.abc import Collection

from app.credentials import digest
from app.errors import BadSetting, NoSuchKey
from storage import ApiKey, Store

SCOPES = {
    "read": "list documents, fetch files and page images",
    "ask": "ask questions and search passages",
    "write": "add and delete documents",
}
"""What each scope allows."""
_PREFIX = "docpod-"
Key = ApiKey
"""A key as its owner sees it; its id is the start of its secret."""


class Keys:
    """Makes, checks and revokes keys; what one process does holds for all at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, name: str, scopes: Collection[str]) -> tuple[Key, str]:
        """A new key and its secret, which nobody can have again. Raises BadSetting for an unknown scope or no name."""
        if unknown := sorted(set(scopes) - SCOPES.keys()):
            raise BadSetting(f"There is no scope {', '.join(unknown)}.", f"Scopes are {', '.join(SCOPES)}.")
        if not scopes or not name.strip():
            raise BadSetting("A key needs a name and at least one scope.", f"Scopes are {', '.join(SCOPES)}.")
        secret = f"{_PREFIX}{secrets.token_urlsafe(32)}"
        key = Key(
            id=secret[: len(_PREFIX) + 6],
            name=name.strip(),
            digest=digest(secret),
            scopes=[scope for scope in SCOPES if scope in scopes],
        )
        self._store.add_key(key)
        return key, secret

    def all(self) -> list[Key]:
        """Every key that opens something, oldest first."""
        return self._store.all_keys()

    def key_of(self, secret: str) -> Key | None:
        """The key of this secret; None where there is none. A digest of 256 random bits needs no salt."""
        return self._store.key_of(digest(secret))

    def revoke(self, name: str) -> Key:
        """Take back a key by its id, or by a name that no other has. Raises NoSuchKey."""
        found = [key for key in self.all() if name in (key.id, key.name)]
        if len(found) != 1:
            raise NoSuchKey(f"{len(found) or 'No'} keys are called {name!r}.", "Give the id that `keys list` shows.")
        self._store.delete_key(found[0].id)
        return found[0]
