"""Everything of Laser that is trained, and nothing else: its state dict is what a checkpoint and a model folder hold (paper §3).

Dimensions: B batch, S history, L prefix tokens, N catalogue, H width of the LLM.
"""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn

from laserrec.config import LaserConfig
from laserrec.laser.experts import Routing
from laserrec.laser.mformer import LinearPrefix, MFormer
from laserrec.laser.read_outs import READ_OUTS
from laserrec.laser.scoring import Scorer
from laserrec.laser.virtual_tokens import VirtualTokens
from laserrec.layers.neighbours import Neighbours
from laserrec.layers.room import require_room
from laserrec.llm.backbone import Backbone

NEAR_FLOOR = 1e-4
"""What nearness by text is as good as none; two items' is 1 where they are alike and about 5e-5 where they have nothing in common."""


class LaserModel(nn.Module):
    """The trained part: virtual tokens, M-Former, scorer; the item matrix Î and its neighbours as buffers; and what made Î.

    Training goes on after the item matrix was made (paper §3.3.2). An item that comes later must stand among the others, so it is embedded
    with what made them, of which a copy is kept.
    """

    item_states: Tensor

    def __init__(self, config: LaserConfig, backbone: Backbone, *, state_width: int, catalogue_size: int) -> None:
        """Build the trained part with fresh weights, drawn with torch's global generator.

        Args:
            config: the run's settings.
            backbone: the frozen LLM, for its width and its word embeddings.
            state_width: width of the collaborative states.
            catalogue_size: N.

        Raises:
            ConfigError: this machine's memory could not hold it in training.
        """
        super().__init__()
        virtual, words = config.virtual, config.virtual.start == "words"
        require_room(partial(_outline, config, state_width, backbone.width), "virtual and mformer (prefix_length, experts, width, blocks)")
        length = virtual.prefix_length
        self.tokens = VirtualTokens.from_words(backbone, length, virtual.words) if words else VirtualTokens.random(backbone, length)
        self.source = _source(config, state_width, backbone.width)
        if self.source is not None and not words:
            # As in the paper the prefix is then the projection alone.
            self.tokens.prefix.requires_grad_(False).zero_()
        if not READ_OUTS[virtual.read_out].trained_suffix:
            self.tokens.suffix.requires_grad_(False).copy_(backbone.end_embedding())
        self.item_tokens = copy.deepcopy(self.tokens).requires_grad_(False)
        self.item_source = copy.deepcopy(self.source)
        if self.item_source is not None:
            self.item_source.requires_grad_(False)
        self.scorer = Scorer(config.score, backbone.width)
        self.neighbours = Neighbours(catalogue_size, NEAR_FLOOR) if config.score.nearest else None
        self.register_buffer("item_states", torch.zeros(catalogue_size, backbone.width))

    def virtual(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Routing | None]:
        """Return prefix and suffix [B, L + 1, H] for collaborative states [B, S, W], and how the M-Former routed."""
        return _virtual(self.tokens, self.source, states, mask)

    def item_virtual(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return prefix and suffix [B, L + 1, H] as they were when the item matrix was made."""
        return _virtual(self.item_tokens, self.item_source, states, mask)[0]

    def hand_over_items(self) -> None:
        """Let the item matrix and its neighbours go: a catalogue that never changes has them from here on."""
        self.item_states = self.item_states.new_empty(0, self.item_states.shape[1])
        self.neighbours = None

    def keep_item_side(self) -> None:
        """Make the present virtual tokens and M-Former those that items are embedded with, until the next call."""
        self.item_tokens.load_state_dict(self.tokens.state_dict())
        if self.source is not None and self.item_source is not None:
            self.item_source.load_state_dict(self.source.state_dict())


def _outline(config: LaserConfig, state_width: int, width: int) -> nn.Module:
    """Return what of the trained part grows with the settings: the virtual tokens and what produces the prefix."""
    tokens, source = (
        VirtualTokens(torch.empty(config.virtual.prefix_length, width), torch.empty(width)),
        _source(config, state_width, width),
    )
    return nn.ModuleList([tokens] if source is None else [tokens, source])


def _source(config: LaserConfig, state_width: int, width: int) -> MFormer | LinearPrefix | None:
    """Return what makes the prefix from collaborative states; None where it is trained alone, or there is none."""
    length, source = config.virtual.prefix_length, config.mformer.source
    if source == "plain" or not length:
        return None
    made = MFormer(config.mformer, length, state_width, width) if source == "mformer" else LinearPrefix(length, state_width, width)
    if config.virtual.start == "words":  # it is added to the words' embeddings, with which the prefix starts
        nn.init.zeros_(made.projection.weight)
        nn.init.zeros_(made.projection.bias)
    return made


def _virtual(tokens: VirtualTokens, source: MFormer | LinearPrefix | None, states: Tensor, mask: Tensor) -> tuple[Tensor, Routing | None]:
    rows = len(states)
    prefix, routing = tokens.prefix.expand(rows, -1, -1), None
    if source is not None:
        produced, routing = source(states, mask)
        prefix = prefix + produced
    return torch.cat([prefix, tokens.suffix.expand(rows, 1, -1)], dim=1), routing
