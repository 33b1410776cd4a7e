"""Hold the outcome of a benchmark: measurements with spread and share of the limit, targets, and the machine."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.speed.limits import DType, Limits
from benchmarks.speed.timing import Timing
from laserrec.system.provenance import provenance


@dataclass(frozen=True)
class Job:
    """What a route does in one repeat.

    Attributes:
        count: how many of `unit`.
        unit: what is counted: users, items, tokens.
        flops: floating-point operations that the job needs; those of a route that does more than it needs stay uncounted.
        dtype: type of its matrix products.
        read: bytes that must be read from memory.
    """

    count: int
    unit: str
    flops: float
    dtype: DType
    read: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """One route's rate.

    Attributes:
        name: the route.
        unit: of the rates, such as users/s.
        median: rate of the median repeat.
        low: slowest repeat's.
        high: fastest repeat's.
        seconds: each repeat.
        limit_share: the least time the machine's limits allow, over the median time.
        bound: which limit that is.
    """

    name: str
    unit: str
    median: float
    low: float
    high: float
    seconds: tuple[float, ...]
    limit_share: float
    bound: Literal["compute", "memory"]

    @classmethod
    def of(cls, name: str, timing: Timing, job: Job, limits: Limits) -> Measurement:
        """Set a route's times against its job and the machine's limits."""
        least, bound = limits.least_seconds(job.flops, job.dtype, job.read)
        rates = [job.count / seconds for seconds in timing.seconds]
        return cls(name, f"{job.unit}/s", job.count / timing.median, min(rates), max(rates), timing.seconds, least / timing.median, bound)


@dataclass(frozen=True)
class Target:
    """A figure and where it should be.

    Attributes:
        what: what is compared.
        unit: x for ratios, % for shares, ms for times, GiB for memory.
        median: the figure.
        low: its smallest value over the rounds.
        high: its largest.
        goal: where it should be; None for a figure without target.
        at_most: the goal is a ceiling; otherwise it is a floor.
    """

    what: str
    unit: Literal["x", "%", "ms", "GiB"]
    median: float
    low: float
    high: float
    goal: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the figure is where it should be."""
        if self.goal is None:
            return None
        return self.median <= self.goal if self.at_most else self.median >= self.goal


def ratio(what: str, ours: Measurement, theirs: Measurement, goal: float | None = None, unit: Literal["x", "%"] = "x") -> Target:
    """Compare two routes' rates round by round."""
    speed = [(our, their) for our, their in zip(ours.seconds, theirs.seconds, strict=True)]
    # The rate is the count over the seconds; the counts' ratio is the same in every round.
    counts = ours.median * statistics.median(ours.seconds) / (theirs.median * statistics.median(theirs.seconds))
    scale = 100.0 if unit == "%" else 1.0
    values = [scale * counts * their / our for our, their in speed]
    return Target(what, unit, statistics.median(values), min(values), max(values), goal)


def share(what: str, measurement: Measurement, goal: float | None = None) -> Target:
    """Turn a measurement's share of the limit into a target."""
    scale = 100 * measurement.limit_share / measurement.median
    return Target(what, "%", 100 * measurement.limit_share, scale * measurement.low, scale * measurement.high, goal)


@dataclass
class Report:
    """All that one benchmark found.

    Attributes:
        bench: its name.
        setting: what was measured.
        limits: the machine's, the better of those measured before and after.
        measurements: the routes.
        targets: ratios and shares.
        details: further figures by name.
        notes: what a reader must know.
    """

    bench: str
    setting: Mapping[str, Any]
    limits: Limits
    measurements: list[Measurement] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    details: dict[str, float | int | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON's types."""
        return {
            "bench": self.bench,
            **provenance(["python", "-m", "benchmarks.speed", *sys.argv[1:]]),
            "setting": dict(self.setting),
            "limits": self.limits.as_dict(),
            "measurements": [asdict(measurement) for measurement in self.measurements],
            "targets": [asdict(target) | {"met": target.met} for target in self.targets],
            "details": self.details,
            "notes": self.notes,
        }
