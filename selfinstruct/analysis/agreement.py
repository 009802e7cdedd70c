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
    chance = _measure_chance(first, second)
    return None if chance == 1 else (_count_equal(first, second) / len(first) - chance) / (1 - chance)


def _count_equal(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    return sum(a == b for a, b in zip(first, second, strict=True))


def _measure_chance(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """The share of equal answers that two raters would reach who only keep their own shares of each label."""
    theirs = Counter(second)
    return sum(times * theirs[label] for label, times in Counter(first).items()) / len(first) ** 2


def kappa_interval(first: Sequence[Hashable], second: Sequence[Hashable]) -> tuple[float, float] | None:
    """A 95 % interval of Cohen's kappa, not below -1; None where kappa is undefined.

    Wilson's interval of the share of equal answers, carried over to kappa. It takes the chance agreement for known, as
    Cohen's own standard error did (1960), but has a width even where the raters never differed: after n equal answers the
    lower end is 1 - (1 - n / (n + 3.84)) / (1 - chance).
    """
    ends = share_interval(_count_equal(first, second), len(first))
    if ends is None or (chance := _measure_chance(first, second)) == 1:
        return None
    low, high = ((end - chance) / (1 - chance) for end in ends)
    return max(-1.0, low), min(1.0, high)


def as_table(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Results by question as a table to look at: two digits, and an interval as "0.47 to 0.61"; empty without rows."""
    import pandas as pd

    table = pd.DataFrame(rows.values(), index=list(rows))
    if "interval" in table:
        table["interval"] = [f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else "" for ends in table["interval"]]
    return table.round(2)
