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
from benchmarks.speed.synthetic_shop import Setting, SyntheticShop
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
        shop = SyntheticShop(setting)
        cached = shop.texts("text_first")
        cached.encode_once(Path(folder) / "kept")
        system = shop.system(cached)
        plain = shop.plain(setting.batch)
        everything = torch.arange(setting.catalogue, device=shop.device)
        fresh = Path(folder) / "fresh"
        routes = {
            REFRESH: Route(lambda _: system.embed_items(everything)),
            PLAIN_REFRESH: Route(lambda _: _plain_refresh(shop, system, plain)),
            BUILD: Route(lambda texts: texts.encode_once(fresh), lambda: _unread(shop, fresh)),
            PLAIN_FORWARD: Route(lambda _: plain.encode(shop.lines)),
        }
        progress("the machine's limits")
        before = measure_limits(shop.shape, setting.side, shop.device)
        timings = interleave(routes, setting.repeats, progress=progress)
        limits = before.best(measure_limits(shop.shape, setting.side, shop.device))
        cosine = cosine_similarity(system.embed_items(everything), _plain_refresh(shop, system, plain)).min()
    jobs = _jobs(shop)
    found = {name: Measurement.of(name, timing, jobs[name], limits) for name, timing in timings.items()}
    report = Report("items", asdict(setting) | {"threads": count, "arithmetic": shop.arithmetic}, limits, list(found.values()))
    report.targets = [
        ratio(f"{REFRESH} / {PLAIN_REFRESH}", found[REFRESH], found[PLAIN_REFRESH], 10.0),
        share(f"{REFRESH}, share of the limit", found[REFRESH]),
        ratio(f"{BUILD} / {PLAIN_FORWARD}", found[BUILD], found[PLAIN_FORWARD], 80.0, unit="%"),
        share(f"{BUILD}, share of the limit", found[BUILD]),
    ]
    report.details = {
        "smallest_cosine_to_plain": float(cosine),
        "work_of_plain_refresh_over_cached": jobs[PLAIN_REFRESH].flops / jobs[REFRESH].flops,
        "cache_bytes_a_token": shop.shape.cached * shop.backbone.storage_dtype.itemsize,
        "cache_tokens_per_second_per_core": found[BUILD].median / count,
    }
    return report


@torch.no_grad()
def _plain_refresh(shop: SyntheticShop, system: LaserSystem, plain: PlainRoute) -> Tensor:
    """Embed every item as a whole prompt [text; P; s], with the virtual tokens that the system gives it: [N, H]."""
    items = torch.arange(shop.setting.catalogue, device=shop.device)[:, None]
    virtual = system.model.item_virtual(*system.collaborative.states(items, torch.ones_like(items, dtype=torch.bool)))
    return plain.read([[line] for line in shop.lines], virtual, "text_first")


def _unread(shop: SyntheticShop, folder: Path) -> ItemTexts:
    """Return texts of which nothing is encoded, in memory or in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    return shop.texts("text_first")


def _jobs(shop: SyntheticShop) -> dict[str, Job]:
    shape = shop.shape
    new = shop.setting.prefix + 1
    lengths = [len(line) for line in shop.lines]
    dtype = shop.arithmetic
    itemsize = shop.backbone.storage_dtype.itemsize
    refresh = sum(through(shape, new, context=length, last_only=True).forward for length in lengths)
    whole = sum(through(shape, length + new).forward for length in lengths)
    build, forward = sum(encode(shape, length).forward for length in lengths), sum(through(shape, length).forward for length in lengths)
    return {
        REFRESH: Job(len(lengths), "items", refresh, dtype, sum(lengths) * shape.cached * itemsize),
        PLAIN_REFRESH: Job(len(lengths), "items", whole, dtype),
        BUILD: Job(sum(lengths), "tokens", build, dtype),
        PLAIN_FORWARD: Job(sum(lengths), "tokens", forward, dtype),
    }
