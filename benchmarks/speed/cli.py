"""Define the commands of `python -m benchmarks.speed`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from laserrec.cli.support import Device, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rich.console import Console

    from benchmarks.speed.figures import Report
    from benchmarks.speed.timing import Progress

app = typer.Typer(no_args_is_help=True, help="Measure speed beside the plain route through transformers and the machine's own limits.")


class DTypeChoice(StrEnum):
    """Types that `--dtype` takes."""

    bfloat16 = "bfloat16"
    float32 = "float32"


class WeightsChoice(StrEnum):
    """What `--weights` takes."""

    full = "full"
    int8 = "int8"
    nf4 = "nf4"
    fp8 = "fp8"


Llm = Annotated[str, typer.Option(help="An asset name, a local folder or a Hugging Face id.")]
DType = Annotated[DTypeChoice, typer.Option(help="Type of the numbers.")]
Weights = Annotated[WeightsChoice, typer.Option(help="How our routes keep the frozen weights; the plain route has them in full.")]
Layers = Annotated[int | None, typer.Option(min=1, help="Decoder layers to keep, from the bottom; all by default.")]
Catalogue = Annotated[int, typer.Option(min=1, help="Items of the shop.")]
ItemTokens = Annotated[int, typer.Option(min=1, help="Tokens of an item's line.")]
Vary = Annotated[float, typer.Option(min=0, max=0.9, help="By what share lines are longer and shorter than that.")]
History = Annotated[int, typer.Option(min=1, help="Items of a history.")]
Prefix = Annotated[int, typer.Option(min=0, help="L, prefix tokens.")]
Batch = Annotated[int, typer.Option(min=1, help="Prompts that the plain route takes at a time.")]
Repeats = Annotated[int, typer.Option(min=1, help="Timed rounds.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; torch's choice by default.")]
Side = Annotated[int, typer.Option(min=1, help="Side of the square product that measures the limits.")]
Compiled = Annotated[bool, typer.Option("--compiled", help="Send our elementwise kernels through torch.compile.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def train(
    llm: Llm = "smollm2-135m-instruct",
    dtype: DType = DTypeChoice.bfloat16,
    weights: Weights = WeightsChoice.full,
    layers: Layers = None,
    catalogue: Catalogue = 400,
    item_tokens: ItemTokens = 24,
    vary: Vary = 0.0,
    history: History = 10,
    prefix: Prefix = 8,
    users: Annotated[int, typer.Option(min=1, help="Histories a repeat, where only virtual tokens are run.")] = 64,
    prompts: Annotated[int, typer.Option(min=1, help="Histories a repeat, where whole prompts are run.")] = 16,
    batch: Batch = 16,
    repeats: Repeats = 5,
    threads: Threads = None,
    side: Side = 2048,
    compiled: Compiled = False,
    as_json: Json = False,
    device: Device = None,
) -> None:
    """Training users/s in both prompt orders, forward and backward."""
    from benchmarks.speed.synthetic_shop import Setting
    from benchmarks.speed.train import bench_train
    from laserrec.system.devices import choose

    setting = Setting(
        llm=llm, dtype=dtype.value, weights=weights.value, layers=layers, catalogue=catalogue,
        item_tokens=item_tokens, vary=vary, history=history, prefix=prefix,
        users=users, prompts=prompts, batch=batch, repeats=repeats, threads=threads, side=side, compiled=compiled,
        device=str(choose(device)),
    )  # fmt: skip
    _run(lambda progress: bench_train(setting, progress), as_json)


@app.command()
def items(
    llm: Llm = "smollm2-135m-instruct",
    dtype: DType = DTypeChoice.bfloat16,
    weights: Weights = WeightsChoice.full,
    layers: Layers = None,
    catalogue: Catalogue = 256,
    item_tokens: ItemTokens = 24,
    vary: Vary = 0.0,
    prefix: Prefix = 8,
    batch: Batch = 128,
    repeats: Repeats = 5,
    threads: Threads = None,
    side: Side = 2048,
    compiled: Compiled = False,
    as_json: Json = False,
    device: Device = None,
) -> None:
    """Items/s of refreshing the item matrix, tokens/s of building the text cache."""
    from benchmarks.speed.items import bench_items
    from benchmarks.speed.synthetic_shop import Setting
    from laserrec.system.devices import choose

    setting = Setting(
        llm=llm, dtype=dtype.value, weights=weights.value, layers=layers, catalogue=catalogue,
        item_tokens=item_tokens, vary=vary, history=1, prefix=prefix,
        users=1, prompts=1, batch=batch, repeats=repeats, threads=threads, side=side, compiled=compiled,
        device=str(choose(device)),
    )  # fmt: skip
    _run(lambda progress: bench_items(setting, progress), as_json)


@app.command()
def rank(
    catalogue: Catalogue = 1_000_000,
    width: Annotated[int, typer.Option(min=1, help="Width of the vectors.")] = 576,
    users: Annotated[int, typer.Option(min=1, help="Histories to rank for.")] = 64,
    history: Annotated[int, typer.Option(min=0, help="Items of a history, which its list leaves out.")] = 10,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the lists.")] = 10,
    dtype: DType = DTypeChoice.float32,
    repeats: Repeats = 5,
    threads: Threads = None,
    side: Side = 2048,
    as_json: Json = False,
    device: Device = None,
) -> None:
    """Best items of a large catalogue after embedded histories: time, and memory beside the catalogue."""
    from benchmarks.speed.rank import RankSetting, bench_rank
    from laserrec.system.devices import choose

    setting = RankSetting(
        items=catalogue, width=width, users=users, history=history, k=k, dtype=dtype.value, repeats=repeats, threads=threads, side=side,
        device=str(choose(device)),
    )  # fmt: skip
    _run(lambda progress: bench_rank(setting, progress), as_json)


@app.command()
def serve(
    llm: Llm = "smollm2-135m-instruct",
    dtype: DType = DTypeChoice.bfloat16,
    weights: Weights = WeightsChoice.full,
    layers: Layers = None,
    catalogue: Catalogue = 2000,
    item_tokens: ItemTokens = 24,
    vary: Vary = 0.0,
    history: History = 10,
    prefix: Prefix = 8,
    requests: Annotated[int, typer.Option(min=1, help="Timed requests.")] = 300,
    repeats: Repeats = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    side: Side = 2048,
    compiled: Compiled = False,
    as_json: Json = False,
    device: Device = None,
) -> None:
    """Milliseconds of one recommendation for known items, texts encoded, on one core."""
    from benchmarks.speed.serve import bench_serve
    from benchmarks.speed.synthetic_shop import Setting
    from laserrec.system.devices import choose

    setting = Setting(
        llm=llm, dtype=dtype.value, weights=weights.value, layers=layers, catalogue=catalogue,
        item_tokens=item_tokens, vary=vary, history=history, prefix=prefix,
        users=100, prompts=1, batch=1, repeats=repeats, threads=threads, side=side, compiled=compiled,
        device=str(choose(device)),
    )  # fmt: skip
    _run(lambda progress: bench_serve(setting, requests, progress), as_json)


@app.command()
def data(
    rows: Annotated[int, typer.Option(min=1000, help="Events of the synthetic log.")] = 10_000_000,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 3,
    as_json: Json = False,
) -> None:
    """Preparing a large log, beside the same job in pandas."""
    from benchmarks.speed.data import bench_data
    from laserrec.cli.support import print_json, progress_console

    with progress_console().status("Loading") as status:
        found = bench_data(rows, repeats, status.update)
    if as_json:
        print_json(found)
    else:
        _show_data(found)


@app.command()
def http(
    source: Annotated[str | None, typer.Argument(help="Folder of a model; an untrained one of a synthetic shop when unset.")] = None,
    rates: Annotated[str, typer.Option(help="Arrivals a second, one rate after the other.")] = "2,4,8",
    plain_rates: Annotated[str, typer.Option(help="Likewise for the plain route; empty for none.")] = "0.5,1",
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of each rate.")] = 20,
    limit: Annotated[float, typer.Option(min=1, help="Milliseconds that the 99th percentile may have.")] = 150,
    checked: Annotated[int, typer.Option(min=0, help="Answers of each rate that are held against the model.")] = 100,
    store: Annotated[str | None, typer.Option(help="A PostgreSQL server's address; a SQLite file when unset.")] = None,
    calm: Annotated[bool, typer.Option("--calm", help="Neither switch the model nor kill the service.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads that compute, of either route.")] = 1,
    catalogue: Annotated[int, typer.Option(min=1, help="Items of the synthetic shop.")] = 100_000,
    llm: Llm = "smollm2-135m-instruct",
    layers: Layers = None,
    out: Annotated[Path | None, typer.Option(help="File for everything that was found, as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """Highest arrival rate over HTTP while the service is written to, gets a new model and is killed; and that of the plain route."""
    import tempfile

    from benchmarks.speed.http_load import LoadSetting, bench_http, synthetic_model
    from laserrec.cli.support import print_json, progress_console
    from laserrec.system.files import write_json

    with progress_console().status("Loading") as status, tempfile.TemporaryDirectory() as folder:
        model = source or synthetic_model(Path(folder) / "model", catalogue, layers, llm)
        ours, plain = (tuple(float(rate) for rate in text.split(",") if rate) for text in (rates, plain_rates))
        setting = LoadSetting(model, ours, plain, seconds, store, limit, checked, threads, incidents=not calm)
        found = bench_http(setting, status.update)
    if out is not None:
        write_json(out, found)
    if as_json:
        print_json(found)
    else:
        _show_http(found)


def _show_http(found: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console, setting = Console(highlight=False), found["setting"]
    console.print(Text(f"http: {found['machine']['processor']}, {setting['threads']} threads, {setting['items']:,} items", "bold"))
    head = ("Arrivals/s", "p50", "p99", "Writes, p99", "Refused", "Down", "Wrong", "Lost", "Switch", "Outage", "Memory")
    _table(console, head, map(_load_row, found["rates"]))
    _table(console, ("Plain route, arrivals/s", "p50", "p99", "Refused"), map(_plain_row, found["plain"]))
    best, plain = found["highest_rate"], found["highest_plain_rate"]
    console.print(f"Highest rate that keeps p99 below {setting['limit']:g} ms: {best or 'none'}; plain route: {plain or 'none'}")


def _load_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    memory = [size for _, size in row["memory"] if size]
    writes = [found["p99"] for found in (row["events"], row["items"]) if found["p99"] is not None]
    return (
        f"{row['rate']:g}",
        *(_milliseconds(row["recommendations"][level]) for level in ("p50", "p99")),
        _milliseconds(max(writes, default=None)),
        str(sum(row["refused"].values())),
        str(row["down"]),
        f"{row['wrong']} of {row['checked']}",
        str(row["lost_events"] + row["lost_items"] + row["events_twice"]),
        *("–" if row[name] is None else f"{row[name]:.1f} s" for name in ("switch", "outage")),
        f"{min(memory) / 2**20:,.0f} to {max(memory) / 2**20:,.0f} MiB" if memory else "–",
    )


def _plain_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    spread = row["recommendations"]
    return f"{row['rate']:g}", _milliseconds(spread["p50"]), _milliseconds(spread["p99"]), str(sum(row["refused"].values()))


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"


def _run(bench: Callable[[Progress], Report], as_json: bool) -> None:
    """Run a benchmark under a line of progress and print what it found."""
    from laserrec.cli.support import print_json, progress_console

    with progress_console().status("Loading") as status:
        found = bench(status.update).as_dict()
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    machine = found["machine"]
    limits = found["limits"]
    setting = found["setting"]
    where = f"{machine['processor']}, {setting['threads']} threads, {setting['device']}, torch {machine['torch']}"
    console.print(Text(f"{found['bench']}: {where}", "bold"))
    console.print(
        f"Limits: products {limits['bfloat16_gflops']:,.0f} GFLOP/s bfloat16, {limits['float32_gflops']:,.0f} float32; "
        f"memory {limits['read_gbytes']:.1f} GB/s read, {limits['copy_gbytes']:.1f} copied"
    )
    _table(console, ("Route", "Median", "Slowest to fastest", "", "Of the limit"), map(_measurement, found["measurements"]))
    _table(console, ("Figure", "Measured", "Spread", "Target", ""), map(_target, found["targets"]))
    for name, value in found["details"].items():
        console.print(f"  {name.replace('_', ' ')}: {'unknown' if value is None else _round(value)}")
    for note in found["notes"]:
        console.print(Text(f"  {note}"))


def _show_data(found: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    kept = found["kept"]
    versions = found["versions"]
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    console.print(Text(f"data: {found['machine']['processor']}, {found['setting']['cores']} cores, {shown}", "bold"))
    console.print(
        f"{found['setting']['rows']:,} events read; {kept['users']:,} users, {kept['items']:,} items, {kept['interactions']:,} events kept"
    )
    _table(console, ("Route", "Seconds", "Fastest to slowest", "Events/s", "Peak memory"), map(_data_route, found["routes"].items()))
    _table(console, ("Figure", "Measured", "Spread", "Target", ""), map(_target, found["targets"]))
    for name, value in found["floor"].items():
        console.print(f"  {name.replace('_', ' ')} alone: {_round(value)} s")


def _data_route(route: tuple[str, Mapping[str, Any]]) -> tuple[str, ...]:
    name, row = route
    seconds = row["seconds"]
    spread = f"{_round(seconds['low'])} to {_round(seconds['high'])}"
    return name, _round(seconds["median"]), spread, _round(row["rows_per_second"]), f"{row['peak_bytes'] / 2**30:.2f} GiB"


def _measurement(row: Mapping[str, Any]) -> tuple[str, ...]:
    spread = f"{_round(row['low'])} to {_round(row['high'])}"
    limit = f"{100 * row['limit_share']:.1f} % ({row['bound']})"
    return row["name"], _round(row["median"]), spread, row["unit"], limit


def _target(row: Mapping[str, Any]) -> tuple[str, ...]:
    goal = "–" if row["goal"] is None else f"{'≤' if row['at_most'] else '≥'} {row['goal']:g} {row['unit']}"
    verdict = "" if row["met"] is None else "met" if row["met"] else "missed"
    return row["what"], f"{_round(row['median'])} {row['unit']}", f"{_round(row['low'])} to {_round(row['high'])}", goal, verdict


def _table(console: Console, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place in {0, len(head) - 1} else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _round(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def main() -> NoReturn:
    """Run the benchmarks' command line and exit."""
    run(app, "python -m benchmarks.speed")
