"""How sure a share is, and how far two raters agree: intervals and Cohen's kappa.

share_interval(108, 200)                                # (0.471, 0.608)
cohen_kappa(["y", "y", "n"], ["y", "n", "n"])           # 0.4
as_table({"valid_task": {"share": 0.54, "interval": (0.471, 0.608)}})   # to look at
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


_NO_WIDTH = 1e-9  # what rounding leaves between equal numbers


def share_interval(yes: int, count: int) -> tuple[float, float] | None:
    """The 95 % Wilson score interval of yes / count, both ends in 0..1; None where nothing was counted."""
    from scipy.stats import binomtest

    if not count:
        return None
    low, high = binomtest(yes, count).proportion_ci(method="wilson")
    return float(low), float(high)


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two raters who judged the same things in the same order: agreement beyond chance, at most 1.

    None where it is not defined: nothing rated, or both raters said one and the same thing throughout.
    """
    if not first:
        return None
    equal, chance = _count_equal(first, second), _measure_chance(first, second)
    return None if chance == 1 else (equal / len(first) - chance) / (1 - chance)


def _count_equal(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    return sum(a == b for a, b in zip(first, second, strict=True))


def _measure_chance(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """The share of equal answers that two raters would reach who only keep their own shares of each label."""
    theirs = Counter(second)
    return sum(times * theirs[label] for label, times in Counter(first).items()) / len(first) ** 2


def kappa_interval(
    first: Sequence[Hashable], second: Sequence[Hashable], draws: int = 2000, random_seed: int = 42
) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of Cohen's kappa, resampling the things rated; None where it is undefined.

    Resamples in which kappa is undefined are left out. Where all others have one and the same kappa (the raters never
    differed, or one of them said one thing throughout) resampling tells nothing, and `_interval_at_chance` stands in.
    """
    import numpy as np

    if cohen_kappa(first, second) is None:
        return None
    # the table of both raters' labels is resampled, as in `statistics.bootstrap_interval`: scipy's would take each thing
    labels = sorted(set(first) | set(second), key=str)
    pairs = Counter(zip(first, second, strict=True))
    table = np.array([[pairs[a, b] for b in labels] for a in labels], dtype=float) / len(first)
    drawn = np.random.default_rng(random_seed).multinomial(len(first), table.ravel(), size=draws) / len(first)
    drawn = drawn.reshape(draws, len(labels), len(labels))
    observed = np.trace(drawn, axis1=1, axis2=2)
    chance = (drawn.sum(axis=2) * drawn.sum(axis=1)).sum(axis=1)
    defined = chance < 1
    kappas = (observed[defined] - chance[defined]) / (1 - chance[defined])
    low, high = np.quantile(kappas, [0.025, 0.975])
    return (float(low), float(high)) if high - low > _NO_WIDTH else _interval_at_chance(first, second)


def _interval_at_chance(first: Sequence[Hashable], second: Sequence[Hashable]) -> tuple[float, float]:
    """Wilson's interval of the share of equal answers, carried over to kappa, not below -1.

    It takes the chance agreement for known, as Cohen's own standard error did (1960), but not the normal distribution,
    whose interval has no width either where the raters never differed. After n equal answers the lower end is
    1 - (1 - n / (n + 3.84)) / (1 - chance).
    """
    chance = _measure_chance(first, second)
    ends = share_interval(_count_equal(first, second), len(first)) or (0.0, 1.0)
    low, high = ((end - chance) / (1 - chance) for end in ends)
    return max(-1.0, low), min(1.0, high)


def as_table(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Results by question as a table to look at: two digits, and an interval as "0.47 to 0.61"; empty without rows."""
    import pandas as pd

    table = pd.DataFrame(rows.values(), index=list(rows))
    if "interval" in table:
        table["interval"] = [f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else "" for ends in table["interval"]]
    return table.round(2)
