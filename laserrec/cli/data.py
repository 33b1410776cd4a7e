"""`laserrec data`: make a dataset from a source, and look at one."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laserrec.cli.support import UsageError, option

if TYPE_CHECKING:
    from laserrec.data.dataset import Dataset
    from laserrec.data.inspection import Distribution, Inspection
    from laserrec.data.prepare import PrepareSummary

app = typer.Typer(help="Prepare and inspect datasets.", no_args_is_help=True)


class SourceFormat(StrEnum):
    """Formats that `--format` takes."""

    table = "table"
    movielens = "movielens"
    amazon = "amazon"
    recbole = "recbole"
    recformer = "recformer"


class QuotingChoice(StrEnum):
    """Meanings of quotes that `--quoting` takes."""

    auto = "auto"
    doubled = "doubled"
    backslash = "backslash"
    none = "none"


class SplitChoice(StrEnum):
    """Splits that `--split` takes."""

    leave_one_out = "leave-one-out"
    global_time = "global-time"


class TiesChoice(StrEnum):
    """What `--ties` takes."""

    file = "file"
    hash = "hash"


class ExplodeChoice(StrEnum):
    """What `--explode` takes."""

    item = "item"


@app.command()
def prepare(
    source: Annotated[
        str,
        typer.Argument(help="A file of interactions, a folder of one dataset's or of part files, a pattern, or a service's database."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    name: Annotated[str | None, typer.Option(help="Name of the dataset; the source's by default.")] = None,
    format: Annotated[SourceFormat | None, typer.Option(help="Format of the source; found out by default.")] = None,
    user_column: Annotated[str | None, typer.Option(help="Column of the user's id.")] = None,
    item_column: Annotated[str | None, typer.Option(help="Column of the item's id, in the interactions.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column of the moment.")] = None,
    time_format: Annotated[str | None, typer.Option(help="How moments are written, for example '%d.%m.%Y %H:%M'.")] = None,
    clock_column: Annotated[str | None, typer.Option(help="Column of the time of day, read together with one of days.")] = None,
    file_order: Annotated[bool, typer.Option("--file-order", help="No moments: rows are in order already.")] = False,
    items: Annotated[Path | None, typer.Option(help="File of item texts, or part files as in SOURCE.")] = None,
    item_id_column: Annotated[str | None, typer.Option(help="Column of the item's id, in the file of items.")] = None,
    title_column: Annotated[str | None, typer.Option(help="Column of the item's title.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Column of text to keep beside the title; repeatable. All by default.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of text files, for example latin-1.")] = "utf-8",
    delimiter: Annotated[str | None, typer.Option(help="What separates CSV fields; found out by default.")] = None,
    quoting: Annotated[QuotingChoice, typer.Option(help="What quotes in CSV and TSV files mean.")] = QuotingChoice.auto,
    max_unpacked_gib: Annotated[
        float | None, typer.Option(min=0, help="Most GiB that a packed file may unpack to; 100 times its size by default.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE,…", help="Events to keep, for example event_type=purchase; repeatable."),
    ] = None,
    min_rating: Annotated[float | None, typer.Option(help="Keep events of this rating and more.")] = None,
    null_marks: Annotated[
        str | None, typer.Option(metavar="MARK,…", help="What stands for a missing value; none for nothing. [NA, NULL, None, nan, \\N, …]")
    ] = None,
    explode: Annotated[ExplodeChoice | None, typer.Option(help="Read a list of items as one event an entry.")] = None,
    ties: Annotated[
        TiesChoice | None,
        typer.Option(help="What orders a user's events of one moment; by default the file, unless that stands sorted by item."),
    ] = None,
    tie_seed: Annotated[int, typer.Option(min=0, help="Of the hash.")] = 0,
    split: Annotated[
        SplitChoice | None, typer.Option(help="How to divide; the source's own split, else leave-one-out, by default.")
    ] = None,
    valid_share: Annotated[float | None, typer.Option(help="Share of events in valid, for global-time. [0.1]")] = None,
    test_share: Annotated[float | None, typer.Option(help="Share of events in test, for global-time. [0.1]")] = None,
    min_user: Annotated[int | None, typer.Option(min=1, help="Fewest events of a user. [5; 1 if the source brings its split]")] = None,
    min_item: Annotated[int | None, typer.Option(min=1, help="Fewest events of an item. [5; 1 if the source brings its split]")] = None,
    keep_repeats: Annotated[bool, typer.Option("--keep-repeats/--drop-repeats", help="A user's later events with the same item.")] = True,
    drop_unknown: Annotated[bool, typer.Option("--drop-unknown", help="Drop events whose item the file of items lacks.")] = False,
    drop_untitled: Annotated[bool, typer.Option("--drop-untitled", help="Drop items without a title, and their events.")] = False,
    all_items: Annotated[bool, typer.Option("--all-items", help="Keep items that occur in no event, too.")] = False,
    max_bad_share: Annotated[float, typer.Option(min=0, max=1, help="Stop when a larger share of rows cannot be used.")] = 0.01,
    force: Annotated[bool, typer.Option("--force", help="Replace a dataset that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read a source, filter and split it, and write a dataset folder."""
    from laserrec.data.dataset import check_place
    from laserrec.data.options import ReadOptions
    from laserrec.data.prepare import PrepareOptions
    from laserrec.data.prepare import prepare as run
    from laserrec.data.sources.service import is_address

    files = [Path(place) for place in (source, items) if place and not is_address(place)]
    check_place(out, force, files)
    options = PrepareOptions(
        name=name,
        format=_value(format),
        read=ReadOptions(
            user=user_column,
            item=item_column,
            time=time_column,
            time_format=time_format,
            file_order=file_order,
            items=items,
            item_id=item_id_column,
            title=title_column,
            attributes=tuple(attribute) if attribute else None,
            encoding=encoding,
            delimiter=delimiter,
            quoting=quoting.value,
            max_unpacked_gib=max_unpacked_gib,
            clock=clock_column,
            **_of_values(keep, min_rating, null_marks, explode),
        ),
        split=_value(split),
        valid_share=valid_share,
        test_share=test_share,
        min_user=min_user,
        min_item=min_item,
        ties=_value(ties),
        tie_seed=tie_seed,
        keep_repeats=keep_repeats,
        drop_unknown=drop_unknown,
        drop_untitled=drop_untitled,
        all_items=all_items,
        max_bad_share=max_bad_share,
    )
    _write(*run(source, options), out, force, as_json)


