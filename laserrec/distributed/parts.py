"""Work in parts that each become one file of a folder, made by workers of a Ray cluster that hold the same model.

    request.json             what was asked; another request is refused
    part-000000.parquet      one a part; written atomically, so a part that is there is complete and is not made again

What is asked is the business of whoever builds the workers; this module knows nothing of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from laserrec.distributed.cluster import connected, share_of
from laserrec.errors import CheckpointError, LaserrecError
from laserrec.system.files import read_json, write_json

DEATHS = 8
"""Of a worker, after which the work is given up: whatever kills it may do so each time."""
REQUEST = "request.json"


class PartMaker(Protocol):
    """What a worker makes parts with; it is built in the worker's process, at the first part."""

    def write(self, path: Path, rows: range) -> None:
        """Write the part of some rows, atomically."""


def make_parts(
    out: Path,
    identity: Mapping[str, Any],
    build: Callable[[str], PartMaker],
    total: int,
    size: int,
    address: str,
    workers: int,
    device: str | None,
    progress: Callable[[int], object],
    *,
    afresh: bool = False,
) -> list[Path]:
    """Make the parts that a folder lacks, each by whichever worker is free; one that dies is replaced, and its part made again.

    Args:
        out: the folder, on storage that all machines share; new, or begun by the same request.
        identity: what is asked, as JSON.
        build: returns what makes the parts, given the worker's device: a class, or a partial of one.
        total: rows of all parts.
        size: rows of a part.
        address: the cluster's, see `cluster.connected`.
        workers: how many there are, at most.
        device: as in `cluster.share_of`.
        progress: called with the number of rows that are done.
        afresh: throw away what another request has left in the folder, instead of refusing.

    Returns:
        Every part's file, in the order of the rows.

    Raises:
        CheckpointError: the folder belongs to another request.
        ConfigError: there is no such cluster, or it is too small.
        LaserrecError: workers died too often, or what they raised.
        MissingExtraError: Ray is not installed.
    """
    # A part is these rows only as long as the rows are cut so.
    _claim(out, {**identity, "rows": total, "size": size}, afresh)
    starts = range(0, total, size)
    parts = {out.resolve() / f"part-{place:06}.parquet": range(at, min(at + size, total)) for place, at in enumerate(starts)}
    missing = {path: rows for path, rows in parts.items() if not path.is_file()}
    try:
        if missing:
            with connected(address):
                _make(missing, build, min(workers, len(missing)), device, lambda left: progress(total - left))
    except BaseException:
        if missing.keys() == parts.keys() and not any(path.is_file() for path in parts):
            (out / REQUEST).unlink()  # nothing was made, so the request may be corrected
        raise
    return list(parts)


def _claim(out: Path, request: dict[str, Any], afresh: bool) -> None:
    """Make the folder this request's, unless it is already.

    Raises:
        CheckpointError: it is another's.
    """
    if (out / REQUEST).is_file():
        if read_json(out / REQUEST) == request:
            return
        if afresh:
            shutil.rmtree(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(
            f"{out} holds something else than an answer to this request. Give the name of a new folder.", parameters=["out"]
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / REQUEST, request)


def _make(
    parts: Mapping[Path, range], build: Callable[[str], PartMaker], workers: int, device: str | None, progress: Callable[[int], object]
) -> None:
    """Make parts, and call `progress` with the number of rows that are left."""
    import ray
    from ray.exceptions import RayActorError, RayTaskError
    from ray.util import ActorPool

    share, rows = share_of(workers, device), sum(map(len, parts.values()))
    options = {"max_restarts": DEATHS, "max_task_retries": DEATHS, "num_cpus": share.cpus, "num_gpus": int(share.gpu)}
    actor = ray.remote(_Actor).options(scheduling_strategy="SPREAD", **options)
    pool = ActorPool([actor.remote(build, "cuda" if share.gpu else "cpu") for _ in range(workers)])
    try:
        for made in pool.map_unordered(lambda worker, part: worker.write.remote(*part), parts.items()):
            rows -= made
            progress(rows)
    except RayTaskError as error:
        if isinstance(error.cause, LaserrecError):
            raise error.cause from error
        raise
    except RayActorError as error:
        raise LaserrecError(
            f"A worker died more than {DEATHS} times, so the work was given up; the parts that are done are kept. Repeat the command once "
            f"nothing kills workers. The last reason: {error}"
        ) from error


class _Actor:
    """A worker in a process of the cluster."""

    def __init__(self, build: Callable[[str], PartMaker], device: str) -> None:
        # Built at the first part: an error of a task reaches the caller as it was raised, one of an actor's creation does not.
        self.maker = cache(partial(build, device))

    def write(self, path: Path, rows: range) -> int:
        """Write a part, and return its number of rows."""
        self.maker().write(path, rows)
        return len(rows)
