"""Test one model against others on the same cases, paired, and correct the p-values for their number.

For each rival and metric: the mean difference with its bootstrap interval, Student's paired t-test, Wilcoxon's signed-rank test, the effect
size d_z (mean difference over the deviation of the differences), and on how many cases each side is ahead. p-values of all tests of a
table are corrected together, by Holm's step-down method (S. Holm, "A simple sequentially rejective multiple test procedure", 1979).

Dimensions: R cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from laserrec.comparison.entries import Entry
from laserrec.errors import MissingExtraError
from laserrec.evaluation.metrics import Protocol
from laserrec.evaluation.statistics import interval


@dataclass(frozen=True)
class PairedTest:
    """One model against another by one metric.

    Attributes:
        metric: such as ndcg@10.
        rival: the other model's name.
        difference: the model minus the rival, mean over cases.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        effect: d_z; 0 where no case differs, None where all differ by the same, for which it is infinite.
        ahead: cases on which the model is better.
        behind: cases on which it is worse.
        p_t: of the two-sided paired t-test, Holm-corrected.
        p_wilcoxon: of the two-sided signed-rank test, Holm-corrected.
    """

    metric: str
    rival: str
    difference: float
    low: float
    high: float
    effect: float | None
    ahead: int
    behind: int
    p_t: float
    p_wilcoxon: float


def paired_tests(model: Entry, rivals: Sequence[Entry], metrics: Sequence[str], protocol: Protocol) -> list[PairedTest]:
    """Test a model against every rival by every metric.

    Args:
        model: the one in question.
        rivals: the others.
        metrics: names, as `laserrec.evaluation.metrics.per_case` takes them.
        protocol: of the ranking.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    tests = [
        _test(model.per_case(metric, protocol), rival.per_case(metric, protocol), metric, rival.name)
        for rival in rivals
        for metric in metrics
    ]
    t, wilcoxon = holm([test.p_t for test in tests]), holm([test.p_wilcoxon for test in tests])
    return [replace(test, p_t=p_t, p_wilcoxon=p_wilcoxon) for test, p_t, p_wilcoxon in zip(tests, t, wilcoxon, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm's method: the i-th smallest of m times m − i + 1, never below a smaller one's, at most 1."""
    corrected = [1.0] * len(p_values)
    least = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        least = max(least, (len(p_values) - place) * p_values[index])
        corrected[index] = min(1.0, least)
    return corrected


def _test(ours: NDArray[np.float64], theirs: NDArray[np.float64], metric: str, rival: str) -> PairedTest:
    # Means over seeds of equal cases differ in their last bits, which would break ties.
    differences = np.round(ours - theirs, 12)
    low, high = interval(differences)
    deviation = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    mean = float(differences.mean())
    p_t, p_wilcoxon = _p_values(differences)
    return PairedTest(
        metric,
        rival,
        mean,
        low,
        high,
        mean / deviation if np.ptp(differences) else None if mean else 0.0,
        int((differences > 0).sum()),
        int((differences < 0).sum()),
        p_t,
        p_wilcoxon,
    )


def _p_values(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the p-values of the t-test and of the signed-rank test; 1 where nothing differs or there is a single case."""
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("scipy", "compare", "A comparison with paired tests") from error
    if len(differences) < 2 or not differences.any():
        return 1.0, 1.0
    if np.ptp(differences) == 0:
        # All cases differ by the same: the t-statistic is infinite, and SciPy warns of it.
        return 0.0, float(stats.wilcoxon(differences).pvalue)
    return float(stats.ttest_1samp(differences, 0.0).pvalue), float(stats.wilcoxon(differences).pvalue)
