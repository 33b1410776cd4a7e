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
from functools import cache

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
from laserrec.layers.living_neighbours import LivingNeighbours
from laserrec.layers.neighbours import Neighbours, found_at_once
from laserrec.layers.rows import Rows
from laserrec.llm.backbone import Backbone
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.ensemble import Ensemble

ITEMS_AT_ONCE = 256
"""Items that are embedded at a time."""
ROUNDED = 1e-5
"""Cosines that are no farther apart may be in either order when they are computed again."""


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
        self.catalogue = Catalogue(texts, collaborative, Rows.of(model.item_states), model.neighbours, lexical)
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
        other, known = copy(self), vars(self.catalogue)
        if catalogue.ids is self.catalogue.ids and "index" in known:  # found once, not anew from all ids
            vars(catalogue)["index"] = known["index"]
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
            return self.catalogue.states[:0]
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
        view = self.collaborative.placed(self._cosines(Rows.of(states), None if directions is None else Rows.of(directions)))
        self.catalogue = replace(self.catalogue, collaborative=view, states=Rows.of(states), neighbours=self.model.neighbours)

    def score_with(self, scorer: SequentialRecommender | Ensemble, scored: Tensor) -> None:
        """Fuse the scores of other recommenders from here on, trained on the items `scored`, bool [N]."""
        self.catalogue = replace(self.catalogue, collaborative=self.collaborative.score_with(scorer, scored))
        self._place_cold()

    @torch.no_grad()
    def with_cold(self, items: Tensor) -> LaserSystem:
        """Return a system in which warm items, int64 [n], are cold."""
        view = self.collaborative.without(items).placed(self._cosines(self.catalogue.states))
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
        system = self._over(replace(self.catalogue, directions=Rows.of(projection(self.catalogue.states.table))))
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
        cosines = users @ direct(self.catalogue.states.table).T if directions is None else directions.times(users)
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
        near = system.catalogue.neighbours
        near = LivingNeighbours(near) if isinstance(near, Neighbours) else near
        bonus = self.model.scorer.cold_start_bonus.clone()
        catalogue = replace(system.catalogue, ids=tuple(ids), removed=gone, bonus=bonus, neighbours=near)
        if bool(gone.any()):
            view = catalogue.collaborative.placed(self._cosines(catalogue.states), live=~gone)
            catalogue = replace(catalogue, collaborative=view)
        self.model.hand_over_items()
        self._on_load.remove()  # it would keep this system, and with it the first item matrix, as long as the model
        return system._over(catalogue)

    def with_items(self, items: Mapping[str, Attributes]) -> LaserSystem:
        """Add items, given by id: they are embedded, stand behind the others, and become neighbours of those that they are near to."""
        old, attributes = self.expecting_changes().catalogue, list(items.values())
        rows = torch.arange(len(old), len(old) + len(items))
        grown = replace(
            old,
            texts=old.texts.extended(attributes),
            lexical=old.lexical and old.lexical.with_texts(old.texts.words(attributes), rows, len(old) + len(items)),
            collaborative=old.collaborative.extended(len(items)),
            ids=(*old.ids, *items),
            removed=pad(old.removed, (0, len(items))),
        )
        vars(grown)["index"] = old.index | dict(zip(items, rows.tolist(), strict=True))
        return self._over(grown)._settled(rows.to(self.device))

    def with_changes(self, items: Mapping[str, Attributes]) -> LaserSystem:
        """Replace the attributes of known items, given by id; those whose texts change are embedded again."""
        old = self.expecting_changes().catalogue
        places = [old.find(item_id) for item_id in items]
        order = torch.arange(len(old))
        order[places] = torch.arange(len(old), len(old) + len(places))
        texts, text_of = old.texts.extended(list(items.values())).take(order), old.texts.template.item_text
        rows = torch.tensor(
            [place for place in places if text_of(texts.items[place]) != text_of(old.texts.items[place])], dtype=torch.int64
        )
        words = old.texts.words([texts.items[place] for place in rows.tolist()])
        changed = replace(old, texts=texts, lexical=old.lexical and old.lexical.with_texts(words, rows, len(old)))
        return self._over(changed)._settled(rows.to(self.device))

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
        states, standard, near, known = old.states.take(order), old.standard, old.living_neighbours, (*old.ids, "")
        standard = None if standard is None else standard.take(order)
        catalogue = replace(
            old,
            texts=old.texts.extended([{}]).take(names),
            collaborative=view.placed(self._cosines(states, standard), lost, ~removed),
            states=states,
            neighbours=None if near is None else near.take(order, ~removed),
            lexical=old.lexical and old.lexical.with_texts([[]], torch.tensor([nothing]), nothing + 1).take(names),
            ids=tuple(map(known.__getitem__, names.tolist())),
            removed=removed,
            directions=old.unit_vectors.take(order),
            standard=standard,
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
        fresh, view, near = self.embed_items(rows), catalogue.collaborative, catalogue.living_neighbours
        count = len(catalogue)
        assert catalogue.standard is not None, "a catalogue that changes has them"
        standard = catalogue.standard.with_rows(rows, self._standard_directions(fresh), count)
        directions = self.direct(fresh)
        cosines = self._cosines(catalogue.states, standard, rows)
        return self._over(
            replace(
                catalogue,
                states=catalogue.states.with_rows(rows, fresh, count),
                standard=standard,
                neighbours=None if near is None else near.placed(cosines, rows, live),
                collaborative=view.placed(cosines, self._to_place(standard, rows, cosines), live),
                directions=catalogue.unit_vectors.with_rows(rows, directions, count),
            )
        )

    def expecting_changes(self) -> LaserSystem:
        """Return a system that has what the first change of an item would make: standardised directions, and tables with room."""
        catalogue, near = self.catalogue, self.catalogue.living_neighbours
        if catalogue.standard is not None:
            return self
        return self._over(
            replace(
                catalogue,
                standard=Rows.of(self._standard_directions(catalogue.states.table)).with_room(),
                states=catalogue.states.with_room(),
                directions=catalogue.unit_vectors.with_room(),
                neighbours=None if near is None else near.with_room(),
                lexical=catalogue.lexical and catalogue.lexical.with_room(),
            )
        )

    def _to_place(self, standard: Rows, rows: Tensor, cosines: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Return whose nearest warm items are found anew after a change of `rows`, int64 [n]: theirs, and those for whom one may count."""
        view = self.collaborative
        warm, cold = rows[view.scored[rows]], (~view.scored).nonzero()[:, 0]
        if not len(warm) or not len(cold) or len(view.nearest_warm) != len(cold):
            return None if len(warm) and len(cold) else rows
        farthest = (standard[cold] * standard[view.nearest_warm[:, -1]]).sum(1)
        nearest = torch.stack([cosines(part)[:, cold].amax(0) for part in warm.split(found_at_once(len(standard)))]).amax(0)
        may_enter = nearest >= farthest - ROUNDED
        touched = cold[may_enter | torch.isin(view.nearest_warm, warm).any(1)]
        return torch.cat([rows, touched[~torch.isin(touched, rows)]])

    def _cosines(self, states: Rows, standard: Rows | None = None, rows: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """Return what gives the cosines of some items, int64 [n], with all, by their standardised states; those of `rows` are kept."""
        directions = cache(lambda: Rows.of(self._standard_directions(states.table)) if standard is None else standard)
        kept: list[Tensor] = []

        def cosines(items: Tensor) -> Tensor:
            if rows is None or not torch.equal(items, rows):
                return directions().times(directions()[items])
            if not kept:
                kept.append(directions().times(directions()[rows]))
            return kept[0]

        return cosines

    def _standard_directions(self, states: Tensor) -> Tensor:
        return normalize(self.model.scorer.standard(states), dim=-1)
