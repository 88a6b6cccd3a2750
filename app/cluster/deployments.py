"""The deployments: replicas under Ray Serve, readers and answerers, which a page reaches over HTTP."""

import asyncio
import hmac
import json
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, HTTPOptions, RequestRouterConfig
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.cluster.distant import key_of
from app.cluster.line import ReplicasAway, slug
from app.cluster.replica import Replica
from app.cluster.wire import Values
from app.settings import Settings

ROLES = ("answer", "read")
_QUEUE, _AT_ONCE = {"answer": 4, "read": 64}, {"answer": 4, "read": 2}
"""Requests that a replica takes, and is at work on. Past that an answerer's go to the next one on the ring: with eight
instead of four a hot document takes three times the GPUs (docs/scale.md)."""
_ALIVE_SECONDS = 5.0
_DRAIN_SECONDS = 600.0
"""So long a replica that is to go may take to end what it is at work on."""
_ONE_LOOP = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}
"""Of Ray's processes: a request wakes one thread less of each, since the work has threads of its own here."""
_QUIET = LoggingConfig(enable_access_log=False)
_STICKY = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


class Served:
    """One replica behind Ray Serve's HTTP: a request is a verb with values, its answer lines of JSON."""

    def __init__(self, role: str, settings: dict[str, Any], key: str) -> None:
        self._replica, self._key = Replica(Settings(**settings)), f"Bearer {key}"
        self._pool = ThreadPoolExecutor(_AT_ONCE[role], role)

    async def __call__(self, request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._key.encode()):
            return Response(status_code=401)
        asked = await request.json()
        if asked and self._replica.reads_as(asked["recipe"]) != asked["reads_as"]:
            return Response(status_code=409)
        # Ray cancels what nobody waits for any longer: no second task has to look out for that.
        request.scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
        verb = request.url.path.rsplit("/", 1)[-1]
        who = {"x-replica": f"{socket.gethostname()}:{os.getpid()}"}
        return StreamingResponse(self._lines(verb, asked), headers=who, media_type="application/x-ndjson")

    async def _lines(self, verb: str, asked: Values) -> AsyncIterator[bytes]:
        """All that is said by the time that it can be sent goes together; nothing for long is an empty line."""
        loop, stop = asyncio.get_running_loop(), threading.Event()
        said: asyncio.Queue[Values | None] = asyncio.Queue()

        def work() -> None:
            try:
                for event in self._replica.work(verb, asked, stop.is_set):
                    loop.call_soon_threadsafe(said.put_nowait, event)
                    if stop.is_set():
                        return
            finally:
                loop.call_soon_threadsafe(said.put_nowait, None)

        done = loop.run_in_executor(self._pool, work)
        try:
            while True:
                try:
                    events = [await asyncio.wait_for(said.get(), _ALIVE_SECONDS)]
                except TimeoutError:
                    yield b"\n"
                    continue
                while not said.empty():
                    events.append(said.get_nowait())
                yield "".join(json.dumps(each) + "\n" for each in events if each is not None).encode()
                if events[-1] is None:
                    await done
                    return
        finally:
            stop.set()


@dataclass(frozen=True)
class Plan:
    """What is to run: the fewest and the most replicas of each role, and what each has.

    A hot document is answered by at most so many `copies`, each replica has so many `gpus`, and `door` is the host and
    port of the address.
    """

    answerers: tuple[int, int] = (1, 1)
    readers: tuple[int, int] = (1, 1)
    copies: int = 3
    gpus: float = 0.0
    door: tuple[str, int] = ("127.0.0.1", 8000)
    ray: str = ""
    """Address of a Ray cluster; without one it begins on this machine alone."""


@contextmanager
def running(settings: Settings, models: Sequence[str], plan: Plan) -> Iterator[tuple[str, str]]:
    """The address of replicas and that of Ray, while they run; what they are at work on is ended first."""
    host, port = plan.door
    os.environ.update(_ONE_LOOP)
    own: dict[str, Any] = {"address": "local", "_node_ip_address": "127.0.0.1", "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level=logging.WARNING, **({"address": plan.ray} if plan.ray else own))
    targets = []
    try:
        serve.start(http_options=HTTPOptions(host=host, port=port), logging_config=_QUIET)
        key = key_of(settings.home, make=True)
        for model, role in product(models, ROLES):
            given = {**asdict(settings), "model": model, "cluster": "", "home": settings.home.absolute()}
            bound, place = _deployment(role, plan).bind(role, given, key), slug(model)
            targets.append(serve.RunTarget(bound, name=f"{place}-{role}", route_prefix=f"/{place}/{role}"))
        try:
            serve.run_many(targets)
        except RuntimeError as error:
            raise ReplicasAway(
                f"Replicas did not begin: {error}", "Their logs say why: logs/serve of Ray's session."
            ) from error
        yield f"http://{host}:{port}", ray.get_runtime_context().gcs_address
    finally:
        for each in targets:
            serve.delete(each.name)
        ray.shutdown()


def states(address: str) -> dict[str, str]:
    """The state of each application on a Ray cluster, with how many replicas are in which."""
    ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    try:
        found = serve.status().applications
        return {
            name: ", ".join([each.status, *(f"{d.replica_states}" for d in each.deployments.values())])
            for name, each in found.items()
        }
    finally:
        ray.shutdown()


def _deployment(role: str, plan: Plan) -> serve.Deployment:
    fewest, most = plan.answerers if role == "answer" else plan.readers
    more: dict[str, Any] = {"num_replicas": fewest}
    if fewest < most:
        wanted = max(1, _AT_ONCE[role] // 2)
        scaled = AutoscalingConfig(min_replicas=fewest, max_replicas=most, target_ongoing_requests=wanted)
        more = {"autoscaling_config": scaled}
    if role == "answer":
        # So many places on the ring that each replica has about as many documents as the next.
        fallbacks = {"num_virtual_nodes": 400, "num_fallback_replicas": plan.copies - 1}
        routed: dict[str, Any] = {"request_router_class": _STICKY, "request_router_kwargs": fallbacks}
        more["request_router_config"] = RequestRouterConfig(**routed)
    return serve.deployment(
        name=role,
        max_ongoing_requests=_QUEUE[role],
        logging_config=_QUIET,
        graceful_shutdown_timeout_s=_DRAIN_SECONDS,
        ray_actor_options={"num_cpus": 0.01, "num_gpus": plan.gpus},
        **more,
    )(Served)