@app.command()
def restrict(
    path: Annotated[Path, typer.Argument(help="A dataset folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    users: Annotated[float | None, typer.Option(help="Share of users to learn from, such as 0.05.")] = None,
    hidden_items: Annotated[float | None, typer.Option(help="Share of items whose training events are left out, such as 0.1.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a dataset that is there.")] = False,
) -> None:
    """Make a dataset that is harder to learn from, with the same test events: fewer users, or items without training events."""
    from laserrec.data.dataset import Dataset, check_place
    from laserrec.data.restrict import hide_items, keep_users

    if (users is None) == (hidden_items is None):
        raise UsageError("Give one of --users and --hidden-items.")
    check_place(out, force, [path])
    data = Dataset.load(path)
    restricted = keep_users(data, users, seed) if users is not None else hide_items(data, hidden_items or 0.0, seed)
    restricted.save(out, replace=force)
    learnt = restricted.training_histories().lengths
    typer.echo(
        f"{restricted.name} → {out}: {learnt.sum():,} events of {(learnt > 0).sum():,} users to learn from, "
        f"{len(restricted.cases('valid')):,} validation and {len(restricted.cases('test')):,} test cases, "
        f"fingerprint {restricted.fingerprint}"
    )


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A dataset folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a dataset's counts, distributions, texts and repeats, and check its split for leaks."""
    from laserrec.data.dataset import Dataset
    from laserrec.data.inspection import inspect as run

    inspection = run(Dataset.load(path))
    if as_json:
        typer.echo(json.dumps(inspection.as_dict(), ensure_ascii=False))
    else:
        _show_inspection(inspection)


def _value(choice: StrEnum | None) -> Any:  # noqa: ANN401 - one of a closed choice's words
    return None if choice is None else choice.value


def _of_values(keep: list[str] | None, min_rating: float | None, null_marks: str | None, explode: ExplodeChoice | None) -> dict[str, Any]:
    """Return the options of reading that say what values mean."""
    from laserrec.data.values import NULL_MARKS

    marks = NULL_MARKS if null_marks is None else tuple(mark for mark in map(str.strip, null_marks.split(",")) if mark)
    return {
        "keep": tuple(keep or ()),
        "min_rating": min_rating,
        "null_marks": () if null_marks == "none" else marks,
        "explode": _value(explode),
    }


def _write(dataset: Dataset, summary: PrepareSummary, out: Path, force: bool, as_json: bool) -> None:
    dataset.save(out, replace=force)
    if as_json:
        typer.echo(json.dumps({"name": dataset.name, "out": str(out), **summary.as_dict()}, ensure_ascii=False))
    else:
        _show_summary(dataset.name, out, summary)


def _show_summary(name: str, out: Path, summary: PrepareSummary) -> None:
    kept = "kept" if summary.repeats_kept else "dropped"
    lines = [
        ("format", summary.format),
        *((f"column: {role}", column) for role, column in summary.columns.items()),
        *((f"columns ignored: {table}", ", ".join(names)) for table, names in summary.ignored.items() if names),
        ("rows read", f"{summary.rows:,}"),
        ("bad rows", f"{summary.bad_rows:,}"),
        *([("rows left out by their values", f"{summary.left_out:,}")] if summary.left_out else []),
        ("events at the same moment", f"{summary.tied:.1%} (ordered by {'the file' if summary.ties == 'file' else 'a hash'})"),
        ("duplicate events dropped", f"{summary.duplicates:,}"),
        (f"repeated events {kept}", f"{summary.repeats:,}"),
        ("items missing in the file of items", _unknown(summary)),
        ("events of untitled items dropped", f"{summary.untitled_dropped:,}"),
        ("events outside the core dropped", f"{summary.core_dropped:,} (core: {summary.min_user} a user, {summary.min_item} an item)"),
        ("items without events left out", f"{summary.unused_items:,}"),
        ("users", f"{summary.users:,}"),
        ("items", f"{summary.items:,} ({summary.without_text:,} without text)"),
        ("interactions", f"{summary.interactions:,}"),
        ("split", _split(summary.split.kind, summary.split.parameters)),
        ("fingerprint", summary.fingerprint),
        ("published as", summary.known_as or "not a split with published numbers"),
    ]
    advice = [f"! {entry.written(_as_option)}" for entry in summary.advice]
    notes = [*advice, *summary.notes, *(str(problem) for problem in summary.problems)]
    hidden = summary.bad_rows - len(summary.problems)
    _table(f"{name} → {out}", lines, [*notes, f"… and {hidden:,} more bad rows"] if hidden else notes)


def _as_option(name: str) -> str:
    return f"{option(name)} "


def _unknown(summary: PrepareSummary) -> str:
    what = f"{summary.unknown_dropped:,} events dropped" if summary.unknown_dropped else "kept, without text"
    return f"{summary.unknown_items:,} ({what})" if summary.unknown_items else "0"


def _show_inspection(inspection: Inspection) -> None:
    splits = ", ".join(f"{split} {count:,}" for split, count in inspection.split_interactions.items())
    leaks = inspection.leaks
    lines = [
        ("users", f"{inspection.users:,}"),
        ("items", f"{inspection.items:,}"),
        ("interactions", f"{inspection.interactions:,} ({splits})"),
        ("density", f"{inspection.density:.4%}"),
        ("split", _split(inspection.split.kind, inspection.split.parameters)),
        ("evaluated users", ", ".join(f"{split} {count:,}" for split, count in inspection.cases.items())),
        ("events a user", _distribution(inspection.history_length)),
        ("events an item", _distribution(inspection.popularity)),
        ("events of the most popular tenth", f"{inspection.top_tenth:.1%}"),
        ("items without an event in train", f"{inspection.never_trained:,}"),
        *((f"items with {name}", f"{share:.1%}") for name, share in inspection.attributes.items()),
        ("items without text", f"{inspection.without_text:.1%}"),
        ("items that share their title", f"{inspection.shared_titles:,}"),
        ("repeated events", f"{inspection.repeats:.1%}"),
        ("test targets in the history", f"{inspection.seen_targets:.1%}"),
        ("events at the same moment", f"{inspection.ties:.1%}"),
        ("fingerprint", inspection.fingerprint),
        ("published as", inspection.known_as or "not a split with published numbers"),
        (
            "leak check",
            f"FOUND: {leaks.same_event:,} held-out events that train has too, {leaks.later_training:,} training events later than the "
            f"user's first held-out one, {leaks.after_cut:,} after the cut"
            if leaks.found
            else "passed: within each user, nothing held out is in training, and nothing in training is later",
        ),
    ]
    notes = [f"! {advice.written(_as_option)}" for advice in inspection.advice]
    if inspection.split.kind != "global-time" and leaks.older_tests:
        notes.append(
            f"{leaks.older_tests:.0%} of the test events are older than some training event of another user: this split compares models, "
            "and says less about a future day than one at two moments does (--split global-time)"
        )
    _table(inspection.name, lines, notes)


def _split(kind: str, parameters: dict[str, int]) -> str:
    return kind + "".join(f", {key} {value}" for key, value in parameters.items())


def _distribution(counts: Distribution) -> str:
    return (
        f"{counts.smallest:,} · {counts.lower_quartile:g} · {counts.median:g} · {counts.upper_quartile:g} · {counts.largest:,} "
        f"(smallest, quartiles, largest), mean {counts.mean:.1f}"
    )


def _table(title: str, lines: list[tuple[str, str]], notes: list[str]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in lines:
        table.add_row(escape(label), escape(value))
    console = Console()
    console.print(table)
    for note in notes:
        console.print(f"  {escape(note)}", highlight=False)
