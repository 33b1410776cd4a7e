"""The demonstration: MovieLens 100K, several models under one protocol after the other, and a few users by title.

Everything but the data's name is what any user of the library would call. Knows nothing of printing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from laserrec.assets import fetch
from laserrec.baselines.base import Baseline
from laserrec.baselines.collection import DEMONSTRATED
from laserrec.baselines.ensemble import EnsembleBaseline
from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.evaluation.metrics import PROTOCOLS, Protocol
from laserrec.evaluation.statistics import compare
from laserrec.laser.ranking_requests import Recommendation
from laserrec.recommender import Laser
from laserrec.runs.baselines import measure_baseline
from laserrec.runs.estimate import Plan, estimate_run
from laserrec.runs.folder import Result, RunFolder, read_result, train_run
from laserrec.system.devices import CPU
from laserrec.system.files import write_json
from laserrec.system.progress import Observer
from laserrec.training.sequential_stage import refit_stages

SETTINGS: Mapping[str, Any] = {}
"""Where the demonstration departs from the defaults: nowhere."""
QUICK: Mapping[str, Any] = {"fit_collaborative": {"epochs": 5}, "stage1": {"epochs": 1}, "stage2": {"epochs": 1}}
"""A few epochs: shows the way, not the figures."""
EXAMPLES = 3
DECISIVE = "ndcg@10"


@dataclass(frozen=True)
class Verdict:
    """Laser against the best of the others, under one protocol.

    Attributes:
        protocol: which one.
        rival: the best of the others by N@10.
        difference: Laser's N@10 minus the rival's.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: of the paired randomisation test.
    """

    protocol: Protocol
    rival: str
    difference: float
    low: float
    high: float
    p_value: float

    @classmethod
    def of(cls, results: Sequence[Result], protocol: Protocol) -> Verdict:
        """Test the last of the results, paired, against the best of the others."""
        *others, laser = results
        best = max(others, key=lambda result: result.evaluation.metrics(protocol)[DECISIVE])
        found = compare(laser.evaluation.per_case(DECISIVE, protocol), best.evaluation.per_case(DECISIVE, protocol))
        return cls(protocol, best.evaluation.about["model"], found.difference, found.low, found.high, found.p_value)

    @property
    def text(self) -> str:
        """One plain sentence."""
        p_value = "p < .001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        figures = f"N@10 {self.difference:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}, {p_value}"
        if self.p_value >= 0.05:
            return f"Laser does not win here: it and {self.rival} cannot be told apart ({figures})."
        if self.difference > 0:
            return f"Laser wins here: it is ahead of {self.rival} ({figures})."
        return f"Laser does not win here: {self.rival} is ahead ({figures})."


@dataclass(frozen=True)
class Example:
    """One user's history, what they took next, and what Laser would have shown them.

    Attributes:
        user: the user's id.
        history: titles, oldest first.
        following: title of the test event.
        found: best first, items of the history left out.
    """

    user: str
    history: Sequence[str]
    following: str
    found: Sequence[Recommendation]


@dataclass(frozen=True)
class Demonstration:
    """What was found.

    Attributes:
        results: one a model, Laser last.
        verdicts: one a protocol.
        examples: a few users.
    """

    results: Sequence[Result]
    verdicts: Sequence[Verdict]
    examples: Sequence[Example]

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the ranks, for JSON."""
        verdicts = [asdict(verdict) | {"text": verdict.text} for verdict in self.verdicts]
        return {
            "results": [result.as_dict() for result in self.results],
            "verdicts": verdicts,
            "examples": [asdict(example) for example in self.examples],
        }


def demo_config(quick: bool = False) -> LaserConfig:
    """Return the demonstration's settings."""
    return LaserConfig.build("default", QUICK if quick else SETTINGS, source="the demonstration's settings")


def demo_data() -> Dataset:
    """Fetch MovieLens 100K and prepare it: every rating is an interaction, leave-one-out.

    Raises:
        AssetError: it cannot be fetched.
    """
    return prepare(fetch("ml-100k"), PrepareOptions(name="ml-100k", split="leave-one-out"))[0]


def plan_demo(data: Dataset, config: LaserConfig, folder: Path, device: torch.device = CPU) -> Plan:
    """Predict what the demonstration takes on a dataset; see `estimate_run`."""
    return estimate_run(data, config, folder, baselines=compared_with(config), device=device)


def compared_with(config: LaserConfig) -> list[Baseline]:
    """Return what Laser is compared with under these settings; an ensemble only where they have one."""
    return [baseline for baseline in DEMONSTRATED if not isinstance(baseline, EnsembleBaseline) or refit_stages(config)]


def demonstrate(data: Dataset, run: RunFolder, observers: Sequence[Observer] = (), device: torch.device = CPU) -> Demonstration:
    """Train and evaluate every model, or take up where an earlier call stopped.

    Args:
        data: the dataset.
        run: the run's folder; Laser's run is the folder itself, every other model has a folder below.
        observers: who watches.
        device: where everything is computed.

    Raises:
        InterruptedTraining: Ctrl-C; call again to continue.
    """
    results = [measure_baseline(baseline, data, run, observers, device=device)["test"] for baseline in compared_with(run.config)]
    for observer in observers:
        observer.log("Laser: its own recommender without the last training event, stage 1, stage 2, and the ensemble fused")
    laser = train_run(run, data, observers, device)
    results.append(read_result(run, "test"))
    found = Demonstration(results, [Verdict.of(results, protocol) for protocol in PROTOCOLS], _examples(data, laser))
    write_json(run.path / "results.json", found.as_dict())
    return found


def _examples(data: Dataset, laser: Laser) -> list[Example]:
    """Take users spread over the test cases, each as they stood before their test event."""
    cases = data.cases("test").spread(EXAMPLES)
    examples = []
    for row in range(len(cases)):
        history = [data.item_ids[item] for item in cases.histories[row]]
        found = laser.recommend([history], k=5)[0]
        titles = [laser.title(item) for item in history]
        examples.append(Example(data.user_ids[cases.users[row]], titles, laser.title(data.item_ids[cases.targets[row]]), found))
    return examples
