"""Time the preparation of a large log, ours and the same in pandas, each in a separate process to measure its peak memory.

The job: read a CSV of interactions and one of items, drop duplicate events, keep the 5-core, sort, divide by leave-one-out, and write
both tables as Parquet. Ours also looks for bad rows, counts repeats, hashes its sources and takes the split's fingerprint.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from laserrec.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from benchmarks.speed.figures import Target

Name = Literal["laserrec", "pandas", "pandas-pyarrow", "pandas-categories"]
GOAL = 10.0
"""Times faster than pandas."""
MEMORY_GOAL = 6.0
"""Peak, GiB."""
_LOG, _CATALOGUE = "interactions.csv", "items.csv"
_LEAST = 5  # events of a user and of an item


@dataclass(frozen=True)
class Outcome:
    """What one run of a route took and made.

    Attributes:
        seconds: the job's, libraries loaded.
        peak_bytes: most memory that the process held, libraries included.
        users: users that were kept.
        items: items that were kept.
        interactions: events that were kept.
    """

    seconds: float
    peak_bytes: int
    users: int
    items: int
    interactions: int


def bench_data(rows: int = 10_000_000, repeats: int = 3, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Time the routes in turns on one synthetic log.

    Args:
        rows: events of the log; 40 bytes each on the disk for a while, in the folder for temporary files.
        repeats: rounds.
        progress: called with what is being done.

    Returns:
        Where and how it was measured; `setting`, `kept` (users, items and interactions, the same for all); `routes`: each route's seconds
        (median, low, high, all), rows/s and peak bytes; `targets`: how many times as long each pandas route takes, round by round, and
        our peak memory; `floor`: seconds that parts of our job take alone, once each.

    Raises:
        MissingExtraError: pandas or pyarrow is not installed.
        DataError: the log is too small.
    """
    if importlib.util.find_spec("pandas") is None:
        raise MissingExtraError("pandas", "bench", "Comparing with pandas")
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "bench", "Comparing with pandas")
    if rows < 1000 or repeats < 1:
        raise DataError(f"The benchmark needs 1,000 rows and 1 repeat or more; received {rows} and {repeats}.")
    with tempfile.TemporaryDirectory(prefix="laserrec-bench-") as name:
        folder = Path(name)
        progress(f"writing a log of {rows:,} events")
        _child("generate", folder, rows)
        found: dict[Name, list[Outcome]] = {route: [] for route in get_args(Name)}
        for number in range(repeats):
            for route, outcomes in found.items():
                progress(f"round {number + 1} of {repeats}: {route}")
                outcomes.append(Outcome(**_child("run", folder, route)))
        progress("the parts alone")
        floor = _child("floor", folder)
        size = (folder / _LOG).stat().st_size
    return _report(found, floor, {"rows": rows, "repeats": repeats, "log_bytes": size, "cores": os.cpu_count()})


