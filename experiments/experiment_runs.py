"""Train the runs of experiments, each once, reuse the fits they have in common, and write results as JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from laserrec import Dataset, LaserConfig
from laserrec.runs.folder import RunFolder, train_run
from laserrec.system.devices import choose
from laserrec.system.files import read_tensors
from laserrec.system.provenance import provenance
from laserrec.training.loop import CHECKPOINT, FORMAT
from laserrec.training.observers import EpochLog
from laserrec.training.sequential_stage import collaborative_stage, refit_stages


def train(out: Path, arm: str, config: LaserConfig, data: Dataset, data_path: Path) -> Path:
    """Train one arm with one seed, with what another arm of the same seed has already trained."""
    folder = place(out, arm, config.seed)
    run = RunFolder.begin(folder, config, data, data_path, command=["python", *sys.argv], resume=True)
    if not run.finished:
        sys.stderr.write(f"{arm}, seed {config.seed}\n")
        borrow(out, folder, config, data)
        device = choose()
        with run.work(device):
            train_run(run, data, [EpochLog(folder)], device)
        run.finish()
    return folder


def train_all(out: Path, arms: Sequence[tuple[str, LaserConfig]], data_path: Path, jobs: int) -> list[Path]:
    """Train runs, each of an arm with its settings, `jobs` at a time in separate processes; return their folders."""
    if jobs == 1:
        data = Dataset.load(data_path)
        return [train(out, arm, config, data, data_path) for arm, config in arms]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(pool.map(partial(_train_one, out, data_path), arms))


def _train_one(out: Path, data_path: Path, run: tuple[str, LaserConfig]) -> Path:
    return train(out, *run, Dataset.load(data_path), data_path)


def place(out: Path, arm: str, seed: int) -> Path:
    """Return the folder of an arm's run."""
    return out / arm.replace(" ", "-").replace("/", "-") / f"seed-{seed}"


def made_with(folder: Path) -> dict[str, str]:
    """Return the device that a run was finished on, and the versions it was begun with; what tables its results may be another machine."""
    about = RunFolder.open(folder).about
    versions = {name: about["environment"][name] for name in ("commit", "torch") if name in about["environment"]}
    return {"device": about["device"], "laserrec": about["version"], **versions}


def finished(out: Path, arm: str, seeds: Sequence[int]) -> bool:
    """Whether all runs of an arm are there, from an earlier call: they stay in the table."""
    return all((place(out, arm, seed) / "run.json").is_file() and RunFolder.open(place(out, arm, seed)).finished for seed in seeds)


def borrow(out: Path, folder: Path, config: LaserConfig, data: Dataset) -> None:
    """Copy the id-based fits of finished runs with the same seed that depend on the same."""
    about = {"data": data.fingerprint, "items": data.catalogue_digest}
    for other in sorted(out.glob(f"*/seed-{config.seed}/run.json")):
        kept = RunFolder.open(other.parent)
        if other.parent == folder or not kept.finished:
            continue
        texts = (kept.config.prompt, kept.config.llm) == (config.prompt, config.llm)
        for stage in (collaborative_stage(config), *refit_stages(config)):
            kept_fit = identity(other.parent / stage.name / CHECKPOINT)
            if (texts or not stage.model.reads_texts) and kept_fit == about | stage.identity:
                copy(other.parent / stage.name, folder / stage.name)


def identity(checkpoint: Path) -> dict[str, Any] | None:
    """Return what a kept fit depends on beside texts; None where there is none that this version reads."""
    if not checkpoint.is_file():
        return None
    _, state = read_tensors(checkpoint)
    return {key: value for key, value in state["identity"].items() if key != "texts"} if state["format"] == FORMAT else None


def copy(source: Path, target: Path) -> None:
    """Copy a file or folder that is there and not yet here, atomically."""
    if target.exists() or not source.exists():
        return
    aside = target.with_name(f".{target.name}.copied")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(source, aside) if source.is_dir() else shutil.copy(source, aside)
    aside.rename(target)


def command_line(description: str | None, folder: Path | None = None) -> argparse.ArgumentParser:
    """Return what every experiment on one dataset is called with, those that a TOML file of a folder describes also with its name."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if folder is not None:
        parser.add_argument("experiment", choices=sorted(path.stem for path in folder.glob("*.toml")))
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results", help="folder of the results")
    parser.add_argument("--set", dest="assignments", nargs="*", default=[], metavar="KEY=VALUE", help="further settings of every run")
    return parser


def derived(path: Path, data: Dataset) -> Path:
    """Return the folder of a dataset that follows from another one, written unless it is there; another one there is refused."""
    if not path.exists():
        data.save(path)
    elif Dataset.load(path).fingerprint != data.fingerprint:
        raise SystemExit(f"{path} holds a dataset that was made from another one. Give the runs of this one another folder with --out.")
    return path


def write_results(folder: Path, found: Mapping[str, Any]) -> None:
    """Write what an experiment found, with date, versions and command, as `NAME.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    # Results are published: they must not show where this machine keeps its files.
    command = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv]
    written = {**found, **provenance(["python", *command])}
    (folder / f"{found['experiment']}.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
