"""The experiments' settings are valid, and the runner answers one on a tiny shop."""

from __future__ import annotations

import itertools
import json
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import small_shop
import torch

from laserrec import __version__
from laserrec.baselines.collection import BASELINES
from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.llm.backbone import Backbone
from laserrec.system.devices import CPU
from laserrec.system.files import read_tensors, write_tensors
from laserrec.system.provenance import commit

FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def runner() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(FOLDER / "run.py"), run_name="runner"))


def small_settings(llm: Path) -> list[str]:
    small = [f"{section}.{key}={value}" for section, values in small_shop.SMALL.items() for key, value in values.items()]
    return [*(line.replace("'", '"') for line in small), f"llm.model={llm}", "llm.dtype=float32"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_arm_is_a_valid_and_different_setting(runner: SimpleNamespace, path: Path) -> None:
    experiment = runner.Experiment.read(path)
    assert experiment.question.endswith("?")
    configs = {arm: LaserConfig().override([*experiment.settings, *changes]) for arm, changes in experiment.arms.items()}
    assert len({config.model_dump_json() for config in configs.values()}) == len(configs)
    assert next(iter(experiment.arms.values())) == []  # the first is the reference


def test_seeds_take_the_place_of_the_experiments_own(runner: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--data", "d", "--out", "o", "--seeds", "5", "3", "5"])
    experiment = runner.Experiment("asked", "Does it?", [0], [], {"all": []})
    assert runner.with_seeds(experiment, None) == experiment
    given = runner.choose_arms(runner.command_line(None)).seeds
    assert runner.with_seeds(experiment, given) == runner.Experiment("asked", "Does it?", [3, 5], [], {"all": []})


def test_arms_share_what_does_not_differ_and_are_tested_against_the_first(
    runner: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    small_shop.dataset().save(tmp_path / "data")
    llm = small_shop.write_llm(tmp_path / "llm")
    (tmp_path / "asked.toml").write_text(
        'question = "Does it?"\nseeds = [0, 1]\nsettings = []\n[arms]\nall = []\n"no prefix" = ["virtual.prefix_length=0"]\n'
        '"no ids" = ["collaborative.items=text"]\n"not blended" = ["collaborative.neighbours=false"]\n'
    )
    experiment = runner.Experiment.read(tmp_path / "asked.toml")
    further = small_settings(llm)
    found = runner.run(experiment, tmp_path / "data", tmp_path / "out", None, further)
    assert [arm["arm"] for arm in found["arms"]] == ["all", "no prefix", "no ids", "not blended"]
    assert "against_reference" not in found["arms"][0]
    made = {"device": "cpu", "laserrec": __version__, "torch": torch.__version__} | ({"commit": commit()} if commit() else {})
    assert [arm["made_with"] for arm in found["arms"]] == [[made, made]] * 4
    ours, other = (arm["test"]["full"]["ndcg@10"][0] for arm in found["arms"][:2])
    assert found["arms"][1]["against_reference"]["full"]["reference_minus_arm"] == pytest.approx(ours - other)
    # Whether they are blended with neighbours later on is nothing to the recommenders themselves. A fit's seconds are in its checkpoint.
    for name in ("collaborative", "sasrec"):
        kept = {
            arm: (tmp_path / "out" / arm / "seed-1" / name / "checkpoint.safetensors").read_bytes()
            for arm in ("all", "no-prefix", "not-blended")
        }
        assert len(set(kept.values())) == 1
    assert json.dumps(found)
    lines = runner.table(found).splitlines()
    assert sum(line.startswith("| no prefix") for line in lines) == 2  # a table a protocol
    assert {line.count("|") for line in lines if line.startswith("|")} == {7}
    again = runner.run(experiment, tmp_path / "data", tmp_path / "out", ["no prefix"], further)
    assert again["arms"] == found["arms"]  # what is finished stays in the table
    with pytest.raises(SystemExit, match="has no arm fewer; it has all, no prefix, no ids, not blended"):
        runner.run(experiment, tmp_path / "data", tmp_path / "out", ["fewer"], further)


def test_arms_of_earlier_results_are_not_lost(runner: SimpleNamespace, tmp_path: Path) -> None:
    experiment = runner.Experiment("asked", "Does it?", [0], [], {"all": [], "no prefix": [], "no ids": []})
    results = tmp_path / "asked.json"
    runner.refuse_to_lose(results, experiment, tmp_path, ["no ids"])  # there are none yet
    results.write_text(json.dumps({"seeds": [0, 1], "arms": [{"arm": "all"}, {"arm": "no prefix"}]}))
    for names in (None, ["no ids", "no prefix"]):
        with pytest.raises(SystemExit, match=r"asked\.json has seed 1, too\. Name all with --seeds"):
            runner.refuse_to_lose(results, experiment, tmp_path, names)
    experiment = runner.with_seeds(experiment, [0, 1, 2])
    with pytest.raises(SystemExit, match=r"asked\.json has no prefix, which .* does not"):
        runner.refuse_to_lose(results, experiment, tmp_path, ["no ids"])
    runner.refuse_to_lose(results, experiment, tmp_path, ["no ids", "no prefix"])
    runner.refuse_to_lose(results, experiment, tmp_path, None)  # all are made


@pytest.mark.slow
def test_runs_beside_each_other_give_what_they_give_one_by_one(
    runner: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    small_shop.dataset().save(tmp_path / "data")
    further = small_settings(small_shop.write_llm(tmp_path / "llm"))
    arms = {"all": [], "no prefix": ["virtual.prefix_length=0"], "not blended": ["collaborative.neighbours=false"]}
    experiment = runner.Experiment("asked", "Does it?", [0], [], arms)
    one_by_one, together = (runner.run(experiment, tmp_path / "data", tmp_path / str(jobs), None, further, jobs) for jobs in (1, 2))
    assert [(arm["arm"], arm["valid"], arm["test"]) for arm in together["arms"]] == [
        (arm["arm"], arm["valid"], arm["test"]) for arm in one_by_one["arms"]
    ]
    kept = {
        (tmp_path / "2" / arm / "seed-0" / "sasrec" / "checkpoint.safetensors").read_bytes() for arm in ("all", "no-prefix", "not-blended")
    }
    assert len(kept) == 1  # trained by the first, which the others wait for


def test_what_depends_on_something_else_is_not_taken_over(runner: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    small_shop.dataset().save(tmp_path / "data")
    further = small_settings(small_shop.write_llm(tmp_path / "llm"))
    experiment = runner.Experiment("asked", "Does it?", [0], [], {"all": [], "no prefix": ["virtual.prefix_length=0"]})
    runner.run(experiment, tmp_path / "data", tmp_path / "out", ["all"], further)
    kept = {name: tmp_path / "out" / "all" / "seed-0" / name / "checkpoint.safetensors" for name in ("collaborative", "sasrec")}
    # One is of an earlier version, the other of another dataset.
    for name, change in (("collaborative", {"format": 1}), ("sasrec", {"identity": {"data": "another"}})):
        tensors, state = read_tensors(kept[name])
        write_tensors(kept[name], tensors, state | change)
    found = runner.run(experiment, tmp_path / "data", tmp_path / "out", None, further)
    assert [arm["arm"] for arm in found["arms"]] == ["all", "no prefix"]
    for name, path in kept.items():
        assert path.read_bytes() != (tmp_path / "out" / "no-prefix" / "seed-0" / name / "checkpoint.safetensors").read_bytes()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("restricted/*.toml")), ids=lambda path: path.stem)
def test_every_restricted_experiment_is_valid(path: Path) -> None:
    experiment = SimpleNamespace(**runpy.run_path(str(FOLDER / "restricted.py"), run_name="runner")).Experiment.read(path)
    assert experiment.question.endswith("?")
    assert LaserConfig().override(experiment.settings) != LaserConfig()
    assert set(experiment.baselines) <= {baseline.name for baseline in BASELINES}
    assert all(set(how) <= {"users", "hidden_items"} and len(how) <= 1 for how in experiment.datasets.values())


def test_the_same_models_on_harder_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = SimpleNamespace(**runpy.run_path(str(FOLDER / "restricted.py"), run_name="runner"))
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    small_shop.dataset().save(tmp_path / "data")
    (tmp_path / "hard.toml").write_text(
        'question = "Is it?"\nseed = 0\nsettings = ["stage2.epochs=0"]\nbaselines = ["item-knn", "ensemble"]\n'
        "[datasets]\nhalf = { users = 0.5 }\ncold = { hidden_items = 0.3 }\nwhole = {}\n"
    )
    experiment, further = runner.Experiment.read(tmp_path / "hard.toml"), small_settings(small_shop.write_llm(tmp_path / "llm"))
    found = runner.run(experiment, tmp_path / "data", tmp_path / "out", None, further)
    half, cold, whole = found["datasets"]
    assert (half["learnt_from"], whole["learnt_from"]) == ({"users": 6, "events": 30}, {"users": 11, "events": 55})
    assert half["kinds"]["all"]["cases"] == whole["kinds"]["all"]["cases"] == 11
    kinds = cold["kinds"]
    assert set(half["kinds"]) == {"all"}
    assert kinds["hidden"]["cases"] + kinds["trained on"]["cases"] == kinds["all"]["cases"]
    # Each of the ring's items is one test target, so as many cases have a hidden one as items were hidden that somebody takes.
    trained = set(Dataset.load(tmp_path / "out" / "cold" / "data").training_histories().values.tolist())
    assert kinds["hidden"]["cases"] == 11 - len(trained)
    models = kinds["hidden"]["full"]["models"]
    assert list(models) == ["Laser", "Item neighbours", "Ensemble of 2, neighbours and EASE"]
    assert set(kinds["hidden"]["full"]["lead_of_the_first"]) == set(models) - {"Laser"}
    assert json.dumps(found)
    lines = runner.table(found).splitlines()
    assert sum(line.startswith("| Laser |") for line in lines) == 2 * 3  # protocols by kinds
    assert runner.run(experiment, tmp_path / "data", tmp_path / "out", ["cold"], further)["datasets"] == [cold]
    small_shop.dataset(9).save(tmp_path / "other")
    with pytest.raises(SystemExit, match="holds a dataset that was made from another one"):
        runner.run(experiment, tmp_path / "other", tmp_path / "out", ["cold"], further)
    with pytest.raises(SystemExit, match="has no dataset none; it has half, cold, whole"):
        runner.run(experiment, tmp_path / "data", tmp_path / "out", ["none"], further)


def test_every_way_round_between_two_catalogues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = SimpleNamespace(**runpy.run_path(str(FOLDER / "transfer.py"), run_name="runner"))
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    for name, users in (("one", 11), ("two", 8)):
        data = small_shop.dataset(users)
        Dataset.of(name, data.items, data.events, data.split).save(tmp_path / name)
    further = small_settings(small_shop.write_llm(tmp_path / "llm"))
    found = runner.run([tmp_path / "one", tmp_path / "two"], tmp_path / "out", further)
    given = [(row["target"], row["source"], row["share_of_users"], row["cases"]) for row in found["rows"]]
    assert given == [
        (target, source, share, cases)
        for target, other, cases in (("one", "two", 11), ("two", "one", 8))
        for source, share in ((None, 0.0), (other, 0.0), (None, 0.01), (other, 0.01), (None, 0.05), (other, 0.05), (None, 1.0))
    ]
    for without, begun in itertools.pairwise(found["rows"]):
        if begun["source"] is None:
            assert "against_none" not in begun
            continue
        for protocol, test in begun["against_none"].items():
            figures = [row["test"][protocol]["ndcg@10"] for row in (without, begun)]
            assert test["reference_minus_arm"] == pytest.approx(figures[0] - figures[1], abs=1e-12)
    assert json.dumps(found)
    assert len(re.findall(r"^\| (?:one|two) \|", runner.table(found), re.MULTILINE)) == 2 * len(given)
    assert runner.run([tmp_path / "one", tmp_path / "two"], tmp_path / "out", further)["rows"] == found["rows"]


def test_who_is_read_by_which_expert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    runs = SimpleNamespace(**runpy.run_path(str(FOLDER / "experiment_runs.py"), run_name="runs"))
    runner = SimpleNamespace(**runpy.run_path(str(FOLDER / "experts.py"), run_name="runner"))
    # Of the ring's eleven items the first six are camping gear and the others are for the garden.
    data, kinds = small_shop.dataset(), {item_id: "Camp|ing" if item_id in small_shop.RING[:6] else "Garden" for item_id in small_shop.IDS}
    data = Dataset.of("shop", data.items.with_columns(category=pl.col("item_id").replace_strict(kinds)), data.events, data.split)
    data.save(tmp_path / "data")
    config = small_shop.config(small_shop.write_llm(tmp_path / "llm"))
    paths = [runs.train(tmp_path / "out", "all", config.model_copy(update={"seed": seed}), data, tmp_path / "data") for seed in (0, 1)]
    found = runner.ask(paths, None, CPU)
    assert [(run["run"], run["seed"], run["users"]) for run in found["runs"]] == [(f"all/seed-{seed}", seed, 11) for seed in (0, 1)]
    for run in found["runs"]:
        assert [(each["fit"], each["epoch"]) for each in run["epochs"]] == [("stage1", 1), ("stage1", 2), ("stage2", 1)]
        for each in run["epochs"]:
            assert sum(each["load"]) == pytest.approx(1)
        length, popularity, taste = run["associations"]
        # Everybody has six items before the test event, each trained on by five users, so neither says anything.
        assert [(each["labels"], each["information"], each["p_value"]) for each in (length, popularity)] == [(["6"], 0, 1), (["5"], 0, 1)]
        # Six items from the u-th on: users 0 to 2, 9 and 10 have more of camping; 3 and 8 have three of each, 8 the last one of camping.
        assert (run["attribute"], taste["labels"]) == ("category", ["Camp|ing", "Garden"])
        assert [sum(row) for row in taste["counts"]] == [6, 5]
        assert [sum(column) for column in zip(*taste["counts"], strict=True)] == run["load"]
    assert json.dumps(found)
    text = runner.table(found)
    assert text.count("| category of most items in the history |") == 2 * 2  # a property, and its kinds
    assert text.count(r"| Camp\|ing | 6 |") == 2
    plain = runs.train(tmp_path / "out", "one", small_shop.config(tmp_path / "llm", mformer={"experts": 1}), data, tmp_path / "data")
    with pytest.raises(SystemExit, match="has no query experts to choose from"):
        runner.ask([plain], None, CPU)


def test_a_random_model_is_the_same_but_for_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    small_shop.dataset().save(tmp_path / "data")
    llm, out = small_shop.write_llm(tmp_path / "llm"), tmp_path / "out"
    language = SimpleNamespace(**runpy.run_path(str(FOLDER / "language.py"), run_name="language"))
    experiment = language.experiment(out, small_settings(llm))
    made = language.random_model(str(llm), out)
    assert experiment.arms["random weights"] == [f"llm.model={made}"]
    own, drawn = Backbone.load(llm), Backbone.load(made)
    assert own.tokenize("a red cup") == drawn.tokenize("a red cup")
    names, there = dict(own.model.named_parameters()), dict(drawn.model.named_parameters())
    assert {name: weight.shape for name, weight in names.items()} == {name: weight.shape for name, weight in there.items()}
    assert not torch.equal(names["layers.0.mlp.up_proj.weight"].float(), there["layers.0.mlp.up_proj.weight"].float())
    found = language.run(experiment, tmp_path / "data", out, ["random weights"], small_settings(llm))
    assert [arm["arm"] for arm in found["arms"]] == ["the language model", "random weights"]
    logs = [(out / arm / "seed-0" / "stage1" / "metrics.jsonl").read_text() for arm in ("the-language-model", "random-weights")]
    losses = [[json.loads(line)["train"].get("loss") for line in log.splitlines()] for log in logs]
    assert losses[0] != losses[1]  # another model was read
    sizes = json.loads((llm / "config.json").read_text()) | {"intermediate_size": 24}
    (llm / "config.json").write_text(json.dumps(sizes))
    other = Backbone.load(language.random_model(str(llm), out))  # another model, another folder
    assert other.model.config.intermediate_size == 24 != drawn.model.config.intermediate_size
