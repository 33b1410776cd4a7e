"""The whole system: what is frozen, what learns, what padding and neighbours in a batch may change (nothing), and new items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from torch.nn.functional import normalize

from laserrec.config import FitConfig, LaserConfig
from laserrec.errors import ConfigError
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.experts import Router, Routing
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.model import LaserModel
from laserrec.laser.system import LaserSystem
from laserrec.llm.backbone import Backbone
from laserrec.system.files import read_tensors
from laserrec.training.loop import CHECKPOINT, fit

PREFIX_FIRST = {"order": "prefix_first", "line": ">> {number}. {text}\n"}
VARIANTS: dict[str, dict[str, Mapping[str, Any]]] = {
    "default": {},
    "prefix_first": {"prompt": PREFIX_FIRST},
    "no instruction": {"prompt": {"instruction": ""}},
    "paper routing": {"mformer": {"routing": "paper"}},
    "linear": {"mformer": {"source": "linear"}},
    "plain": {"mformer": {"source": "plain"}},
    "no prefix": {"virtual": {"prefix_length": 0}},
    "random start": {"virtual": {"start": "random"}},
    "mean": {"virtual": {"read_out": "mean"}},
    "mean, prefix_first": {"virtual": {"read_out": "mean"}, "prompt": PREFIX_FIRST},
    "last": {"virtual": {"read_out": "last"}},
    "bare score": {
        "score": {
            "standardise": False,
            "linear_read_out": False,
            "fuse_collaborative": False,
            "seen_penalty": False,
            "learn_temperature": False,
        }
    },
}
ROWS = [[0, 1, 2, 3, 4, 5, 6], [7], [8, 9], [3, 3, 10]]


def settings(variant: str) -> LaserConfig:
    return tiny.config(**VARIANTS[variant])


def lively(variant: str = "default", kind: str = "llama-grouped") -> LaserSystem:
    """A system whose trained weights have all left where they start, with its item matrix up to date."""
    laser = tiny.system(settings(variant), kind)
    tiny.liven(laser.model)
    laser.refresh()
    return laser


def train(laser: LaserSystem, folder: Path, **changes: Any) -> None:  # noqa: ANN401 - settings of any type
    config = FitConfig(**{"epochs": 2, "batch_size": 3, "learning_rate": 0.01, "patience": 5, **changes})
    fit(tiny.task(laser), config, name="stage1", seed=0, folder=folder, identity={})


def fingerprint(llm: Backbone) -> str:
    """The present fingerprint: a backbone computes its own once."""
    return Backbone(llm.model, llm.tokenizer).fingerprint()


@pytest.mark.parametrize("variant", [*VARIANTS, "gpt2"])
def test_frozen_parts_are_bit_identical_after_training(tmp_path: Path, variant: str) -> None:
    laser = tiny.system(settings("prefix_first"), "gpt2") if variant == "gpt2" else tiny.system(settings(variant))
    llm, recommender = tiny.llm_of(laser), laser.collaborative.model
    before = fingerprint(llm)
    frozen, start = ({name: weight.clone() for name, weight in module.state_dict().items()} for module in (recommender, laser.model))
    train(laser, tmp_path)
    assert fingerprint(llm) == before
    assert all(torch.equal(weight, frozen[name]) for name, weight in recommender.state_dict().items())
    assert not any(parameter.requires_grad for module in (llm.model, recommender) for parameter in module.parameters())
    assert all(parameter.grad is None for module in (llm.model, recommender) for parameter in module.parameters())
    assert not llm.model.training
    assert not recommender.training
    trained = read_tensors(tmp_path / CHECKPOINT)[0]
    assert any(not torch.equal(tensor, start[name.removeprefix("model.")]) for name, tensor in trained.items() if name.startswith("model."))


def test_a_fingerprint_is_of_every_weight_and_of_the_configuration() -> None:
    same, other = tiny.backbone(), tiny.backbone(rms_norm_eps=1e-4)
    before = fingerprint(same)
    assert before == fingerprint(tiny.backbone()) != fingerprint(other)
    for weight in same.model.parameters():
        with torch.no_grad():
            flat = weight.view(-1)
            kept = flat[-1].clone()
            flat[-1] = torch.nextafter(kept, torch.tensor(9.0))
            assert fingerprint(same) != before
            flat[-1] = kept
    assert fingerprint(same) == before


def test_a_fingerprint_is_of_the_tokenizer_but_not_of_its_last_call() -> None:
    llm, other = tiny.backbone(), tiny.backbone()
    before = fingerprint(llm)
    llm.tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert fingerprint(llm) == before
    other.tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True, use_regex=False)
    assert fingerprint(other) != before


def learning(laser: LaserSystem, balance: float = 0.01) -> set[str]:
    """Names of the weights that one step moves; a key's bias never matters to attention, so it is left out."""
    laser.model.train()
    tiny.task(laser, balance=balance).step(torch.arange(7), 1).loss.backward()
    moved = {name for name, p in laser.model.named_parameters() if p.grad is not None and bool((p.grad.abs() > 1e-9).any())}
    return {name for name in moved if not name.endswith("key.bias")}


