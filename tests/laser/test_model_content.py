"""What a model folder may hold: sealed files are compared before they are decoded, and what is decoded is judged before it is used."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from laserrec.data.ragged import Ragged
from laserrec.errors import CheckpointError
from laserrec.laser import folder as model_folder
from laserrec.laser.folder import FILES, SEALED, ModelFolder, checksums
from laserrec.sequential.ensemble import Ensemble
from laserrec.training.neighbours import count_neighbours

WEIGHTS, VIEW = "laser.safetensors", "collaborative.safetensors"
CATALOGUE = [{"item_id": f"i{place}", **item} for place, item in enumerate(tiny.ITEMS)]
COUNT = len(CATALOGUE)


def model(scorer: bool = True) -> ModelFolder:
    """Two items unknown to the states; with a scorer of its own, one of them unknown to the scores."""
    config = tiny.config(
        collaborative={"width": 8, "blocks": 1, "heads": 2, "max_history": 5, "seen_penalty": False, "refits": ["id", "both"]}
    )
    system = tiny.system(config, known=torch.arange(COUNT) < COUNT - 2)
    if scorer:
        neighbours = count_neighbours(Ragged.from_rows([[0, 1, 2], [3, 4, 1]]), COUNT)
        ensemble = Ensemble([tiny.sasrec(), tiny.sasrec()], neighbours, copy.deepcopy(neighbours))
        ensemble.shares.copy_(torch.tensor([0.5, 0.25, 0.125]))
        system.score_with(ensemble, torch.arange(COUNT) < COUNT - 1)
    return ModelFolder(config, CATALOGUE, system.collaborative, system.model.state_dict(), {"dataset": "x"}, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model().write(tmp_path / "model")
    return tmp_path / "model"


def reseal(folder: Path, **changes: object) -> None:
    about = json.loads((folder / "laser.json").read_text())
    (folder / "laser.json").write_text(json.dumps(about | {"sha256": checksums(folder)} | changes))


def tensors(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    found = load_file(folder / name)
    change(found)
    save_file(found, folder / name, metadata={"state": "{}"})
    reseal(folder)


def items(folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    change(pl.read_parquet(folder / "items.parquet")).write_parquet(folder / "items.parquet")
    reseal(folder)


@pytest.mark.parametrize("scorer", [True, False])
def test_round_trip(tmp_path: Path, scorer: bool) -> None:
    written = model(scorer)
    written.write(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == sorted(FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    found = ModelFolder.read(tmp_path / "model")
    assert (found.config, found.catalogue, found.provenance, found.costs) == (written.config, CATALOGUE, {"dataset": "x"}, {})
    view, expected = found.collaborative, written.collaborative
    assert (view.scorer is view.model) == (not scorer)
    assert view.known.tolist() == expected.known.tolist()
    assert view.scored.tolist() == expected.scored.tolist()
    assert not any(parameter.requires_grad for parameter in view.model.parameters())
    case = tiny.batch([[0, 1, 2], [3]])
    assert torch.equal(view.states(*case)[0], expected.states(*case)[0])
    unplaced = expected.score_with(expected.scorer, expected.scored)  # the nearest warm items are found anew by whoever loads
    assert torch.equal(view.scores(*case), unplaced.scores(*case))
    assert all(torch.equal(tensor, found.weights[name]) for name, tensor in written.weights.items())


def test_what_is_read_means_the_same_nearness(folder: Path) -> None:
    blended = ModelFolder.read(folder).collaborative.scorer
    assert isinstance(blended, Ensemble)
    assert blended.neighbours is not None
    # 1 was taken right after 0 once, 2 two places after; events are 1 of 0, 2 of 1, 1 of 2; 0.02 is as good as none.
    one, two = 1 / math.sqrt(11 * 12), 0.8 / math.sqrt(11 * 11)
    expected = torch.tensor([[0.0, math.log1p(one / 0.02), math.log1p(two / 0.02), *[0.0] * (COUNT - 3)]])
    torch.testing.assert_close(blended.neighbours.scores(*tiny.batch([[0]])), expected)


@pytest.mark.parametrize("name", SEALED)
def test_a_damaged_file_is_named_and_never_decoded(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    monkeypatch.setattr(model_folder, "read_tensors", decoded)
    monkeypatch.setattr(pl, "read_parquet", decoded)
    with pytest.raises(CheckpointError, match=f"is damaged: {name} differs from the sha256"):
        ModelFolder.read(folder)


@pytest.mark.parametrize(
    "changes", [{"sha256": None}, {"sha256": {}}, {"format": 1}, {"provenance": None}, {"costs": []}, {"known": None}, {"known": 2.0}]
)
def test_what_laser_json_must_tell(folder: Path, changes: dict[str, object]) -> None:
    reseal(folder, **changes)
    with pytest.raises(CheckpointError):
        ModelFolder.read(folder)


@pytest.mark.parametrize("known", [0, -1, True, COUNT - 1, COUNT + 1, 10**12, 10**30])
def test_absurd_sizes(folder: Path, known: int) -> None:
    reseal(folder, known=known)
    with pytest.raises(CheckpointError, match="not a complete laserrec model"):
        ModelFolder.read(folder)


def test_settings_far_larger_than_the_weights_cost_no_memory(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["collaborative"]["width"] = 2**20
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="size mismatch"):
        ModelFolder.read(folder)


def broken(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: torch.full_like(tensor, value)


@pytest.mark.parametrize(("file", "name"), [(WEIGHTS, "tokens.prefix"), (WEIGHTS, "item_states"), (VIEW, "model.items.weight")])
@pytest.mark.parametrize("change", [broken(float("nan")), broken(float("inf")), Tensor.half, Tensor.double, Tensor.long])
def test_numbers_that_are_none(folder: Path, file: str, name: str, change: Callable[[Tensor], Tensor]) -> None:
    tensors(folder, file, lambda found: found.update({name: change(found[name])}))
    with pytest.raises(CheckpointError, match=f"finite float32; {name}"):
        ModelFolder.read(folder)


@pytest.mark.parametrize(("file", "name"), [(WEIGHTS, "neighbours.items"), (VIEW, "scorer.neighbours.items")])
@pytest.mark.parametrize("change", [lambda table: table + COUNT, lambda table: table - 1, Tensor.long, Tensor.float])
def test_neighbours_outside_the_catalogue(folder: Path, file: str, name: str, change: Callable[[Tensor], Tensor]) -> None:
    tensors(folder, file, lambda found: found.update({name: change(found[name])}))
    with pytest.raises(CheckpointError, match=f"neighbours must be int32 from 0 to {COUNT - 1}; {name}"):
        ModelFolder.read(folder)


@pytest.mark.parametrize(
    ("file", "name", "bounds"),
    [
        (WEIGHTS, "neighbours.weights", "0 to 1e[+]06"),
        (VIEW, "scorer.neighbours.weights", "0 to 1e[+]06"),
        (VIEW, "scorer.ease.weights", "0 to 1e[+]06"),
        (VIEW, "scorer.shares", "0 to 1e[+]06"),
        (WEIGHTS, "lexical.idf", "-1e-06 to 22"),
        (WEIGHTS, "scorer.log_scale", "-2 to 2"),
        (WEIGHTS, "scorer.whitening", "-1e[+]06 to 1e[+]06"),
    ],
)
@pytest.mark.parametrize("value", [-1e30, 1e30])
def test_numbers_whose_products_would_end_in_nan(folder: Path, file: str, name: str, bounds: str, value: float) -> None:
    tensors(folder, file, lambda found: found.update({name: broken(value)(found.get(name, torch.zeros(3)))}))
    with pytest.raises(CheckpointError, match=f"the numbers of {name} must be from {bounds}"):
        ModelFolder.read(folder)


@pytest.mark.parametrize("name", ["scorer.neighbours.weights", "scorer.shares"])
def test_a_blend_of_another_shape(folder: Path, name: str) -> None:
    tensors(folder, VIEW, lambda found: found.update({name: found[name][:1].clone()}))
    with pytest.raises(CheckpointError, match="size mismatch"):
        ModelFolder.read(folder)


@pytest.mark.parametrize("name", ["known", "scored"])
@pytest.mark.parametrize("change", [Tensor.float, Tensor.int, lambda mask: mask[:, None], lambda mask: mask[:-1], lambda mask: mask[0]])
def test_marks_that_are_none(folder: Path, name: str, change: Callable[[Tensor], Tensor]) -> None:
    tensors(folder, VIEW, lambda found: found.update({name: change(found[name]).clone()}))
    with pytest.raises(CheckpointError, match=r"one boolean each|belong together"):
        ModelFolder.read(folder)


@pytest.mark.parametrize("name", ["known", "scored"])
def test_marks_beyond_the_recommender_s_catalogue(folder: Path, name: str) -> None:
    items(folder, lambda table: pl.concat([table, table.head(1).with_columns(item_id=pl.lit("new"))]))
    tensors(folder, WEIGHTS, lambda found: found.update(item_states=torch.cat([found["item_states"], found["item_states"][:1]])))
    for mask in ("known", "scored"):
        mark = torch.tensor([mask == name])
        tensors(folder, VIEW, lambda found, mask=mask, mark=mark: found.update({mask: torch.cat([found[mask], mark])}))  # type: ignore[misc]
    with pytest.raises(CheckpointError, match="false beyond the recommender's catalogue"):
        ModelFolder.read(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.with_columns(price=1),
        lambda table: table.with_columns(item_id=pl.when(pl.col("item_id") == "i3").then(None).otherwise(pl.col("item_id"))),
        lambda table: table.with_columns(item_id=pl.lit("same")),
        lambda table: table.drop("item_id"),
        lambda table: table.head(3),
    ],
)
def test_item_tables_that_are_none(folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    items(folder, change)
    with pytest.raises(CheckpointError, match=r"not a complete laserrec model"):
        ModelFolder.read(folder)


def test_a_matrix_that_is_none(folder: Path) -> None:
    tensors(folder, WEIGHTS, lambda found: found.update(item_states=torch.tensor(1.0)))
    with pytest.raises(CheckpointError, match="belong together"):
        ModelFolder.read(folder)


def test_a_failed_write_leaves_the_old_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: (folder / name).read_bytes() for name in FILES}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "write_json", full)
    with pytest.raises(CheckpointError, match="No space left"):
        model().write(folder)
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_folder_from_before_words_counted_has_no_such_term(folder: Path) -> None:
    tensors(folder, WEIGHTS, lambda found: [found.pop(name) for name in list(found) if "lexical" in name])
    read = ModelFolder.read(folder)
    assert not read.config.score.lexical
    assert read.idf(7) is None


@pytest.mark.parametrize("idf", [None, torch.zeros(6), torch.zeros(7, 1)])
def test_token_frequencies_of_another_vocabulary(folder: Path, idf: Tensor | None) -> None:
    tensors(folder, WEIGHTS, lambda found: found.update({} if idf is None else {"lexical.idf": idf}))
    with pytest.raises(CheckpointError, match=r"lexical\.idf must hold 7 numbers, one a token"):
        ModelFolder.read(folder).idf(7)
