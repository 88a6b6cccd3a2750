"""What the store knows of a user's preferences."""

from storage.models import Preference
from storage.sessions import Sessions


class Preferences(Sessions):
    """Verbs about preferences."""

    def preference(self, name: str) -> str:
        """What was chosen last; empty where nothing was."""
        with self._read() as session:
            found = session.get(Preference, name)
            return found.value if found else ""

    def prefer(self, name: str, value: str) -> None:
        """Keep a choice."""
        with self._write() as session:
            session.merge(Preference(name=name, value=value))
