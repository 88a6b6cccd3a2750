"""Preferences: the settings as they are and where each comes from, saved in the home and changed while DocPod runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.errors import BadSetting
from app.intake import storing
from app.settings import SETTINGS, Described, Settings, Value
from storage import Store


@dataclass(frozen=True)
class SettingState:
    """A setting as it is, in words that `change` takes."""

    described: Described
    value: str
    """In use; empty where that is worked out."""
    saved: str
    """In the home; empty where nothing is."""
    given_by: str
    """The option or variable that gave it; empty where the saved value or the default holds."""

    @property
    def default(self) -> str:
        """What holds where nothing else is said."""
        return self.described.shown or said(self.described.default)

    @property
    def waits(self) -> bool:
        """Whether what is saved is not in use: it was overridden, or takes another start."""
        return bool(self.saved) and self.saved != self.value

    @property
    def restart(self) -> bool:
        """Whether the next start changes what is in use."""
        return not self.given_by and self.described.when == "next" and (self.saved or self.default) != self.value


class Preferences:
    """Reads and changes settings: what was given for this run holds, else what is saved, else the default."""

    def __init__(self, store: Store, settings: Settings, sources: Mapping[str, str]) -> None:
        """Fills in what is saved. `sources` says by which option or variable settings were given; one that is not its
        default was given too."""
        self._store, self._settings = store, settings
        self.on: dict[str, Callable[[], None]] = {}
        """What else is done when a setting has changed, by its name."""
        self.notice = ""
        """Which saved values cannot be used."""
        given = {name: "the program" for name, each in SETTINGS.items() if getattr(settings, name) != each.default}
        self._given = {**given, **sources}
        for name, each in SETTINGS.items():
            if (saved := self._saved(each)) and self._is_set_here(each):
                try:
                    setattr(settings, name, each.parsed(each.title, saved))
                except BadSetting as error:
                    self.notice += f"{error.message} The default holds. "

    def states(self) -> list[SettingState]:
        """All settings, in the order in which they are described."""
        return [self.state(name) for name in SETTINGS]

    def state(self, name: str) -> SettingState:
        """One setting; a dash in its name is as good. Raises BadSetting where there is none."""
        each = SETTINGS.get(name.removeprefix("--").replace("-", "_"))
        if each is None:
            raise BadSetting(f"There is no setting {name!r}.", f"There are {', '.join(SETTINGS)}.")
        saved, value = self._saved(each), said(getattr(self._settings, each.name))
        # What was given may have been set aside since, by another choice.
        given_by = self._given.get(each.name, "") if value else ""
        if each.secret:
            value = value and "set"
        elif each.shown and each.when == "live":
            value = value or saved
        return SettingState(each, value, saved, given_by)

    def change(self, name: str, given: str) -> SettingState:
        """Save a value, which holds at once where it can. Raises BadSetting, and then nothing has changed."""
        each = self.state(name).described
        if each.when == "start":
            hint = f"Start DocPod with {each.option}, or with the variable {each.variable}."
            raise BadSetting(f"{each.title} is not saved.", hint)
        value = each.parsed(each.title, given)
        return self._keep(each, value, said(value))

    def reset(self, name: str) -> SettingState:
        """Forget what is saved: the default holds. Raises BadSetting where there is no such setting."""
        each = self.state(name).described
        return self._keep(each, each.default, "")

    def _keep(self, each: Described, value: Value, saved: str) -> SettingState:
        with storing():
            self._store.prefer(each.name, saved)
        if each.when == "live" and self._is_set_here(each):
            setattr(self._settings, each.name, value)
            self.on.get(each.name, lambda: None)()
        return self.state(each.name)

    def _saved(self, each: Described) -> str:
        return "" if each.when == "start" else self._store.preference(each.name)

    def _is_set_here(self, each: Described) -> bool:
        """Not what was given for this run, nor what is looked up in the home when it is wanted."""
        return each.name not in self._given and not each.shown


def said(value: Value) -> str:
    """A value in words."""
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
