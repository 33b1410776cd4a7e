"""Model folders: loaded elsewhere to the same scores, refused when damaged, never written over anything else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import small_shop
import torch
from safetensors.torch import load_file, save_file
from small_shop import after

from laserrec import Dataset, Laser
from laserrec.errors import AssetError, CheckpointError, ConfigError, LaserrecError
from laserrec.laser.folder import FILES, checksums

HISTORIES = [["tent"], after(2, 6), ["untitled", "never-bought"], ["never-bought"]]
LOAD_ELSEWHERE = """
import json, sys
from laserrec import Laser
laser = Laser.load(sys.argv[1])
print(json.dumps([[(item.item_id, item.title, item.score.hex()) for item in row] for row in laser.recommend(json.loads(sys.argv[2]), 100)]))
"""


def exact(laser: Laser) -> list[list[list[str]]]:
    """Every score to the last bit."""
    return [[[item.item_id, item.title, item.score.hex()] for item in row] for row in laser.recommend(HISTORIES, 100)]


def test_the_same_scores_in_a_process_that_never_saw_the_data(trained: Laser, saved: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", LOAD_ELSEWHERE, str(saved), json.dumps(HISTORIES)]
    answer = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == exact(trained)


def test_without_the_encoded_texts_the_scores_are_the_same_but_for_rounding(
    trained: Laser, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "empty"))
    for row, expected in zip(Laser.load(saved).recommend(HISTORIES, 100), trained.recommend(HISTORIES, 100), strict=True):
        assert [item.item_id for item in row] == [item.item_id for item in expected]
        assert [item.score for item in row] == pytest.approx([item.score for item in expected], abs=1e-5)


def test_an_id_based_recommender_of_two_streams_comes_back(data: Dataset, llm: Path, tmp_path: Path) -> None:
    laser = Laser.fit(data, small_shop.config(llm, collaborative={"model": "fdsa"}))
    laser.save(tmp_path / "model")
    assert exact(Laser.load(tmp_path / "model")) == exact(laser)
    tensors = load_file(tmp_path / "model" / "collaborative.safetensors")
    assert tensors["model.feature_stream.items.weight"].shape == (12, 8)  # plain tables, whatever they were made from
    assert not any("texts" in name or "maps" in name for name in tensors)


def test_what_is_told_about_a_model_comes_back(trained: Laser, saved: Path, data: Dataset) -> None:
    again = Laser.load(str(saved))
    assert (again.config, again.catalogue, again.item_ids) == (trained.config, trained.catalogue, trained.item_ids)
    assert (again.provenance, again.costs) == (trained.provenance, trained.costs)
    assert again.provenance["dataset"] == "shop"
    assert again.provenance["fingerprint"] == data.fingerprint
    assert again.trained_parameters == trained.trained_parameters == trained.costs["laser"]["parameters"]
    assert again.evaluate(data).metrics() == trained.evaluate(data).metrics()


EARLIER_NAMES = {
    "collaborative_weight": "trust",
    "neighbour_weight": "nearness",
    "seen_penalty": "penalty",
    "cold_start_bonus": "lift",
    "whitening": "mixing",
}


def test_a_folder_with_the_names_of_an_earlier_version_is_read(trained: Laser, saved: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(saved, tmp_path / "older"))
    tensors = load_file(older / "laser.safetensors")
    for now, then in EARLIER_NAMES.items():
        tensors[f"scorer.{then}"] = tensors.pop(f"scorer.{now}")
    save_file(tensors, older / "laser.safetensors", {"state": "{}"})
    settings = json.loads((older / "config.json").read_text())
    settings["score"]["new_items"] = settings["score"].pop("cold_start_bonus")
    (older / "config.json").write_text(json.dumps(settings))
    about = json.loads((older / "laser.json").read_text())
    (older / "laser.json").write_text(json.dumps(about | {"sha256": checksums(older)}))
    assert exact(Laser.load(older)) == exact(trained)


def test_saved_again_the_files_are_the_same(saved: Path, laser: Laser, tmp_path: Path) -> None:
    laser.save(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes(), name


def test_a_folder_holds_tensors_json_and_parquet_and_no_llm(saved: Path, llm: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == sorted(FILES)
    weights = {name: tensor for file in saved.glob("*.safetensors") for name, tensor in load_file(file).items()}
    frozen = load_file(llm / "model.safetensors")
    both = [(mine, theirs) for mine in weights.values() for theirs in frozen.values()]
    assert not any(mine.shape == theirs.shape and mine.equal(theirs) for mine, theirs in both)
    for file in saved.glob("*.json"):
        json.loads(file.read_text())
    assert pl.read_parquet(saved / "items.parquet").schema == dict.fromkeys(("item_id", "title", "brand"), pl.String)


# --- what is refused ---


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return damage


def listed(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        change(pl.read_parquet(folder / "items.parquet")).write_parquet(folder / "items.parquet")
        seal(folder)

    return damage


def weighed(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name, metadata={"state": "{}"})
        seal(folder)

    return damage


def seal(folder: Path) -> None:
    """Let laser.json vouch for what was changed, so that what it says is looked at."""
    edited("laser.json", lambda about: about.update(sha256=checksums(folder)))(folder)


def mixed_up(folder: Path) -> None:
    shutil.copy(folder / VIEW, folder / WEIGHTS)
    seal(folder)


def cut(name: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])

    return damage


WEIGHTS, VIEW = "laser.safetensors", "collaborative.safetensors"


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        *[
            pytest.param(lambda folder, name=name: (folder / name).unlink(), CheckpointError, f"lacks {name}", id=f"no {name}")
            for name in FILES
        ],
        *[
            pytest.param(cut(name, share), LaserrecError, ".", id=f"{share} of {name}")
            for name in FILES
            for share in (0.0, 0.01, 0.5, 0.99)
            if (name, share) not in {("laser.json", 0.99), ("config.json", 0.99)}
        ],
        pytest.param(edited("config.json", lambda c: c.update(future=1)), ConfigError, "unknown setting 'future'", id="future setting"),
        pytest.param(edited("config.json", lambda c: c["virtual"].update(prefix_length=3)), CheckpointError, "do not fit", id="L"),
        pytest.param(edited("config.json", lambda c: c["collaborative"].update(width=16)), CheckpointError, "complete", id="W"),
        pytest.param(edited("laser.json", lambda a: a.update(format=1)), CheckpointError, "format 1; this version", id="format"),
        pytest.param(edited("laser.json", lambda a: a.pop("provenance")), CheckpointError, "trained on", id="no provenance"),
        pytest.param(edited("laser.json", lambda a: a.update(provenance=[])), CheckpointError, "trained on", id="odd provenance"),
        pytest.param(edited("laser.json", lambda a: a.pop("costs")), CheckpointError, "trained on", id="no costs"),
        pytest.param(edited("laser.json", lambda a: a.pop("sha256")), CheckpointError, "is damaged", id="no sums"),
        pytest.param(edited("laser.json", lambda a: a["sha256"].pop(VIEW)), CheckpointError, f"damaged: {VIEW} differs", id="a sum less"),
        pytest.param(edited("laser.json", lambda a: a.pop("known")), CheckpointError, "'known'|size is None", id="no size"),
        pytest.param(edited("laser.json", lambda a: a.update(known=5)), CheckpointError, "beyond the recommender", id="other size"),
        pytest.param(edited("laser.json", lambda a: a.update(known=10**12)), CheckpointError, "allowed is 1 to 12", id="huge size"),
        pytest.param(listed(lambda t: t.head(11)), CheckpointError, "of 11 items", id="an item less"),
        pytest.param(listed(lambda t: pl.concat([t, t.head(1)])), CheckpointError, "an item_id of its own", id="an item twice"),
        pytest.param(listed(lambda t: pl.concat([t.head(11), t.head(1)])), CheckpointError, "an item_id of its own", id="same id twice"),
        pytest.param(listed(lambda t: t.drop("item_id")), CheckpointError, "item_id", id="no ids"),
        pytest.param(listed(lambda t: t.with_columns(year=1999)), CheckpointError, "text columns only", id="numbers"),
        pytest.param(weighed(WEIGHTS, lambda t: t.pop("item_states")), CheckpointError, "item_states", id="no item matrix"),
        pytest.param(
            weighed(WEIGHTS, lambda t: t.update(item_states=t["item_states"][:5])),
            CheckpointError,
            "belong together",
            id="items cut",
        ),
        pytest.param(weighed(WEIGHTS, lambda t: t.pop("tokens.prefix")), CheckpointError, "do not fit", id="no prefix"),
        pytest.param(weighed(WEIGHTS, lambda t: t["item_states"][3].fill_(torch.nan)), CheckpointError, "item_states are not", id="NaN"),
        pytest.param(weighed(VIEW, lambda t: t.pop("known")), CheckpointError, "'known'", id="nothing known"),
        pytest.param(weighed(VIEW, lambda t: t.pop("scored")), CheckpointError, "'scored'", id="nothing scored"),
        pytest.param(weighed(VIEW, lambda t: t.update(known=t["known"][:5])), CheckpointError, "belong together", id="5 known"),
        pytest.param(weighed(VIEW, lambda t: t.update(known=t["known"].long())), CheckpointError, "boolean", id="known numbers"),
        pytest.param(weighed(VIEW, lambda t: t.pop("model.items.weight")), CheckpointError, "not a complete", id="half a recommender"),
        pytest.param(mixed_up, CheckpointError, "item_states", id="mixed up"),
    ],
)
def test_a_damaged_folder_is_refused(
    model_folder: Path, damage: Callable[[Path], object], error: type[LaserrecError], message: str
) -> None:
    damage(model_folder)
    with pytest.raises(error, match=message):
        Laser.load(model_folder)


def test_another_language_model_is_refused(model_folder: Path, tmp_path: Path) -> None:
    other = small_shop.write_llm(tmp_path / "other", seed=1)
    edited("config.json", lambda config: config["llm"].update(model=str(other)))(model_folder)
    with pytest.raises(CheckpointError, match=r"fingerprint .*Use the same model, layers and dtype"):
        Laser.load(model_folder)
    edited("config.json", lambda config: config["llm"].update(model=str(tmp_path / "gone")))(model_folder)
    with pytest.raises(AssetError, match=r"Cannot load the language model '.*gone'"):
        Laser.load(model_folder)


@pytest.mark.parametrize("change", [{"layers": 1}, {"dtype": "bfloat16"}])
def test_the_same_language_model_read_otherwise_is_refused(model_folder: Path, change: dict[str, Any]) -> None:
    edited("config.json", lambda config: config["llm"].update(change))(model_folder)
    with pytest.raises(CheckpointError, match="Use the same model, layers and dtype"):
        Laser.load(model_folder)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"no model folder '.*nothing'"):
        Laser.load(tmp_path / "nothing")
    with pytest.raises(AssetError, match="no model folder 'nothing'"):
        Laser.load("nothing")
    with pytest.raises(CheckpointError, match=r"not a complete laserrec model: it lacks config\.json"):
        Laser.load(tmp_path)


# --- where a model may be saved ---


def test_a_model_is_replaced_and_nothing_else_is(laser: Laser, model_folder: Path) -> None:
    laser.add_items([{"item_id": "new", "title": "New"}])
    laser.save(model_folder)
    assert Laser.load(model_folder).item_ids[-1] == "new"
    (model_folder / "thesis.txt").write_text("precious")
    with pytest.raises(CheckpointError, match=r"holds other files \(thesis.txt\)"):
        laser.save(model_folder)
    assert (model_folder / "thesis.txt").read_text() == "precious"
    assert [path.name for path in model_folder.parent.iterdir()] == ["model"]
    (model_folder / "thesis.txt").unlink()
    Laser.load(model_folder)


def test_a_file_in_the_way_is_left_there(laser: Laser, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("precious")
    with pytest.raises(CheckpointError, match="is a file"):
        laser.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match="Cannot write"):
        laser.save(tmp_path / "model" / "below")
    assert (tmp_path / "model").read_text() == "precious"


def test_saved_in_folders_that_are_made_or_in_the_one_we_stand_in(laser: Laser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laser.save(str(tmp_path / "some" / "where"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    laser.save(".")
    assert exact(Laser.load(tmp_path / "here")) == exact(Laser.load(tmp_path / "some" / "where"))
    (tmp_path / "link").symlink_to(tmp_path / "here")
    laser.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    Laser.load(tmp_path / "link")
