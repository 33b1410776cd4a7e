"""Time routes fairly: warmed up, repeated, and in turns (A B A B …), so that ratios come from the same minutes.

Knows nothing of what it times.
"""

from __future__ import annotations

import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from laserrec.system.devices import CPU, wait

SAMPLE_SECONDS = 0.002
Progress = Callable[[str], None]
"""Called with what is being done, for a line on the terminal."""


@dataclass(frozen=True)
class Route:
    """One way to do a job.

    Attributes:
        run: the job, given what `prepare` made.
        prepare: makes what each repeat needs anew; not timed.
    """

    run: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Timing:
    """What every repeat took, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The repeats' median."""
        return statistics.median(self.seconds)


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """Let torch use `count` threads, all it had when None; yield how many it uses; undo that afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def silent(_: str) -> None:
    """Report nothing."""


def interleave(routes: Mapping[str, Route], repeats: int, warm_up: int = 1, progress: Progress = silent) -> dict[str, Timing]:
    """Time every route `repeats` times, in turns.

    Args:
        routes: by name.
        repeats: timed rounds.
        warm_up: rounds before them that are not timed.
        progress: called with the round and the route.
    """
    seconds: dict[str, list[float]] = {name: [] for name in routes}
    for turn in range(-warm_up, repeats):
        for name, route in routes.items():
            progress(f"{name}, {f'round {turn + 1} of {repeats}' if turn >= 0 else 'warm-up'}")
            taken = once(route)
            if turn >= 0:
                seconds[name].append(taken)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def once(route: Route) -> float:
    """Run a route a single time and return the seconds it took, garbage collected before and not during it."""
    given = route.prepare()
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        route.run(given)
        wait()
        return time.perf_counter() - began
    finally:
        gc.enable()


def peak_memory(run: Callable[[], object], device: torch.device = CPU) -> int | None:
    """Return by how many bytes of a device this process grew at most while it ran something; None where the system does not report it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None

    def resident() -> int:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    done = threading.Event()
    peak = 0
    start = resident()

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return max(peak, resident()) - start
