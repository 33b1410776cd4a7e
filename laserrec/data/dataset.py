"""A prepared dataset: a catalogue with texts, every user's events in order, and their division into train, valid and test.

Ids outside are the user's own strings; inside, an item's index is its row in `items` and a user's index its place among the sorted ids.
Knows nothing of where the data came from, and nothing of tensors.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.events import BEFORE, Events
from laserrec.data.files import write_parquet
from laserrec.data.ids import places_among
from laserrec.data.ragged import Ragged
from laserrec.data.splits import SplitInfo, SplitKind, fingerprint
from laserrec.data.tables import EVENT_TYPES, ITEM, SPLIT, SPLITS, TITLE, SourceFile
from laserrec.errors import DataError, UnknownIdError, shown
from laserrec.system.atomic_folder import FolderKind

FORMAT = 1
EvaluatedSplit = Literal["valid", "test"]
"""Parts that are evaluated."""
_TABLES = ("items.parquet", "interactions.parquet")
_KIND = FolderKind("dataset", ("manifest.json", *_TABLES), mark="manifest.json", error=DataError)


@dataclass(frozen=True)
class Cases:
    """What is evaluated: for each user a history and the item that came next.

    Attributes:
        users: user indices, int64 [R].
        histories: item indices before the target, R rows.
        targets: item indices, int64 [R].
    """

    users: NDArray[np.int64]
    histories: Ragged
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: NDArray[np.int64]) -> Cases:
        """Return the chosen cases, in the order given."""
        return Cases(self.users[rows], self.histories.take(rows), self.targets[rows])

    def spread(self, count: int) -> Cases:
        """Return `count` cases spread evenly over all of them, or all where there are no more."""
        rows: NDArray[np.int64] = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))
        return self.take(rows)

    def sample(self, count: int, seed: int) -> Cases:
        """Return some cases, drawn from a seed and in their order; all of them where there are no more."""
        if count >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False)))


@dataclass(frozen=True)
class Dataset:
    """See the module's text.

    Attributes:
        name: what tables and reports call it.
        items: `item_id`, `title` (null where unknown), further attributes; row order is the item index.
        events: the interactions as numbers, divided; sorted by user, each user's in order, each user with one at least. Their items are
            the rows of `items`; times are seconds, or a step where the source has only an order.
        split: how the events were divided.
        fingerprint: sha256 of the split, see `laserrec.data.splits`.
        manifest: what is written beside the tables: counts, sources, options.
    """

    name: str
    items: pl.DataFrame
    events: Events
    split: SplitInfo
    fingerprint: str
    manifest: dict[str, Any]

    @classmethod
    def build(
        cls, name: str, items: pl.DataFrame, interactions: pl.DataFrame, split: SplitInfo, details: dict[str, Any] | None = None
    ) -> Dataset:
        """Check two tables and make a dataset of them.

        Args:
            name: what tables and reports call it.
            items: `item_id` and attributes, one row an item.
            interactions: `user_id`, `item_id`, `timestamp`, `split`; each user's rows in order.
            split: how the events were divided.
            details: more for the manifest.

        Raises:
            DataError: a column is missing or of the wrong type, an id repeats, is null or unknown, or a user's splits are out of order.
        """
        items = _checked_items(items)
        return cls.of(name, items, _checked_events(interactions, items), split, details)

    @classmethod
    def of(cls, name: str, items: pl.DataFrame, events: Events, split: SplitInfo, details: dict[str, Any] | None = None) -> Dataset:
        """Make a dataset of tables that are as its attributes say, which `build` checks.

        Args:
            name: what tables and reports call it.
            items: the catalogue.
            events: the interactions.
            split: how they were divided.
            details: more for the manifest.
        """
        digest = fingerprint(events)
        counts = {"users": len(events.users), "items": items.height, "interactions": len(events)}
        manifest = {"format": FORMAT, "name": name, "fingerprint": digest, "split": dataclasses.asdict(split), "counts": counts}
        return cls(name, items, events, split, digest, manifest | (details or {}))

    @classmethod
    def load(cls, path: str | Path) -> Dataset:
        """Read a folder that `save` or `laserrec data prepare` wrote.

        Raises:
            DataError: a file is missing or damaged, or the tables do not have the manifest's fingerprint.
        """
        path = _KIND.place(path)
        _KIND.recover(path)
        manifest = _read_manifest(path)
        split = _read_split(manifest.get("split"), path)
        items, interactions = (_read_table(path / name, manifest["files"].get(name)) for name in _TABLES)
        dataset = cls.build(str(manifest["name"]), items, interactions.rename({"part": SPLIT}, strict=False), split, _details(manifest))
        if dataset.fingerprint != manifest["fingerprint"]:
            raise DataError(
                f"{path}: the tables have fingerprint {dataset.fingerprint[:12]}…, the manifest says {str(manifest['fingerprint'])[:12]}…; "
                "a file was changed or mixed up. Prepare the dataset again."
            )
        return dataset

    def save(self, path: str | Path, replace: bool = False) -> None:
        """Write `items.parquet`, `interactions.parquet` and `manifest.json` into a folder, which appears only when complete.

        Args:
            path: the folder.
            replace: overwrite a dataset that is there, or an empty folder.

        Raises:
            DataError: the folder exists and `replace` is false, something else than a dataset stands there, or the disk refuses.
        """
        folder = _KIND.place(path)
        check_place(folder, replace)
        _KIND.write(folder, self._write)

    def _write(self, folder: Path) -> None:
        folder.mkdir()
        write_parquet(self.items, folder / "items.parquet")
        # Polars' default, zstd, takes half as long again for a file of two thirds.
        write_parquet(self.interactions, folder / "interactions.parquet", compression="lz4")
        files = {name: SourceFile.of(folder / name).sha256 for name in _TABLES}
        manifest = json.dumps({**self.manifest, "files": files}, indent=2, ensure_ascii=False)
        (folder / "manifest.json").write_text(manifest + "\n", encoding="utf-8")

    @property
    def details(self) -> dict[str, Any]:
        """Entries of the manifest beyond those of every dataset: sources, options."""
        return _details(self.manifest)

    @cached_property
    def item_ids(self) -> tuple[str, ...]:
        """Item ids in index order."""
        return tuple(self.items[ITEM].to_list())

    @cached_property
    def user_ids(self) -> tuple[str, ...]:
        """User ids in index order."""
        return tuple(self.events.users.to_list())

    @cached_property
    def catalogue_digest(self) -> str:
        """Sha256 (hex) of what the fingerprint leaves out and a model depends on: the items in index order, with their texts."""
        digest = hashlib.sha256(json.dumps(self.items.columns).encode())
        for row in self.items.iter_rows():
            digest.update(json.dumps(row, default=str).encode())
        return digest.hexdigest()

    @cached_property
    def interactions(self) -> pl.DataFrame:
        """The events as a table: `user_id`, `item_id`, `timestamp`, `split`."""
        return self.events.frame()

    @cached_property
    def _item_indices(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    @cached_property
    def _user_indices(self) -> dict[str, int]:
        return {user_id: index for index, user_id in enumerate(self.user_ids)}

    def item_index(self, item_id: str) -> int:
        """Return an item's index.

        Raises:
            UnknownIdError: the catalogue does not hold it.
        """
        try:
            return self._item_indices[item_id]
        except (KeyError, TypeError):  # TypeError: a list, say, is no id
            raise UnknownIdError("item", item_id, self.item_ids) from None

    def user_index(self, user_id: str) -> int:
        """Return a user's index.

        Raises:
            UnknownIdError: no event is theirs.
        """
        try:
            return self._user_indices[user_id]
        except (KeyError, TypeError):
            raise UnknownIdError("user", user_id, self.user_ids) from None

    @cached_property
    def _histories(self) -> Ragged:
        lengths = np.bincount(self.events.user, minlength=len(self.events.users))
        return Ragged(self.events.item, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def histories(self) -> Ragged:
        """Return every user's item indices in order, one row a user."""
        return self._histories

    def history(self, user_id: str, before: Literal["valid", "test"] | None = None) -> list[str]:
        """Return the ids of a user's items in order, as `Laser.recommend` accepts them.

        Args:
            user_id: whose.
            before: leave out the user's events of this split and later ones; None for all of their events.

        Raises:
            UnknownIdError: no event is theirs.
        """
        user = self.user_index(user_id)
        items = self._histories[user]
        if before is not None:
            start, end = self._histories.offsets[user : user + 2]
            items = items[self.events.splits[start:end] < SPLITS.index(before)]
        return [self.item_ids[item] for item in items]

    def training_histories(self) -> Ragged:
        """Return every user's item indices of split train in order, one row a user; a row may be empty."""
        return _within(self._histories, self.events.splits, 0, 1)

    def cases(self, split: EvaluatedSplit) -> Cases:
        """Return one case a user: their first event of `split`, and all of their events before it.

        Users without an event in `split`, or without one before it, have no case.

        Raises:
            DataError: there is no such split.
        """
        if split not in get_args(EvaluatedSplit):
            raise DataError(f"Received the split {shown(split)}; allowed are 'valid' and 'test'.")
        events, splits = self._histories, self.events.splits
        code = SPLITS.index(split)
        before = _within(events, splits, BEFORE, code)
        until = _within(events, splits, BEFORE, code + 1)
        users = np.flatnonzero((before.lengths > 0) & (until.lengths > before.lengths)).astype(np.int64)
        targets = events.values[events.offsets[users] + before.lengths[users]]
        return Cases(users, before.take(users), targets)

    def attributes(self) -> list[dict[str, str]]:
        """Return each item's known attributes, title included, in index order."""
        rows = self.items.drop(ITEM).to_dicts()
        return [{name: value for name, value in row.items() if value is not None} for row in rows]

    def attribute_codes(self) -> NDArray[np.int64]:
        """Return the attributes beside the title as numbers, int64 [N, A], an attribute a column.

        A value that several items have is 1 + its place among those in order; 0 stands for any other and where it is not known. An
        attribute without such a value is left out.
        """
        columns = []
        for column in self.items.drop(ITEM, TITLE, strict=False):
            known = column.drop_nulls()
            shared = known.filter(known.is_duplicated()).unique().sort()
            if len(shared):
                codes = column.replace_strict(shared, np.arange(1, len(shared) + 1), default=0, return_dtype=pl.Int64)
                columns.append(codes.to_numpy())
        return np.stack(columns, axis=1) if columns else np.empty((self.items.height, 0), np.int64)


