"""Laser: a frozen LLM between trained virtual tokens, fed by a frozen id-based recommender (paper §3).

`LaserModel` is everything that is trained, and nothing else: its state dict is what a checkpoint and a model folder hold.
`LaserSystem` puts it together with the frozen parts and embeds and scores histories.

Dimensions: B batch, S history, L prefix tokens, N catalogue, H width of the LLM.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import normalize

from laserrec.errors import ConfigError
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.experts import Routing
from laserrec.laser.model import LaserModel
from laserrec.laser.reader import Reader
from laserrec.laser.scoring import Evidence
from laserrec.layers.histories import recent

ITEMS_AT_ONCE = 256
"""Items that are embedded at a time."""


class LaserSystem:
    """The whole system over one catalogue: frozen reader and recommender, trained model.

    Attributes:
        model: the trained part.
        reader: the frozen LLM with its texts.
        collaborative: the frozen id-based recommender.
        item_reader: reads single items; the same one, unless items have an instruction of their own.
        max_history: items of a history that are read as text.
    """

    def __init__(
        self, model: LaserModel, reader: Reader, collaborative: CollaborativeView, max_history: int, item_reader: Reader | None = None
    ) -> None:
        """Put the parts together."""
        self.model, self.reader, self.collaborative, self.max_history = model, reader, collaborative, max_history
        self.item_reader = item_reader or reader
        self._users: dict[tuple[int, ...], Tensor] | None = None
        model.register_load_state_dict_post_hook(lambda *_: self._take_weights())  # type: ignore[no-untyped-call]

    def _take_weights(self) -> None:
        """Find what follows from weights anew when a checkpoint brings others: stand-ins of new items, and histories that were read."""
        self.place_new()
        if self._users is not None:
            self._users.clear()

    @property
    def device(self) -> torch.device:
        """Where everything lies, and histories must."""
        return self.model.item_states.device

    def embed(self, items: Tensor, mask: Tensor) -> tuple[Tensor, Routing | None]:
        """Embed histories of item indices int64 [B, S] under mask bool [B, S]: raw states [B, H] and the routing."""
        virtual, routing = self.model.virtual(*self.collaborative.states(items, mask))
        return self.reader.read(*recent(items, mask, self.max_history), virtual), routing

    @contextmanager
    def reading_once(self) -> Iterator[None]:
        """Let the language model read each history a single time, whatever is asked of `users` inside.

        For callers under whom what is beside the reading changes, such as the scores that are fused, and nothing that is trained before it.
        A history that is kept takes 4 H bytes and one to three thousand more.
        """
        before = self._users
        self._users = {} if before is None else before
        try:
            yield
        finally:
            self._users = before

    @torch.no_grad()
    def users(self, items: Tensor, mask: Tensor) -> Tensor:
        """Embed histories as `embed` does, to score them: raw states [B, H], without gradients."""
        kept = self._users
        if kept is None:
            return self.embed(items, mask)[0]
        histories = [tuple(row[real].tolist()) for row, real in zip(items.cpu(), mask.cpu(), strict=True)]
        new = {history: row for row, history in enumerate(histories) if history not in kept}
        if new:
            rows = list(new.values())
            kept.update(zip(new, self.embed(items[rows], mask[rows])[0], strict=True))
        return torch.stack([kept[history] for history in histories])

    @torch.no_grad()
    def embed_items(self, items: Tensor, batch_size: int = ITEMS_AT_ONCE) -> Tensor:
        """Embed items int64 [n], each as a history that holds only itself, with what made the item matrix: raw states [n, H]."""
        self.model.eval()
        if not len(items):
            return self.model.item_states.new_empty(0, self.model.item_states.shape[1])
        return torch.cat([self._embed_alone(part[:, None]) for part in items.split(batch_size)])

    def _embed_alone(self, items: Tensor) -> Tensor:
        mask = torch.ones_like(items, dtype=torch.bool)
        return self.item_reader.read(items, mask, self.model.item_virtual(*self.collaborative.states(items, mask)))

    def refresh(self) -> None:
        """Recompute the item matrix, its measures and its neighbours, with the present weights (paper §3.3.2)."""
        count = len(self.model.item_states)
        self.model.keep_item_side()
        self.model.item_states.copy_(self.embed_items(torch.arange(count, device=self.device)))
        self.model.scorer.measure(self.model.item_states)
        if self.model.neighbours is None:
            self.place_new()
            return
        directions = self._standard_directions(self.model.item_states)
        self.model.neighbours.find(directions)
        self.collaborative.place_new(lambda: directions)

    @torch.no_grad()
    def place_new(self) -> None:
        """Give items that the collaborative model does not know their stand-ins.

        A function of the item matrix and its measures alone: the trained read-out changes at every step, the stand-ins must not.
        """
        self.collaborative.place_new(lambda: self._standard_directions(self.model.item_states))

    def lift_new(self, deviations: float) -> None:
        """Set what new items get beyond the collaborative score of their stand-ins; what is under way keeps what it has.

        Raises:
            ConfigError: no collaborative score is fused, or it knows no item.
        """
        if self.model.scorer.trust is None or not bool(self.collaborative.scored.any()):
            raise ConfigError("This model fuses no collaborative score, so items are told apart by their texts alone and none is lifted.")
        self.model.scorer.lift = torch.full_like(self.model.scorer.lift, deviations)

    def _standard_directions(self, states: Tensor) -> Tensor:
        return normalize(self.model.scorer.standard(states), dim=-1)

    @torch.no_grad()
    def add_items(self, count: int) -> None:
        """Take `count` new items, whose texts the reader has already taken: embed them and append them to the item matrix."""
        known, near = len(self.model.item_states), self.model.neighbours
        self.collaborative.extend(count)
        try:
            states = torch.cat([self.model.item_states, self.embed_items(torch.arange(known, known + count, device=self.device))])
            directions = self._standard_directions(states)
            found = None if near is None else near.extended(directions)
            self.collaborative.place_new(lambda: directions)
        except BaseException:
            self.collaborative.shrink(count)
            raise
        self.model.item_states = states
        if near is not None and found is not None:
            near.items, near.weights = found

    def logits(self, items: Tensor, mask: Tensor) -> tuple[Tensor, Routing | None]:
        """Score the whole catalogue: [B, N], with gradients where the model trains."""
        users, routing = self.embed(items, mask)
        return self._scored(users, items, mask), routing

    def _scored(self, users: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.model.scorer(users, self.model.item_states, *self.beside(items, mask), items, mask)
        return scores

    def beside(self, items: Tensor, mask: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return what is scored beside the language model's reading: nearness by text and the collaborative score, each [B, N] or None."""
        near = None if self.model.neighbours is None else self.model.neighbours.scores(items, mask)
        return near, None if self.model.scorer.trust is None else self.collaborative.scores(items, mask, self.model.scorer.lift)

    @torch.no_grad()
    def evidence(self, items: Tensor, mask: Tensor) -> Evidence:
        """Return what scores are made of."""
        self.model.eval()
        direct = self.model.scorer.directing()
        return Evidence(direct(self.users(items, mask)) @ direct(self.model.item_states).T, *self.beside(items, mask))

    @torch.no_grad()
    def experts(self, items: Tensor, mask: Tensor) -> Tensor | None:
        """Return the query expert that reads each history, int64 [B]; None where the prefix is not an M-Former's."""
        self.model.eval()
        routing = self.model.virtual(*self.collaborative.states(items, mask))[1]
        return None if routing is None else routing.chosen

    @torch.no_grad()
    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score the whole catalogue for evaluation or a request: [B, N]."""
        self.model.eval()
        return self._scored(self.users(items, mask), items, mask)
