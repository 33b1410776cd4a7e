"""What a dataset is like, and whether its split leaks: for people before they train, and for tables."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.advice import MANY_TIES, Advice, tied_events
from laserrec.data.dataset import Dataset
from laserrec.data.splits import SplitInfo, known_split
from laserrec.data.tables import HISTORY, ITEM, SPLIT, SPLITS, TIME, TITLE, USER


@dataclass(frozen=True)
class Distribution:
    """Smallest, quartiles, mean and largest of some counts."""

    smallest: int
    lower_quartile: float
    median: float
    mean: float
    upper_quartile: float
    largest: int

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Distribution:
        """Summarise counts, int64 [any]; zeros when there are none."""
        if not len(counts):
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0)
        lower, median, upper = (float(value) for value in np.quantile(counts, [0.25, 0.5, 0.75]))
        return cls(int(counts.min()), lower, median, float(counts.mean()), upper, int(counts.max()))


@dataclass(frozen=True)
class Leaks:
    """What a model could learn from training that it is then tested on.

    Attributes:
        same_event: events of valid or test that train holds too, with the same user, item and moment.
        later_training: events of train later than the same user's first event of valid or test.
        after_cut: of a global-time split, events of train at or after the moment valid begins; otherwise 0.
        older_tests: share of the test events that are older than some training event of any user. Under leave-one-out that is usual and no
            leak of a user's own order: a model has then learnt from other users' later events.
    """

    same_event: int
    later_training: int
    after_cut: int
    older_tests: float = 0.0

    @property
    def found(self) -> bool:
        """Whether there is any; `older_tests`, which follows from the split, is none."""
        return bool(self.same_event or self.later_training or self.after_cut)


@dataclass(frozen=True)
class Inspection:
    """A dataset in numbers.

    Attributes:
        name: of the dataset.
        fingerprint: of its split.
        known_as: title of the published split with this fingerprint.
        split: how the events were divided.
        users: number of users.
        items: number of items.
        interactions: number of events.
        split_interactions: events of each split; those that are read and not trained on where there are any.
        cases: users who are evaluated in valid and in test.
        density: interactions / (users · items).
        history_length: events a user.
        popularity: events an item, of all items.
        top_tenth: share of events that the most popular tenth of items has.
        never_trained: items without an event in train.
        attributes: share of items that have each attribute, title included.
        without_text: share of items without any attribute.
        shared_titles: items whose title another item has, too.
        repeats: share of events whose item the user had before.
        seen_targets: share of test targets that are in the user's history.
        ties: share of events that share user and moment with another.
        leaks: the leak check.
        advice: what was found that makes figures mean less than they seem to.
    """

    name: str
    fingerprint: str
    known_as: str | None
    split: SplitInfo
    users: int
    items: int
    interactions: int
    split_interactions: dict[str, int]
    cases: dict[str, int]
    density: float
    history_length: Distribution
    popularity: Distribution
    top_tenth: float
    never_trained: int
    attributes: dict[str, float]
    without_text: float
    shared_titles: int
    repeats: float
    seen_targets: float
    ties: float
    leaks: Leaks
    advice: tuple[Advice, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return dataclasses.asdict(self)


def inspect(dataset: Dataset) -> Inspection:
    """Count what is in a dataset and check its split for leaks."""
    events, items = dataset.interactions, dataset.items
    histories, test = dataset.histories(), dataset.cases("test")
    popularity = np.bincount(histories.values, minlength=items.height)
    trained = np.bincount(dataset.training_histories().values, minlength=items.height)
    top = np.sort(popularity)[::-1][: max(1, round(items.height / 10))]
    published = known_split(dataset.fingerprint)
    texts = items.drop(ITEM)
    titles = items[TITLE].drop_nulls()
    seen = [target in history for history, target in zip(test.histories, test.targets, strict=True)]
    counts = {split: int((events[SPLIT] == split).sum()) for split in (*SPLITS, HISTORY)}
    order = dataset.details.get("source", {}).get("order", {})
    ties = float(events.select((pl.len().over(USER, TIME) > 1).mean()).item())
    # Moments are stored in seconds; the source may have told them apart more finely.
    tied = float(order.get("tied", ties))
    return Inspection(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        known_as=published.title if published else None,
        split=dataset.split,
        users=len(dataset.user_ids),
        items=items.height,
        interactions=events.height,
        split_interactions={split: count for split, count in counts.items() if count or split in SPLITS},
        cases={"valid": len(dataset.cases("valid")), "test": len(test)},
        density=events.height / (len(dataset.user_ids) * items.height),
        history_length=Distribution.of(histories.lengths),
        popularity=Distribution.of(popularity.astype(np.int64)),
        top_tenth=float(top.sum() / events.height),
        never_trained=int((trained == 0).sum()),
        attributes={name: 1 - texts[name].null_count() / items.height for name in texts.columns},
        without_text=float(items.select(pl.all_horizontal(pl.exclude(ITEM).is_null()).mean()).item()),
        shared_titles=int(titles.is_duplicated().sum()),
        repeats=1 - events.n_unique([USER, ITEM]) / events.height,
        seen_targets=float(np.mean(seen)) if seen else 0.0,
        ties=ties,
        leaks=leaks(dataset),
        advice=(tied_events(tied, str(order.get("ties", "file"))),) if tied > MANY_TIES else (),
    )


def leaks(dataset: Dataset) -> Leaks:
    """Check that nothing of valid or test, and nothing later, is in train."""
    events = dataset.interactions
    train, held_out = events.filter(pl.col(SPLIT) == "train"), events.filter(pl.col(SPLIT).is_in(["valid", "test"]))
    same = held_out.join(train.select(USER, ITEM, TIME).unique(), on=[USER, ITEM, TIME], how="semi").height
    first = held_out.group_by(USER).agg(pl.col(TIME).min().alias("first"))
    later = train.join(first, on=USER).filter(pl.col(TIME) > pl.col("first")).height
    cut = dataset.split.parameters.get("valid_from") if dataset.split.kind == "global-time" else None
    after = train.filter(pl.col(TIME) >= cut).height if cut is not None else 0
    test = held_out.filter(pl.col(SPLIT) == "test")
    older = float((test[TIME].to_numpy() < train[TIME].to_numpy().max()).mean()) if train.height and test.height else 0.0
    return Leaks(same, later, after, older)
