"""The task of the two stages: which targets it draws, against which matrix it trains, what it validates; and the items' lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.nn.functional import cross_entropy

from laserrec.config import FitConfig, PromptConfig
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.laser.item_texts import ItemTexts
from laserrec.system.progress import Observer
from laserrec.training.laser_task import LaserTask
from laserrec.training.loop import fit

NO_CASES = Cases(np.empty(0), Ragged.from_rows([]), np.empty(0))


def cut(task: LaserTask, rows: list[int], epoch: int) -> list[tuple[list[int], int]]:
    histories, targets = task._cut(np.array(rows), epoch)
    return [(history.tolist(), target) for history, target in zip(histories, targets.tolist(), strict=True)]


def test_targets_and_what_stands_before_them() -> None:
    task = tiny.task(tiny.system(), positions=2)
    full = [row.tolist() for row in task.histories]
    # Of HISTORIES without their last items, those with at least two.
    assert full == [[0, 1, 2], [4, 5], [9, 10, 11, 0, 1], [3, 5], [2, 4, 6], [11, 9, 7], [8, 10]]
    drawn = Counter((row, len(history)) for epoch in range(1, 40) for row, (history, _) in enumerate(cut(task, list(range(7)), epoch)))
    for epoch in (1, 2, 3):
        for row, (history, target) in enumerate(cut(task, list(range(7)), epoch)):
            assert [*history, target] == full[row][: len(history) + 1]
            assert history
    # The last two positions of each row, or the one that a row of two has, all come up.
    assert {length for row, length in drawn if row == 2} == {3, 4}
    assert {length for row, length in drawn if row == 0} == {1, 2}
    assert {length for row, length in drawn if row == 1} == {1}


@pytest.mark.parametrize(("positions", "lengths"), [(0, {1, 2, 3, 4}), (1, {4}), (3, {2, 3, 4}), (99, {1, 2, 3, 4})])
def test_positions(positions: int, lengths: set[int]) -> None:
    task = tiny.task(tiny.system(), positions=positions)
    assert {len(cut(task, [2], epoch)[0][0]) for epoch in range(1, 60)} == lengths


def test_a_draw_depends_on_seed_epoch_and_row_alone() -> None:
    laser = tiny.system()
    task, other = tiny.task(laser, seed=1), tiny.task(laser, seed=2)
    together = cut(task, [0, 2, 5], 3)
    assert cut(task, [5, 2], 3) == [together[2], together[1]]
    assert any(cut(task, [2], epoch) != cut(other, [2], epoch) for epoch in range(9))


def test_one_target_at_every_place_equally_often() -> None:
    task = tiny.task(tiny.system())
    drawn = Counter(len(cut(task, [2], epoch)[0][0]) for epoch in range(800))
    # Four places, 200 each; the chance of a deviation of 60 is below 1e-6.
    assert all(abs(count - 200) < 60 for count in drawn.values())


@pytest.mark.parametrize("refresh", [True, False])
def test_stage_one_refreshes_the_item_matrix_and_stage_two_does_not(refresh: bool) -> None:
    laser = tiny.system()
    before = laser.model.item_states.clone()
    tiny.liven(laser.model)
    tiny.task(laser, refresh=refresh).start_epoch(2)
    found = laser.model.item_states.clone()
    laser.refresh()
    assert not torch.allclose(laser.model.item_states, before, atol=1e-3)
    assert torch.equal(found, laser.model.item_states if refresh else before)


def test_items_without_an_event_are_no_wrong_answers() -> None:
    laser = tiny.system()
    tiny.liven(laser.model)
    laser.refresh()
    histories = Ragged.from_rows([[0, 1], [2, 4], [9, 1], [6]])
    task = LaserTask(laser, histories, NO_CASES, balance=0.0, positions=0, refresh=True, seed=0)
    with_events = [0, 1, 2, 4, 6, 9]
    loss = task.step(torch.tensor([0, 1, 2]), 1).loss
    logits = laser.logits(*tiny.batch([[0], [2], [9]]))[0][:, with_events]
    torch.testing.assert_close(loss, cross_entropy(logits, torch.tensor([1, 3, 1])))


def test_validation_ranks_the_whole_catalogue() -> None:
    laser = tiny.system()
    tiny.liven(laser.model)
    laser.refresh()
    task = tiny.task(laser)
    found = task.validate()
    reciprocals, hits = [], []
    for row in tiny.HISTORIES:
        scores = laser.scores(*tiny.batch([row[:-1]]))[0].tolist()
        rank = 1 + sum(score >= scores[row[-1]] for item, score in enumerate(scores) if item != row[-1])
        reciprocals.append(1 / rank)
        hits.append(rank <= 5)
    assert found["mrr"] == pytest.approx(sum(reciprocals) / len(reciprocals))
    assert found["recall@5"] == pytest.approx(sum(hits) / len(hits))


class Figures(Observer):
    """Keeps every step's figures."""

    def __init__(self) -> None:
        self.steps: list[Mapping[str, float]] = []

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        self.steps.append(scalars)


def test_accumulation_is_the_full_batch(tmp_path: Path) -> None:
    """But for the balance loss, which is not a mean over rows, and dropped states, which are drawn a batch at a time."""
    figures = []
    for micro in (None, 2):
        laser, watcher = tiny.system(tiny.config(mformer={"drop_state": 0.0})), Figures()
        config, how = FitConfig(epochs=1, batch_size=5), {"folder": tmp_path / str(micro), "identity": {}, "observers": [watcher]}
        fit(tiny.task(laser, balance=0.0), config, name="x", seed=0, micro_batch=micro, **how)
        figures.append([{key: scalars[key] for key in ("loss", "gradient_norm", "scale")} for scalars in watcher.steps])
    assert len(figures[0]) == 2
    for whole, parts in zip(*figures, strict=True):
        assert parts == pytest.approx(whole, rel=1e-3)


