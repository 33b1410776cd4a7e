"""`laserrec assets`: what can be fetched by name, fetching it, and clearing the cache of encoded texts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Named downloads: the default language model and the demonstration's interactions.")


@app.command("list")
def list_assets(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show every asset, its size, its licence and whether it is in the cache."""
    from laserrec.assets import ASSETS, cache_folder, fetched_folder

    folders = {asset.name: fetched_folder(asset) for asset in ASSETS}
    if as_json:
        rows = [asdict(asset) | {"folder": str(folders[asset.name]), "fetched": folders[asset.name].is_dir()} for asset in ASSETS]
        typer.echo(json.dumps({"cache": str(cache_folder()), "assets": rows}, indent=2))
        return
    for asset in ASSETS:
        state = "in the cache" if folders[asset.name].is_dir() else "not fetched"
        typer.echo(f"{asset.name:<24}{asset.size / 1e6:>6.1f} MB  {state:<14}{asset.licence}\n    {asset.terms}")
    typer.echo(f"Cache folder: {cache_folder()} (LASERREC_CACHE chooses another)")


@app.command("fetch")
def fetch_assets(
    names: Annotated[list[str] | None, typer.Argument(help="Names as `laserrec assets list` shows them; all when none.")] = None,
) -> None:
    """Fetch assets into the cache; a language model is converted as well, so that later loads are quick."""
    from laserrec.assets import ASSETS, fetch, find

    for asset in [find(name) for name in names] if names else ASSETS:
        folder: Path | str = fetch(asset.name)
        if asset.kind == "llm":
            from laserrec.llm.gguf import resolve_llm

            folder = resolve_llm(asset.name)
        typer.echo(f"{asset.name}: {folder}")


@app.command("clean")
def clean_texts(
    unused_days: Annotated[float | None, typer.Option(min=0, help="Remove encoded texts that no run used for so many days.")] = None,
    remove_all: Annotated[bool, typer.Option("--all", help="Remove all encoded texts.")] = False,
) -> None:
    """Show how much room encoded texts take, and remove them if asked; a run that needs them encodes them again."""
    from laserrec.system.cache import texts_folder
    from laserrec.text_cache.stored import remove_texts, stored_texts

    after = 0.0 if remove_all else unused_days
    found = stored_texts()
    for texts in found:
        state = "kept"
        if after is not None and texts.unused_days >= after:
            state = "removed" if remove_texts(texts) else "kept: a run is adding to it"
        typer.echo(f"{texts.path.name:<32}  {texts.bytes / 2**30:>8.2f} GiB  unused for {texts.unused_days:.1f} days  {state}")
    typer.echo(f"{len(found)} in {texts_folder()}, {sum(texts.bytes for texts in found) / 2**30:.2f} GiB")
    if found and after is None:
        typer.echo("Remove them with --unused-days N or --all.")
