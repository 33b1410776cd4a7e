"""`laserrec recommend`: what to show a user, every user, after item ids, or after plain texts."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laserrec.cli.support import Device, Ray, UsageError, Workers, check_workers

if TYPE_CHECKING:
    from laserrec.data.dataset import Dataset
    from laserrec.laser.explanation import Explanation
    from laserrec.laser.ranking_requests import Recommendation
    from laserrec.recommender import Laser

Bounds = dict[str, list[str] | None]
"""Item ids by argument of `Laser.recommend`: `only` and `without`."""


@dataclass(frozen=True)
class Answer:
    """A history and what follows it.

    Attributes:
        about: what the history is, for the heading.
        history: an id (None for a plain text) and a title each, oldest first.
        found: best first.
        explained: why each of `found` has its score, where that was asked for.
    """

    about: str
    history: Sequence[tuple[str | None, str]]
    found: Sequence[Recommendation]
    explained: Sequence[Explanation] = ()


def recommend(
    run: Annotated[str, typer.Argument(help="Folder of a run, folder of a model, or Hugging Face repository hf:owner/name.")],
    user: Annotated[str | None, typer.Option(help="A user of the run's dataset, with their whole history.")] = None,
    items: Annotated[list[str] | None, typer.Option(metavar="ID,ID,…", help="A history of item ids, oldest first; repeatable.")] = None,
    texts: Annotated[str | None, typer.Option(metavar="FILE", help="A file of texts, one a line, oldest first; - for stdin.")] = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="Every user of the dataset, into the file --out.")] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    only: Annotated[Path | None, typer.Option(metavar="FILE", help="A file of item ids, one a line: recommend no others.")] = None,
    without: Annotated[Path | None, typer.Option(metavar="FILE", help="A file of item ids, one a line: never recommend these.")] = None,
    skip_unknown: Annotated[
        bool,
        typer.Option("--skip-unknown", help="Pass over ids in --only and --without that are unknown; shows how many."),
    ] = False,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Items of the history may be recommended too.")] = False,
    cold_start_bonus: Annotated[
        float | None, typer.Option(help="Score bonus for items without interactions, in standard deviations. [the fitted value]")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each score is made of, and which items of the history move it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: Annotated[Path | None, typer.Option(help="Dataset to look users up in. [the run's]")] = None,
    out: Annotated[Path | None, typer.Option(help="A .parquet, .csv or .jsonl file, for --all-users; with --ray a folder.")] = None,
    device: Device = None,
    ray: Ray = None,
    workers: Workers = 1,
) -> None:
    """Recommend items by title after a user's history, item ids, or plain texts; or to every user, into a file."""
    _check(user, items, texts, all_users, data, out, include_seen, explain, as_json)
    _check_cluster(run, ray, workers, out, skip_unknown)
    from laserrec.cli.show import show_explanations, show_recommendations
    from laserrec.cli.support import print_json, progress_console

    lines = None if texts is None else _read_lines(texts, "texts")
    files = {name: None if file is None else _read_lines(file, "item ids") for name, file in (("only", only), ("without", without))}
    bounds = partial(_bounds, files, skip_unknown)
    if ray is not None and out is not None:
        _write_on_cluster(_Model(run, device, cold_start_bonus), data, out, k, not include_seen, files, ray, workers)
        return
    if out is not None:
        _write_all(_Model(run, device, cold_start_bonus), data, out, k, not include_seen, bounds)
        return
    ids = None if user is None else users_of(run, data).history(user)
    with progress_console().status("Loading the model"):
        laser = _Model(run, device, cold_start_bonus).load()
    if lines is not None:
        answer = Answer("After these texts", [(None, line) for line in lines], laser.recommend_texts([lines], k, **bounds(laser))[0])
    else:
        ids = _split_ids(laser, items or []) if ids is None else ids
        heading = "After these items" if user is None else f"User {user}"
        history = [(item_id, laser.title(item_id)) for item_id in ids]
        chosen = bounds(laser)
        if explain:
            explained = laser.explain([ids], k=k, exclude_seen=not include_seen, only=chosen["only"], without=chosen["without"])[0]
            answer = Answer(heading, history, explained, explained)
        else:
            found = laser.recommend([ids], k, exclude_seen=not include_seen, only=chosen["only"], without=chosen["without"])[0]
            answer = Answer(heading, history, found)
    if as_json:
        print_json(_as_dict(answer, user))
    else:
        show_recommendations([title for _, title in answer.history], answer.found, answer.about)
        show_explanations(answer.explained)


