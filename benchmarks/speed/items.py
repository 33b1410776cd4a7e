"""Time refreshing the item matrix and encoding texts into the cache, ours beside the plain route, in items/s."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.speed.figures import Job, Measurement, Report, ratio, share
from benchmarks.speed.flops import encode, through
from benchmarks.speed.limits import measure_limits
from benchmarks.speed.plain import PlainRoute
from benchmarks.speed.synthetic_shop import Setting, World
from benchmarks.speed.timing import Progress, Route, interleave, silent, threads
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.system import LaserSystem

REFRESH, BUILD = "refresh, cached", "cache, built and written"
PLAIN_REFRESH, PLAIN_FORWARD = "plain refresh, text_first", "plain forward of the texts"


def bench_items(setting: Setting, progress: Progress = silent) -> Report:
    """Time the refresh of all items and the encoding of their texts.

    Args:
        setting: sizes; `catalogue` items are refreshed and encoded in each repeat, `batch` at a time on the plain route.
        progress: called with what is being done.
    """
    with threads(setting.threads) as count, tempfile.TemporaryDirectory() as folder:
        progress("texts into the cache")
        world = World(setting)
        cached = world.texts("text_first")
        cached.encode_once(Path(folder) / "kept")
        system = world.system(cached)
        plain = world.plain(setting.batch)
        everything = torch.arange(setting.catalogue, device=world.device)
        fresh = Path(folder) / "fresh"
        routes = {
            REFRESH: Route(lambda _: system.embed_items(everything)),
            PLAIN_REFRESH: Route(lambda _: _plain_refresh(world, system, plain)),
            BUILD: Route(lambda texts: texts.encode_once(fresh), lambda: _unread(world, fresh)),
            PLAIN_FORWARD: Route(lambda _: plain.encode(world.lines)),
        }
        progress("the machine's limits")
        before = measure_limits(world.shape, setting.side, world.device)
        timings = interleave(routes, setting.repeats, progress=progress)
        limits = before.best(measure_limits(world.shape, setting.side, world.device))
        cosine = cosine_similarity(system.embed_items(everything), _plain_refresh(world, system, plain)).min()
    jobs = _jobs(world)
    found = {name: Measurement.of(name, timing, jobs[name], limits) for name, timing in timings.items()}
    report = Report("items", asdict(setting) | {"threads": count, "arithmetic": world.arithmetic}, limits, list(found.values()))
    report.targets = [
        ratio(f"{REFRESH} / {PLAIN_REFRESH}", found[REFRESH], found[PLAIN_REFRESH], 10.0),
        share(f"{REFRESH}, share of the limit", found[REFRESH]),
        ratio(f"{BUILD} / {PLAIN_FORWARD}", found[BUILD], found[PLAIN_FORWARD], 80.0, unit="%"),
        share(f"{BUILD}, share of the limit", found[BUILD]),
    ]
    report.details = {
        "smallest_cosine_to_plain": float(cosine),
        "work_of_plain_refresh_over_cached": jobs[PLAIN_REFRESH].flops / jobs[REFRESH].flops,
        "cache_bytes_a_token": world.shape.cached * world.backbone.storage_dtype.itemsize,
        "cache_tokens_per_second_per_core": found[BUILD].median / count,
    }
    return report


@torch.no_grad()
def _plain_refresh(world: World, system: LaserSystem, plain: PlainRoute) -> Tensor:
    """Embed every item as a whole prompt [text; P; s], with the virtual tokens that the system gives it: [N, H]."""
    items = torch.arange(world.setting.catalogue, device=world.device)[:, None]
    virtual = system.model.item_virtual(*system.collaborative.states(items, torch.ones_like(items, dtype=torch.bool)))
    return plain.read([[line] for line in world.lines], virtual, "text_first")


def _unread(world: World, folder: Path) -> ItemTexts:
    """Return texts of which nothing is encoded, in memory or in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    return world.texts("text_first")


def _jobs(world: World) -> dict[str, Job]:
    shape = world.shape
    new = world.setting.prefix + 1
    lengths = [len(line) for line in world.lines]
    dtype = world.arithmetic
    itemsize = world.backbone.storage_dtype.itemsize
    refresh = sum(through(shape, new, context=length, last_only=True).forward for length in lengths)
    whole = sum(through(shape, length + new).forward for length in lengths)
    build, forward = sum(encode(shape, length).forward for length in lengths), sum(through(shape, length).forward for length in lengths)
    return {
        REFRESH: Job(len(lengths), "items", refresh, dtype, sum(lengths) * shape.cached * itemsize),
        PLAIN_REFRESH: Job(len(lengths), "items", whole, dtype),
        BUILD: Job(sum(lengths), "tokens", build, dtype),
        PLAIN_FORWARD: Job(sum(lengths), "tokens", forward, dtype),
    }
