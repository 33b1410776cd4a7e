"""What a run's id-based models will take: a few steps of each kind, once, with weights that are thrown away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from laserrec.config import CollaborativeConfig, FitConfig, LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.runs.planning.plan import Phase
from laserrec.runs.planning.probe import FitCost, enough, sampled, try_fit
from laserrec.sequential.build import build_recommender
from laserrec.training.fit import refit_settings, validation_cases
from laserrec.training.sequential_task import CollaborativeTask

ROWS, CASES = 256, 512
Settings = tuple[CollaborativeConfig, FitConfig]


class IdTrials:
    """The id-based models of one run, tried in miniature.

    Attributes:
        fits: settings of every fit that the run makes, by name.
        costs: what was found of each kind of fit that was tried.
    """

    def __init__(
        self,
        data: Dataset,
        config: LaserConfig,
        rivals: Mapping[str, Settings],
        *,
        text_width: int,
        kept: Path,
        available: int,
        device: torch.device,
    ) -> None:
        """Take note of what is trained; nothing is tried yet.

        Args:
            data: the dataset.
            config: the run's settings.
            rivals: what is trained beside Laser, by name; one that Laser's refit would train again is trained a single time.
            text_width: numbers of a text's vector.
            kept: folder that trials may write below.
            available: bytes of memory.
            device: where the run will be computed.
        """
        self.data, self.config, self.text_width, self.kept, self.available, self.device = data, config, text_width, kept, available, device
        own, kinds = (config.collaborative, config.fit_collaborative), refit_settings(config)
        # A refit with the name of a rival is the rival.
        self.fits = {**rivals, "collaborative": own, **{name: (model, config.fit_collaborative) for name, (model, _) in kinds.items()}}
        self.costs: dict[Settings, FitCost] = {}

    def task(self, name: str) -> CollaborativeTask:
        """Return the task of a fit, around fresh weights."""
        model, fit = self.fits[name]
        torch.manual_seed(0)
        cases = validation_cases(self.data, fit, self.config.seed)
        items = len(self.data.item_ids)
        texts = torch.randn(items, self.text_width) if model.reads_texts else None
        hold_out = self.config.collaborative.hold_out if name == "collaborative" else 0
        built = build_recommender(model, items, texts).to(self.device)
        return CollaborativeTask(built, self.data.training_histories(), cases, hold_out=hold_out)

    def cost(self, name: str, task: CollaborativeTask | None = None) -> FitCost:
        """Try a fit, or return what was found when one of its kind was.

        Args:
            name: the fit's.
            task: its task, where it is at hand.
        """
        model, fit = settings = self.fits[name]
        if settings not in self.costs:
            items = len(self.data.item_ids)
            # Logits of every position of a row, three times; with a long catalogue a whole batch might not fit.
            rows = max(1, min(fit.batch_size, ROWS, self.available // 8 // (12 * model.max_history * items)))
            cases = max(1, min(enough(CASES, self.device), self.available // 8 // (16 * items)))
            small = sampled(task or self.task(name), rows=rows, cases=cases)
            self.costs[settings] = try_fit(small, fit, self.kept / f"fit-{len(self.costs)}", rows=rows)
        return self.costs[settings]

    def phases(self) -> list[Phase]:
        """Return a phase for every fit, each name once."""
        found = []
        for name, (_, fit) in self.fits.items():
            task = self.task(name)
            found.append(self.cost(name, task).phase(name, fit, len(task), len(task.valid)))
        return found

    @property
    def checkpoints(self) -> int:
        """Bytes of the checkpoints of all fits."""
        return sum(self.cost(name).checkpoint for name in self.fits)