def _check(
    user: str | None,
    items: list[str] | None,
    texts: str | None,
    all_users: bool,
    data: Path | None,
    out: Path | None,
    include_seen: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Refuse options that contradict each other."""
    if sum(choice is not None for choice in (user, items, texts)) + all_users != 1:
        raise UsageError("give exactly one of --user, --items, --texts and --all-users.")
    if include_seen and texts is not None:
        raise UsageError("--include-seen says nothing about --texts, which are not in the catalogue; leave it out.")
    if explain and (texts is not None or all_users):
        raise UsageError("--explain is about one history of items; give --user or --items, or leave it out.")
    if data is not None and user is None and not all_users:
        raise UsageError("--data is where users are looked up; give --user or --all-users, or leave it out.")
    if all_users and out is None:
        raise UsageError("--all-users needs --out, a file whose name ends in .parquet, .csv or .jsonl.")
    if out is not None and not all_users:
        raise UsageError("--out is where --all-users is written; use --json for one history, or give --all-users.")
    if all_users and as_json:
        raise UsageError("--all-users writes to --out; for JSON give that a name that ends in .jsonl, and leave --json out.")


def _check_cluster(run: str, ray: str | None, workers: int, out: Path | None, skip_unknown: bool) -> None:
    check_workers(ray, workers)
    if ray is not None and out is None:
        raise UsageError("--ray is for --all-users; leave it out for one history.")
    if ray is not None and out is not None and out.suffix:
        raise UsageError(f"with --ray, --out is a folder of Parquet files; received {out}, whose name ends like a file's.")
    if ray is not None and run.startswith("hf:"):
        raise UsageError(f"--ray needs a folder that all machines share; download {run[3:]} into one first and give that folder.")
    if ray is not None and skip_unknown:
        raise UsageError("--skip-unknown does not go with --ray; take unknown ids out of --only and --without.")


@dataclass(frozen=True)
class _Model:
    """Which model is asked, where, and how it treats new items."""

    run: str
    device: str | None
    cold_start_bonus: float | None

    def load(self) -> Laser:
        """Load it."""
        from laserrec.recommender import Laser

        laser = Laser.load(self.run, device=self.device)
        if self.cold_start_bonus is not None:
            laser.cold_start_bonus = self.cold_start_bonus
        return laser


def _write_all(model: _Model, data: Path | None, out: Path, k: int, exclude_seen: bool, bounds: Callable[[Laser], Bounds]) -> None:
    """Recommend to every user of a dataset, and write one table."""
    from laserrec.cli.support import progress_console
    from laserrec.runs.batch import check_place, formula_like_ids, recommend_users, write_table
    from laserrec.system.progress import watched
    from laserrec.training.observers import ProgressBar

    check_place(out)
    dataset, console = users_of(model.run, data), progress_console()
    with console.status("Loading the model"):
        laser = model.load()
    chosen = bounds(laser)
    with watched([ProgressBar(console)], "users", len(dataset.user_ids)) as progress:
        only, without = chosen["only"], chosen["without"]
        table = recommend_users(laser, dataset, k, exclude_seen=exclude_seen, only=only, without=without, progress=progress)
    write_table(table, out)
    if out.suffix == ".csv" and (count := formula_like_ids(table)):
        typer.echo(
            f"Note: {count:,} ids in {out} begin as a spreadsheet's formula does, with = + - or @. Import these columns as text, or write "
            ".parquet or .jsonl.",
            err=True,
        )
    typer.echo(f"{out}: {table.height:,} recommendations for {table['user_id'].n_unique():,} of {len(dataset.user_ids):,} users")


def _write_on_cluster(
    model: _Model, data: Path | None, out: Path, k: int, exclude_seen: bool, given: Bounds, address: str, workers: int
) -> None:
    """Recommend to every user of a dataset on a Ray cluster, and write a folder of tables."""
    from laserrec.cli.support import progress_console, resumable
    from laserrec.distributed.users import Request, recommend_on_cluster
    from laserrec.laser.folder import model_of
    from laserrec.runs.folder import RunFolder
    from laserrec.system.progress import watched
    from laserrec.training.observers import ProgressBar

    users, run = len(users_of(model.run, data).user_ids), Path(model.run)
    folder = model_of(run) if (run / "run.json").is_file() else run
    place = data or RunFolder.open(run).data_path
    request = Request(folder.resolve(), place.resolve(), k, exclude_seen, given["only"], given["without"], model.cold_start_bonus)
    with resumable(shlex.join(["laserrec", *sys.argv[1:]])), watched([ProgressBar(progress_console())], "users", users) as progress:
        rows = recommend_on_cluster(request, out, address, workers, model.device, progress)
    typer.echo(f"{out}: {sum(rows.values()):,} recommendations for {users:,} users in {len(rows):,} files; manifest.json lists them")


def _bounds(given: Bounds, skip_unknown: bool, laser: Laser) -> Bounds:
    """Return the ids of --only and --without, with those that the model does not know passed over and counted if asked.

    Raises:
        DataError: no id of --only is known.
    """
    from laserrec.errors import DataError

    if not skip_unknown:
        return given
    known, found = set(laser.item_ids), dict(given)
    for name, ids in given.items():
        if ids is not None:
            found[name] = kept = [item_id for item_id in ids if item_id in known]
            typer.echo(f"--{name}: {len(ids) - len(kept):,} of {len(ids):,} ids are unknown to the model and passed over.", err=True)
            if name == "only" and not kept:
                raise DataError("The model knows none of the ids of --only, so nothing could be recommended.")
    return found


def users_of(run: str, data: Path | None) -> Dataset:
    """Return the dataset that users are looked up in: the one named, else the run's."""
    from laserrec.data.dataset import Dataset
    from laserrec.errors import DataError
    from laserrec.laser.folder import refuse_seeds
    from laserrec.runs.folder import RunFolder

    if data is None and not (Path(run) / "run.json").is_file():
        refuse_seeds(Path(run))
        raise DataError(f"{run} is not a run, so it names no dataset to look users up in. Give one with --data.")
    return Dataset.load(data) if data else RunFolder.open(Path(run)).dataset()


def _split_ids(laser: Laser, values: list[str]) -> list[str]:
    """Return the ids in the order given; a value that is an id as a whole is not divided at its commas."""
    known = set(laser.item_ids)
    parts = [part for value in values for part in ([value] if value in known else value.split(","))]
    return [part.strip() for part in parts if part.strip()]


def _read_lines(source: Path | str, what: str) -> list[str]:
    """Return the lines of a file, or of stdin for the text `-`, without empty ones."""
    from laserrec.errors import DataError

    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the {what} in {source}: {error}. Give a UTF-8 file with one a line.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _as_dict(answer: Answer, user: str | None) -> dict[str, object]:
    history = [{"title": title} if item_id is None else {"item_id": item_id, "title": title} for item_id, title in answer.history]
    rows = [one.as_dict() for one in answer.explained] if answer.explained else [asdict(item) for item in answer.found]
    found = [{"rank": rank, **row} for rank, row in enumerate(rows, start=1)]
    return {**({} if user is None else {"user": user}), "history": history, "recommendations": found}
