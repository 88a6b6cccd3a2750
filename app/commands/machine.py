"""The commands about the machine: what it offers, whether everything that is stored is whole, and a starter on it."""

import argparse
import logging
import platform
import sys
from contextlib import closing
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from app.commands.parsers import Parsers
from app.commands.terminal import PROGRAM, wait
from app.errors import AppError, BadSetting, ModelUnavailable
from app.main import App
from app.passphrase import known
from app.readers import confinement
from app.settings import Settings
from app.starter import install
from engine.kernels.card import why_not_triton
from engine.models.loader import select_device
from storage import Home, seen_from_outside, take_over

log = logging.getLogger(__name__)

_PACKAGES = ("torch", "transformers", "triton", "gradio", "pypdf", "pypdfium2", "sqlalchemy", "bitsandbytes", "numba")


def add(commands: Parsers) -> None:
    """Adds the commands."""
    scrub = "look at every byte, also of what was whole before or is in a store: the database, files, and models"
    doctor = commands.add("doctor", _doctor)
    doctor.add_argument("--scrub", action="store_true", help=scrub)
    doctor.set_defaults(locked=_doctor_without_key)
    commands.add("rescue", _rescue).add_argument("--empty", action="store_true", help="delete what was set aside")
    commands.unopened("copy-in", _copy_in)
    commands.add("install-desktop", _install_desktop)


def _doctor(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Say what this machine offers and whether everything stored is whole."""
    wait(app.model.settled, lambda: app.status().why)
    recipes: dict[str, str] = {}
    room: dict[str, str] = {}
    slow: tuple[str, ...] = ()
    try:
        loaded = app.model.wait().loaded
        recipes, room = loaded.recipes.costs(loaded.section_tokens), loaded.room()
        slow = loaded.runner.fallbacks.reasons
    except ModelUnavailable as error:
        log.warning("%s %s", error.message, error.hint)
    status = app.status()
    checked, damaged = app.verify(options.scrub)
    facts = {
        "python": sys.version.split()[0],
        "machine": f"{platform.system()} {platform.machine()}",
        **{package: _version(package) for package in _PACKAGES},
        "home": str(app.settings.home),
        "database": app.database,
        "store": app.settings.store or str(app.settings.home),
        "encryption": app.encryption,
        "free_disk_gb": round(app.free_bytes() / 1e9, 1),
        "model": status.name,
        "model_state": status.state,
        "files are read by": confinement(),
        "kernels": why_not_triton(select_device()) or "Triton's",
        "why": status.why,
        "better": status.better and f"{status.better} (--model)",
        **{f"pods, {place}": used for place, used in room.items()},
        **{f"recipe {name}": cost for name, cost in recipes.items()},
        "slow_paths": list(slow),
        "documents": len(app.library.catalogue.entries()),
        "blocks_checked": checked,
        "damaged_blocks": damaged,
        "damaged_rows": app.damaged_rows() if options.scrub else [],
        "damaged_model_files": app.scrub_models() if options.scrub else [],
        "damaged_originals": [each.name for each in app.library.intake.damaged(all_anew=options.scrub)],
    }
    return _printed(facts)


def _doctor_without_key(settings: Settings, _: argparse.Namespace) -> dict[str, Any]:
    """What can be said of an encrypted home that is not opened."""
    return _printed({"home": str(settings.home), **seen_from_outside(settings.home.absolute())})


def _printed(facts: dict[str, Any]) -> dict[str, Any]:
    for key, value in facts.items():
        print(f"{key:20} {value}")
    return facts


def _rescue(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Check the database, go on from a backup where it is damaged, and enter originals that it does not know."""
    for document in app.rescued:
        try:
            for _ in app.library.ingest.parse(document.id):
                pass
        except AppError as error:
            print(f"{document.name}: {error.message} {error.hint}")
    aside = app.set_aside(options.empty)
    entries = app.library.catalogue.entries()
    print(f"{len(entries)} documents, {len(app.rescued)} of them entered anew. The page reads what is not read yet.")
    for name in aside:
        print(f"{'deleted' if options.empty else 'set aside'}: {name}")
    return {"documents": len(entries), "entered": [each.id for each in app.rescued], "set_aside": aside}


def _copy_in(settings: Settings, _: argparse.Namespace) -> dict[str, Any]:
    """Copy what is in the home's folder into the database of --database, the store of --store, or both."""
    if not settings.database and not settings.store:
        raise BadSetting("There is nowhere to copy to.", "Give --database postgresql://..., --store s3://..., or both.")
    with closing(App(replace(settings, database="", store=""))):
        # What is damaged is put right while it can be, and backed up.
        pass
    with closing(Home(settings.home, known, **settings.places)) as home:
        copied = take_over(home)
    print("Copied, and compared. From now on begin DocPod with these settings; the folder keeps what it had.")
    return _printed(copied)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _install_desktop(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Put DocPod into the menu of the desktop, in a window of its own."""
    program = Path(sys.argv[0]).absolute()
    command = [str(program)] if PROGRAM == "docpod" else [sys.executable, str(program)]
    starter = install([*command, "serve", "--window", "--home", str(app.settings.home.absolute())])
    print(f"{starter} starts DocPod in a window of its own.")
    return {"starter": str(starter)}