def trained(laser: LaserSystem, *without: str) -> set[str]:
    names = {name for name, p in laser.model.named_parameters() if p.requires_grad and p.numel() and not name.endswith("key.bias")}
    assert all(name in dict(laser.model.named_parameters()) for name in without)
    return names - set(without)


ROUTER, MEMORY = "source.router.linear.weight", "source.no_history"


def without_drops(variant: str) -> LaserSystem:
    sections = {name: dict(values) for name, values in VARIANTS[variant].items()}
    sections["mformer"] = {**sections.get("mformer", {}), "drop_state": 0.0}
    laser = tiny.system(tiny.config(**sections))
    tiny.liven(laser.model)
    laser.refresh()
    return laser


@pytest.mark.parametrize("variant", ["default", "prefix_first", "random start", "last"])
@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_gated_everything_learns(variant: str, balance: float) -> None:
    laser = without_drops(variant)
    assert learning(laser, balance) == trained(laser, MEMORY)


@pytest.mark.parametrize(("balance", "left_out"), [(0.0, (MEMORY, ROUTER)), (0.5, (MEMORY,))])
def test_paper_routing_trains_the_router_through_the_balance_loss_alone(balance: float, left_out: tuple[str, ...]) -> None:
    laser = without_drops("paper routing")
    assert learning(laser, balance) == trained(laser, *left_out)


@pytest.mark.parametrize("variant", ["linear", "plain", "no prefix", "bare score"])
def test_what_learns_in_the_ablations(variant: str) -> None:
    laser = without_drops(variant)
    assert learning(laser) == trained(laser, *([MEMORY] if variant == "bare score" else []))


def test_paper_routing_s_router_gradient_is_lambda_times_that_of_the_balance() -> None:
    laser = without_drops("paper routing")
    weight = dict(laser.model.named_parameters())[ROUTER]
    task = tiny.task(laser, balance=0.5, positions=1)
    (found,) = torch.autograd.grad(task.step(torch.arange(7), 1).loss, weight)
    histories = [list(row) for row in task.histories]
    _, routing = laser.embed(*tiny.batch([row[:-1] for row in histories]))
    assert routing is not None
    (expected,) = torch.autograd.grad(0.5 * routing.balance, weight)
    torch.testing.assert_close(found, expected)


def test_the_memory_learns_from_dropped_states() -> None:
    laser = tiny.system(tiny.config(mformer={"drop_state": 1.0}))
    tiny.liven(laser.model)
    assert MEMORY in learning(laser)


def test_only_chosen_experts_learn_from_the_task() -> None:
    laser = without_drops("default")
    laser.model.train()
    task = tiny.task(laser, balance=0.0, positions=1)
    task.step(torch.arange(7), 1).loss.backward()
    _, routing = laser.embed(*tiny.batch([list(row)[:-1] for row in task.histories]))
    assert routing is not None
    gradient = dict(laser.model.named_parameters())["source.experts.tokens"].grad
    assert gradient is not None
    assert [bool(expert.any()) for expert in gradient] == [expert in routing.chosen for expert in range(2)]


def test_frozen_parts_of_the_variants() -> None:
    names = {
        variant: {
            name
            for name, p in tiny.system(settings(variant)).model.named_parameters()
            if not p.requires_grad and not name.startswith("item_")
        }
        for variant in ("default", "random start", "last", "bare score")
    }
    assert names == {"default": set(), "random start": {"tokens.prefix"}, "last": {"tokens.suffix"}, "bare score": {"scorer.log_scale"}}
    laser = tiny.system(settings("last"))
    assert torch.equal(laser.model.tokens.suffix, tiny.llm_of(laser).embed(torch.tensor(tiny.END)))


def test_a_tokenizer_without_end() -> None:
    llm = tiny.backbone()
    llm.tokenizer.eos_token = None
    with pytest.raises(ConfigError, match=r"read_out = 'last'.*use 'suffix' or 'mean'"):
        llm.end_embedding()


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_alone_as_in_a_batch_of_longer_ones(variant: str) -> None:
    laser = lively(variant)
    laser.model.eval()
    items, mask = tiny.batch(ROWS, longest=9, fill=6)
    embeddings, scores = laser.embed(items, mask)[0], laser.scores(items, mask)
    for number, row in enumerate(ROWS):
        close(laser.embed(*tiny.batch([row]))[0][0], embeddings[number])
        close(laser.scores(*tiny.batch([row]))[0], scores[number])
    shuffled = torch.tensor([3, 1, 0, 2])
    close(laser.scores(items[shuffled], mask[shuffled]), scores[shuffled])