def check_place(path: Path, replace: bool, sources: Iterable[Path] = ()) -> None:
    """Refuse a place for a dataset before the work of making it.

    Args:
        path: the folder to write.
        replace: a dataset that is there may be overwritten.
        sources: files and folders that the dataset is made from, and that must outlive it.

    Raises:
        DataError: the folder exists and `replace` is false, something else than a dataset stands there, or it is, or holds, a source.
    """
    if path.exists() and not replace:
        raise DataError(f"{path} exists already. Choose another folder, or replace it (replace=True).", parameters=["force"])
    for source in sources if path.exists() else ():
        if any(place.exists() and path.samefile(place) for place in (source, *source.resolve().parents)):
            raise DataError(f"{path} would replace {source}, from which it is made. Choose another folder.")
    _KIND.check_place(path)


def _details(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key not in {"format", "name", "fingerprint", "split", "counts", "files"}}


def _within(events: Ragged, splits: NDArray[np.int8], first: int, end: int) -> Ragged:
    """Return the events whose split has a code from `first` to before `end`: one stretch of each row, for codes never decrease in one."""
    kept = (splits >= first) & (splits < end)
    ends = np.concatenate([[0], np.cumsum(kept)])[events.offsets]
    return Ragged(events.values[kept], ends.astype(np.int64))


