"""`laserrec recommend`: users, items, texts; what is excluded; what is unknown."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
ANNA = [f"item-{place}" for place in range(7)]


def test_a_known_user_by_titles(laserrec: Run) -> None:
    code, out, err = laserrec("recommend", "run", "--user", "anna", "-k", 5)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == "User anna"
    assert [line.strip() for line in lines[1:8]] == [
        "Tent",
        "Camping stove",
        "Sleeping bag",
        "Head torch",
        "Rope [10 m]",
        "Water bottle",
        "Compass",
    ]
    table = out[out.index("Score") :]
    assert all(title in table for title in ("Map of the Alps", "Spade", "Kite"))
    assert "Tent" not in table


def test_seen_items_are_left_out_unless_asked_for(laserrec: Run) -> None:
    code, out, _ = laserrec("recommend", "run", "--user", "anna", "--json")
    answer = json.loads(out)
    assert (code, answer["user"]) == (0, "anna")
    assert answer["history"][4] == {"item_id": "item-4", "title": "Rope [10 m]"}
    assert [item["item_id"] for item in answer["history"]] == ANNA
    found = answer["recommendations"]
    assert {item["item_id"] for item in found} == {"item-7", "item-8", "item-9"}
    assert [item["rank"] for item in found] == [1, 2, 3]
    assert [item["score"] for item in found] == sorted((item["score"] for item in found), reverse=True)
    whole = json.loads(laserrec("recommend", "run", "--user", "anna", "--include-seen", "--json")[1])
    assert len(whole["recommendations"]) == 10


def test_an_explanation_has_three_levels(laserrec: Run) -> None:
    code, out, err = laserrec("recommend", "run", "--user", "anna", "--explain")
    listed = laserrec("recommend", "run", "--user", "anna")[1]
    assert (code, err) == (0, "")
    assert out.startswith(listed)
    answer = json.loads(laserrec("recommend", "run", "--user", "anna", "--explain", "--json")[1])
    found, plain = answer["recommendations"], json.loads(laserrec("recommend", "run", "--user", "anna", "--json")[1])
    assert answer["history"] == plain["history"]
    assert [(item["rank"], item["item_id"], item["title"]) for item in found] == [
        (item["rank"], item["item_id"], item["title"]) for item in plain["recommendations"]
    ]
    assert [item["score"] for item in found] == pytest.approx([item["score"] for item in plain["recommendations"]], abs=1e-4)
    blocks = out[len(listed) :].strip().split("\n\n")
    for block, item in zip(blocks, found, strict=True):
        shown = " ".join(block.split())  # a narrow terminal breaks lines
        assert shown.startswith(f"{item['rank']}. {item['title']} {item['sentence']}")
        bars = {move["title"]: move["by"] for move in item["moves"]}
        assert list(bars) == ["Tent", "Camping stove", "Sleeping bag", "Head torch", "Rope [10 m]", "Water bottle", "Compass"]
        longest = max(bars.values(), key=abs)
        for title, by in bars.items():
            bar = ("█" if by > 0 else "░") * round(20 * abs(by / longest))
            assert " ".join(f"{by:+.2f} {bar} {title}".split()) in shown
        assert sum(item["terms"].values()) == pytest.approx(item["score"])
        names = ("language model", "neighbours", "shared words", "collaborative", "cold-start bonus", "seen penalty")
        summands = [f"{term:+.3f} ({name})" for name, term in zip(names, item["terms"].values(), strict=True)]
        assert f"Score: {' '.join(summands)} = {item['score']:.3f}" in shown
        assert f"moves the score by {item['prefix_moves']:+.3f}; without it: {item['without_prefix']:.3f}" in shown
        assert f"Expert {item['expert']} read your history (the router's probability: {item['expert_probability']:.2f})" in shown


def test_explained_candidates_are_those_that_were_asked_for(laserrec: Run, shop: Path) -> None:
    (shop / "stock.txt").write_text("item-9\nitem-1\n")
    words = ("--items", "item-1", "--only", "stock.txt", "--explain", "--json")
    (one,) = json.loads(laserrec("recommend", "run", *words)[1])["recommendations"]
    assert one["item_id"] == "item-9"
    assert one["sentence"].startswith("Camping stove, your only item, moves the score by ")
    both = json.loads(laserrec("recommend", "run", *words, "--include-seen")[1])["recommendations"]
    assert {item["item_id"] for item in both} == {"item-1", "item-9"}
    nothing = laserrec("recommend", "run", "--items", "item-1", "--without", "stock.txt", "--only", "stock.txt", "--explain", "--json")
    assert json.loads(nothing[1])["recommendations"] == []


def test_a_long_history_shows_its_largest_moves(laserrec: Run) -> None:
    history = ",".join(f"item-{place}" for place in range(10))
    words = ("recommend", "run", "--items", history, "--include-seen", "-k", 1, "--explain")
    out, moves = laserrec(*words)[1], json.loads(laserrec(*words, "--json")[1])["recommendations"][0]["moves"]
    assert "   … 2 more of your items move it less" in out
    bars = [line.split()[0] for line in out.splitlines() if "█" in line or "░" in line]
    assert bars == [f"{by:+.2f}" for by in sorted((move["by"] for move in moves), key=lambda by: -abs(by))[:8]]


def test_items_together_and_one_by_one(laserrec: Run) -> None:
    together = laserrec("recommend", "run", "--items", "item-1, item-2,item-3", "--json")
    apart = laserrec("recommend", "run", "--items", "item-1", "--items", "item-2,item-3", "--json")
    assert together[0] == 0
    assert together == apart
    user = json.loads(laserrec("recommend", "run", "--user", "anna", "--json")[1])
    ids = json.loads(laserrec("recommend", "run", "--items", ",".join(ANNA), "--json")[1])
    assert ids["recommendations"] == user["recommendations"]


def test_an_id_with_a_comma_is_an_id(laserrec: Run, shop: Path) -> None:
    from laserrec import Laser

    laser = Laser.load("run/model")
    laser.add_items([{"item_id": "mug, 2 l", "title": "Mug"}])
    laser.save("grown")
    code, out, _ = laserrec("recommend", "grown", "--items", "item-1", "--items", "mug, 2 l", "--json")
    assert code == 0
    assert [item["item_id"] for item in json.loads(out)["history"]] == ["item-1", "mug, 2 l"]


def test_plain_texts_from_a_file_and_from_stdin(laserrec: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "texts.txt").write_text("\ufeffSailing boat\n\n Anchor, 3 kg \n", encoding="utf-8")
    code, out, _ = laserrec("recommend", "run", "--texts", "texts.txt", "-k", 3, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["history"] == [{"title": "Sailing boat"}, {"title": "Anchor, 3 kg"}]
    assert len(answer["recommendations"]) == 3
    monkeypatch.setattr(sys, "stdin", io.StringIO("Sailing boat\nAnchor, 3 kg\n"))
    assert laserrec("recommend", "run", "--texts", "-", "-k", 3, "--json") == (0, out, "")
    shown = laserrec("recommend", "run", "--texts", "texts.txt")[1]
    assert shown.splitlines()[:3] == ["After these texts", "  Sailing boat", "  Anchor, 3 kg"]


def test_new_items_are_put_first_or_last(laserrec: Run, shop: Path) -> None:
    from laserrec import Laser

    laser = Laser.load("run/model")
    laser.add_items([{"item_id": "mug", "title": "Mug"}])
    laser.save("grown")
    places = []
    for deviations in (-500, 500):
        found = json.loads(laserrec("recommend", "grown", "--items", "item-1", "-k", 100, "--cold-start-bonus", deviations, "--json")[1])
        ids = [item["item_id"] for item in found["recommendations"]]
        places.append((ids.index("mug"), len(ids)))
    assert places == [(9, 10), (0, 10)]
    code, _, err = laserrec("recommend", "grown", "--items", "item-1", "--cold-start-bonus", "nan")
    assert code == 1
    assert "between -1000 and 1000" in err


def test_candidates_from_files(laserrec: Run, shop: Path) -> None:
    (shop / "stock.txt").write_text("item-9\n\nitem-1\r\nitem-7\n")
    (shop / "banned.txt").write_text("item-7\n")

    def found(*words: str) -> set[str]:
        code, out, _ = laserrec("recommend", "run", *words, "--json")
        assert code == 0
        return {item["item_id"] for item in json.loads(out)["recommendations"]}

    user = ("--user", "anna")  # who has seen items 0 to 6
    assert found(*user, "--only", "stock.txt") == {"item-7", "item-9"}
    assert found(*user, "--without", "banned.txt") == {"item-8", "item-9"}
    assert found(*user, "--only", "stock.txt", "--without", "banned.txt", "--include-seen") == {"item-1", "item-9"}
    (shop / "texts.txt").write_text("Sailing boat\n")
    assert found("--texts", "texts.txt", "--only", "stock.txt", "--without", "banned.txt") == {"item-1", "item-9"}
    (shop / "stock.txt").write_text("itm-9\n")
    code, _, err = laserrec("recommend", "run", *user, "--only", "stock.txt")
    assert (code, err.count("\n")) == (1, 1)
    assert "Unknown item id 'itm-9'. The closest known ids are 'item-9'" in err
    assert "Cannot read the item ids in absent.txt" in laserrec("recommend", "run", *user, "--without", "absent.txt")[2]


@pytest.mark.parametrize("name", ["all.parquet", "below/all.csv", "all.jsonl"])
def test_every_user_into_a_file(laserrec: Run, shop: Path, name: str) -> None:
    import polars as pl

    code, out, err = laserrec("recommend", "run", "--all-users", "-k", 2, "--out", name)
    assert (code, out, err) == (0, f"{name}: 16 recommendations for 8 of 8 users\n", "")
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[Path(name).suffix]
    table = read(shop / name)
    assert table.columns == ["user_id", "rank", "item_id", "title", "score"]
    assert table["rank"].to_list() == [1, 2] * 8
    assert table["user_id"].to_list()[::2] == ["anna", "ben", "carla", "dan", "eva", "finn", "gita", "hugo"]
    for user in ("anna", "hugo"):
        alone = json.loads(laserrec("recommend", "run", "--user", user, "-k", 2, "--json")[1])["recommendations"]
        own = table.filter(pl.col("user_id") == user)
        assert own.select("rank", "item_id", "title").to_dicts() == [
            {key: row[key] for key in ("rank", "item_id", "title")} for row in alone
        ]
        assert own["score"].to_list() == pytest.approx([row["score"] for row in alone], abs=1e-4)
    assert not list(shop.rglob("*.partial"))


def test_every_user_with_candidates_and_another_dataset(laserrec: Run, shop: Path, elsewhere: Path) -> None:
    import polars as pl

    (shop / "stock.txt").write_text("item-0\nitem-7\n")
    words = ("recommend", "run/model", "--all-users", "--data", "elsewhere", "--only", "stock.txt", "--out", "all.csv")
    code, out, _ = laserrec(*words)
    # User u of three has items u to u + 6: nothing new is left for the one who has 1 to 7, but item 0; for the one who has 0 to 6, 7.
    assert (code, out) == (0, "all.csv: 3 recommendations for 3 of 3 users\n")
    assert dict(pl.read_csv(shop / "all.csv").select("user_id", "item_id").iter_rows()) == {
        "ida": "item-7",
        "jo": "item-0",
        "kim": "item-0",
    }
    (shop / "stock.txt").write_text("item-7\n")
    assert laserrec(*words)[1] == "all.csv: 1 recommendations for 1 of 3 users\n"
    assert laserrec(*words, "--include-seen")[1] == "all.csv: 3 recommendations for 3 of 3 users\n"


def test_unknown_ids_are_passed_over_if_asked_and_counted(laserrec: Run, shop: Path) -> None:
    (shop / "stock.txt").write_text("item-0\nsold-out\nitem-7\n")
    (shop / "never.txt").write_text("gone\nitem-7\n")
    words = ("recommend", "run", "--items", "item-1", "--json", "--only", "stock.txt", "--without", "never.txt")
    assert laserrec(*words)[2].startswith("error: Unknown item id 'sold-out'.")
    code, out, err = laserrec(*words, "--skip-unknown")
    assert (code, [item["item_id"] for item in json.loads(out)["recommendations"]]) == (0, ["item-0"])
    assert "--only: 1 of 3 ids are unknown to the model and passed over." in err
    assert "--without: 1 of 2 ids are unknown to the model and passed over." in err
    assert laserrec("recommend", "run", "--all-users", "--out", "all.csv", "--only", "stock.txt", "--skip-unknown")[0] == 0
    (shop / "stock.txt").write_text("sold-out\n")
    assert "knows none of the ids of --only" in laserrec(*words, "--skip-unknown")[2]


def test_titles_reach_the_terminal_without_control_characters(laserrec: Run, shop: Path) -> None:
    (shop / "titles.txt").write_text("Tent\x1b[2J\x9b1m\u202e\n", encoding="utf-8")
    code, out, _ = laserrec("recommend", "run/model", "--texts", "titles.txt")
    assert code == 0
    assert "Tent\\x1b[2J\\x9b1m\\u202e" in out
    assert not {"\x1b", "\x9b", "\u202e"} & set(out)
    shown = laserrec("recommend", "run/model", "--texts", "titles.txt", "--json")[1]
    assert "\x9b" not in shown
    assert json.loads(shown)["history"] == [{"title": "Tent\x1b[2J\x9b1m\u202e"}]
    err = laserrec("recommend", "run/model", "--items", "\x1b[2J" + "x" * 10**5)[2]
    assert len(err) < 1000
    assert "\x1b" not in err


def test_what_cannot_be_written_is_refused_before_anything_is_computed(laserrec: Run, shop: Path) -> None:
    (shop / "folder.csv").mkdir()
    (shop / "file").touch()
    endings = ".parquet, .csv, .jsonl"
    wrong = (("all.xlsx", endings), ("all", endings), ("folder.csv", "is a folder"), ("file/all.csv", "Cannot write file/all.csv"))
    for name, message in wrong:
        code, out, err = laserrec("recommend", "nowhere", "--all-users", "--data", "data", "--out", name)
        assert (code, out) == (1, "")
        assert message in err
    code, _, err = laserrec("recommend", "run/model", "--all-users", "--out", "all.csv")
    assert code == 1
    assert "names no dataset" in err


def test_python_takes_a_run_as_the_command_line_does(laserrec: Run, shop: Path) -> None:
    from laserrec import Laser
    from laserrec.errors import CheckpointError

    found = Laser.load("run").recommend([["item-1"]])
    assert found == Laser.load("run/model").recommend([["item-1"]]) == Laser.load(shop / "run").recommend([["item-1"]])
    shown = json.loads(laserrec("recommend", "run", "--items", "item-1", "--json")[1])
    assert [item["item_id"] for item in shown["recommendations"]] == [item.item_id for item in found[0]]
    (shop / "run" / "model").rename(shop / "moved")
    with pytest.raises(CheckpointError, match=r"run holds no trained model yet\. Resume it; it was begun with: laserrec"):
        Laser.load("run")
    assert "holds no trained model yet" in laserrec("recommend", "run", "--items", "item-1")[2]


def test_a_model_folder_alone(laserrec: Run) -> None:
    assert laserrec("recommend", "run/model", "--items", "item-1")[0] == 0
    code, _, err = laserrec("recommend", "run/model", "--user", "anna")
    assert code == 1
    assert "run/model is not a run, so it names no dataset to look users up in. Give one with --data" in err
    assert laserrec("recommend", "run/model", "--user", "anna", "--data", "data")[1].startswith("User anna")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "ana"], "error: Unknown user id 'ana'. The closest known ids are 'anna'"),
        (["--items", "item-1,itm-2"], "error: Unknown item id 'itm-2'. The closest known ids are 'item-2'"),
        (["--items", "zzzzzz"], "error: Unknown item id 'zzzzzz'. No known id is similar to it."),
        (["--items", ","], "error: Received an empty history"),
        (["--texts", "absent.txt"], "error: Cannot read the texts in absent.txt"),
    ],
)
def test_unknown_ids_and_empty_histories(laserrec: Run, words: list[str], message: str) -> None:
    code, out, err = laserrec("recommend", "run", *words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--user", "anna", "--items", "item-1"],
        ["--user", "anna", "-k", "0"],
        ["--texts", "texts.txt", "--include-seen"],
        ["--items", "item-1", "--data", "data"],
        ["--all-users"],
        ["--user", "anna", "--out", "all.csv"],
        ["--user", "anna", "--all-users", "--out", "all.csv"],
        ["--all-users", "--out", "all.csv", "--json"],
        ["--texts", "texts.txt", "--explain"],
        ["--all-users", "--out", "all.csv", "--explain"],
    ],
)
def test_wrong_command_lines(laserrec: Run, words: list[str]) -> None:
    code, out, err = laserrec("recommend", "run", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")


def test_a_dataset_that_is_not_the_run_s_any_more(laserrec: Run, shop: Path) -> None:
    """Users of another dataset are looked up only when it is named."""
    about = json.loads((shop / "run" / "run.json").read_text())
    about["data"]["fingerprint"] = "0" * 64
    (shop / "run" / "run.json").write_text(json.dumps(about))
    code, _, err = laserrec("recommend", "run", "--user", "anna")
    assert code == 1
    assert "was trained on 'shop'" in err
    assert laserrec("recommend", "run", "--user", "anna", "--data", "data")[0] == 0


def test_no_such_model(laserrec: Run) -> None:
    code, _, err = laserrec("recommend", "nowhere", "--items", "item-1")
    assert code == 1
    assert "There is no model folder 'nowhere'" in err