def test_inside_reading_once_a_history_is_read_a_single_time(monkeypatch: pytest.MonkeyPatch) -> None:
    laser, read = lively(), list[int]()
    items, mask = tiny.batch(ROWS, longest=9, fill=6)
    expected, terms = laser.scores(items, mask), laser.score_terms(items, mask)
    embed = laser.embed

    def counted(items: Tensor, mask: Tensor) -> tuple[Tensor, Routing | None]:
        read.append(len(items))
        return embed(items, mask)

    monkeypatch.setattr(laser, "embed", counted)
    with laser.reading_once():
        close(laser.scores(items[:2], mask[:2]), expected[:2])
        for found, whole in zip(laser.score_terms(items, mask), terms, strict=True):
            assert found is not None
            assert whole is not None
            close(found, whole)
        shuffled = torch.tensor([3, 1, 0, 2])
        close(laser.scores(items[shuffled], mask[shuffled]), expected[shuffled])
        close(laser.prepared().scores(items, mask), expected)
        assert read == [2, 2]
        laser.logits(items, mask)  # what trains is read anew
        assert read == [2, 2, 4]
        with laser.reading_once():  # inside another one it changes nothing
            laser.encode_histories(items, mask)
        laser.encode_histories(items, mask)
        assert read == [2, 2, 4]
        laser.model.load_state_dict(laser.model.state_dict())  # other weights, for all it knows
        twice = torch.tensor([0, 0, 2])
        close(laser.scores(items[twice], mask[twice]), expected[twice])
        assert read == [2, 2, 4, 2]
    laser.model.tokens.suffix.data += 1
    assert not torch.allclose(laser.scores(items, mask), expected)


def test_padding_never_reaches_the_m_former_nor_the_router() -> None:
    laser = lively()
    laser.model.eval()
    assert laser.model.source is not None
    states, mask = torch.randn(3, 5, 8), tiny.batch([[0] * 5, [0] * 2, []], longest=5)[1]
    prefix, routing = laser.model.source(states, mask)
    other, rerouted = laser.model.source(torch.where(mask[..., None], states, 1e3), mask)
    close(prefix, other)
    assert routing is not None
    assert rerouted is not None
    for name in ("chosen", "weight", "balance", "load"):
        torch.testing.assert_close(getattr(rerouted, name), getattr(routing, name))
    close(laser.model.source(states[1:2, :2], mask[1:2, :2])[0], prefix[1:2])


def test_balance_is_the_one_thing_that_a_batch_shares() -> None:
    torch.manual_seed(0)
    router, states, mask = Router(4, 3), torch.randn(4, 3, 4), torch.ones(4, 3, dtype=torch.bool)
    together = router(states, mask)
    for row in range(4):
        alone = router(states[row : row + 1], mask[row : row + 1])
        assert alone.chosen[0] == together.chosen[row]
        torch.testing.assert_close(alone.weight[0], together.weight[row])


def test_only_the_most_recent_items_are_read_as_text() -> None:
    laser = lively("plain")
    long, short = (laser.embed(*tiny.batch([row]))[0] for row in ([0, 1, 2, 3, 4, 5, 6], [3, 4, 5, 6]))
    close(long, short)


def test_an_item_is_a_history_of_itself() -> None:
    laser = lively()
    for item in (0, 7, 11):
        close(laser.model.item_states[item], laser.embed(*tiny.batch([[item]]))[0][0])
    close(laser.embed_items(torch.tensor([7, 0]), batch_size=1), laser.model.item_states[[7, 0]])
    assert laser.embed_items(torch.empty(0, dtype=torch.int64)).shape == (0, tiny.WIDTH)
    assert not laser.model.item_states.requires_grad


def test_refresh_measures_the_catalogue_and_finds_its_neighbours() -> None:
    laser = lively()
    states, scorer = laser.model.item_states, laser.model.scorer
    close(scorer.mean, sum(states) / len(states))  # type: ignore[arg-type]
    # The items' directions spread around their mean.
    close(scorer.standard(states).mean(0), torch.zeros(tiny.WIDTH))
    assert laser.model.neighbours is not None
    directions = [row / row.norm() for row in scorer.standard(states)]
    for item in (0, 5, 11):
        expected = {other: math.exp(10 * (float(directions[item] @ directions[other]) - 1)) for other in range(12) if other != item}
        pairs = zip(laser.model.neighbours.items[item].tolist(), laser.model.neighbours.weights[item].tolist(), strict=True)
        assert {other: weight for other, weight in pairs if weight > 0} == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("nearest", [True, False])
