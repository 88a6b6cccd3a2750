"""What the store knows of people: who they are, where they are signed in, and what they share with whom."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update

from storage.models import ApiKey, Conversation, Document, Person, Preference, Share, SignIn
from storage.sessions import Sessions, add, stored


class People(Sessions):
    """Verbs about people."""

    def add_person(self, person: Person) -> None:
        """Raises NotStored where there is somebody of this name."""
        with self._write() as session:
            add(session, person)

    def people(self) -> list[Person]:
        """In the order of their names."""
        with self._read() as session:
            return list(session.scalars(select(Person).order_by(Person.name)))

    def set_password(self, person_id: str, password: str) -> None:
        """Salt and hash, in place of those before; nobody is signed in by those any longer. Raises NotStored."""
        with self._write() as session:
            stored(session, Person, person_id).password = password
            session.execute(delete(SignIn).where(SignIn.person_id == person_id))

    def remove_person(self, person_id: str, heir: str) -> None:
        """Documents and conversations are another one's then; keys and shares of a person who is gone open nothing."""
        with self._write() as session:
            for kind in (Document, Conversation):
                session.execute(update(kind).where(kind.owner == person_id).values(owner=heir))
            session.execute(delete(ApiKey).where(ApiKey.owner == person_id))
            session.execute(delete(Share).where((Share.owner == person_id) | (Share.person == person_id)))
            session.execute(delete(Preference).where(Preference.name.startswith(f"{person_id} ")))
            session.execute(delete(Person).where(Person.id == person_id))

    def sign_in(self, sign_in: SignIn, now: datetime) -> None:
        """Keep that somebody is signed in, and forget those who no longer are."""
        with self._write() as session:
            session.execute(delete(SignIn).where(SignIn.ends_at < now))
            session.add(sign_in)

    def signed_in(self, digest: str, now: datetime) -> Person | None:
        """Who is signed in where a cookie has this digest."""
        by_cookie = select(Person).join(SignIn).where(SignIn.digest == digest, SignIn.ends_at >= now)
        with self._read() as session:
            return session.scalar(by_cookie)

    def sign_out(self, digest: str) -> None:
        """Nobody is signed in there any longer."""
        with self._write() as session:
            session.execute(delete(SignIn).where(SignIn.digest == digest))

    def share(self, tag: str, people: Sequence[str]) -> None:
        """Share what its viewer has under a tag with these alone, by id, or with `EVERYBODY`."""
        with self._write() as session:
            session.execute(delete(Share).where(Share.owner == self.viewer.id, Share.tag == tag))
            session.add_all(Share(owner=self.viewer.id, tag=tag, person=each) for each in people)

    def _told(self, documents: Sequence[Document]) -> Sequence[Document]:
        """Documents as their viewer may know them: of somebody else's the tags by which they are shared, no others."""
        others = [each for each in documents if each.owner != self.viewer.id and not self.viewer.has_all]
        shared = self.shared_with_viewer() if others else set()
        for each in others:
            each.tags, each.attachments = [tag for tag in each.tags if (each.owner, tag) in shared], []
        return documents

    def shares(self) -> list[Share]:
        """What its viewer shares."""
        with self._read() as session:
            own = select(Share).where(Share.owner == self.viewer.id)
            return list(session.scalars(own.order_by(Share.tag, Share.person)))

    def shared_with_viewer(self) -> set[tuple[str, str]]:
        """Owner and tag of what is shared with its viewer."""
        with self._read() as session:
            shares = session.scalars(select(Share).where(Share.person.in_(self.viewer.names)))
            return {(each.owner, each.tag) for each in shares}
