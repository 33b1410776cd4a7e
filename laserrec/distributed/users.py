"""Recommendations to every user, made by workers of a Ray cluster that each hold the model and write parts of one folder.

    request.json             what was asked: model, dataset, options; another request is refused
    part-000000.parquet      recommendations to 1,024 users, in the dataset's order; written atomically, so a part that is there is complete
    manifest.json            written last: the request, and the rows of each part

Parts are cut where one process cuts its work, so that what is computed together, and so every last digit, is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from laserrec.data.dataset import Dataset
from laserrec.distributed.cluster import connected, share_of
from laserrec.errors import CheckpointError, LaserrecError
from laserrec.recommender import Laser
from laserrec.runs.batch import USERS_AT_ONCE, recommend_users, write_table
from laserrec.system.files import read_json, write_json
from laserrec.system.progress import Progress

DEATHS = 8
"""Of a worker, after which the work is given up: whatever kills it may do so each time."""
MANIFEST, REQUEST = "manifest.json", "request.json"


@dataclass(frozen=True)
class Request:
    """What every user is recommended.

    Attributes:
        model: the model's folder, where every worker finds it.
        data: the dataset's folder, likewise.
        k: items for each user.
        exclude_seen: leave each user's own items out.
        only: ids to choose from; all when None.
        without: ids that are never recommended.
        cold_start_bonus: as in `Laser`; the fitted one when None.
    """

    model: Path
    data: Path
    k: int
    exclude_seen: bool
    only: Sequence[str] | None
    without: Sequence[str] | None
    cold_start_bonus: float | None

    @property
    def identity(self) -> dict[str, Any]:
        """What the answer depends on, for JSON; the content of the folders and not where they are."""
        weights, data = read_json(self.model / "laser.json").get("sha256"), read_json(self.data / "manifest.json").get("fingerprint")
        return asdict(self) | {"model": weights, "data": data}


def recommend_on_cluster(request: Request, out: Path, address: str, workers: int, device: str | None, progress: Progress) -> dict[str, int]:
    """Recommend to every user of a dataset, or to those for whom the folder has nothing yet.

    Args:
        request: what is asked.
        out: the folder, on storage that all machines share; new, or begun by the same request.
        address: the cluster's, see `cluster.connected`.
        workers: how many hold the model.
        device: as in `cluster.share_of`.
        progress: called with the number of users that are done.

    Returns:
        Rows by name of the part.

    Raises:
        CheckpointError: the folder belongs to another request.
        ConfigError: there is no such cluster, or it is too small.
        MissingExtraError: Ray is not installed.
        UnknownIdError: as of `Laser.recommend`.
    """
    count, identity = len(Dataset.load(request.data).user_ids), request.identity
    _claim(out, identity)
    parts = {
        f"part-{place:06}.parquet": range(start, min(start + USERS_AT_ONCE, count))
        for place, start in enumerate(range(0, count, USERS_AT_ONCE))
    }
    missing = [name for name in parts if not (out / name).is_file()]
    if missing:
        with connected(address):
            _make(request, out.resolve(), {name: parts[name] for name in missing}, min(workers, len(missing)), device, count, progress)
    rows = {name: int(pl.scan_parquet(out / name).select(pl.len()).collect().item()) for name in parts}
    write_json(out / MANIFEST, {"request": identity, "users": count, "parts": rows})
    return rows


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Make the folder this request's, unless it is already.

    Raises:
        CheckpointError: it is another's.
    """
    if (out / REQUEST).is_file() and read_json(out / REQUEST) == identity:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(
            f"{out} holds something else than an answer to this request. Give the name of a new folder.", parameters=["out"]
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / REQUEST, identity)


def _make(request: Request, out: Path, parts: dict[str, range], workers: int, device: str | None, count: int, progress: Progress) -> None:
    """Write parts, each by whichever worker is free; one that dies is replaced, and its part made again."""
    import ray
    from ray.exceptions import RayTaskError
    from ray.util import ActorPool

    share = share_of(workers, device)
    kept = {
        "max_restarts": DEATHS,
        "max_task_retries": DEATHS,
        "num_cpus": share.cpus,
        "num_gpus": int(share.gpu),
        "scheduling_strategy": "SPREAD",
    }
    pool = ActorPool([ray.remote(_Recommending).options(**kept).remote(request, share.gpu) for _ in range(workers)])
    done = count - sum(map(len, parts.values()))
    try:
        for users in pool.map_unordered(lambda worker, part: worker.write.remote(out / part[0], part[1]), parts.items()):
            done += users
            progress(done)
    except RayTaskError as error:
        if isinstance(error.cause, LaserrecError):
            raise error.cause from error
        raise


class _Recommending:
    """One worker: the model and the dataset, loaded once."""

    def __init__(self, request: Request, gpu: bool) -> None:
        """Load them."""
        self.request, self.data = request, Dataset.load(request.data)
        self.laser = Laser.load(request.model, device="cuda" if gpu else "cpu")
        if request.cold_start_bonus is not None:
            self.laser.cold_start_bonus = request.cold_start_bonus

    def write(self, path: Path, users: range) -> int:
        """Write a part, and return its number of users."""
        asked = self.request
        table = recommend_users(
            self.laser, self.data, asked.k, exclude_seen=asked.exclude_seen, only=asked.only, without=asked.without, users=users
        )
        write_table(table, path)
        return len(users)
