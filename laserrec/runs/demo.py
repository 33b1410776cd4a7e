"""The demonstration: a small Laser on MovieLens 100K, what it recommends and why, and others under the same protocol.

Everything but the names of films is what any user of the library would call. Knows nothing of printing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from laserrec.assets import fetch
from laserrec.baselines.collection import DEMONSTRATED
from laserrec.config import LaserConfig
from laserrec.data.dataset import Cases, Dataset
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.evaluation.metrics import Protocol
from laserrec.evaluation.statistics import compare
from laserrec.laser.explanation import Explanation
from laserrec.laser.ranking_requests import Recommendation
from laserrec.recommender import Laser
from laserrec.runs.baselines import measure_baseline
from laserrec.runs.folder import Result, RunFolder
from laserrec.system.devices import CPU
from laserrec.system.progress import Observer

SMALL: Mapping[str, Any] = {
    "llm": {"layers": 4},
    "prompt": {"max_item_tokens": 24},
    "collaborative": {"max_history": 20, "refits": ("id",)},
    "fit_collaborative": {"epochs": 20, "batch_size": 64},
    "stage1": {"epochs": 1},
    "stage2": {"epochs": 0},
}
"""Where the demonstration departs from the defaults to take a minute or two; chosen on validation (docs/log.md)."""
EXAMPLES, SHOWN = 2, 5
"""Users who are shown, and items of each list."""
TYPED = ("Sherlock Holmes", "A murder mystery")
"""A history of words."""
NEW = {"item_id": "new", "title": "Star Trek: Insurrection", "release_year": "1998", "class": "Action Adventure Sci-Fi"}
"""A film of the winter after the last rating."""
AUDIENCE, TOP = 100, 10
"""Users whose lists the new film is looked for in, and the places that count."""
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
        found: best first, with reasons; items of the history are left out.
    """

    user: str
    history: Sequence[str]
    following: str
    found: Sequence[Explanation]


@dataclass(frozen=True)
class Newcomer:
    """What becomes of an item without interactions.

    Attributes:
        similar: the items nearest to it.
        audience: how many users' lists it was looked for in.
        reached: how many of them have it among the first `TOP`.
        user: the one whose list has it in the best place.
        history: their titles, oldest first.
        place: that place, from 1.
        reason: why it is there.
    """

    similar: Sequence[Recommendation]
    audience: int
    reached: int
    user: str
    history: Sequence[str]
    place: int
    reason: Explanation


def demo_config() -> LaserConfig:
    """Return the demonstration's settings."""
    return LaserConfig.build("default", SMALL, source="the demonstration's settings")


def others_config(config: LaserConfig) -> LaserConfig:
    """Return the demonstration's settings with recommenders of the usual size, trained for as long as usual."""
    usual = LaserConfig()
    return config.model_copy(update={"collaborative": usual.collaborative, "fit_collaborative": usual.fit_collaborative})


def demo_data() -> Dataset:
    """Fetch MovieLens 100K and prepare it: every rating is an interaction, leave-one-out.

    Raises:
        AssetError: it cannot be fetched.
    """
    return prepare(fetch("ml-100k"), PrepareOptions(name="ml-100k", split="leave-one-out"))[0]


def examples(data: Dataset, laser: Laser) -> list[Example]:
    """Recommend to users spread over the test cases, each as they stood before their test event."""
    cases = data.cases("test").spread(EXAMPLES)
    histories = _histories(data, cases)
    found = laser.explain(histories, k=SHOWN)
    following = [laser.title(data.item_ids[target]) for target in cases.targets]
    return [
        Example(data.user_ids[user], [laser.title(item) for item in history], next_one, list_)
        for user, history, next_one, list_ in zip(cases.users, histories, following, found, strict=True)
    ]


def introduce(data: Dataset, laser: Laser, item: Mapping[str, str] = NEW) -> Newcomer:
    """Add an item by its text alone, and find the user among some whose list has it in the best place."""
    laser.add_items([item])
    name, cases = item["item_id"], data.cases("test").spread(AUDIENCE)
    histories = _histories(data, cases)
    lists = laser.recommend(histories, k=len(laser.item_ids))
    places = [[found.item_id for found in each].index(name) + 1 for each in lists]
    best = min(range(len(places)), key=places.__getitem__)
    return Newcomer(
        similar=laser.similar_items(name, SHOWN),
        audience=len(places),
        reached=sum(place <= TOP for place in places),
        user=data.user_ids[cases.users[best]],
        history=[laser.title(each) for each in histories[best]],
        place=places[best],
        reason=laser.explain([histories[best]], [[name]])[0][0],
    )


def compare_with_others(data: Dataset, others: RunFolder, observers: Sequence[Observer] = (), device: torch.device = CPU) -> list[Result]:
    """Train and evaluate what Laser is compared with, or take up where an earlier call stopped.

    Args:
        data: the dataset.
        others: a run whose settings they have; each has a folder below it.
        observers: who watches.
        device: where everything is computed.

    Raises:
        InterruptedTraining: Ctrl-C; call again to continue.
    """
    return [measure_baseline(baseline, data, others, observers, device=device)["test"] for baseline in DEMONSTRATED]


def _histories(data: Dataset, cases: Cases) -> list[list[str]]:
    return [[data.item_ids[item] for item in history] for history in cases.histories]
