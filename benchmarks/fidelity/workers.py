"""Workers: documents shared among processes, and those among the GPUs there are."""

import os
import pickle
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

import torch

from benchmarks.fidelity.bench import Row
from engine.core.errors import CalibrationFailed, EngineError


@dataclass(frozen=True)
class Found:
    """The rows of one document by recipe, its number among all `documents`, and what is true of the whole run."""

    number: int
    documents: int
    about: Mapping[str, str]
    rows: Mapping[str, Row]


Work = Callable[[Namespace, int], Iterator[Found]]
"""(options, number of the worker) -> what its share of the documents gives."""


def run(work: Work, options: Namespace) -> Iterator[Found]:
    """What `options.workers` processes find, as it comes. Raises what one of them raises, and CalibrationFailed
    where one ends without a word."""
    context = get_context("spawn")
    gpus = [str(number) for number in range(torch.cuda.device_count())]
    if chosen := os.environ.get("CUDA_VISIBLE_DEVICES"):
        gpus = chosen.split(",")[: len(gpus)]
    processes, ends = [], []
    for number in range(options.workers):
        here, there = context.Pipe(duplex=False)
        if gpus:
            # Read by the new process when it looks for a GPU; this one has not looked yet.
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        processes.append(context.Process(target=_serve, args=(work, options, number, there), daemon=True))
        processes[-1].start()
        there.close()
        ends.append(here)
    done = 0
    while ends:
        for end in wait(ends):
            assert isinstance(end, Connection)
            try:
                found = pickle.loads(end.recv_bytes())
            except EOFError:
                ends.remove(end)
                continue
            if isinstance(found, EngineError):
                raise found
            if found is None:
                done += 1
            else:
                yield found
    if done < len(processes):
        raise CalibrationFailed(f"{len(processes) - done} of {len(processes)} worker processes failed; see above")


def _serve(work: Work, options: Namespace, number: int, end: Connection) -> None:
    try:
        for found in work(options, number):
            # Plain bytes: torch would open a file for every tensor that it hands to another process.
            end.send_bytes(pickle.dumps(found))
        end.send_bytes(pickle.dumps(None))
    except EngineError as error:
        end.send_bytes(pickle.dumps(error))