@pytest.mark.parametrize(("known", "expected"), [(12, 0), (10, 1), (0, 0)])
def test_a_catalogue_is_gone_through_for_warm_items_only_where_an_item_needs_one(
    monkeypatch: pytest.MonkeyPatch, nearest: bool, known: int, expected: int
) -> None:
    laser = tiny.system(tiny.config(score={"nearest": nearest}), known=torch.arange(len(tiny.ITEMS)) < known)
    nearest_warm, weights, standard = laser.collaborative.nearest_warm, laser.model.state_dict(), laser.model.scorer.standard
    asked: list[int] = []
    monkeypatch.setattr(laser.model.scorer, "standard", lambda states: asked.append(len(states)) or standard(states))
    laser.model.load_state_dict(weights)
    assert asked == [12] * expected
    assert torch.equal(laser.collaborative.nearest_warm, nearest_warm)
    assert len(nearest_warm) == (2 if expected else 0)


IDS = [str(place) for place in range(len(tiny.ITEMS))]


def grown_from(first: int, whole: LaserSystem, config: LaserConfig) -> LaserSystem:
    """A system over the first items of a whole one, with the same weights and measures, to which the others are added."""
    texts = ItemTexts(tiny.llm_of(whole), config.prompt, tiny.ITEMS[:first])
    view = CollaborativeView(whole.collaborative.model, whole.collaborative.known[:first])
    model = LaserModel(config, tiny.llm_of(whole), state_width=view.model.width, catalogue_size=first)
    idf = None if whole.catalogue.lexical is None else whole.catalogue.lexical.idf
    part = LaserSystem(model, texts, view, config.prompt.max_history, idf)
    tables = {"item_states", "neighbours.items", "neighbours.weights"}
    own = {name: tensor for name, tensor in model.state_dict().items() if name in tables}
    model.load_state_dict({**whole.model.state_dict(), **own, "item_states": whole.model.item_states[:first]})
    assert model.neighbours is not None
    model.neighbours.find(normalize(model.scorer.standard(model.item_states), dim=-1))
    model.load_state_dict(model.state_dict())
    return part.serving(IDS[:first]).with_items(dict(zip(IDS[first:], tiny.ITEMS[first:], strict=True)))


@pytest.mark.parametrize("variant", ["default", "prefix_first"])
def test_items_added_later_are_as_items_known_from_the_start(variant: str) -> None:
    config, known = settings(variant), torch.arange(len(tiny.ITEMS)) < 10
    whole, cases = tiny.system(config, known=known), tiny.batch([[0, 11, 3], [10]])
    grown = grown_from(10, whole, config)
    assert torch.equal(grown.catalogue.states.table[:10], whole.model.item_states[:10])
    close(grown.catalogue.states.table, whole.model.item_states)
    close(grown.scores(*cases), whole.scores(*cases))
    assert grown.with_items({}).catalogue.ids == grown.catalogue.ids == tuple(IDS)


@pytest.mark.parametrize("variant", ["default", "prefix_first"])
def test_a_changed_item_is_as_if_it_had_always_been_so(variant: str) -> None:
    config, known = settings(variant), torch.arange(len(tiny.ITEMS)) < 10
    whole, cases = tiny.system(config, known=known), tiny.batch([[0, 11, 3], [10], [2]])
    changed = {"2": tiny.ITEMS[5], "11": tiny.ITEMS[4]}
    grown = grown_from(10, whole, config)
    found = grown.with_changes(changed)
    again = grown.with_items({"new": tiny.ITEMS[4]})
    close(found.catalogue.states.table[11], again.catalogue.states.table[-1])
    assert found.catalogue.texts.items[2] == tiny.ITEMS[5]
    untouched = [item for item in range(12) if item not in (2, 11)]
    assert torch.equal(found.catalogue.states.table[untouched], grown.catalogue.states.table[untouched])
    back = found.with_changes({"2": tiny.ITEMS[2], "11": tiny.ITEMS[11]})
    close(back.scores(*cases), grown.scores(*cases))


@pytest.mark.parametrize("variant", ["default", "prefix_first"])
def test_a_history_of_nothing_known_and_of_nothing(variant: str) -> None:
    laser = tiny.system(settings(variant), known=torch.arange(len(tiny.ITEMS)) < 6)
    scores = laser.scores(*tiny.batch([[9, 8], [], [0, 9]]))
    assert scores.isfinite().all()
    close(scores[1], laser.scores(*tiny.batch([[]]))[0])
