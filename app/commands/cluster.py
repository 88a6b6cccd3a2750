"""The commands about replicas: a cluster on this machine, or on several, whose models read and answer for pages."""

import argparse
import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from app.commands.parsers import Parsers
from app.errors import BadSetting
from app.settings import Settings

_FILE = "cluster.json"
"""In the home, while a cluster runs: its addresses and the process that ends it."""
_ENDS_SECONDS = 900.0


def add(commands: Parsers) -> None:
    """Adds the commands."""
    verbs = commands.verbs("cluster", "replicas that read and answer for pages, by Ray Serve")
    up = verbs.unopened("up", _up)
    up.add_argument("models", nargs="*", metavar="MODEL", help="each has replicas of its own; default: that of --model")
    up.add_argument("--answerers", default="1", metavar="N[-M]", help="replicas that answer, as many as work asks for")
    up.add_argument("--readers", default="1", metavar="N[-M]", help="replicas that read, as many as work asks for")
    up.add_argument("--copies", type=int, default=3, help="replicas that a document with a long queue is asked at")
    up.add_argument("--gpus", type=float, default=0.0, help="GPUs of a replica")
    up.add_argument("--door", default="127.0.0.1:8000", metavar="HOST:PORT", help="where pages reach them")
    up.add_argument(
        "--ray", default="", metavar="HOST:PORT", help="a Ray cluster of several machines that runs already"
    )
    verbs.unopened("status", _status)
    verbs.unopened("down", _down)


def _up(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Run replicas until this is ended, or `docpod cluster down`."""
    deployments = _deployments()
    host, _, port = options.door.rpartition(":")
    if not host or not port.isdigit():
        raise BadSetting(f"{options.door!r} is no address.", "Give HOST:PORT.")
    if (settings.home / "vault.json").exists():
        raise BadSetting("This home is encrypted, and replicas have no passphrase.", "Choose another with --home.")
    both = _range(options.answerers), _range(options.readers)
    plan = deployments.Plan(*both, options.copies, options.gpus, (host, int(port)), options.ray)
    ended = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: ended.set())
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = settings.home / _FILE
    with deployments.running(settings, options.models or [settings.model or "auto"], plan) as (address, ray):
        path.write_text(json.dumps({"address": address, "ray": ray, "pid": os.getpid()}))
        print(f"Replicas are at {address}. Pages of this home: docpod --cluster {address}", flush=True)
        ended.wait()
        path.unlink(missing_ok=True)
    return {}


def _status(settings: Settings, _: argparse.Namespace) -> dict[str, Any]:
    """Say which replicas there are, and what they do."""
    known = _known(settings.home)
    facts = {"address": known["address"], **_deployments().states(known["ray"])}
    for key, value in facts.items():
        print(f"{key:20} {value}")
    return facts


def _down(settings: Settings, _: argparse.Namespace) -> dict[str, Any]:
    """End the replicas of this home, once what they are at work on is done."""
    known = _known(settings.home)
    os.kill(known["pid"], signal.SIGTERM)
    patience_ends = time.monotonic() + _ENDS_SECONDS
    while Path(f"/proc/{known['pid']}").exists() and time.monotonic() < patience_ends:
        time.sleep(0.2)
    print("The replicas have ended.")
    return {}


def _deployments() -> ModuleType:
    try:
        from app.cluster import deployments
    except ModuleNotFoundError as error:
        hint = "Add the extra: pip install '.[cluster]'"
        raise BadSetting(f"The package {error.name} is not installed.", hint) from error
    return deployments


def _known(home: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads((home / _FILE).read_text())
        os.kill(known["pid"], 0)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise BadSetting("No cluster of this home runs on this machine.", "Begin one: docpod cluster up.") from error
    return known


def _range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= fewest <= most:
        raise BadSetting(f"{text!r} is no number of replicas.", "Give 3, or 2-8 for as many as work asks for.")
    return fewest, most
