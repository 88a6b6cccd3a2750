"""People: who may come in beside the home's user, and how: with a password, or signed in by a proxy that is trusted."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from secrets import token_urlsafe
from typing import Any

from app.credentials import Allowance, Password, digest
from app.errors import BadName, BadSetting, NoSuchPerson, NotAllowed
from app.intake import storing
from app.listing import tags_in
from app.settings import Settings
from app.titles import name_of
from storage import EVERYBODY as EVERYBODY
from storage import NotStored, Person, PersonRole, SignIn, Store, Viewer

ATTEMPTS_A_MINUTE = 10
"""To sign in by one name: few enough that guessing leads nowhere, and that others are not kept out by it."""
LEAST_PASSWORD = 8
SIGNED_IN = timedelta(days=30)
_BUCKETS = 256
"""Names share their attempts with so few others, known or not, that no list of them grows."""


class People:
    """The people of a home, and the app as each of them has it (`seen_by`, as `App.seen_by`)."""

    def __init__(self, store: Store, settings: Settings, seen_by: Callable[..., Any]) -> None:
        self._store, self._settings, self._seen_by = store, settings, seen_by
        self._attempts = [Allowance(ATTEMPTS_A_MINUTE) for _ in range(_BUCKETS)]
        self._nobody = Password(token_urlsafe())
        self._proxies = proxies(settings)

    def add(self, name: str, role: PersonRole = "member", password: str = "") -> Person:
        """Someone new, who signs in with the password, or without one by a proxy. Raises BadName and BadSetting."""
        person = Person(name=name_of(name).casefold(), role=role, password=_kept(password) if password else "")
        try:
            self._store.add_person(person)
        except NotStored as error:
            raise BadSetting(f"There is somebody called {person.name} already.", "Choose another name.") from error
        return person

    def all(self) -> list[Person]:
        """In the order of their names."""
        return self._store.people()

    def named(self, name: str) -> Person:
        """The person of this name, without regard to case. Raises NoSuchPerson."""
        if (found := self._find(name)) is None:
            raise NoSuchPerson(f"Nobody is called {name!r}.", "`people list` shows who there is.")
        return found

    def set_password(self, name: str, password: str) -> None:
        """What he signs in with from now on; where he is signed in he no longer is. Raises NoSuchPerson, BadSetting."""
        with storing():
            self._store.set_password(self.named(name).id, _kept(password))

    def remove(self, name: str, heir: str = "") -> None:
        """Somebody who is gone; what was his belongs to another person then, or to the home's user."""
        self._store.remove_person(self.named(name).id, self.named(heir).id if heir else "")

    def sign_in(self, name: str, password: str) -> str:
        """What a browser keeps of somebody who gives his password. Raises NotAllowed, by one sentence."""
        if not self._attempts[int(digest(name.casefold())[:2], 16)].take():
            raise NotAllowed("Too many attempts.", "Wait a minute and try again.")
        person = self._find(name)
        # As long for a name that there is not.
        known = Password("", person.password) if person and person.password else self._nobody
        if not known.matches(password) or person is None:
            raise NotAllowed("This is not the name and password of anybody here.", "Check both and try again.")
        cookie, now = token_urlsafe(32), datetime.now(UTC)
        self._store.sign_in(SignIn(digest=digest(cookie), person_id=person.id, ends_at=now + SIGNED_IN), now)
        return cookie

    def sign_out(self, cookie: str) -> None:
        """Nobody is signed in by it any longer."""
        self._store.sign_out(digest(cookie))

    def signed_in(self, cookie: str) -> Person | None:
        """Who is signed in by what a browser keeps."""
        return self._store.signed_in(digest(cookie), datetime.now(UTC))

    def is_proxy(self, address: str) -> bool:
        """Whether a request from this address comes from a proxy whose header is believed."""
        try:
            return any(ip_address(address) in each for each in self._proxies)
        except ValueError:
            return False

    def brought(self, name: str) -> Person | None:
        """Who a proxy says is there; somebody new becomes a member, or is nobody where that is not wanted."""
        found = self._find(name)
        if found is None and self._settings.unknown_people == "member":
            try:
                return self.add(name)
            except (BadName, BadSetting):
                # It is no name, or two requests of his came at once.
                return self._find(name)
        return found

    def app(self, person: Person) -> Any:
        """The app as this person has it."""
        viewer = Viewer(person.id, has_all=person.role == "owner")
        return self._seen_by(viewer, person.role, name=person.name, signs_out=bool(person.password))

    def app_of(self, owner: str) -> Any:
        """The app as the person of this id has it; None where he is gone."""
        return next((self.app(each) for each in self.all() if each.id == owner), None)

    def _find(self, name: str) -> Person | None:
        wanted = " ".join(name.split()).casefold()
        return next((each for each in self.all() if each.name == wanted), None)


class Collections:
    """What somebody shares with others: whatever he has under a tag, as it changes."""

    def __init__(self, store: Store, people: People) -> None:
        self._store, self._people = store, people

    def all(self) -> dict[str, list[str]]:
        """By tag, the names of those with whom it is shared, or `EVERYBODY`."""
        names = {each.id: each.name for each in self._people.all()} | {EVERYBODY: EVERYBODY}
        found: dict[str, list[str]] = {}
        for each in self._store.shares():
            found.setdefault(each.tag, []).append(names[each.person])
        return found

    def share(self, tag: str, names: Collection[str]) -> None:
        """Share a tag of his with these people alone, or with `EVERYBODY`; with nobody it is shared no longer.

        Raises BadName where no document has it, and NoSuchPerson.
        """
        (tag,) = tags_in(tag)[:1] or [""]
        ids = [EVERYBODY if each == EVERYBODY else self._people.named(each).id for each in names]
        own = (each for each in self._store.documents() if each.owner == self._store.viewer.id)
        if names and not any(tag in each.tags for each in own):
            raise BadName(f"No document of yours has the tag {tag!r}.", "Give it to one first, as it is spelled here.")
        self._store.share(tag, ids)


def proxies(settings: Settings) -> list[IPv4Network | IPv6Network]:
    """From where the header of a proxy is believed. Raises BadSetting."""
    networks = [each.strip() for each in settings.trusted_proxy.split(",") if each.strip()]
    if bool(settings.trusted_header) != bool(networks):
        message = "A header that says who is signed in is believed from named addresses alone."
        raise BadSetting(message, "Give both --trusted-header and --trusted-proxy.")
    try:
        return [ip_network(each, strict=False) for each in networks]
    except ValueError as error:
        raise BadSetting(f"--trusted-proxy: {error}.", "Give addresses such as 10.0.0.2 or 10.0.0.0/24.") from error


def _kept(password: str) -> str:
    if len(password) < LEAST_PASSWORD:
        raise BadSetting(f"A password has at least {LEAST_PASSWORD} characters.", "Choose a longer one.")
    return Password(password).kept
