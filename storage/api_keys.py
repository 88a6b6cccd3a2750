"""What the store knows of the keys of programs."""

from sqlalchemy import delete, select

from storage.models import ApiKey
from storage.sessions import Sessions


class ApiKeys(Sessions):
    """Verbs about keys."""

    def add_key(self, key: ApiKey) -> None:
        """Keep a key's digest with its name and scopes."""
        with self._write() as session:
            session.add(key)

    def all_keys(self) -> list[ApiKey]:
        """Oldest first."""
        with self._read() as session:
            return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))

    def key_of(self, digest: str) -> ApiKey | None:
        """None where there is none, or none any longer."""
        with self._read() as session:
            return session.scalars(select(ApiKey).where(ApiKey.digest == digest)).one_or_none()

    def delete_key(self, key_id: str) -> None:
        """Whoever has the key has nothing any longer."""
        with self._write() as session:
            session.execute(delete(ApiKey).where(ApiKey.id == key_id))