def _report(found: dict[Name, list[Outcome]], floor: dict[str, float], setting: dict[str, Any]) -> dict[str, Any]:
    kept = {(outcome.users, outcome.items, outcome.interactions) for outcomes in found.values() for outcome in outcomes}
    if len(kept) > 1:
        raise RuntimeError(f"The routes do not do the same job: users, items and interactions kept are {sorted(kept)}.")
    from importlib.metadata import version

    # torch comes with these, which would count in the memory of the processes that are measured.
    from laserrec.system.provenance import provenance

    users, items, interactions = kept.pop()
    routes = {name: _route(outcomes, setting["rows"]) for name, outcomes in found.items()}
    return {
        "bench": "data",
        **provenance(["python", "-m", "benchmarks.speed", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("polars", "numpy", "pandas", "pyarrow")},
        "setting": setting,
        "kept": {"users": users, "items": items, "interactions": interactions},
        "routes": routes,
        "targets": [asdict(target) | {"met": target.met} for target in _targets(found)],
        "floor": floor,
    }


def _targets(found: dict[Name, list[Outcome]]) -> list[Target]:
    """Return how many times as long each other route takes, round by round, and our peak memory."""
    from benchmarks.speed.figures import Target

    targets = []
    for name, outcomes in found.items():
        if name != "laserrec":
            ratios = [theirs.seconds / ours.seconds for ours, theirs in zip(found["laserrec"], outcomes, strict=True)]
            goal = GOAL if name == "pandas" else None
            targets.append(Target(f"laserrec / {name}", "x", statistics.median(ratios), min(ratios), max(ratios), goal))
    peaks = [outcome.peak_bytes / 2**30 for outcome in found["laserrec"]]
    return [*targets, Target("laserrec, peak memory", "GiB", max(peaks), min(peaks), max(peaks), MEMORY_GOAL, at_most=True)]


def _route(outcomes: list[Outcome], rows: int) -> dict[str, Any]:
    seconds = [outcome.seconds for outcome in outcomes]
    median = statistics.median(seconds)
    return {
        "seconds": {"median": median, "low": min(seconds), "high": max(seconds), "all": seconds},
        "rows_per_second": rows / median,
        "peak_bytes": max(outcome.peak_bytes for outcome in outcomes),
    }


def _child(*arguments: object) -> Any:  # noqa: ANN401 - JSON
    """Run this module in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.speed.data", *map(str, arguments)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(words[1:])} ended with {result.returncode}:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout)


def generate(folder: Path, rows: int, seed: int = 0) -> None:
    """Write a log in the order of time and its catalogue, as a shop has them.

    A twentieth as many users as events, some far busier than others; a hundredth as many items, their popularity falling as 1 / rank; ids
    of 14 and 10 letters; one event in 200 logged twice; titles with commas, one in 50 missing.

    Args:
        folder: for `interactions.csv` and `items.csv`.
        rows: events.
        seed: of everything.
    """
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    users, items = rows // 20, rows // 100
    activity, popularity = np.cumsum(rng.lognormal(0, 1.2, users)), np.cumsum(1 / np.arange(1, items + 1))
    user = np.searchsorted(activity, rng.random(rows) * activity[-1])
    item = rng.permutation(items)[np.searchsorted(popularity, rng.random(rows) * popularity[-1])]
    when = np.sort(rng.integers(1_500_000_000, 1_600_000_000, rows))
    twice = np.arange(199, rows, 200)
    for column in (user, item, when):
        column[twice] = column[twice - 1]
    user_ids = pl.Series([f"U{number * 2_654_435_761 % 10**13:013d}" for number in range(users)])
    item_ids = pl.Series([f"I{number * 2_654_435_761 % 10**9:09d}" for number in range(items)])
    log = {"user_id": user_ids.gather(pl.Series(user)), "item_id": item_ids.gather(pl.Series(item)), "timestamp": when}
    pl.DataFrame(log).write_csv(folder / _LOG)
    titles = [f"Thing {number}, size {number % 7}" if number % 50 else None for number in range(items)]
    brands = [f"Brand {number % 997}" for number in range(items)]
    pl.DataFrame({"item_id": item_ids, "title": titles, "brand": brands}).write_csv(folder / _CATALOGUE)


def run_laserrec(folder: Path, out: Path) -> tuple[int, int, int]:
    """Do the job our way.

    Args:
        folder: holds the log and the catalogue.
        out: folder to write.

    Returns:
        Users, items and interactions kept.
    """
    from laserrec.data.options import ReadOptions
    from laserrec.data.prepare import PrepareOptions, prepare

    dataset, summary = prepare(folder / _LOG, PrepareOptions(read=ReadOptions(items=folder / _CATALOGUE)))
    dataset.save(out)
    return summary.users, summary.items, summary.interactions


def run_pandas(folder: Path, out: Path, route: Name) -> tuple[int, int, int]:
    """Do the job as a good user of pandas would.

    Args:
        folder: holds the log and the catalogue.
        out: folder to write.
        route: `pandas`: as it comes; `pandas-pyarrow`: read by pyarrow's parser; `pandas-categories`: so, and ids as categories.

    Returns:
        Users, items and interactions kept.
    """
    import numpy as np
    import pandas as pd

    engine = None if route == "pandas" else "pyarrow"
    events, items = pd.read_csv(folder / _LOG, engine=engine), pd.read_csv(folder / _CATALOGUE, engine=engine)
    if route == "pandas-categories":
        events = events.astype({"user_id": "category", "item_id": "category"})
    events = events.drop_duplicates()
    before = -1
    while len(events) != before:
        before = len(events)
        by_user = events.groupby("user_id", sort=False, observed=True)["timestamp"].transform("size")
        by_item = events.groupby("item_id", sort=False, observed=True)["timestamp"].transform("size")
        events = events[(by_user >= _LEAST) & (by_item >= _LEAST)]
    events = events.sort_values(["user_id", "timestamp"])  # more than one column: stable, so ties keep the order of the file
    users = events.groupby("user_id", sort=False, observed=True)["timestamp"]
    from_end = users.cumcount(ascending=False)
    length = users.transform("size")
    part = np.select([(length >= 3) & (from_end == 0), (length >= 3) & (from_end == 1)], [2, 1], 0)
    events["part"] = pd.Categorical.from_codes(part, ["train", "valid", "test"])
    items = items.drop_duplicates("item_id")
    items = items[items["item_id"].isin(events["item_id"].unique())].sort_values("item_id")
    out.mkdir()
    events.to_parquet(out / "interactions.parquet", index=False)
    items.to_parquet(out / "items.parquet", index=False)
    return events["user_id"].nunique(), len(items), len(events)


def _timed(folder: Path, route: Name) -> Outcome:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    if route == "laserrec":
        import laserrec.data.prepare  # noqa: F401 - loaded before the clock starts
    else:
        import pandas  # noqa: F401 - loaded before the clock starts
        import pyarrow.parquet  # noqa: F401
    start = time.perf_counter()
    users, items, interactions = run_laserrec(folder, out) if route == "laserrec" else run_pandas(folder, out, route)
    return Outcome(time.perf_counter() - start, _peak_bytes(), users, items, interactions)


def _floor(folder: Path) -> dict[str, float]:
    """Time what no faster arrangement of the job could leave out, each part alone on the whole machine."""
    import polars as pl

    from laserrec.data.dataset import Dataset

    found: dict[str, float] = {}

    def timed(name: str, part: Callable[[], object]) -> None:
        start = time.perf_counter()
        part()
        found[name] = time.perf_counter() - start

    shutil.rmtree(folder / "out", ignore_errors=True)
    run_laserrec(folder, folder / "out")
    dataset = Dataset.load(folder / "out")
    content = (folder / _LOG).read_bytes()
    codes = dataset.events.user.tobytes()
    timed("read_csv", lambda: pl.read_csv(folder / _LOG))
    timed("hash_log", lambda: hashlib.sha256(content))
    timed("hash_split", lambda: [hashlib.sha256(codes) for _ in range(3)])
    timed("write_parquet", lambda: dataset.interactions.write_parquet(folder / "floor.parquet", compression="lz4"))
    return found


def _peak_bytes() -> int:
    """Return the most memory that this process has held; the kernel's own count of it where it keeps one that starts with the process."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:")).split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _main(command: str, folder: Path, *rest: str) -> None:
    found: dict[str, Any] = {}
    if command == "generate":
        generate(folder, int(rest[0]))
    elif command == "floor":
        found = _floor(folder)
    else:
        found = asdict(_timed(folder, next(name for name in get_args(Name) if name == rest[0])))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