def lines(**changes: Any) -> ItemTexts:  # noqa: ANN401 - settings of any type
    return ItemTexts(tiny.backbone(), PromptConfig(**{"instruction": "Buys:\n", **changes}), tiny.ITEMS)


def decoded(texts: ItemTexts, rows: list[list[int]]) -> list[str]:
    return [texts.backbone.tokenizer.decode(row) for row in rows]


def test_lines() -> None:
    texts = lines()
    assert decoded(texts, texts.lines(tiny.ITEMS[:2])) == [">> Ruler\n", ">> Oak desk (brand: B1)\n"]
    assert decoded(texts, [texts.line(1, 3)]) == [">> Oak desk (brand: B1)\n"]


def test_numbered_lines() -> None:
    texts = lines(order="prefix_first", line=">> {number}. {text}\n")
    assert decoded(texts, [texts.line(0, 1), texts.line(0, 12), texts.line(0, 1)]) == [">> 1. Ruler\n", ">> 12. Ruler\n", ">> 1. Ruler\n"]


def test_a_line_cut_short_still_ends() -> None:
    texts = lines(max_item_tokens=9)
    assert decoded(texts, texts.lines(tiny.ITEMS[:2])) == [">> Ruler\n", ">> Oak d\n"]
    assert len(lines(max_item_tokens=1).lines(tiny.ITEMS[:1])[0]) == 1


@pytest.mark.parametrize("order", ["text_first", "prefix_first"])
def test_the_paper_s_prompt(order: str) -> None:
    """[P; instruction; lines; s] and [instruction; lines; P; s] for one item, token for token, from attributes to embedding."""
    texts = lines(order=order)
    virtual = torch.randn(1, 3, tiny.WIDTH)
    text = texts.backbone.embed(torch.tensor([texts.backbone.tokenize("Buys:\n>> Oak desk (brand: B1)\n")]))
    prompt = [text, virtual] if order == "text_first" else [virtual[:, :-1], text, virtual[:, -1:]]
    expected = texts.backbone.forward(torch.cat(prompt, dim=1))[:, -1]
    torch.testing.assert_close(texts.reader.read(*tiny.batch([[1]]), virtual), expected, rtol=1e-4, atol=1e-5)


def test_texts_are_encoded_once_and_kept(tmp_path: Path) -> None:
    virtual, case, encoded = torch.randn(1, 3, tiny.WIDTH), tiny.batch([[0, 5, 2]]), []
    first = lines()
    first.encode_once(tmp_path, encoded.append)
    expected = first.reader.read(*case, virtual)
    assert encoded[-1] == first.count == len(tiny.ITEMS)
    again, more = lines(), []
    again.encode_once(tmp_path, more.append)
    assert torch.equal(again.reader.read(*case, virtual), expected)
    assert not more
    assert again.seconds > 0


def test_other_prompts_and_other_models_are_kept_apart_and_other_items_are_not(tmp_path: Path) -> None:
    other = ItemTexts(tiny.backbone("qwen2"), PromptConfig(instruction="Buys:\n"), tiny.ITEMS)
    for texts in (lines(), lines(instruction="Sold:\n"), lines(max_item_tokens=9), other):
        texts.encode_once(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    # Two texts of equal length, told apart by their tokens; all others are there.
    renamed = [{**item, "title": item["title"].replace("Pen", "Pan")} for item in tiny.ITEMS]
    encoded: list[int] = []
    ItemTexts(tiny.backbone(), PromptConfig(instruction="Buys:\n"), renamed).encode_once(tmp_path, encoded.append)
    assert len(list(tmp_path.iterdir())) == 3
    assert encoded == [len(tiny.ITEMS) - 1, len(tiny.ITEMS)]


def test_both_instructions_texts_are_counted(tmp_path: Path) -> None:
    encoded: list[int] = []
    texts = lines(item_instruction="Item:\n")
    texts.encode_once(tmp_path, encoded.append)
    assert encoded == sorted(encoded)
    assert encoded[-1] == texts.count == 2 * len(tiny.ITEMS)
    assert texts.bytes == sum(cache.bytes for cache in (texts.reader.cache, texts.item_reader.cache))


def test_prefix_first_keeps_nothing(tmp_path: Path) -> None:
    lines(order="prefix_first").encode_once(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", ["text_first", "prefix_first"])
def test_texts_come_and_go(order: str) -> None:
    texts, virtual = lines(order=order), torch.randn(1, 3, tiny.WIDTH)
    first = texts.extended([{"title": "Stapler"}, {"title": "Pen"}])
    before = first.reader.read(*tiny.batch([[0, 13]]), virtual)
    count = len(tiny.ITEMS)
    texts = first.extended([{"title": "Lamp"}]).take(torch.tensor([*range(count), count + 2, count]))
    fresh = ItemTexts(texts.backbone, texts.prompt, [*tiny.ITEMS, {"title": "Lamp"}, {"title": "Stapler"}])
    assert not torch.allclose(texts.reader.read(*tiny.batch([[0, 13]]), virtual), before, atol=1e-3)
    for item in (12, 13):
        case = tiny.batch([[0, item]])
        torch.testing.assert_close(texts.reader.read(*case, virtual), fresh.reader.read(*case, virtual), rtol=1e-4, atol=1e-5)
