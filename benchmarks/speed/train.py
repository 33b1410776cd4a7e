"""Time training in users/s: from virtual tokens to embeddings and back, ours beside the plain route, and a whole optimiser step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.speed.figures import Job, Measurement, Report, Target, ratio, share
from benchmarks.speed.flops import Work, causal_pairs, through
from benchmarks.speed.limits import measure_limits
from benchmarks.speed.synthetic_shop import Setting, SyntheticShop, read
from benchmarks.speed.timing import Progress, Route, interleave, silent, threads
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.laser.item_texts import ItemTexts
from laserrec.training.laser_task import LaserTask

CACHED, PREFIX, STEP = "text_first, cached", "prefix_first", "text_first, cached, optimiser step"
PLAIN_APART, PLAIN_CAUSAL, PLAIN_PREFIX = "plain text_first, items apart", "plain text_first, causal", "plain prefix_first"
NOTE = (
    "Work is counted as needed: of the last layer the suffix's state alone, of a cached text nothing. The optimiser step is judged by its "
    "work in the language model."
)
Embed = Callable[[Tensor], Tensor]


def bench_train(setting: Setting, progress: Progress = silent) -> Report:
    """Time training in both prompt orders.

    Args:
        setting: sizes; `users` histories a repeat for the cached route, `prompts` for those that read whole prompts.
        progress: called with what is being done.
    """
    with threads(setting.threads) as count, tempfile.TemporaryDirectory() as folder:
        progress("texts into the cache")
        shop = SyntheticShop(setting)
        cached = shop.texts("text_first")
        cached.encode_once(Path(folder))
        embeds = _embeds(shop, cached)
        routes = {name: _learning(shop, *embed) for name, embed in embeds.items()}
        routes[STEP] = Route(_step(shop, cached))
        progress("the machine's limits")
        before = measure_limits(shop.shape, setting.side, shop.device)
        timings = interleave(routes, setting.repeats, progress=progress)
        limits = before.best(measure_limits(shop.shape, setting.side, shop.device))
        agreement = _agreement(shop, embeds, cached)
    jobs = _jobs(shop)
    found = {name: Measurement.of(name, timing, jobs[name], limits) for name, timing in timings.items()}
    asked = asdict(setting) | {"threads": count, "arithmetic": shop.arithmetic}
    report = Report("train", asked, limits, list(found.values()), _targets(found), notes=[NOTE])
    whole = sum(_prompt(shop, row).total for row in shop.histories[: setting.prompts].tolist())
    report.details = agreement | {
        "frozen_weights_bytes": shop.weight_bytes,
        "tokens_an_item": sum(map(len, shop.lines)) / len(shop.lines),
        "prefix_first_share_counting_the_whole_last_layer": whole / limits.rate(shop.arithmetic) / timings[PREFIX].median,
    }
    return report


def _embeds(shop: SyntheticShop, cached: ItemTexts) -> dict[str, tuple[int, Embed]]:
    """Return each route as its number of histories and the function from virtual tokens [B, L + 1, H] to embeddings [B, H]."""
    users, prompts = shop.histories[: shop.setting.users], shop.histories[: shop.setting.prompts]
    plain = shop.plain(shop.setting.batch)
    texts = shop.prompts(prompts)
    whole = shop.texts("prefix_first").reader
    return {
        CACHED: (len(users), lambda virtual: read(cached.reader, users, virtual)),
        PLAIN_APART: (len(prompts), lambda virtual: plain.read(texts, virtual, "text_first", apart=True)),
        PLAIN_CAUSAL: (len(prompts), lambda virtual: plain.read(texts, virtual, "text_first")),
        PREFIX: (len(prompts), lambda virtual: read(whole, prompts, virtual)),
        PLAIN_PREFIX: (len(prompts), lambda virtual: plain.read(texts, virtual, "prefix_first")),
    }


def _learning(shop: SyntheticShop, rows: int, embed: Embed) -> Route:
    """Return forward and backward, with the virtual tokens as leaves."""
    pull = torch.randn(rows, shop.backbone.width).to(shop.device)

    def run(virtual: Tensor) -> None:
        embed(virtual).backward(pull)

    return Route(run, lambda: shop.virtual(rows).requires_grad_())


def _step(shop: SyntheticShop, cached: ItemTexts) -> Callable[[object], None]:
    """Return a whole step of stage 1 or 2, as training takes it: M-Former, language model, scores of the catalogue, loss, AdamW."""
    laser = shop.system(cached)
    users = shop.histories[: shop.setting.users].cpu().numpy()
    # The target is the first item of the history: any item costs the same.
    histories = Ragged.from_rows([np.append(row, row[0]) for row in users])
    no_cases = Cases(np.empty(0, np.int64), Ragged.from_rows([]), np.empty(0, np.int64))
    task = LaserTask(laser, histories, no_cases, balance=0.01, positions=1, refresh=False, seed=shop.setting.seed)
    optimiser = torch.optim.AdamW([p for p in task.module.parameters() if p.requires_grad], lr=1e-5)
    task.module.train()

    def run(_: object) -> None:
        optimiser.zero_grad()
        task.step(torch.arange(len(task)), 1).loss.backward()
        optimiser.step()

    return run


@torch.no_grad()
def _agreement(shop: SyntheticShop, embeds: dict[str, tuple[int, Embed]], cached: ItemTexts) -> dict[str, float | int | None]:
    """Return the smallest cosine between ours and the plain route's embedding of the same history, in each order."""
    rows = min(shop.setting.users, shop.setting.prompts)
    virtual = shop.virtual(max(shop.setting.users, shop.setting.prompts))
    pairs = {"text_first": (CACHED, PLAIN_APART), "prefix_first": (PREFIX, PLAIN_PREFIX)}
    found: dict[str, float | int | None] = {}
    for order, names in pairs.items():
        ours, plain = (embeds[name][1](virtual[: embeds[name][0]])[:rows] for name in names)
        found[f"smallest_cosine_to_plain_{order}"] = float(cosine_similarity(ours, plain).min())
    return found


