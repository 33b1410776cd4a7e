"""Laser: a frozen LLM between trained virtual tokens, fed by a frozen sequential recommender (paper §3).

`LaserModel` is everything that is trained, and nothing else: its state dict is what a checkpoint and a model folder hold.
`LaserSystem` puts it together with the frozen parts, embeds and scores histories, and makes the next
catalogue when items come, change or go.

Dimensions: B batch, S history, L prefix tokens, N catalogue, H width of the LLM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from laserrec.config import LaserConfig
from laserrec.errors import ConfigError
from laserrec.laser.catalogue import Catalogue
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.experts import Routing
from laserrec.laser.item_texts import Attributes, ItemTexts
from laserrec.laser.lexical import Lexical
from laserrec.laser.model import LaserModel
from laserrec.laser.scoring import ScoreTerms
from laserrec.layers.histories import recent
from laserrec.layers.products import products
from laserrec.llm.backbone import Backbone
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.ensemble import Ensemble

ITEMS_AT_ONCE = 256
"""Items that are embedded at a time."""


def build_laser(
    config: LaserConfig, backbone: Backbone, texts: ItemTexts, collaborative: CollaborativeView, idf: Tensor | None = None
) -> LaserSystem:
    """Put an untrained system together, on the LLM's device; the run's seed draws its weights.

    Args:
        config: the run's settings.
        backbone: the frozen LLM.
        texts: of the catalogue.
        collaborative: what a sequential recommender knows of it.
        idf: how rare each token was in the catalogue that a stored model was trained on, float [V]; counted in these texts when None.
    """
    torch.manual_seed(config.seed)
    model = LaserModel(config, backbone, state_width=collaborative.model.width, catalogue_size=len(texts.items))
    return LaserSystem(model.to(backbone.device), texts, collaborative.to(backbone.device), config.prompt.max_history, idf)


class LaserSystem:
    """The whole system over one catalogue: frozen reader and recommender, trained model.

    While it trains, the catalogue's tables are the model's own buffers and change with it. `serving` gives a system whose catalogue never
    changes: that and what `with_items`, `with_changes` and `without_items` make of it may be asked by many threads at a time.

    Attributes:
        model: the trained part.
        catalogue: the items.
        max_history: items of a history that are read as text.
    """

    def __init__(
        self, model: LaserModel, texts: ItemTexts, collaborative: CollaborativeView, max_history: int, idf: Tensor | None = None
    ) -> None:
        """Put the parts together; `idf` as in `build_laser`."""
        self.model, self.max_history, lexical = model, max_history, None
        if model.scorer.lexical_weight is not None:
            lexical = Lexical.of(texts.words(texts.items), texts.backbone.vocabulary, model.item_states.device, idf)
        self.catalogue = Catalogue(texts, collaborative, model.item_states, model.neighbours, lexical)
        self._users: dict[tuple[int, ...], Tensor] | None = None
        self._projection: Callable[[Tensor], Tensor] | None = None  # of a system that is prepared: making one costs milliseconds
        self._on_load = model.register_load_state_dict_post_hook(lambda *_: self._take_weights())  # type: ignore[no-untyped-call]

    def _take_weights(self) -> None:
        """Find what follows from weights anew when a checkpoint brings others: cold items' places, and histories that were read."""
        self._place_cold()
        if self._users is not None:
            self._users.clear()

    def _over(self, catalogue: Catalogue) -> LaserSystem:
        """Return this system over another catalogue."""
        other = copy(self)
        other.catalogue = catalogue
        return other

    @property
    def device(self) -> torch.device:
        """Where everything lies, and histories must."""
        return self.model.tokens.suffix.device

    @property
    def collaborative(self) -> CollaborativeView:
        """The sequential recommender's view of the items."""
        return self.catalogue.collaborative

    def embed(self, items: Tensor, mask: Tensor, informed: Tensor | None = None) -> tuple[Tensor, Routing | None]:
        """Embed histories: raw states [B, H] and the routing.

        Args:
            items: indices int64 [B, S].
            mask: bool [B, S].
            informed: False for histories whose prefix must be made as if the sequential recommender knew nothing of them, bool [B].
        """
        states, known = self.collaborative.states(items, mask)
        virtual, routing = self.model.virtual(states, known if informed is None else known & informed[:, None])
        return self.catalogue.texts.reader.read(*recent(items, mask, self.max_history), virtual), routing

    @contextmanager
    def reading_once(self) -> Iterator[None]:
        """Let the language model read each history a single time, whatever is asked of `encode_histories` inside.

        For callers under whom the other terms change, such as the scores that are fused, and nothing that is trained before it.
        A history that is kept takes 4 H bytes and one to three thousand more.
        """
        before = self._users
        self._users = {} if before is None else before
        try:
            yield
        finally:
            self._users = before

    @torch.no_grad()
    def encode_histories(self, items: Tensor, mask: Tensor) -> Tensor:
        """Embed histories as `embed` does, to score them: raw states [B, H], without gradients."""
        kept = self._users
        if kept is None:
            return self.embed(items, mask)[0]
        histories = [tuple(row[real].tolist()) for row, real in zip(items.cpu(), mask.cpu(), strict=True)]
        new = {history: row for row, history in enumerate(histories) if history not in kept}
        if new:
            rows = torch.tensor(list(new.values()), device=items.device)
            kept.update(zip(new, self.embed(items[rows], mask[rows])[0], strict=True))
        return torch.stack([kept[history] for history in histories])

    @torch.no_grad()
    def embed_items(self, items: Tensor, batch_size: int = ITEMS_AT_ONCE) -> Tensor:
        """Embed items int64 [n], each as a history that holds only itself, with what made the item matrix: raw states [n, H]."""
        self.model.eval()
        if not len(items):
            return self.catalogue.states.new_empty(0, self.catalogue.states.shape[1])
        return torch.cat([self._embed_alone(part[:, None]) for part in items.split(batch_size)])

    def _embed_alone(self, items: Tensor) -> Tensor:
        mask = torch.ones_like(items, dtype=torch.bool)
        virtual = self.model.item_virtual(*self.collaborative.states(items, mask))
        return self.catalogue.texts.item_reader.read(items, mask, virtual)

    # --- training ---

    def refresh(self) -> None:
        """Recompute the item matrix, its whitening and its neighbours, with the present weights (paper §3.3.2)."""
        count = len(self.model.item_states)
        self.model.keep_item_side()
        self.model.item_states.copy_(self.embed_items(torch.arange(count, device=self.device)))
        self.model.scorer.fit_whitening(self.model.item_states)
        if self.model.neighbours is None:
            self._place_cold()
            return
        directions = self._standard_directions(self.model.item_states)
        self.model.neighbours.find(directions)
        self._place_cold(directions)

    @torch.no_grad()
    def _place_cold(self, directions: Tensor | None = None) -> None:
        """Find the nearest warm items of cold ones, by unit vectors of the item matrix where they are at hand.

        A function of the item matrix and its whitening alone: the trained read-out changes at every step, the nearest items must not.
        """
        states = self.model.item_states
        view = self.collaborative.placed(lambda: self._standard_directions(states) if directions is None else directions)
        self.catalogue = replace(self.catalogue, collaborative=view, states=states, neighbours=self.model.neighbours)

    def score_with(self, scorer: SequentialRecommender | Ensemble, scored: Tensor) -> None:
        """Fuse the scores of other recommenders from here on, trained on the items `scored`, bool [N]."""
        self.catalogue = replace(self.catalogue, collaborative=self.collaborative.score_with(scorer, scored))
        self._place_cold()

    @torch.no_grad()
    def with_cold(self, items: Tensor) -> LaserSystem:
        """Return a system in which warm items, int64 [n], are cold."""
        view = self.collaborative.without(items).placed(lambda: self._standard_directions(self.catalogue.states))
        return self._over(replace(self.catalogue, collaborative=view))

    def logits(self, items: Tensor, mask: Tensor) -> tuple[Tensor, Routing | None]:
        """Score the whole catalogue: [B, N], with gradients where the model trains."""
        users, routing = self.embed(items, mask)
        return self.model.scorer(users, self.model.item_states, self.other_terms(items, mask), items, mask), routing

    # --- scoring without gradients ---

    @torch.no_grad()
    def prepared(self) -> LaserSystem:
        """Return a system in evaluation mode that scores by the present weights and item matrix, whose directions it computes once."""
        self.model.eval()
        projection = self.model.scorer.projection()
        system = self._over(replace(self.catalogue, directions=projection(self.catalogue.states)))
        system._projection = projection
        return system

    @property
    def bonus(self) -> Tensor:
        """What cold items get beyond the collaborative score of their nearest warm ones, in standard deviations."""
        return self.model.scorer.cold_start_bonus if self.catalogue.bonus is None else self.catalogue.bonus

    @torch.no_grad()
    def other_terms(
        self, items: Tensor, mask: Tensor, bonus: float | None = None, words: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the score terms other than the language model's: neighbours by text, shared words and the collaborative score.

        Args:
            items: indices int64 [B, S].
            mask: bool [B, S].
            bonus: another cold-start bonus than the catalogue's.
            words: `Lexical.query` of the histories, float [V, B]; that of the catalogue's items when None.

        Returns:
            Each [B, N], or None where the score does not have it.
        """
        near, lexical = self.catalogue.neighbours, self.catalogue.lexical
        neighbours = None if near is None else near.scores(items, mask)
        shared = None if lexical is None else lexical.scores(lexical.query(items, mask) if words is None else words, items, mask)
        if self.model.scorer.collaborative_weight is None:
            return neighbours, shared, None
        return neighbours, shared, self.collaborative.scores(items, mask, self.bonus if bonus is None else bonus)

    @torch.no_grad()
    def score_terms(self, items: Tensor, mask: Tensor) -> ScoreTerms:
        """Return what scores are made of."""
        if self.catalogue.directions is None:
            self.model.eval()
        return self._score_terms(self.encode_histories(items, mask), items, mask)

    @property
    def direct(self) -> Callable[[Tensor], Tensor]:
        """What turns raw states [.., H] into the unit vectors that are compared, by the present weights."""
        return self._projection or self.model.scorer.projection()

    def _score_terms(self, users: Tensor, items: Tensor, mask: Tensor, words: Tensor | None = None) -> ScoreTerms:
        direct, directions = self.direct, self.catalogue.directions
        users = direct(users)
        cosines = users @ direct(self.catalogue.states).T if directions is None else products(users, directions)
        return ScoreTerms(cosines, *self.other_terms(items, mask, words=words))

    @torch.no_grad()
    def scores(self, items: Tensor, mask: Tensor, states: Tensor | None = None) -> Tensor:
        """Score the whole catalogue for evaluation or a request, [B, N]; states [B, H] are what `embed` made of these histories."""
        found = self.score_terms(items, mask) if states is None else self._score_terms(states, items, mask)
        return self.model.scorer.combine(found, items, mask)

    def fingerprint(self) -> str:
        """Return a sha256 over what was trained, in hexadecimal: the same for every catalogue."""
        digest = hashlib.sha256()
        for part in (self.model, self.collaborative.model, self.collaborative.scorer):
            for name, weight in part.named_parameters():
                digest.update(name.encode())
                digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def scores_after(self, texts: ItemTexts, items: Tensor, mask: Tensor) -> Tensor:
        """Score the whole catalogue, [B, N], after histories of other texts, whose indices are int64 [B, S] under mask bool [B, S]."""
        beyond = items + len(self.catalogue)  # as every part but the reader sees them: items that it does not know
        virtual, _ = self.model.virtual(*self.collaborative.states(beyond, mask))
        users = texts.reader.read(*recent(items, mask, self.max_history), virtual)
        lexical = self.catalogue.lexical
        words = (
            None if lexical is None else lexical.of(texts.words(texts.items), len(lexical.idf), self.device, lexical.idf).query(items, mask)
        )
        return self.model.scorer.combine(self._score_terms(users, beyond, mask, words), beyond, mask)

    @torch.no_grad()
    def experts(self, items: Tensor, mask: Tensor) -> Tensor | None:
        """Return the query expert that reads each history, int64 [B]; None where the prefix is not an M-Former's."""
        routing = self.model.virtual(*self.collaborative.states(items, mask))[1]
        return None if routing is None else routing.chosen

    # --- serving: each of these returns a system over the next catalogue, and leaves this one as it is ---

    @torch.no_grad()
    def serving(self, ids: Sequence[str], removed: Tensor | None = None) -> LaserSystem:
        """Return a system that answers requests; this one hands its item matrix over and is of no further use.

        Args:
            ids: the caller's own, in index order.
            removed: items that only keep their index, bool [N]; none when None.
        """
        system, count = self.prepared(), len(self.catalogue)
        gone = torch.zeros(count, dtype=torch.bool, device=self.device) if removed is None else removed.to(self.device)
        catalogue = replace(system.catalogue, ids=tuple(ids), removed=gone, bonus=self.model.scorer.cold_start_bonus.clone())
        if bool(gone.any()):
            view = catalogue.collaborative.placed(lambda: self._standard_directions(catalogue.states), live=~gone)
            catalogue = replace(catalogue, collaborative=view)
        self.model.hand_over_items()
        self._on_load.remove()  # it would keep this system, and with it the first item matrix, as long as the model
        return system._over(catalogue)

    def with_items(self, items: Mapping[str, Attributes]) -> LaserSystem:
        """Add items, given by id: they are embedded, stand behind the others, and become neighbours of those that they are near to."""
        old, count = self.catalogue, len(items)
        grown = replace(
            old,
            texts=old.texts.extended(list(items.values())),
            lexical=old.lexical and old.lexical.extended(old.texts.words(list(items.values()))),
            collaborative=old.collaborative.extended(count),
            ids=(*old.ids, *items),
            removed=pad(old.removed, (0, count)),
        )
        return self._over(grown)._settled(torch.arange(len(old), len(grown), device=self.device))

    def with_changes(self, items: Mapping[str, Attributes]) -> LaserSystem:
        """Replace the attributes of known items, given by id; those whose texts change are embedded again."""
        old = self.catalogue
        places = [old.find(item_id) for item_id in items]
        order = torch.arange(len(old))
        order[places] = torch.arange(len(old), len(old) + len(places))
        texts, text_of = old.texts.extended(list(items.values())).take(order), old.texts.template.item_text
        rows = [place for place in places if text_of(texts.items[place]) != text_of(old.texts.items[place])]
        lexical = old.lexical and old.lexical.extended(old.texts.words(list(items.values()))).take(order)
        return self._over(replace(old, texts=texts, lexical=lexical))._settled(torch.tensor(rows, dtype=torch.int64, device=self.device))

    @torch.no_grad()
    def without_items(self, ids: Sequence[str]) -> LaserSystem:
        """Remove items: nobody is near to them any more. Scores of the others stay, but for cold items that one of them was nearest to.

        Those that the sequential recommender was built with keep their index, empty; those that came later are gone.
        """
        old = self.catalogue
        found = torch.tensor([old.find(item_id) for item_id in ids], dtype=torch.int64, device=self.device)
        gone = torch.zeros_like(old.removed).index_fill_(0, found, value=True)
        own = torch.arange(len(old), device=self.device) < old.collaborative.model.catalogue_size
        order = (own | ~gone).nonzero()[:, 0]
        removed = (old.removed | gone)[order]
        view = old.collaborative.take(order)
        # Warm items never move, so what is nearest is still known by the same index.
        lost = (~view.scored).nonzero()[:, 0][gone[view.nearest_warm].any(1)] if len(view.nearest_warm) else order[:0]
        nothing = len(old)
        names = torch.where(gone[order], nothing, order).cpu()
        catalogue = replace(
            old,
            texts=old.texts.extended([{}]).take(names),
            collaborative=view.placed(lambda: self._standard_directions(old.states[order]), lost, ~removed),
            states=old.states[order],
            neighbours=None if old.neighbours is None else old.neighbours.take(order, ~removed),
            lexical=old.lexical and old.lexical.extended([[]]).take(names),
            ids=tuple("" if name == nothing else old.ids[name] for name in names.tolist()),
            removed=removed,
            directions=None if old.directions is None else old.directions[order],
            standard=None if old.standard is None else old.standard[order],
        )
        return self._over(catalogue)

    def with_bonus(self, deviations: float) -> LaserSystem:
        """Set what cold items get beyond the collaborative score of their nearest warm ones, in standard deviations.

        Raises:
            ConfigError: no collaborative score is fused, or no item is warm.
        """
        if self.model.scorer.collaborative_weight is None or not bool(self.collaborative.scored.any()):
            raise ConfigError("This model has no collaborative score, so a cold-start bonus would change nothing.")
        return self._over(replace(self.catalogue, bonus=torch.full_like(self.model.scorer.cold_start_bonus, deviations)))

    @torch.no_grad()
    def _settled(self, rows: Tensor) -> LaserSystem:
        """Embed new and changed items, int64 [n], of the catalogue, and find their places among the others."""
        catalogue, live = self.catalogue, ~self.catalogue.removed
        if not len(rows):
            return self
        more = len(catalogue) - len(catalogue.states)
        fresh, view, near = self.embed_items(rows), catalogue.collaborative, catalogue.neighbours

        def updated(table: Tensor, values: Tensor) -> Tensor:
            return pad(table, (0, 0, 0, more)).index_copy_(0, rows, values)  # `pad` returns a copy, also of a table that does not grow

        # A catalogue is multiplied once, at its first change; afterwards only what is new is.
        before = self._standard_directions(catalogue.states) if catalogue.standard is None else catalogue.standard
        standard, directions = updated(before, self._standard_directions(fresh)), catalogue.directions
        # Where a warm item has changed, it may be or cease to be the nearest of any cold one.
        cold = None if bool(view.scored[rows].any()) else rows
        if directions is not None:
            directions = updated(directions, self.direct(fresh))
        return self._over(
            replace(
                catalogue,
                states=updated(catalogue.states, fresh),
                standard=standard,
                neighbours=None if near is None else near.placed(standard, rows, live),
                collaborative=view.placed(lambda: standard, cold, live),
                directions=directions,
            )
        )

    def _standard_directions(self, states: Tensor) -> Tensor:
        return normalize(self.model.scorer.standard(states), dim=-1)
