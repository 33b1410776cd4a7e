"""The paper's equations, and laserrec's own, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import tiny
import torch
from torch import Tensor

from laserrec.config import MFormerConfig, ScoreConfig
from laserrec.laser.experts import QueryExperts, Router, Routing
from laserrec.laser.mformer import LinearPrefix, MFormer, MFormerBlock
from laserrec.laser.scoring import GAIN, Scorer
from laserrec.laser.virtual_tokens import VirtualTokens

OFF: dict[str, Any] = {
    "learn_temperature": False, "standardise": False, "linear_read_out": False, "nearest": False, "lexical": False,
    "fuse_collaborative": False, "seen_penalty": False,
}  # fmt: skip
ln = math.log


def router(weight: list[list[float]]) -> Router:
    built = Router(len(weight[0]), len(weight))
    with torch.no_grad():
        built.linear.weight.copy_(torch.tensor(weight))
    return built


def routed() -> tuple[Router, Tensor, Tensor]:
    """Items with probabilities (.75, .25), (.4, .6); and (.2, .8); then padding that says otherwise."""
    states = torch.tensor([[[ln(3), 0.0], [0.0, ln(1.5)]], [[0.0, ln(4)], [99.0, 0.0]]])
    return router([[1, 0], [0, 1]]), states, torch.tensor([[True, True], [True, False]])


def test_router() -> None:
    module, states, mask = routed()
    routing = module(states, mask)
    # Means: (.575, .425) and (.2, .8).
    assert routing.chosen.tolist() == [0, 1]
    assert routing.weight.tolist() == pytest.approx([0.575, 0.8])
    assert routing.load.tolist() == [0.5, 0.5]
    assert not routing.load.requires_grad


def test_balance_loss() -> None:
    module, states, mask = routed()
    # f = (1/3, 2/3), P = ((.75 + .4 + .2) / 3, (.25 + .6 + .8) / 3) = (.45, .55); K Σ f P = 2 (.15 + .36666…)
    assert module(states, mask).balance.item() == pytest.approx(2 * (0.45 / 3 + 0.55 * 2 / 3))


def test_balance_is_one_when_even_and_k_when_all_agree() -> None:
    even = router([[9, 0], [0, 9]])
    assert even(torch.eye(2)[:, None], torch.ones(2, 1, dtype=torch.bool)).balance.item() == pytest.approx(1)
    agreed = router([[99, 0], [0, 0], [0, 0]])
    assert agreed(torch.ones(4, 2, 2), torch.ones(4, 2, dtype=torch.bool)).balance.item() == pytest.approx(3)


def test_one_expert_needs_no_router() -> None:
    routing = router([[3, 1]])(torch.randn(3, 2, 2), torch.ones(3, 2, dtype=torch.bool))
    assert routing.chosen.tolist() == [0, 0, 0]
    assert routing.weight.tolist() == [1, 1, 1]
    assert routing.balance.item() == 1


def test_a_tie_goes_to_the_first_expert() -> None:
    assert router([[1, 0], [1, 0]])(torch.ones(1, 1, 2), torch.ones(1, 1, dtype=torch.bool)).chosen.tolist() == [0]


def test_gated_values_are_the_chosen_tokens() -> None:
    module, states, mask = routed()
    routing = module(states, mask)
    for rule in ("gated", "paper"):
        experts = QueryExperts(2, 3, 4, rule)
        assert torch.equal(experts(routing), experts.tokens[[0, 1]])


def test_gated_gradient_is_that_of_the_router_probability() -> None:
    module, states, mask = routed()
    experts = QueryExperts(2, 1, 2, "gated")
    with torch.no_grad():
        experts.tokens.copy_(torch.tensor([[[1.0, 2.0]], [[5.0, 7.0]]]))
    (found,) = torch.autograd.grad(experts(module(states[1:], mask[1:])).sum(), module.linear.weight)
    # Tokens sum to 12; p = (.2, .8), dp_1/dlogit = (-.16, .16), and the one state is (0, ln 4).
    expected = 12 * 0.16 * ln(4)
    torch.testing.assert_close(found, torch.tensor([[0.0, -expected], [0.0, expected]]))


def test_paper_routing_gives_the_router_no_gradient() -> None:
    module, states, mask = routed()
    tokens = QueryExperts(2, 1, 2, "paper")(module(states, mask))
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(tokens.sum(), module.linear.weight)


def test_only_chosen_experts_learn() -> None:
    experts = QueryExperts(3, 2, 2, "gated")
    routing = Routing(torch.tensor([2, 2]), torch.ones(2), torch.tensor(1.0), torch.tensor([0.0, 0, 1]))
    experts(routing).sum().backward()
    assert experts.tokens.grad is not None
    assert experts.tokens.grad.tolist() == [[[0.0] * 2] * 2, [[0.0] * 2] * 2, [[2.0] * 2] * 2]


def mformer(**changes: Any) -> MFormer:  # noqa: ANN401 - settings of any type
    torch.manual_seed(0)
    built = MFormer(
        MFormerConfig(**{"experts": 2, "width": 8, "heads": 2, "blocks": 3, **changes}),
        length=3,
        memory_width=4,
        llm_width=6,
    )
    tiny.liven(built)
    return built


def test_every_other_block_reads_the_collaborative_states() -> None:
    assert [block.cross_attention is not None for block in mformer(blocks=4).blocks] == [True, False, True, False]


def test_block_is_attention_cross_attention_feed_forward() -> None:
    torch.manual_seed(0)
    block, queries, memory = MFormerBlock(8, 1, 4), torch.randn(1, 3, 8), torch.randn(1, 2, 4)
    tiny.liven(block)

    def attend(attention: Any, to: Tensor, over: Tensor) -> Tensor:  # noqa: ANN401 - a module of three projections
        scores = attention.query(to) @ attention.key(over).transpose(1, 2) / math.sqrt(8)
        return attention.output(scores.softmax(-1) @ attention.value(over))

    assert block.cross_attention is not None
    assert block.cross_norm is not None
    normed = block.self_norm(queries)
    first = queries + attend(block.self_attention, normed, normed)
    second = first + attend(block.cross_attention, block.cross_norm(first), memory)
    expected = second + block.feed_forward(block.feed_norm(second))
    torch.testing.assert_close(block(queries, memory, torch.ones(1, 2, dtype=torch.bool)), expected)


def test_no_history_is_a_history_of_the_trained_memory() -> None:
    module = mformer().eval()
    empty, routing = module(torch.full((1, 3, 4), 7.0), torch.zeros(1, 3, dtype=torch.bool))
    stated, same = module(module.no_history[None, None], torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(empty, stated)
    torch.testing.assert_close(routing.weight, same.weight)
    torch.testing.assert_close(routing.balance, same.balance)


def test_dropped_states_become_the_memory_in_training_alone() -> None:
    states, mask = torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    always, never = mformer(drop_state=1.0), mformer(drop_state=0.0)
    empty = torch.zeros(2, 3, dtype=torch.bool)
    torch.testing.assert_close(always.train()(states, mask)[0], never(states, empty)[0])
    torch.testing.assert_close(always.eval()(states, mask)[0], never(states, mask)[0])
    assert not torch.allclose(never(states, mask)[0], never(states, empty)[0], atol=1e-3)


def test_share_of_dropped_states() -> None:
    torch.manual_seed(0)
    memory, _ = mformer(drop_state=0.25).train()._memory(torch.randn(4000, 2, 4), torch.ones(4000, 2, dtype=torch.bool))
    share = (memory[:, 0] == mformer().no_history).all(-1).float().mean().item()
    # Four standard deviations of a share of .25 among 4,000.
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 4000))


def test_linear_prefix_projects_the_mean_state() -> None:
    module = LinearPrefix(length=2, memory_width=2, llm_width=1)
    with torch.no_grad():
        module.projection.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 10.0]]))
        module.projection.bias.copy_(torch.tensor([0.5, 0.0]))
    states = torch.tensor([[[1.0, 1.0], [3.0, 2.0], [99.0, 99.0]], [[8.0, 8.0]] * 3])
    prefix, routing = module(states, torch.tensor([[True, True, False], [False] * 3]))
    # Means (2, 1.5) and nothing.
    assert prefix.tolist() == [[[2.5], [15.0]], [[0.5], [0.0]]]
    assert routing is None


USERS = torch.tensor([[2.0, 0.0]])
ITEMS = torch.tensor([[5.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
NOBODY = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool)


def test_cosine_over_temperature() -> None:
    scorer = Scorer(ScoreConfig(temperature=0.05, **OFF), 2)
    assert scorer(USERS, ITEMS, (None, None, None), *NOBODY)[0].tolist() == pytest.approx([20, 0, 12], rel=1e-5)
    assert not any(parameter.requires_grad for parameter in scorer.parameters())


def test_contrastive_loss_is_cross_entropy_over_the_catalogue() -> None:
    laser = tiny.system(tiny.config(score={**OFF, "temperature": 0.05}, mformer={"drop_state": 0.0}))
    task = tiny.task(laser, balance=0.0, positions=1)
    found = task.step(torch.tensor([0, 2]), 1)
    losses = []
    for history, target in (([0, 1], 2), ([9, 10, 11, 0], 1)):
        user = laser.embed(*tiny.batch([history]))[0][0].tolist()
        cosines = [cosine(user, item) / 0.05 for item in laser.model.item_states.tolist()]
        losses.append(ln(sum(math.exp(score) for score in cosines)) - cosines[target])
    assert found.scalars["contrastive"] == pytest.approx(sum(losses) / 2, rel=1e-4)
    assert found.loss.item() == pytest.approx(sum(losses) / 2, rel=1e-4)
    assert found.scalars["scale"] == pytest.approx(20)


def cosine(left: list[float], right: list[float]) -> float:
    product = sum(a * b for a, b in zip(left, right, strict=True))
    return product / math.sqrt(sum(a * a for a in left) * sum(b * b for b in right))


def test_total_loss_adds_lambda_times_balance() -> None:
    laser = tiny.system(tiny.config(mformer={"drop_state": 0.0}))
    step = tiny.task(laser, balance=0.5).step(torch.arange(4), 1)
    assert step.scalars["balance"] > 0
    assert step.loss.item() == pytest.approx(step.scalars["contrastive"] + 0.5 * step.scalars["balance"], rel=1e-5)
    assert step.scalars["expert_load/0"] + step.scalars["expert_load/1"] == 1


@pytest.mark.parametrize(
    ("collaborative_weight", "seen_penalty", "neighbour_weight", "lexical_weight"), [(0.5, 3.0, 0.25, 1.5), (-1.0, 0.0, -2.0, -0.5)]
)
def test_all_terms_of_the_score(collaborative_weight: float, seen_penalty: float, neighbour_weight: float, lexical_weight: float) -> None:
    scorer = Scorer(ScoreConfig(temperature=0.5, standardise=False, linear_read_out=False), 2)
    with torch.no_grad():
        for weight, value in (
            (scorer.collaborative_weight, collaborative_weight),
            (scorer.seen_penalty, seen_penalty),
            (scorer.neighbour_weight, neighbour_weight),
            (scorer.lexical_weight, lexical_weight),
        ):
            assert weight is not None
            weight.fill_(value / GAIN)
    collaborative, near, words = (torch.tensor([row]) for row in ([1.0, -2.0, 4.0], [0.0, 3.0, 1.0], [2.0, 0.0, 6.0]))
    history, mask = torch.tensor([[2, 2, 0, 7]]), torch.tensor([[True, True, False, True]])
    found = scorer(USERS, ITEMS, (near, words, collaborative), history, mask)[0].tolist()
    # 2 · (1, 0, .6) + κ n + ω l + γ c − δ (0, 0, 1): a repeat counts once, padding and an item beyond the catalogue not at all.
    expected = [
        2 + collaborative_weight + 2 * lexical_weight,
        3 * neighbour_weight - 2 * collaborative_weight,
        1.2 + neighbour_weight + 6 * lexical_weight + 4 * collaborative_weight - seen_penalty,
    ]
    assert found == pytest.approx(expected, rel=1e-5)


def test_standardised_states_are_whitened() -> None:
    scorer = Scorer(ScoreConfig(linear_read_out=False), 2)
    scorer.fit_whitening(torch.tensor([[1.0, 10.0], [3.0, 30.0]]))
    assert scorer.mean.tolist() == [2, 20]
    # Standardised, the two items are ∓(1, 1): variance 2 along (1, 1)/√2, none along (1, -1)/√2; .1 is added to both.
    along, across = 2.1**-0.25, 0.1**-0.25
    found = scorer.standard(torch.tensor([[3.0, 30.0], [3.0, 20.0]]))
    expected = torch.tensor([[along, along], [(along + across) / 2, (along - across) / 2]])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(scorer.projection()(torch.tensor([[3.0, 30.0]])), torch.tensor([[0.5**0.5, 0.5**0.5]]))


def test_whitening_halves_differences_of_strength() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    states = torch.randn(4000, 6, generator=generator) * torch.tensor([8.0, 4.0, 4.0, 2.0, 2.0, 2.0]) @ basis
    scorer = Scorer(ScoreConfig(linear_read_out=False), 6)
    scorer.fit_whitening(states)
    scaled = (states - states.mean(0)) / states.std(0)
    before = torch.linalg.eigvalsh(torch.cov(scaled.T, correction=0)).double()
    after = torch.linalg.eigvalsh(torch.cov(scorer.standard(states).T, correction=0)).double()
    # Variance v becomes v · ((v + .1)^-¼)² = v / √(v + .1).
    torch.testing.assert_close(after.sort().values, (before / (before + 0.1).sqrt()).sort().values, rtol=1e-3, atol=1e-4)


def test_whitening_in_place_ends_in_the_bits_of_the_formula_and_leaves_the_states() -> None:
    generator = torch.Generator().manual_seed(1)
    states = (torch.randn(300, 16, generator=generator) * torch.arange(1, 17) + torch.arange(16)).double()
    before, scorer = states.clone(), Scorer(ScoreConfig(), 16)
    scorer.fit_whitening(states)
    assert torch.equal(states, before)
    centred = states - states.mean(0)
    deviation = centred.std(0, correction=0)
    values, directions = torch.linalg.eigh((centred / deviation).T @ (centred / deviation) / 300)
    expected = (directions * (values + 0.1).pow(-0.25) @ directions.T) / deviation[:, None]
    assert torch.equal(scorer.mean, states.mean(0).float())
    assert torch.equal(scorer.whitening, expected.float())


def test_nothing_is_fitted_where_states_stay_raw() -> None:
    scorer = Scorer(ScoreConfig(standardise=False), 2)
    scorer.fit_whitening(torch.tensor([[1.0, 10.0], [3.0, 30.0]]))
    assert scorer.mean.tolist() == [0, 0]
    assert scorer.whitening.tolist() == [[1, 0], [0, 1]]
    raw = torch.tensor([[3.0, 4.0]])
    assert torch.equal(scorer.standard(raw), raw)
    torch.testing.assert_close(scorer.projection()(raw), torch.tensor([[0.6, 0.8]]))


def test_constant_coordinates_do_not_divide_by_zero() -> None:
    scorer = Scorer(ScoreConfig(), 2)
    scorer.fit_whitening(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert scorer.projection()(torch.tensor([[1.0, 5.0], [2.0, 5.0]])).isfinite().all()


def test_linear_read_out_starts_at_the_identity_and_turns_both_sides() -> None:
    scorer = Scorer(ScoreConfig(temperature=1.0, **OFF | {"linear_read_out": True}), 2)
    assert scorer(USERS, ITEMS, (None, None, None), *NOBODY)[0].tolist() == pytest.approx([1, 0, 0.6])
    assert scorer.read_out is not None
    with torch.no_grad():
        scorer.read_out.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.5]]))
    # (3, 4) becomes (3, 2).
    assert scorer(USERS, ITEMS, (None, None, None), *NOBODY)[0].tolist() == pytest.approx([1, 0, 3 / math.sqrt(13)])


def test_words_start_the_virtual_tokens() -> None:
    llm = tiny.backbone()
    embedded = llm.embed(torch.tensor(llm.tokenize("abcd")))
    exact, short, long = (VirtualTokens.from_words(llm, length, "abcd") for length in (3, 1, 6))
    assert torch.equal(torch.cat([exact.prefix, exact.suffix[None]]), embedded)
    assert torch.equal(torch.cat([short.prefix, short.suffix[None]]), embedded[2:])
    assert torch.equal(torch.cat([long.prefix[3:], long.suffix[None]]), embedded)
    noise = VirtualTokens.from_words(llm, 400, "abcd").prefix[:397]
    assert noise.std().item() == pytest.approx(llm.embeddings.weight.std().item(), rel=0.1)
    none = VirtualTokens.from_words(llm, 0, "abcd")
    assert none.prefix.shape == (0, tiny.WIDTH)
    assert torch.equal(none.suffix, embedded[3])
    assert VirtualTokens.from_words(llm, 2, "").prefix.shape == (2, tiny.WIDTH)


@pytest.mark.parametrize("source", ["mformer", "linear", "plain"])
def test_an_untrained_prefix_is_the_words(source: Literal["mformer", "linear", "plain"]) -> None:
    laser = tiny.system(tiny.config(mformer={"source": source}, virtual={"words": "abcd"}))
    llm = tiny.llm_of(laser)
    virtual, _ = laser.model.virtual(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))
    assert torch.equal(virtual, llm.embed(torch.tensor(llm.tokenize("abcd"))).expand(2, -1, -1))


def test_a_random_start_leaves_the_prefix_to_its_source() -> None:
    laser = tiny.system(tiny.config(virtual={"start": "random"}))
    states, mask = torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
    virtual, _ = laser.model.eval().virtual(states, mask)
    assert isinstance(laser.model.source, MFormer)
    assert torch.equal(virtual[:, :-1], laser.model.source(states, mask)[0])
    assert not laser.model.tokens.prefix.requires_grad
