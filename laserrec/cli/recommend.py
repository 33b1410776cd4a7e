"""`laserrec recommend`: what to show a user, after item ids, or after plain texts."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laserrec.cli.support import Device, UsageError

if TYPE_CHECKING:
    from laserrec.recommender import Laser
    from laserrec.requests import Recommendation


@dataclass(frozen=True)
class Answer:
    """A history and what follows it.

    Attributes:
        about: what the history is, for the heading.
        history: an id (None for a plain text) and a title each, oldest first.
        found: best first.
    """

    about: str
    history: list[tuple[str | None, str]]
    found: list[Recommendation]


def recommend(
    run: Annotated[str, typer.Argument(help="Folder of a run, folder of a model, or Hugging Face repository hf:owner/name.")],
    user: Annotated[str | None, typer.Option(help="A user of the run's dataset, with their whole history.")] = None,
    items: Annotated[list[str] | None, typer.Option(metavar="ID,ID,…", help="A history of item ids, oldest first; repeatable.")] = None,
    texts: Annotated[str | None, typer.Option(metavar="FILE", help="A file of texts, one a line, oldest first; - for stdin.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    only: Annotated[Path | None, typer.Option(metavar="FILE", help="A file of item ids, one a line: recommend no others.")] = None,
    without: Annotated[Path | None, typer.Option(metavar="FILE", help="A file of item ids, one a line: never recommend these.")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Items of the history may be recommended too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: Annotated[Path | None, typer.Option(help="Dataset that --user is looked up in, in the run's place.")] = None,
    device: Device = None,
) -> None:
    """Recommend items by title after a user's history, item ids, or plain texts."""
    if sum(choice is not None for choice in (user, items, texts)) != 1:
        raise UsageError("give exactly one of --user, --items and --texts.")
    if include_seen and texts is not None:
        raise UsageError("--include-seen says nothing about --texts, which are not in the catalogue; leave it out.")
    if data is not None and user is None:
        raise UsageError("--data is where --user is looked up; give a --user, or leave it out.")
    from laserrec.cli.show import show_recommendations
    from laserrec.cli.support import print_json, progress_console
    from laserrec.recommender import Laser

    lines = None if texts is None else _read_lines(texts, "texts")
    bounds = {name: None if file is None else _read_lines(file, "item ids") for name, file in (("only", only), ("without", without))}
    ids = None if user is None else _user_history(run, user, data)
    with progress_console().status("Loading the model"):
        laser = Laser.load(run, device=device)
    if lines is not None:
        answer = Answer("After these texts", [(None, line) for line in lines], laser.recommend_texts([lines], k, **bounds)[0])
    else:
        ids = _split_ids(laser, items or []) if ids is None else ids
        heading = "After these items" if user is None else f"User {user}"
        found = laser.recommend([ids], k, exclude_seen=not include_seen, **bounds)[0]
        answer = Answer(heading, [(item_id, laser.title(item_id)) for item_id in ids], found)
    if as_json:
        print_json(_as_dict(answer, user))
    else:
        show_recommendations([title for _, title in answer.history], answer.found, answer.about)


def _user_history(run: str, user: str, data: Path | None) -> list[str]:
    from laserrec.data.dataset import Dataset
    from laserrec.errors import DataError
    from laserrec.run_folder import RunFolder

    if data is None and not (Path(run) / "run.json").is_file():
        raise DataError(f"{run} is not a run, so it names no dataset to look users up in. Give one with --data, or a history with --items.")
    dataset = Dataset.load(data) if data else RunFolder.open(Path(run)).dataset()
    return [dataset.item_ids[item] for item in dataset.histories()[dataset.user_index(user)]]


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
    found = [{"rank": rank, **asdict(item)} for rank, item in enumerate(answer.found, start=1)]
    return {**({} if user is None else {"user": user}), "history": history, "recommendations": found}
