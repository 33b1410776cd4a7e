"""Time one request through the public class, in ms: a history of known items in, the best items with their titles out."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.figures import Job, Measurement, Report, Target, ratio
from benchmarks.speed.flops import through
from benchmarks.speed.limits import measure_limits
from benchmarks.speed.synthetic_shop import Setting, SyntheticShop
from benchmarks.speed.timing import Progress, Timing, silent, threads

K = 10
"""Items of a list."""
BATCHES = (1, 4, 16, 64)
"""Histories of one call: what a service's engine gathers while requests wait."""
WARM_UP = 5
"""Requests before the clock starts."""
PLAIN_EVERY = 20
"""Our requests for one of the plain route, which is many times slower."""
REQUEST, PLAIN = "Laser.recommend", "plain forward of the whole prompt, no ranking"
GOALS = {50: 25.0, 95: None, 99: 60.0}
"""Milliseconds aimed at, by percentile."""


def bench_serve(setting: Setting, requests: int = 300, progress: Progress = silent) -> Report:
    """Time requests one by one, each for another of `users` histories of the shop's items, all of whose texts are encoded.

    Args:
        setting: sizes.
        requests: timed requests, in `repeats` rounds; the plain route takes one for every twenty, in the same rounds.
        progress: called with what is being done.
    """
    with threads(setting.threads) as count, tempfile.TemporaryDirectory() as folder:
        progress("texts into the cache")
        shop = SyntheticShop(setting)
        ours = _ours(shop, Path(folder))
        plain = _plain(shop)
        progress("the machine's limits")
        before = measure_limits(shop.shape, setting.side, shop.device)
        each = max(requests // setting.repeats, 1)
        progress(f"{each * setting.repeats} requests")
        _take(ours, WARM_UP), _take(plain, 1)
        rounds = [(_take(ours, each), _take(plain, max(each // PLAIN_EVERY, 1))) for _ in range(setting.repeats)]
        progress("several histories a call")
        batches = {size: statistics.median(_take(partial(ours, size), setting.repeats)) for size in BATCHES}
        limits = before.best(measure_limits(shop.shape, setting.side, shop.device))
    jobs = _jobs(shop)
    found = [
        Measurement.of(name, Timing(tuple(statistics.median(taken[place]) for taken in rounds)), jobs[name], limits)
        for place, name in enumerate((REQUEST, PLAIN))
    ]
    report = Report("serve", asdict(setting) | {"threads": count, "requests": each * setting.repeats, "k": K}, limits, found)
    report.targets = [_percentile([taken[0] for taken in rounds], level, goal) for level, goal in GOALS.items()]
    report.targets.append(ratio(f"{REQUEST} / {PLAIN}", found[0], found[1]))
    report.details |= {f"{size}_histories_a_call,_ms": 1000 * seconds for size, seconds in batches.items()}
    report.notes.append(
        "Each repeat is the median of a round's requests. The limit reads the language model's layers, the history's keys and values and "
        "the item matrix once."
    )
    return report


def _take(request: Callable[[], object], count: int) -> list[float]:
    """Make requests and return the seconds each took; garbage is collected as it is in a service."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        request()
        taken.append(time.perf_counter() - began)
    return taken


def _ours(shop: SyntheticShop, folder: Path) -> Callable[..., object]:
    shop.backbone.for_reading()  # as Laser.load has it
    texts = shop.texts("text_first")
    texts.encode_once(folder)
    laser = shop.laser(texts)
    histories = itertools.cycle([[laser.item_ids[item] for item in row] for row in shop.histories.tolist()])

    def request(count: int = 1) -> object:
        return laser.recommend([next(histories) for _ in range(count)], K)

    return request


def _plain(shop: SyntheticShop) -> Callable[[], object]:
    plain = shop.plain(1)
    virtual = shop.virtual(1)
    prompts = itertools.cycle(shop.prompts(shop.histories))

    @torch.no_grad()
    def request() -> object:
        return plain.read([next(prompts)], virtual, "text_first")

    return request


def _jobs(shop: SyntheticShop) -> dict[str, Job]:
    """Count a request of either route: the same work, with the weights as each keeps them."""
    setting = shop.setting
    shape = shop.shape
    backbone = shop.backbone
    context = round(setting.history * statistics.mean(map(len, shop.lines)))
    work = through(shape, setting.prefix + 1, context=context, last_only=True).forward
    beside = context * shape.cached * backbone.storage_dtype.itemsize + setting.catalogue * shape.width * torch.float32.itemsize
    full = shape.layers * shape.matrices * backbone.dtype.itemsize
    weights = {REQUEST: full if setting.weights == "full" else shop.weight_bytes - backbone.embeddings.weight.nbytes, PLAIN: full}
    return {name: Job(1, "requests", work, shop.arithmetic, each + beside) for name, each in weights.items()}


def _percentile(rounds: list[list[float]], level: int, goal: float | None) -> Target:
    each = [1000 * float(np.percentile(taken, level)) for taken in rounds]
    whole = 1000 * float(np.percentile([seconds for taken in rounds for seconds in taken], level))
    return Target(f"{REQUEST}, p{level}", "ms", whole, min(each), max(each), goal, at_most=True)
