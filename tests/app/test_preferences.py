"""Settings: what was given for a run holds, else what is saved, else the default; a change holds at once or says so."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from app.cli import main
from app.errors import BadSetting
from app.main import App
from app.preferences import Preferences, said
from app.settings import SETTINGS, Settings
from storage import Store
from tests.app.test_cli import QUESTION, Cli, cli, document_id, source

__all__ = ["cli", "document_id", "source"]


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(Store.open("sqlite://")) as store:
        yield store


@pytest.fixture
def opened(store: Store) -> Callable[..., tuple[Settings, Preferences]]:
    """Another run with the same home."""

    def open_(sources: dict[str, str] | None = None, **given: object) -> tuple[Settings, Preferences]:
        settings = Settings(**given)  # type: ignore[arg-type]
        return settings, Preferences(store, settings, sources or {})

    return open_


def other(name: str) -> str:
    """A value of a setting that is not its default."""
    each = SETTINGS[name]
    if each.choices:
        return next(value for value in each.choices if value not in (each.default, each.shown))
    return said(not each.default) if each.kind is bool else "7"


@pytest.mark.parametrize("name", [name for name, each in SETTINGS.items() if each.when != "start"])
def test_a_setting_is_saved_for_the_next_start_and_holds_at_once_where_it_can(name: str, opened) -> None:
    settings, preferences = opened()
    before, value = getattr(settings, name), other(name)
    assert preferences.state(name).default == (SETTINGS[name].shown or said(SETTINGS[name].default))
    state = preferences.change(name, value)
    assert state.saved == value and state.given_by == ""
    if SETTINGS[name].when == "live":
        assert (state.value, state.restart, state.waits) == (value, False, False)
    else:
        assert getattr(settings, name) == before
        assert (state.restart, state.waits) == (True, True)
    again, later = opened()
    assert (later.state(name).value, later.state(name).restart) == (value, False)
    if not SETTINGS[name].shown:
        assert said(getattr(again, name)) == value
    assert later.reset(name).saved == ""
    assert opened()[1].state(name).value in ("", said(SETTINGS[name].default))


@pytest.mark.parametrize("source", ["--passages", "DOCPOD_PASSAGES"])
def test_what_was_given_for_a_run_is_above_what_is_saved(source: str, opened) -> None:
    opened()[1].change("passages", "5")
    # Also where it is the default.
    settings, preferences = opened({"passages": source}, passages=3)
    state = preferences.change("passages", "6")
    assert (settings.passages, state.value, state.saved, state.given_by) == (3, "3", "6", source)
    assert state.waits and not state.restart
    assert opened()[0].passages == 6
    assert opened(passages=4)[0].passages == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("passages", "0"),
        ("passages", "10"),
        ("passages", "3.5"),
        ("passages", ""),
        ("port", "65536"),
        ("meaning", "maybe"),
        ("log_level", "loud"),
        ("recipe", "tiny"),
        ("home", "/elsewhere"),
        ("page_password", "secret"),
        ("share", "on"),
        ("passage", "3"),
    ],
)
def test_a_bad_value_is_a_sentence_with_a_hint_and_changes_nothing(name: str, value: str, opened) -> None:
    settings, preferences = opened()
    before = replace(settings), preferences.states()
    with pytest.raises(BadSetting) as caught:
        preferences.change(name, value)
    assert caught.value.message.endswith(".") and caught.value.hint.endswith(".")
    assert (settings, preferences.states()) == before


def test_a_saved_value_that_can_no_longer_be_used_is_named_and_the_default_holds(store: Store, opened) -> None:
    store.prefer("passages", "400")
    settings, preferences = opened()
    assert settings.passages == 3
    assert "400" in preferences.notice and "Passages" in preferences.notice


def test_a_secret_is_shown_to_nobody(opened) -> None:
    _, preferences = opened({"page_password": "DOCPOD_PAGE_PASSWORD"}, page_password="hush")
    assert "hush" not in repr(preferences.states())
    assert preferences.state("page_password").value == "set"


def test_the_command_saves_for_other_starts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each["name"] for each in cli("settings", "--json").json] == list(SETTINGS)
    (saved,) = cli("settings", "max-pages", "500", "--json").json
    assert (saved["value"], saved["saved"], saved["default"]) == ("500", "500", "100000")
    (held,) = cli("settings", "max_pages", "--max-pages", "600", "--json").json
    assert (held["value"], held["given_by"], held["saved"]) == ("600", "--max-pages", "500")
    monkeypatch.setenv("DOCPOD_MAX_PAGES", "700")
    (held,) = cli("settings", "max-pages", "--json").json
    assert (held["value"], held["given_by"]) == ("700", "DOCPOD_MAX_PAGES")
    monkeypatch.delenv("DOCPOD_MAX_PAGES")
    refused = cli("settings", "max-pages", "none", "--json")
    assert (refused.code, refused.json["error"]) == (2, "BadSetting")
    assert cli("settings", "max-pages", "--json").json[0]["value"] == "500"
    assert cli("settings", "max-pages", "--reset", "--json").json[0]["value"] == "100000"


def test_the_page_starts_with_what_is_saved(cli: Cli) -> None:
    seen: list[int] = []
    cli("settings", "port", "7999")
    assert main([], lambda app: seen.append(app.settings.port)) == 0
    assert main(["--port", "7998"], lambda app: seen.append(app.settings.port)) == 0
    assert seen == [7999, 7998]


def test_live_changes_reach_the_parts_that_use_them(settings: Settings, document_id: str) -> None:
    with closing(App(replace(settings))) as app:
        tiers = app.model.wait().loaded.tiers
        app.preferences.change("memory_mb", "3")
        assert tiers.device_limit == 3_000_000
        app.preferences.reset("memory_mb")
        assert tiers.device_limit > 3_000_000
        app.preferences.change("page_seconds", "9")
        app.preferences.change("max_pages", "11")
        limits = app.library.intake.limits
        assert (limits.page_seconds, limits.max_pages) == (9, 11)
        for most in ("1", "3"):
            app.preferences.change("passages", most)
            *_, answer = app.questions.ask(document_id, QUESTION)
            assert 1 <= len(answer.citations) <= int(most)
