"""Time the part of a request after its histories are embedded: the best unseen items of a large catalogue, beside torch's topk."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from benchmarks.speed.figures import Job, Measurement, Report, ratio, share
from benchmarks.speed.limits import DType, measure_limits
from benchmarks.speed.timing import Progress, Route, interleave, peak_memory, silent, threads
from laserrec.evaluation.ranking import best, exclude, rows_at_once
from laserrec.layers.products import products
from laserrec.system.devices import choose

OURS, PLAIN = "products, exclude, best", "plain product and topk"


@dataclass(frozen=True)
class RankSetting:
    """What is ranked.

    Attributes:
        items: catalogue size.
        width: of its vectors.
        users: histories.
        history: items of a history, which its list leaves out.
        k: length of the lists.
        dtype: of the vectors.
        repeats: timed rounds.
        threads: of torch; what it has by itself when None.
        side: of the square product that measures the limits.
        seed: of the vectors.
        device: where they lie.
    """

    items: int = 1_000_000
    width: int = 576
    users: int = 64
    history: int = 10
    k: int = 10
    dtype: DType = "float32"
    repeats: int = 5
    threads: int | None = None
    side: int = 2048
    seed: int = 0
    device: str = "cpu"


@torch.no_grad()
def bench_rank(setting: RankSetting, progress: Progress = silent) -> Report:
    """Time the k best unseen items for every user, and measure the memory that takes beside users and catalogue.

    Args:
        setting: sizes.
        progress: called with what is being done.
    """
    with threads(setting.threads) as count:
        device = choose(setting.device)
        users, matrix, seen = _inputs(setting)
        routes = {OURS: Route(lambda _: _ours(setting, users, matrix, seen)), PLAIN: Route(lambda _: _plain(setting, users, matrix, seen))}
        peaks = {name: peak_memory(lambda route=route: route.run(None), device) for name, route in routes.items()}  # type: ignore[misc]
        progress("the machine's limits")
        before = measure_limits(side=setting.side, device=device)
        timings = interleave(routes, setting.repeats, progress=progress)
        limits = before.best(measure_limits(side=setting.side, device=device))
        ours, plain = (torch.cat(route(setting, users, matrix, seen)) for route in (_ours, _plain))
    work = 2.0 * setting.users * setting.items * setting.width
    # Each part of the histories reads the catalogue once.
    parts = -(-setting.users // rows_at_once(setting.items))
    job = Job(setting.users, "users", work, setting.dtype, parts * matrix.numel() * matrix.itemsize)
    found = {name: Measurement.of(name, timing, job, limits) for name, timing in timings.items()}
    report = Report("rank", asdict(setting) | {"threads": count}, limits, list(found.values()))
    report.targets = [share(f"{OURS}, share of the limit", found[OURS], None), ratio(f"{OURS} / {PLAIN}", found[OURS], found[PLAIN])]
    report.details = {
        "peak_extra_bytes": peaks[OURS],
        "peak_extra_bytes_plain": peaks[PLAIN],
        "least_seconds_compute_float32": work / limits.float32,
        "least_seconds_compute_bfloat16": work / limits.bfloat16,
        "least_seconds_memory": job.read / limits.read,
        "share_of_lists_equal_to_plain": float((ours == plain).float().mean()),
    }
    report.notes.append("The limit is the slower of the product at the measured rate of its type and one pass over the catalogue a part.")
    return report


def _inputs(setting: RankSetting) -> tuple[Tensor, Tensor, Tensor]:
    """Return users [B, H], the catalogue [N, H] and each user's items int64 [B, S]."""
    generator = torch.Generator().manual_seed(setting.seed)
    dtype = getattr(torch, setting.dtype)
    device = choose(setting.device)
    users = torch.randn(setting.users, setting.width, generator=generator).to(device, dtype)
    matrix = torch.empty(setting.items, setting.width, dtype=dtype, device=device)
    for part in matrix.split(100_000):
        part.copy_(torch.randn(part.shape, generator=generator))
    return users, matrix, torch.randint(setting.items, (setting.users, setting.history), generator=generator).to(device)


def _ours(setting: RankSetting, users: Tensor, matrix: Tensor, seen: Tensor) -> list[Tensor]:
    """Return the lists of unseen items, a part of the users after the other, as requests do."""
    lists = []
    for some, theirs in zip(*(each.split(rows_at_once(setting.items)) for each in (users, seen)), strict=True):
        scores = exclude(products(some, matrix), theirs, torch.ones_like(theirs, dtype=torch.bool))
        lists.append(best(scores, setting.k).items)
    return lists


def _plain(setting: RankSetting, users: Tensor, matrix: Tensor, seen: Tensor) -> list[Tensor]:
    """Return the same lists by torch alone, in the same parts; ties come in any order."""
    lists = []
    for some, theirs in zip(*(each.split(rows_at_once(setting.items)) for each in (users, seen)), strict=True):
        scores = (some @ matrix.T).scatter_(1, theirs, -torch.inf)
        lists.append(scores.topk(min(setting.k, setting.items), dim=1).indices)
    return lists