def _prompt(shop: SyntheticShop, row: list[int], *, apart: bool = False, last_only: bool = False) -> Work:
    """Count a whole prompt, causal in either order; `apart` where items do not see each other."""
    lengths = [len(shop.lines[item]) for item in row]
    new = shop.setting.prefix + 1
    total = sum(lengths) + new
    pairs = sum(map(causal_pairs, lengths)) + causal_pairs(total) - causal_pairs(total - new) if apart else None
    return through(shop.shape, total, pairs=pairs, last_only=last_only)


def _jobs(shop: SyntheticShop) -> dict[str, Job]:
    setting = shop.setting
    shape = shop.shape
    users, prompts = shop.histories[: setting.users].tolist(), shop.histories[: setting.prompts].tolist()
    texts = [sum(len(shop.lines[item]) for item in row) for row in users]
    cached = sum(through(shape, setting.prefix + 1, context=text, last_only=True).total for text in texts)
    # Keys and values are needed on the way forward and on the way back.
    keys_values = 2 * sum(texts) * shape.cached * shop.backbone.storage_dtype.itemsize

    def job(flops: float, rows: int, bytes_read: float = 0.0) -> Job:
        return Job(rows, "users", flops, shop.arithmetic, bytes_read)

    def whole(apart: bool = False, last_only: bool = False) -> Job:
        return job(sum(_prompt(shop, row, apart=apart, last_only=last_only).total for row in prompts), len(prompts))

    return {
        CACHED: job(cached, len(users), keys_values),
        PLAIN_APART: whole(apart=True),
        PLAIN_CAUSAL: whole(),
        PREFIX: whole(last_only=True),
        PLAIN_PREFIX: whole(),
        STEP: job(cached, len(users), keys_values),
    }


def _targets(found: dict[str, Measurement]) -> list[Target]:
    plain = max(found[PLAIN_APART], found[PLAIN_CAUSAL], key=lambda route: route.median)
    return [
        ratio(f"{CACHED} / {plain.name} (the faster of the plain two)", found[CACHED], plain, 20.0),
        ratio(f"{CACHED} / {PLAIN_APART} (same outputs)", found[CACHED], found[PLAIN_APART]),
        ratio(f"{STEP} / {plain.name} without its step", found[STEP], plain),
        ratio(f"{PREFIX} / {PLAIN_PREFIX}", found[PREFIX], found[PLAIN_PREFIX], 1.8),
        share(f"{PREFIX}, share of the limit", found[PREFIX], 70.0),
        share(f"{CACHED}, share of the limit", found[CACHED]),
    ]
