"""A demonstration's run on a hostile shop."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest


def write_dataset(folder: Path) -> None:
    """User u takes seven of ten items in a row, from the u-th; the last tests, the one before validates."""
    from hostile import GENRES, TITLES, USERS

    from laserrec.data.dataset import Dataset
    from laserrec.data.splits import SplitInfo
    from laserrec.data.tables import SPLIT_TYPE

    rows = [
        (user, f"<{(place + step) % 10}>", 100 * place + step, "train" if step < 5 else ("valid", "test")[step - 5])
        for place, user in enumerate(USERS)
        for step in range(7)
    ]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "split": SPLIT_TYPE}
    items = {"item_id": [f"<{place}>" for place in range(10)], "title": TITLES, "genre": GENRES * 2}
    events = pl.DataFrame(rows, schema=schema, orient="row")
    Dataset.build("<shop>", pl.DataFrame(items), events, SplitInfo("leave-one-out", {})).save(folder)


@pytest.fixture(scope="session")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, `llm`, `cache` and `run`."""
    import tiny
    import torch
    from transformers import AutoModelForCausalLM

    from laserrec.data.dataset import Dataset
    from laserrec.runs.demo import compare_with_others
    from laserrec.runs.folder import RunFolder, train_run
    from laserrec.training.observers import EpochLog

    folder = tmp_path_factory.mktemp("demonstrated")
    write_dataset(folder / "data")
    torch.manual_seed(0)
    tiny.tokenizer().save_pretrained(folder / "llm")
    AutoModelForCausalLM.from_config(tiny.llm_config("llama-grouped"), dtype=torch.float32).save_pretrained(folder / "llm")
    fits = {name: {"epochs": 2} for name in ("fit_collaborative", "stage1", "stage2")}
    config = tiny.config(llm={"model": str(folder / "llm")}, collaborative={"width": 8, "max_history": 10}, **fits)
    data, path = Dataset.load(folder / "data"), folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(folder / "cache"))
        run = RunFolder.begin(path, config, data, folder / "data", command=["laserrec", "demo", "--out", "a b"])
        with run.work() as clock:
            train_run(run, data, [clock, EpochLog(path)])
            compare_with_others(data, run, [clock, EpochLog(path)])
        run.finish()
    return folder


@pytest.fixture
def copied(demonstrated: Path, tmp_path: Path) -> Path:
    """A copy of the demonstration's data and run, to change at will."""
    for name in ("data", "run"):
        shutil.copytree(demonstrated / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def seeded(copied: Path) -> Path:
    """The run once more, of another seed, with every target ranked tenth and no model below."""
    from laserrec.data.dataset import Dataset
    from laserrec.evaluation.metrics import Evaluation
    from laserrec.system.files import read_json, write_json

    folder, data = copied / "seeded", Dataset.load(copied / "data")
    shutil.copytree(copied / "run", folder)
    for ranks in folder.glob("*/ranks-*.parquet"):
        ranks.unlink()
    about = read_json(folder / "run.json")
    about["config"]["seed"] += 1
    write_json(folder / "run.json", about)
    found = Evaluation.load(folder / "ranks-test.parquet")
    tenth = {protocol: np.full(len(found), 10) for protocol in found.ranks}
    replace(found, ranks=tenth).save(folder / "ranks-test.parquet", data.user_ids, data.item_ids)
    return folder


@pytest.fixture(autouse=True)
def _use_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "demonstrated" in request.fixturenames:
        monkeypatch.setenv("LASERREC_CACHE", str(request.getfixturevalue("demonstrated") / "cache"))
