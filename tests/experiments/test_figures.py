"""Figures are drawn from results, the same ones each time, and say what they show."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "experiments" / "figures.py"
MACHINE = {"processor": "one", "devices": ["cpu"]}
FILES = ("cost", "main", "cold-items", "low-resource", "experts")


def write_results(folder: Path) -> None:
    """Write small results of every kind."""

    def figure(mean: float) -> dict[str, float]:
        return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}

    def compared(rows: dict[str, float], **more: object) -> dict[str, Any]:
        models = [
            {
                "name": name,
                "seconds": 100 * mean,
                "seeds": 3 if name == "Laser" else 1,
                "figures": {"ndcg@10": figure(mean), "recall@50": figure(2 * mean)},
            }
            for name, mean in rows.items()
        ]
        tables = [{"protocol": "full", "rows": models, "published": [], **more}]
        return {"dataset": "shop", "fingerprint": "ab", "split": "test", "cases": 1234, "tables": tables, "machine": MACHINE}

    def models(cases: int, **rows: float) -> dict[str, Any]:
        figures = {"models": {name: {"ndcg@10": share, "recall@10": share} for name, share in rows.items()}}
        return {"cases": cases, "full": figures, "filter_seen": figures}

    cold = {"hidden": models(40, Laser=0.5, SASRec=0.0), "trained on": models(1600, Laser=0.25, SASRec=0.5)}
    shares = (("all", 400), ("1 %", 4), ("10 %", 40))
    low = [{"dataset": name, "learnt_from": {"users": users}, "kinds": {"all": models(400, Laser=0.1)}} for name, users in shares]
    statistics = {"information": 0.25, "chance": 0.0125, "p_value": 0.001}
    taste = {"by": "taste", "labels": ["$tents & <pegs>$", "x" * 60], "counts": [[3, 1], [0, 4]], **statistics}
    length = {"by": "length", "labels": ["1–4"], "counts": [[3, 5]], **statistics}
    runs = [
        {"dataset": "shop", "seed": seed, "load": [3, 5], "associations": found} for seed, found in ((0, [length, taste]), (1, [length]))
    ]
    published = [{"name": "VQ-Rec", "metrics": {"ndcg@10": 0.06, "recall@50": 0.2}}]
    (folder / "office").mkdir(parents=True)
    for name, found in {
        "scientific": compared({"SASRec": 0.1, "Laser": 0.2, "FDSA": 0.15}, published=published),
        "office": compared({"Popularity": 0.001, "Laser": 0.2}),
        "office-closed-forms": compared({"Popularity": 0.001, "EASE": 0.2}),
        "office/cold_items": {"dataset": "office", "datasets": [{"dataset": "a tenth hidden", "kinds": cold}]},
        "cold_items": {"dataset": "shop", "datasets": [{"dataset": "a tenth hidden", "kinds": cold}]},
        "low_resource": {"dataset": "shop", "datasets": low},
        "experts": {"runs": runs},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(found))


def texts(path: Path) -> list[str]:
    """Return what an SVG says, in the order in which it is drawn."""
    return [line for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text") if (line := "".join(element.itertext()))]


@pytest.fixture(scope="module")
def figures() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT), run_name="figures"))


@pytest.fixture(scope="module")
def drawn(figures: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    write_results(folder / "results")
    assert figures.draw(folder / "results", folder / "out") == [f"{name}: {folder / 'out' / name}.svg" for name in FILES]
    return folder


def test_models_are_sorted_and_published_ones_stand_below(drawn: Path) -> None:
    found = texts(drawn / "out" / "main.svg")
    names = [text for text in found if text in {"Laser (3 seeds)", "SASRec", "FDSA", "published: VQ-Rec"}]
    assert names == ["Laser (3 seeds)", "FDSA", "SASRec", "published: VQ-Rec"]
    assert {"N@10", "R@50"} <= set(found)
    assert "Shop, test, seen items ranked too, 1,234 users; bars are 95 % bootstrap intervals over users" in found


def test_what_takes_no_time_stands_at_one_second(drawn: Path) -> None:
    found = texts(drawn / "out" / "cost.svg")
    assert sorted({"Popularity", "Laser", "N@10", "EASE"} & set(found)) == ["EASE", "Laser", "N@10", "Popularity"]
    assert found.count("Popularity") == 1
    assert "Shop, test, seen items ranked too, 1,234 users; bars are 95 % bootstrap intervals over users" in found


def test_seconds_of_two_machines_are_not_drawn(figures: SimpleNamespace, drawn: Path, tmp_path: Path) -> None:
    for name in ("office", "office-closed-forms"):
        found = json.loads((drawn / "results" / f"{name}.json").read_text())
        (tmp_path / f"{name}.json").write_text(json.dumps(found | {"machine": {"processor": name, "devices": ["cpu"]}}))
    with pytest.raises(SystemExit, match="different machines"):
        figures.draw(tmp_path, tmp_path / "out")


def test_hidden_targets_stand_beside_the_others_for_each_catalogue(drawn: Path) -> None:
    found = texts(drawn / "out" / "cold-items.svg")
    assert [found.count(text) for text in ("Laser", "SASRec", "hidden (40 targets)", "trained on (1,600 targets)")] == [2] * 4
    assert [text.partition(",")[0] for text in found if "a tenth hidden" in text] == ["Office", "Shop"]


def test_users_to_learn_from_grow_to_the_right(drawn: Path) -> None:
    found = texts(drawn / "out" / "low-resource.svg")
    assert [text for text in found if text.startswith("(")] == ["(4)", "(40)", "(400)"]
    assert {"1 %", "10 %", "all", "Laser", "N@10"} <= set(found)


def test_every_run_has_a_row_and_every_property_a_column(drawn: Path) -> None:
    found = texts(drawn / "out" / "experts.svg")
    assert [found.count(text) for text in ("length", "taste", "shop, seed 0", "shop, seed 1", "expert 1", "expert 2")] == [2, 1, 1, 1, 1, 1]
    assert {"$tents & <pegs>$ (4)", "x" * 27 + "… (4)", "1–4 (8)", "all (8)"} <= set(found)
    assert found.count("NMI 0.2500, at random 0.0125, p = 0.0010") == 3


def test_intervals_of_shares(figures: SimpleNamespace) -> None:
    # z² = 3.8416: of 0 in 10 cases up to z² / (10 + z²), of 5 in 10 around a half by z · √(1/40 + z²/400) / (1 + z²/10).
    assert figures.wilson(0.0, 10) == pytest.approx((0, 0.27754), abs=1e-5)
    assert figures.wilson(0.0, 853)[0] == 0.0  # not 4e-19, from which the share would stand apart
    assert figures.wilson(0.5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)


def test_the_same_results_give_the_same_files(figures: SimpleNamespace, drawn: Path) -> None:
    figures.draw(drawn / "results", drawn / "again")
    for name in FILES:
        assert (drawn / "again" / f"{name}.svg").read_bytes() == (drawn / "out" / f"{name}.svg").read_bytes()


def test_what_has_no_results_is_skipped(figures: SimpleNamespace, drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "experts.json").write_text((drawn / "results" / "experts.json").read_text())
    lines = figures.draw(tmp_path, tmp_path / "out")
    assert lines[3:] == [
        f"low-resource: skipped, {tmp_path / 'low_resource.json'} not found",
        f"experts: {tmp_path / 'out' / 'experts.svg'}",
    ]
    assert [line.partition(",")[0] for line in lines[:3]] == ["cost: skipped", "main: skipped", "cold-items: skipped"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["experts.svg"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"needs the package 'matplotlib'.*pip install 'laserrec\[figures\]'"):
        runpy.run_path(str(SCRIPT), run_name="figures")


def test_figures_that_the_results_show_say_what_the_results_say(figures: SimpleNamespace, tmp_path: Path) -> None:
    shown = re.findall(r"!\[[^\]]+\]\(../figures/([^)]+)\)", (REPOSITORY / "docs" / "explanation" / "results.md").read_text())
    assert shown == ["cost.svg"]
    figures.draw(REPOSITORY / "results", tmp_path)
    for name in (f"{name}.svg" for name in FILES):
        assert texts(REPOSITORY / "docs" / "figures" / name) == texts(tmp_path / name)
