"""Explanations by index: terms against the score, moves against shorter histories, and the sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import tiny
import torch
from torch.nn.functional import cosine_similarity

from laserrec.laser.explanation import Explanation, Move, Terms, explain_rows
from laserrec.laser.system import LaserSystem

COLD = (2, 7)
KNOWN = torch.tensor([item not in COLD for item in range(len(tiny.ITEMS))])
EVERY = list(range(len(tiny.ITEMS)))
IDS = [f"id-{item}" for item in EVERY]
# Eight items are more than are read as text (4) or by the sequential recommender (5); 3 stands twice; 2 and 7 are cold.
HISTORIES = ([9, 8, 1, 6, 5, 4, 3, 0], [3, 1, 3], [7, 2], [7], [5], [2, 0, 1])
PREFIX_FIRST = {"order": "prefix_first", "line": ">> {number}. {text}\n"}
VARIANTS: dict[str, dict[str, Mapping[str, Any]]] = {
    "default": {},
    "no neighbours": {"score": {"nearest": False}},
    "no words": {"score": {"lexical": False}},
    "no collaborative": {"score": {"fuse_collaborative": False}},
    "no penalty": {"score": {"seen_penalty": False}},
    "the paper's": {
        "score": {
            "nearest": False,
            "lexical": False,
            "fuse_collaborative": False,
            "seen_penalty": False,
            "standardise": False,
            "linear_read_out": False,
            "learn_temperature": False,
        }
    },
    "prefix_first": {"prompt": PREFIX_FIRST},
    "no instruction": {"prompt": {"instruction": ""}},
    "no instruction, prefix_first": {"prompt": {**PREFIX_FIRST, "instruction": ""}},
    "mean": {"virtual": {"read_out": "mean"}},
    "linear": {"mformer": {"source": "linear"}},
    "plain": {"mformer": {"source": "plain"}},
}


def serving(variant: str = "default", known: torch.Tensor = KNOWN) -> LaserSystem:
    """A system that answers requests, all its weights away from where they start, with a cold-start bonus of 1.5 deviations."""
    system = tiny.system(tiny.config(**VARIANTS[variant]), known=known)
    tiny.liven(system.model)
    system.refresh()
    system.model.scorer.cold_start_bonus.fill_(1.5)
    return system.serving(IDS)


def scores(system: LaserSystem, history: Sequence[int]) -> list[float]:
    """What a request gets for every item; after no history at all as well."""
    items, mask = tiny.batch([history]) if history else (torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool))
    return [float(score) for score in system.scores(items, mask)[0]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_terms_add_up_to_the_score_and_moves_are_those_of_shorter_histories(variant: str) -> None:
    system = serving(variant)
    found = explain_rows(system, HISTORIES, [EVERY] * len(HISTORIES))
    for history, explained in zip(HISTORIES, found, strict=True):
        assert [one.item_id for one in explained] == IDS
        different = list(dict.fromkeys(history))
        expected, *shorter = (scores(system, kept) for kept in [history, *([i for i in history if i != other] for other in different)])
        for item, one in zip(EVERY, explained, strict=True):
            assert one.terms.total == pytest.approx(expected[item], abs=1e-4)
            assert one.score == pytest.approx(one.terms.total, abs=1e-9)
            assert [move.item_id for move in one.moves] == [IDS[other] for other in different]
            for without, move in zip(shorter, one.moves, strict=True):
                assert move.by == pytest.approx(expected[item] - without[item], abs=1e-4)
    assert max(abs(move.by) for row in found for one in row for move in one.moves) > 0.1


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_term_that_the_model_does_not_have_is_none(variant: str) -> None:
    (((one, *_),)) = explain_rows(serving(variant), [[0, 1]], [EVERY])
    off = VARIANTS[variant].get("score", {})
    assert one.terms.language_model != 0
    assert (one.terms.neighbours is None) == (off.get("nearest") is False)
    assert (one.terms.lexical is None) == (off.get("lexical") is False)
    assert (one.terms.collaborative is None) == (one.terms.cold_start_bonus is None) == (off.get("fuse_collaborative") is False)
    assert (one.terms.seen_penalty is None) == (off.get("seen_penalty") is False)


@torch.no_grad()
def test_each_term_by_hand() -> None:
    system = serving()
    scorer, catalogue = system.model.scorer, system.catalogue
    assert scorer.collaborative_weight is not None
    assert scorer.neighbour_weight is not None
    assert scorer.seen_penalty is not None
    assert scorer.lexical_weight is not None
    assert catalogue.neighbours is not None
    assert catalogue.lexical is not None
    history = [3, 1, 3]
    (found,) = explain_rows(system, [history], [EVERY])
    items, mask = tiny.batch([history])
    user = scorer.projection()(system.embed(items, mask)[0])
    cosines = cosine_similarity(user, scorer.projection()(catalogue.states.table))
    near = catalogue.neighbours.scores(items, mask)[0]
    words = catalogue.lexical.scores(catalogue.lexical.query(items, mask), items, mask)[0]
    plain, raised = (system.collaborative.scores(items, mask, bonus)[0] for bonus in (0.0, 1.5))
    for item, one in zip(EVERY, found, strict=True):
        weight = 10 * float(scorer.collaborative_weight)  # stored divided by ten, as the other weights are
        assert one.terms.language_model == pytest.approx(float(torch.exp(10 * scorer.log_scale) * cosines[item]), abs=1e-4)
        assert one.terms.neighbours == pytest.approx(10 * float(scorer.neighbour_weight * near[item]), abs=1e-4)
        assert one.terms.lexical == pytest.approx(10 * float(scorer.lexical_weight * words[item]), abs=1e-4)
        assert one.terms.collaborative == pytest.approx(weight * float(plain[item]), abs=1e-4)
        assert one.terms.cold_start_bonus == pytest.approx(weight * float(raised[item] - plain[item]), abs=1e-4)
        assert one.terms.cold_start_bonus == pytest.approx(weight * 1.5 if item in COLD else 0, abs=1e-4)
        assert one.terms.seen_penalty == pytest.approx(-10 * float(scorer.seen_penalty) if item in history else 0, abs=1e-4)
        assert one.cold == (item in COLD)


def test_a_history_without_warm_items_gets_no_bonus_and_no_prefix_of_its_own() -> None:
    (found,) = explain_rows(serving(), [list(COLD)], [EVERY])
    for one in found:
        assert one.terms.cold_start_bonus == 0
        assert one.prefix_moves == pytest.approx(0, abs=1e-5)


def test_no_item_is_placed_where_none_is_warm() -> None:
    system = serving(known=torch.zeros(len(EVERY), dtype=torch.bool))
    (found,) = explain_rows(system, [[0, 1]], [EVERY])
    for score, one in zip(scores(system, [0, 1]), found, strict=True):
        assert (one.terms.collaborative, one.terms.cold_start_bonus, one.cold) == (0, 0, True)
        assert one.score == pytest.approx(score, abs=1e-4)


@torch.no_grad()
def test_without_the_prefix_the_same_texts_are_read_with_the_memory_of_no_history() -> None:
    system = serving()
    history, scorer = [9, 1, 0], system.model.scorer
    items, mask = tiny.batch([history])
    virtual, _ = system.model.virtual(torch.zeros(1, 1, 8), torch.zeros(1, 1, dtype=torch.bool))
    user = scorer.projection()(system.catalogue.texts.reader.read(items, mask, virtual))
    assert system.catalogue.directions is not None
    expected = scorer.scale * (user @ system.catalogue.directions.table.T)[0]
    (found,) = explain_rows(system, [history], [EVERY])
    for item, one in zip(EVERY, found, strict=True):
        assert one.without_prefix == pytest.approx(one.score - one.terms.language_model + float(expected[item]), abs=1e-4)
        assert one.prefix_moves == pytest.approx(one.terms.language_model - float(expected[item]), abs=1e-4)
    assert max(abs(one.prefix_moves or 0) for one in found) > 0.01


def test_a_prefix_that_is_not_made_from_states_has_no_counterpart() -> None:
    ((one,),) = explain_rows(serving("plain"), [[0, 1]], [[3]])
    assert (one.without_prefix, one.prefix_moves, one.expert, one.expert_probability) == (None, None, None, None)
    ((linear,),) = explain_rows(serving("linear"), [[0, 1]], [[3]])
    assert (linear.expert, linear.expert_probability) == (None, None)
    assert linear.prefix_moves


@torch.no_grad()
def test_the_expert_is_the_one_with_the_highest_mean_probability() -> None:
    system = serving()
    router = system.model.source.router  # type: ignore[union-attr]
    histories = ([9, 8, 1], [3, 0], [5])
    for history, ((one,),) in ((history, explain_rows(system, [history], [[4]])) for history in histories):
        states = system.collaborative.model.states(*tiny.batch([history]))[0]
        means = (states @ router.linear.weight.T).softmax(-1).mean(0)  # type: ignore[union-attr, operator]
        assert one.expert == int(means.argmax())
        assert one.expert_probability == pytest.approx(float(means.max()), abs=1e-5)
        assert [one.expert] == system.experts(*tiny.batch([history])).tolist()  # type: ignore[union-attr]


@torch.no_grad()
def test_nearest_by_text_are_the_cosines_of_directions_without_the_item_itself() -> None:
    system = serving()
    directions = system.model.scorer.projection()(system.catalogue.states.table)
    ((one,),) = explain_rows(system, [[4, 6, 9, 4]], [[6]])
    expected = {IDS[other]: float(cosine_similarity(directions[other], directions[6], dim=0)) for other in (4, 6, 9)}
    assert {move.item_id: move.cosine for move in one.moves} == pytest.approx(expected, abs=1e-5)
    assert [move.item_id for move in one.nearest] == sorted((IDS[4], IDS[9]), key=lambda item_id: -expected[item_id])


def test_what_is_too_old_to_be_read_is_no_further_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    system = serving(known=torch.ones(len(EVERY), dtype=torch.bool))
    reader, read = system.catalogue.texts.reader, []
    really = reader.read

    def noted(items: torch.Tensor, mask: torch.Tensor, virtual: torch.Tensor) -> torch.Tensor:
        read.append(len(items))
        return really(items, mask, virtual)

    monkeypatch.setattr(reader, "read", noted)
    explain_rows(system, [[0, 1, 2], [9, 8, 1, 6, 5, 4, 3, 0]], [EVERY, [2]])
    # All in one batch: 2 + 3, and of eight items 2 + the last five, for the sequential recommender reads so many.
    assert read == [5 + 7]


def test_nothing_asked() -> None:
    assert explain_rows(serving(), [], []) == []
    assert explain_rows(serving(), [[0], [1]], [[], [2]])[0] == []


def sentence(*moves: tuple[str, float, float], about: str = "Lamp") -> str:
    made = tuple(Move(f"id of {title}", title, by, cosine) for title, by, cosine in moves)
    return Explanation(f"id of {about}", about, 1.0, Terms(1.0, None, None, None, None, None), made, None, None, None, cold=False).sentence


def test_the_sentence_says_the_largest_moves() -> None:
    stove, kettle, kite = ("Stove", 0.42, 0.1), ("Kettle", 0.1, 0.9), ("Kite", -0.3, 0.2)
    assert sentence(stove, kettle) == "Stove moves the score by +0.42, the most of your 2 items; Kettle has the nearest text."
    assert sentence(kite, kettle) == "Kite moves the score by -0.30, the most of your 2 items; Kettle has the nearest text."
    assert (
        sentence(kettle, kite, stove)
        == "Stove moves the score by +0.42, the most of your 3 items, and Kite by -0.30; Kettle has the nearest text."
    )
    assert sentence(("Pot", -0.5, 0.8), kite) == "Pot, the nearest by text, moves the score by -0.50, the most of your 2 items."
    assert (
        sentence(("Pot", 0.001, 0.8), ("Pan", -0.004, 0.1))
        == "None of your 2 items alone moves the score by 0.01; Pot has the nearest text."
    )
    assert sentence(stove) == "Stove, your only item, moves the score by +0.42 against an empty history."
    assert sentence(("Stove", -0.002, 0.1)) == "Stove, your only item, moves the score by less than 0.01 against an empty history."
    # The explained item itself is no neighbour of its own.
    assert sentence(("Lamp", -2.0, 1.0), kite) == "Lamp moves the score by -2.00, the most of your 2 items; Kite has the nearest text."


def test_no_sentence_claims_a_cause() -> None:
    causal = re.compile(r"\b(because|since|due to|cause[sd]?|why|reason|leads? to|makes?|so that|therefore)\b", re.IGNORECASE)
    assert causal.search("It leads to more.")
    for row in explain_rows(serving(), HISTORIES, [EVERY] * len(HISTORIES)):
        for one in row:
            assert not causal.search(one.sentence)


def test_as_json() -> None:
    ((one,),) = explain_rows(serving(), [[5, 3]], [[7]])
    read = json.loads(json.dumps(one.as_dict()))
    assert list(read) == [
        "item_id",
        "title",
        "score",
        "terms",
        "moves",
        "without_prefix",
        "expert",
        "expert_probability",
        "cold",
        "prefix_moves",
        "sentence",
    ]
    assert (read["item_id"], read["title"], read["cold"]) == ("id-7", "Globe", True)
    assert sum(read["terms"].values()) == pytest.approx(read["score"])
    assert list(read["terms"]) == ["language_model", "neighbours", "lexical", "collaborative", "cold_start_bonus", "seen_penalty"]
    assert [list(move) for move in read["moves"]] == [["item_id", "title", "by", "cosine"]] * 2
    assert read["moves"][0]["item_id"] == "id-5"
    assert read["score"] - read["without_prefix"] == pytest.approx(read["prefix_moves"])
    assert read["sentence"] == one.sentence
