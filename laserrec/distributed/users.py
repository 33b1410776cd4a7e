"""Recommendations to every user, made by the workers of a Ray cluster as parts of one folder (`distributed.parts`).

    part-000000.parquet      recommendations to 1,024 users, in the dataset's order
    manifest.json            written last: the request, and the rows of each part

Parts are cut where one process cuts its work, so that what is computed together, and so every last digit, is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from laserrec.data.dataset import Dataset
from laserrec.distributed.parts import make_parts
from laserrec.recommender import Laser
from laserrec.runs.batch import USERS_AT_ONCE, check_known, recommend_users, write_table
from laserrec.system.files import read_json, write_json
from laserrec.system.progress import Progress

MANIFEST = "manifest.json"


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
        """Return what the result depends on: the options and the checksums of both folders."""
        return asdict(self) | contents(self.model, self.data)


def contents(model: Path, data: Path) -> dict[str, Any]:
    """Return the checksums of a model folder's files, and a dataset's fingerprint."""
    return {"model": read_json(model / "laser.json").get("sha256"), "data": read_json(data / "manifest.json").get("fingerprint")}


def recommend_on_cluster(request: Request, out: Path, address: str, workers: int, device: str | None, progress: Progress) -> dict[str, int]:
    """Recommend to every user of a dataset, or to those for whom the folder has nothing yet; arguments and errors as in `make_parts`.

    Returns:
        Rows by name of the part.

    Raises:
        UnknownIdError: as of `Laser.recommend`.
    """
    users = len(Dataset.load(request.data).user_ids)
    build = partial(_Recommending, request)
    parts = make_parts(out, request.identity, build, users, USERS_AT_ONCE, address, workers, device, progress)
    rows = {part.name: int(pl.scan_parquet(part).select(pl.len()).collect().item()) for part in parts}
    write_json(out / MANIFEST, {"request": request.identity, "users": users, "parts": rows})
    return rows


class _Recommending:
    """The model and the dataset, loaded once."""

    def __init__(self, request: Request, device: str) -> None:
        self.request, self.data = request, Dataset.load(request.data)
        self.laser = Laser.load(request.model, device=device)
        check_known(self.laser, self.data)
        if request.cold_start_bonus is not None:
            self.laser.cold_start_bonus = request.cold_start_bonus

    def write(self, path: Path, rows: range) -> None:
        """Recommend to some users."""
        asked = self.request
        found = recommend_users(
            self.laser, self.data, asked.k, exclude_seen=asked.exclude_seen, only=asked.only, without=asked.without, users=rows
        )
        write_table(found, path)
