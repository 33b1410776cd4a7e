"""Top-k over a large catalogue, ours beside a plain product and topk in chunks."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from benchmarks.speed.figures import Job, Measurement, Report, Target, ratio, share
from benchmarks.speed.limits import DType, measure_limits
from benchmarks.speed.timing import Route, Told, interleave, peak_memory, threads, untold
from laserrec.evaluation.ranking import MEMORY_BYTES, top_k
from laserrec.system.devices import choose

OURS, PLAIN = "top_k", "plain product and topk, in chunks"


@dataclass(frozen=True)
class RankSetting:
    """What is ranked.

    Attributes:
        items: catalogue size.
        width: of its vectors.
        users: queries.
        k: length of the lists.
        dtype: of the vectors.
        memory_bytes: the budget given to `top_k`, judged by the first run's peak; the plain route's chunks hold as many bytes of scores.
        repeats: timed rounds.
        threads: of torch; what it has by itself when None.
        side: of the square product that measures the limits.
        seed: of the vectors.
        device: where they lie.
    """

    items: int = 1_000_000
    width: int = 576
    users: int = 256
    k: int = 10
    dtype: DType = "float32"
    memory_bytes: int = MEMORY_BYTES
    repeats: int = 5
    threads: int | None = None
    side: int = 2048
    seed: int = 0
    device: str = "cpu"


@torch.no_grad()
def bench_rank(setting: RankSetting, told: Told = untold) -> Report:
    """Time the k best of all items for every user, and measure the memory that takes beside queries and catalogue.

    Args:
        setting: sizes.
        told: told what is being done.
    """
    with threads(setting.threads) as count:
        device = choose(setting.device)
        queries, matrix = _vectors(setting)
        routes = {OURS: Route(lambda _: _ours(setting, queries, matrix)), PLAIN: Route(lambda _: _plain(setting, queries, matrix))}
        peaks = {name: peak_memory(lambda route=route: route.run(None), device) for name, route in routes.items()}  # type: ignore[misc]
        told("the machine's limits")
        before = measure_limits(side=setting.side, device=device)
        timings = interleave(routes, setting.repeats, told=told)
        limits = before.best(measure_limits(side=setting.side, device=device))
        same = (_ours(setting, queries, matrix) == _plain(setting, queries, matrix)).float().mean()
    work = 2.0 * setting.users * setting.items * setting.width
    # The catalogue is read at least once; queries and results are small beside it.
    job = Job(setting.users, "users", work, setting.dtype, matrix.numel() * matrix.itemsize)
    found = {name: Measurement.of(name, timing, job, limits) for name, timing in timings.items()}
    report = Report("rank", asdict(setting) | {"threads": count}, limits, list(found.values()))
    report.targets = [share(f"{OURS}, share of the limit", found[OURS], 85.0), ratio(f"{OURS} / {PLAIN}", found[OURS], found[PLAIN])]
    if (peak := peaks[OURS]) is not None:
        report.targets.append(_within(peak, setting.memory_bytes))
    report.details = {
        "peak_extra_bytes": peaks[OURS],
        "peak_extra_bytes_plain": peaks[PLAIN],
        "budget_bytes": setting.memory_bytes,
        "least_seconds_compute_float32": work / limits.float32,
        "least_seconds_compute_bfloat16": work / limits.bfloat16,
        "least_seconds_memory": job.read / limits.read,
        "share_of_lists_equal_to_plain": float(same),
    }
    report.notes.append("The limit is the slower of the product at the measured rate of its type and one pass over the catalogue.")
    return report


def _within(peak: int, budget: int) -> Target:
    held, goal = peak / 2**30, budget / 2**30
    return Target(f"{OURS}, peak beside queries and catalogue", "GiB", held, held, held, goal, at_most=True)


def _vectors(setting: RankSetting) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(setting.seed)
    dtype, device = getattr(torch, setting.dtype), choose(setting.device)
    queries = torch.randn(setting.users, setting.width, generator=generator).to(device, dtype)
    matrix = torch.empty(setting.items, setting.width, dtype=dtype, device=device)
    for part in matrix.split(100_000):
        part.copy_(torch.randn(part.shape, generator=generator))
    return queries, matrix


def _ours(setting: RankSetting, queries: Tensor, matrix: Tensor) -> Tensor:
    return top_k(queries, matrix, setting.k, memory_bytes=setting.memory_bytes).items


def _plain(setting: RankSetting, queries: Tensor, matrix: Tensor) -> Tensor:
    """Keep the best of each chunk, then the best of those: items int64 [B, k]."""
    chunk = max(setting.k, setting.memory_bytes // (queries.itemsize * setting.users))
    scores, items = [], []
    for start in range(0, setting.items, chunk):
        best = (queries @ matrix[start : start + chunk].T).topk(min(setting.k, setting.items - start), dim=1)
        scores.append(best.values)
        items.append(best.indices + start)
    places = torch.cat(scores, dim=1).topk(setting.k, dim=1).indices
    return torch.cat(items, dim=1).gather(1, places)
