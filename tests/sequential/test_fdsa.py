"""FDSA: two streams that are SASRecs, one map of both states; what a feature may change and what it may not."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from laserrec.config import CollaborativeConfig
from laserrec.sequential.build import build_recommender
from laserrec.sequential.fdsa import FDSA
from laserrec.sequential.item_table import FeatureTable, TextTable
from laserrec.sequential.sasrec import SASRec

N, D, F = 13, 8, 5
Model = TypeVar("Model", bound=nn.Module)
ITEMS, MASK = torch.tensor([[3, 1, 4, 1], [9, 2, 0, 0]]), torch.tensor([[True] * 4, [True, True, False, False]])


def sasrec(seed: int) -> SASRec:
    torch.manual_seed(seed)
    return drawn(SASRec(catalogue_size=N, width=D, blocks=2, heads=2, max_history=6, dropout=0.3))


def fdsa(features: Tensor | None = None, seen_penalty: bool = False) -> FDSA:
    torch.manual_seed(0)
    return drawn(
        FDSA(catalogue_size=N, width=D, blocks=2, heads=2, max_history=6, dropout=0.3, features=features, seen_penalty=seen_penalty)
    )


def drawn(model: Model) -> Model:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def texts() -> Tensor:
    return torch.randn(N, F, generator=torch.Generator().manual_seed(7))


def joined(items: SASRec, features: SASRec, weight: Tensor, bias: Tensor) -> FDSA:
    """Put two SASRecs and a map together."""
    model = fdsa()
    streams = dict(items.state_dict()) | {f"feature_stream.{name}": tensor for name, tensor in features.state_dict().items()}
    model.load_state_dict(streams | {"output.weight": weight, "output.bias": bias})
    return model


def test_scores_are_item_vectors_against_the_map_of_both_streams_last_states() -> None:
    one, other = sasrec(1), sasrec(2)
    weight, bias = torch.randn(D, 2 * D), torch.randn(D)
    last = [(0, 3), (1, 1)]
    expected = [
        one.items.weight @ (weight[:, :D] @ one.states(ITEMS, MASK)[place] + weight[:, D:] @ other.states(ITEMS, MASK)[place] + bias)
        for place in last
    ]
    torch.testing.assert_close(joined(one, other, weight, bias).scores(ITEMS, MASK), torch.stack(expected))


def test_a_map_that_ignores_the_features_leaves_a_sasrec() -> None:
    one, other = sasrec(1), sasrec(2)
    model = joined(one, other, torch.cat([torch.eye(D), torch.zeros(D, D)], dim=1), torch.zeros(D))
    torch.testing.assert_close(model.states(ITEMS, MASK), one.states(ITEMS, MASK))
    torch.testing.assert_close(model.scores(ITEMS, MASK), one.scores(ITEMS, MASK))
    torch.testing.assert_close(model.loss(ITEMS, MASK).mean, one.loss(ITEMS, MASK).mean)


def test_features_are_read_where_the_history_has_them_and_nowhere_else() -> None:
    changed = texts()
    changed[1] += 1
    before, after = fdsa(texts()).scores(ITEMS, MASK), fdsa(changed).scores(ITEMS, MASK)
    assert (before[0] - after[0]).abs().max() > 1e-3  # item 1 is in the first history
    assert torch.equal(before[1], after[1])  # in the second it is only scored, by a vector of its own


def test_a_feature_is_a_linear_map_of_the_text() -> None:
    model = fdsa(texts())
    table = model.feature_stream.items
    assert isinstance(table, TextTable)
    assert isinstance(model.items, nn.Embedding)
    torch.testing.assert_close(table.weight, texts() @ table.maps + table.bias)
    assert table.weight.shape == (N, D)


ATTRIBUTES = torch.tensor([[1, 0], [2, 1], *[[0, 0]] * 10, [1, 2]])


def featured() -> FDSA:
    torch.manual_seed(0)
    sizes = {"catalogue_size": N, "width": D, "blocks": 2, "heads": 2, "max_history": 6, "dropout": 0.3}
    return drawn(FDSA(**sizes, features=texts(), attributes=ATTRIBUTES))  # type: ignore[arg-type]


def test_features_are_weighed_by_an_attention_over_those_that_are_known() -> None:
    table = featured().feature_stream.items
    assert isinstance(table, FeatureTable)
    text, (brands, kinds), v = table.text.weight, table.values, table.attention
    assert (brands.shape, kinds.shape) == ((2, D), (2, D))
    expected = text.clone()  # where nothing else is known the text has the whole weight
    for item, known in {0: [brands[0]], 1: [brands[1], kinds[0]], 12: [brands[0], kinds[1]]}.items():
        features = [text[item], *known]
        odds = [torch.exp(sum(a * b for a, b in zip(v, feature, strict=True))) for feature in features]
        expected[item] = sum(odd / sum(odds) * feature for odd, feature in zip(odds, features, strict=True))
    torch.testing.assert_close(table.weight, expected)


def test_the_attention_is_trained_and_fixed_with_the_features() -> None:
    model = featured()
    model.loss(torch.tensor([[0, 1, 12, 3]]), torch.ones(1, 4, dtype=torch.bool)).mean.backward()  # type: ignore[no-untyped-call]
    table = model.feature_stream.items
    assert isinstance(table, FeatureTable)
    for parameter in (table.attention, *table.values):
        assert parameter.grad is not None
        assert parameter.grad.any()
    before = model.scores(ITEMS, MASK).detach()
    model.fix_items()
    torch.testing.assert_close(model.scores(ITEMS, MASK), before, atol=1e-6, rtol=0)
    fdsa().load_state_dict(model.state_dict())  # as it is built where no text is at hand


def test_the_settings_build_an_attention_where_items_have_attributes() -> None:
    settings = CollaborativeConfig(model="fdsa", width=D)
    model = build_recommender(settings, N, texts(), ATTRIBUTES)
    assert isinstance(model, FDSA)
    assert isinstance(model.feature_stream.items, FeatureTable)
    assert torch.equal(model.feature_stream.items.attributes, ATTRIBUTES)
    alone = build_recommender(settings, N, texts(), ATTRIBUTES[:, :0])
    assert isinstance(alone, FDSA)
    assert isinstance(alone.feature_stream.items, TextTable)


def test_trained_parameters() -> None:
    block = 4 * (D * D + D) + (D * 4 * D + 4 * D) + (4 * D * D + D) + 4 * D  # attention, feed-forward, two normalisations
    stream = 6 * D + 2 * D + 2 * block  # positions, normalisation
    expected = (N * D + stream) + (F * D + D + stream) + (2 * D * D + D)
    assert sum(parameter.numel() for parameter in fdsa(texts()).parameters()) == expected


@pytest.mark.parametrize("seen_penalty", [False, True])
def test_every_weight_is_trained(seen_penalty: bool) -> None:
    model = fdsa(texts(), seen_penalty)
    model.loss(ITEMS, MASK).mean.backward()  # type: ignore[no-untyped-call]
    untouched = {name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    # What all keys have in common changes no attention.
    assert {name for name in untouched if not name.endswith("key.bias")} == set()


def test_all_positions_are_learnt_from_but_those_held_out() -> None:
    model = fdsa(texts())
    row = [5, 3, 8, 3, 1, 7]
    scores = [model.scores(torch.tensor([row[:end]]), torch.ones(1, end, dtype=torch.bool)) for end in range(1, 6)]
    single = [cross_entropy(after, torch.tensor([target])) for after, target in zip(scores, row[1:], strict=True)]
    items, mask = torch.tensor([row]), torch.ones(1, 6, dtype=torch.bool)
    torch.testing.assert_close(model.loss(items, mask).mean, torch.stack(single).mean())
    torch.testing.assert_close(model.loss(items, mask, 2).mean, torch.stack(single[:3]).mean())


def test_later_items_and_their_features_do_not_reach_earlier_states() -> None:
    mask, changed = torch.ones(1, 4, dtype=torch.bool), texts()
    changed[[1, 9]] += 1
    first = fdsa(texts()).states(torch.tensor([[3, 4, 1, 5]]), mask)
    second = fdsa(changed).states(torch.tensor([[3, 4, 9, 1]]), mask)
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2:], second[:, 2:])


def test_fixed_features_score_as_the_texts_did_and_are_plain_tables() -> None:
    model = fdsa(texts())
    before, states = model.scores(ITEMS, MASK).detach(), model.states(ITEMS, MASK).detach()
    model.fix_items()
    torch.testing.assert_close(model.scores(ITEMS, MASK), before, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.states(ITEMS, MASK), states, atol=1e-6, rtol=0)
    # What is left is what is built where no text is at hand.
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == {
        name: tensor.shape for name, tensor in fdsa().state_dict().items()
    }
    again = fdsa()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.scores(ITEMS, MASK), before, atol=1e-6, rtol=0)
