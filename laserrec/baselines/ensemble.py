"""What Laser fuses in the end, without the language model's own score beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laserrec.baselines.base import Fitted
from laserrec.baselines.sequential import scored_by
from laserrec.errors import ConfigError

if TYPE_CHECKING:
    from laserrec.config import LaserConfig
    from laserrec.training.context import FitContext, Stage


class EnsembleBaseline:
    """Scores by the mean of all refits, blended with neighbours where the settings say so."""

    name = "ensemble"
    label = "Ensemble"
    summary = "what Laser fuses, alone: what is ahead of it is the language model's part"

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """Return the refits, after the text vectors that they read."""
        from laserrec.training.pipeline import vectors_for
        from laserrec.training.sequential_stage import refit_stages

        refits = refit_stages(config)
        if not refits:
            raise ConfigError(
                "There is no ensemble: collaborative.refits is empty, collaborative.hold_out is 0 or score.fuse_collaborative is false. "
                "Set all three, such as collaborative.refits=['id', 'both']."
            )
        return [*vectors_for(refits), *refits]

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """Return the refits' settings, what their texts are made of, and the cases by which neighbours are blended."""
        own = config.model_dump(mode="json", include={"llm", "prompt", "fit_collaborative"})
        members = config.collaborative.model_dump(mode="json", include={"refits", "neighbours", "ease"})
        cases = {"validation_cases": config.stage2.validation_cases}
        return own | {"collaborative": config.collaborative.architecture | members, "stage2": cases}

    def fit(self, context: FitContext) -> Fitted:
        """Blend what the refits' stages have trained."""
        from laserrec.training.fusing import blended
        from laserrec.training.sequential_stage import refit_stages

        names, began = [stage.name for stage in refit_stages(context.config)], time.monotonic()
        (model,) = blended(context, [names], context.cases(context.config.stage2))
        fits, reading = [context.fits[name] for name in names], context.vectors.seconds if context.vectors else 0.0
        seconds = time.monotonic() - began + reading + sum(fit.seconds for fit in fits)
        label, parameters = f"{self.label} of {len(fits)}", sum(fit.parameters for fit in fits)
        named = [name for name, table in (("neighbours", model.neighbours), ("EASE", model.ease)) if table is not None]
        if named:
            label, parameters = f"{label}, {' and '.join(named)}", parameters + 1 + len(named)
        return scored_by(model, label, seconds, parameters)