def _checked_items(items: pl.DataFrame) -> pl.DataFrame:
    for name in (ITEM, TITLE):
        if name not in items.columns:
            raise DataError(f"The items have no column {name!r}; columns are {', '.join(items.columns)}.")
    wrong = [name for name, kind in items.schema.items() if kind not in (pl.String, pl.Null)]
    if wrong:
        raise DataError(f"Item columns must be text; {', '.join(wrong)} is not.")
    items = items.with_columns(pl.all().cast(pl.String))
    if items[ITEM].null_count() or not items[ITEM].is_unique().all():
        raise DataError("Item ids must be present and differ from one another.")
    if not items.height:
        raise DataError("The catalogue is empty: no item is left.")
    return items


def _checked_events(table: pl.DataFrame, items: pl.DataFrame) -> Events:
    for name, kind in EVENT_TYPES.items():
        # Parts were an enumeration without history once; its codes are the same.
        if table.schema.get(name) not in ((kind, pl.Enum(SPLITS)) if name == SPLIT else (kind,)):
            raise DataError(f"The interactions need a column {name!r} of type {kind}; received {table.schema.get(name, 'none')}.")
    table = table.select(list(EVENT_TYPES))
    if not table.height:
        raise DataError("No interaction is left.")
    if any(table.null_count().row(0)):
        raise DataError("The interactions hold empty values.")
    events = Events.of(table)
    if (np.diff(events.user) < 0).any():
        events = events.take(np.argsort(events.user, kind="stable"))
    if events.split is not None and ((np.diff(events.split) < 0) & (np.diff(events.user) == 0)).any():
        raise DataError("A user's events must be in order, history before train before valid before test.")
    return dataclasses.replace(events, items=items[ITEM], item=places_among(events.items, items[ITEM])[events.item])


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / "manifest.json"
    if not file.is_file():
        raise DataError(f"{path} is not a prepared dataset (no manifest.json). Make one with `laserrec data prepare`.")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("name"), str) or not isinstance(manifest.get("fingerprint"), str):
        raise DataError(f"{file} is not the manifest of a dataset.")
    if not isinstance(manifest.get("files"), dict):
        raise DataError(f"{file} does not name the files of the dataset. Prepare the dataset again.")
    if manifest.get("format") != FORMAT:
        raise DataError(f"{file} has format {manifest.get('format')!r}; this version reads {FORMAT}. Prepare the dataset again.")
    return manifest


def _read_split(value: object, path: Path) -> SplitInfo:
    if isinstance(value, dict) and value.get("kind") in get_args(SplitKind) and isinstance(value.get("parameters"), dict):
        parameters = value["parameters"]
        if all(isinstance(number, int) for number in parameters.values()):
            return SplitInfo(value["kind"], parameters)
    raise DataError(f"{path / 'manifest.json'} has no known split; received {value!r}, kinds are {', '.join(get_args(SplitKind))}.")


def _read_table(file: Path, sha256: object) -> pl.DataFrame:
    try:
        # Before it is decoded: Polars ends the whole process on some damaged Parquet files.
        if SourceFile.of(file).sha256 != sha256:
            raise DataError(f"{file} is not the file that the manifest names; it was changed or damaged. Prepare the dataset again.")
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
