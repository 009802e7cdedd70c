"""How sure a number of a data set is: bootstrap intervals of means, shares and medians.

    bootstrap_interval([3, 5, 4, 9], "median")      # (3.0, 9.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .agreement import share_interval
from .analysis import PARTS, TABLE_1, table_1_values, word_counts
from .datasets import Dataset

if TYPE_CHECKING:
    import numpy as np


def bootstrap_interval(
    values: Sequence[int] | np.ndarray, statistic: str = "mean", level: float = 0.95, draws: int = 2000, random_seed: int = 42
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean or the median of whole numbers, or of a share (True and False).

    Resamples the histogram rather than the values: the same distribution, and 52K values cost no more than 60. A share
    of none or all has no spread to draw from; there it is the 95 % Wilson interval. None where there are no values.
    """
    import numpy as np

    values = np.asarray(values)
    levels, counts = np.unique(values, return_counts=True)
    if not counts.size:
        return None
    if values.dtype == bool and levels.size == 1:
        return share_interval(int(values.sum()), len(values))
    drawn = np.random.default_rng(random_seed).multinomial(counts.sum(), counts / counts.sum(), size=draws)
    results = drawn @ levels / counts.sum() if statistic == "mean" else _medians(levels, drawn)
    low, high = np.quantile(results, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _medians(levels: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The median of each resample, drawn (draws, levels) holding how often each level came."""
    total, below = int(drawn[0].sum()), drawn.cumsum(axis=1)
    middle = [levels[(below > rank).argmax(axis=1)] for rank in ((total - 1) // 2, total // 2)]
    return (middle[0] + middle[1]) / 2


def measure_intervals(dataset: Dataset, draws: int = 2000, random_seed: int = 42) -> list[dict[str, Any]]:
    """The shares and averages of Table 1, one record each: its interval, the paper's value, and whether that lies inside.

    Numbers that the data set does not have are left out.
    """
    records = []
    for number, values in table_1_values(dataset).items():
        interval, paper = bootstrap_interval(values, draws=draws, random_seed=random_seed), TABLE_1[number]
        if interval:
            low, high = (round(end, 4) for end in interval)
            record = {"data_set": dataset.name, "number": number, "n": len(values), "value": round(float(values.mean()), 4)}
            records.append({**record, "low": low, "high": high, "paper": paper, "covers_paper": low <= paper <= high})
    return records


def measure_medians(dataset: Dataset, draws: int = 2000, random_seed: int = 42) -> list[dict[str, Any]]:
    """The median length of each part in words, one record each, with its interval."""
    import numpy as np

    records = []
    for part in PARTS:
        words = word_counts(dataset)[part]
        interval = bootstrap_interval(words, "median", draws=draws, random_seed=random_seed)
        if interval:
            record = {"data_set": dataset.name, "part": part, "n": len(words), "median": float(np.median(words))}
            records.append({**record, "low": interval[0], "high": interval[1]})
    return records
