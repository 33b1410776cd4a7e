"""A trained model over another catalogue: as it is, and as where training starts from."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
import small_shop
import torch

from laserrec import Dataset, Laser
from laserrec.data.restrict import hide_items, keep_users
from laserrec.data.splits import SplitInfo
from laserrec.data.tables import SPLIT_TYPE
from laserrec.errors import CheckpointError, ConfigError, DataError
from laserrec.laser.folder import ModelFolder
from laserrec.laser.transfer import Start
from laserrec.system.files import read_json, write_json

PENS = ("Fountain pen", "Ballpoint pen", "Ink bottle", "Pencil", "Sharpener", "Rubber")


def stationery() -> Dataset:
    """Five users who take five of six items in a row, from the u-th."""
    splits = ("train", "train", "train", "valid", "test")
    rows = [(f"c{user}", f"s{(user + step) % 6}", step, split) for user in range(5) for step, split in enumerate(splits)]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "split": SPLIT_TYPE}
    items = pl.DataFrame({"item_id": [f"s{place}" for place in range(6)], "title": PENS})
    return Dataset.build("stationery", items, pl.DataFrame(rows, schema=schema, orient="row"), SplitInfo("leave-one-out", {}))


def test_what_was_trained_goes_along_and_what_was_measured_does_not(saved: Path) -> None:
    source, moved = ModelFolder.read(saved).weights, Laser.transfer(saved, stationery())._system
    weights = moved.model.state_dict() | moved.catalogue.tables()
    kept = [name for name in weights if name.startswith(("tokens.", "source.")) or name in {"scorer.read_out", "scorer.log_scale"}]
    assert len(kept) > 5
    assert all(torch.equal(weights[name], source[name]) for name in kept)
    assert weights["item_states"].shape[0] == 6
    assert torch.allclose(weights["scorer.mean"], weights["item_states"].mean(0))
    assert not torch.allclose(weights["scorer.mean"], source["scorer.mean"])


def test_nothing_is_learnt_from_the_events(saved: Path) -> None:
    data = stationery()
    other = Dataset.of("others", data.items, data.events.take(data.events.user < 3).compact(), data.split)
    first, second = (Laser.transfer(saved, each).recommend([["s0", "s1"]], k=6) for each in (data, other))
    assert first == second
    assert {found.item_id for found in first[0]} == {"s2", "s3", "s4", "s5"}  # what was seen is left out


def test_no_id_based_score_is_fused(saved: Path) -> None:
    system = Laser.transfer(saved, stationery())._system
    items, mask = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)
    assert not system.collaborative.scores(items, mask).any()
    assert not system.collaborative.states(items, mask)[1].any()


def test_it_is_evaluated_saved_and_told_where_it_comes_from(saved: Path, data: Dataset, tmp_path: Path) -> None:
    moved = Laser.transfer(saved, stationery())
    assert len(moved.evaluate(stationery())) == 5
    moved.save(tmp_path / "moved")
    again = Laser.load(tmp_path / "moved")
    assert again.recommend([["s0"]], k=3) == moved.recommend([["s0"]], k=3)
    assert again.provenance["dataset"] == "stationery"
    assert again.provenance["start"]["fingerprint"] == data.fingerprint
    again.add_items([{"item_id": "s6", "title": "Blotting paper"}])
    assert "s6" in {found.item_id for found in again.recommend([["s0"]], k=7)[0]}


def test_training_starts_from_a_model(saved: Path, llm: Path) -> None:
    still = {"stage1": {"epochs": 0}, "stage2": {"epochs": 0}, "collaborative": {"refits": []}, "score": {"calibrate": False}}
    config = small_shop.config(llm, **still).model_copy(update={"start": str(saved)})
    begun, afresh = (Laser.fit(stationery(), each) for each in (config, config.model_copy(update={"start": None})))
    source = ModelFolder.read(saved).weights
    assert torch.equal(begun._system.model.tokens.suffix, source["tokens.suffix"])
    assert not torch.equal(afresh._system.model.tokens.suffix, source["tokens.suffix"])
    assert begun.provenance["start"]["dataset"] == "shop"


def test_a_model_of_other_sizes_is_refused(saved: Path, llm: Path) -> None:
    config = small_shop.config(llm, virtual={"prefix_length": 3}).model_copy(update={"start": str(saved)})
    with pytest.raises(ConfigError, match=r"other settings: received virtual\.prefix_length = 3 \(the model's: 2\)\. Use the model's"):
        Laser.fit(stationery(), config)


@pytest.mark.parametrize(
    "other", [{"virtual": {"read_out": "last"}}, {"mformer": {"routing": "paper"}}, {"score": {"standardise": False}}], ids=str
)
def test_a_model_whose_weights_would_mean_something_else_is_refused(saved: Path, llm: Path, other: dict[str, dict[str, object]]) -> None:
    config = small_shop.config(llm, **other).model_copy(update={"start": str(saved)})
    with pytest.raises(ConfigError, match="other settings"):
        Laser.fit(stationery(), config)


def test_a_model_that_learnt_from_what_is_left_out_is_refused(saved: Path, llm: Path, data: Dataset) -> None:
    few, config = keep_users(data, 0.5), small_shop.config(llm).model_copy(update={"start": str(saved)})
    with pytest.raises(DataError, match="leaves out events on which the model"):
        Laser.transfer(saved, few)
    with pytest.raises(DataError, match="leaves out events on which the model"):
        Laser.fit(few, config)
    with pytest.raises(DataError, match="trained on 'shop' itself"):
        Laser.transfer(saved, data)


def test_what_a_start_or_a_sibling_has_learnt_counts_too(saved: Path, data: Dataset, tmp_path: Path) -> None:
    few, moved = keep_users(data, 0.5), tmp_path / "moved"
    Laser.transfer(saved, stationery()).save(moved)
    with pytest.raises(DataError, match="leaves out events on which the model"):
        Laser.transfer(moved, few)
    with pytest.raises(DataError, match="trained on 'shop' itself"):
        Laser.transfer(moved, data)
    # Trained on another part of the same dataset, which may hold what this one leaves out.
    about = read_json(moved / "laser.json")
    other = hide_items(data, 0.2)
    trained = {"dataset": other.name, "fingerprint": other.fingerprint, "made_from": [data.fingerprint]}
    write_json(moved / "laser.json", about | {"provenance": {**about["provenance"], **trained, "start": None}})
    with pytest.raises(DataError, match="leaves out events on which the model"):
        Laser.transfer(moved, few)
    with pytest.raises(DataError, match="trained on 'shop' itself"):
        Laser.transfer(moved, data)  # of which it has learnt a part
    assert Start.read(moved, other).lineage[0]["fingerprint"] == other.fingerprint  # its own dataset hides nothing from it


def test_a_stopped_run_knows_the_weights_it_started_from(saved: Path, llm: Path, tmp_path: Path) -> None:
    start = Path(shutil.copytree(saved, tmp_path / "start"))
    once = {"stage2": {"epochs": 0}, "collaborative": {"refits": []}}
    config = small_shop.config(llm, **once).model_copy(update={"start": str(start)})
    Laser.fit(stationery(), config, folder=tmp_path / "run")
    Laser.fit(stationery(), config, folder=tmp_path / "run")
    shutil.rmtree(start)
    Laser.fit(stationery(), config.model_copy(update={"start": None})).save(start)
    with pytest.raises(CheckpointError, match="other settings or data"):
        Laser.fit(stationery(), config, folder=tmp_path / "run")


def test_a_device_that_is_not_there_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Received the device 'cuda:7'"):
        Laser.transfer(saved, stationery(), device="cuda:7")


def test_a_score_may_have_other_terms(saved: Path, llm: Path) -> None:
    still = {"stage1": {"epochs": 0}, "stage2": {"epochs": 0}, "collaborative": {"refits": []}}
    config = small_shop.config(llm, score={"fuse_collaborative": False}, **still).model_copy(update={"start": str(saved)})
    assert Laser.fit(stationery(), config)._system.model.scorer.collaborative_weight is None


def test_another_language_model_is_refused(saved: Path, tmp_path: Path) -> None:
    stranger = small_shop.config(small_shop.write_llm(tmp_path / "other", seed=1)).model_copy(update={"start": str(saved)})
    with pytest.raises(CheckpointError, match="trained around a language model with fingerprint"):
        Laser.fit(stationery(), stranger)
