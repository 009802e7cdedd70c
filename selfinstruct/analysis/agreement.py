"""How sure a share is, and how far raters agree: intervals, Cohen's kappa, Spearman's rho, Krippendorff's alpha.

share_interval(108, 200)                                # (0.471, 0.608)
cohen_kappa(["y", "y", "n"], ["y", "n", "n"])           # 0.4
krippendorff_alpha([[1, 1, 2], [3, 3]], "ordinal")      # units, each with the values that raters gave it
predict_share([(True, True), (False, True)], [True])    # few answers of a person, many of a model
as_table({"valid_task": {"share": 0.54, "interval": (0.471, 0.608)}})   # to look at
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..display import show_number
from ..files import ParameterError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Z_95 = 1.959964


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


def spearman_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None where it is not defined: under 2 pairs, or one is constant."""
    from scipy.stats import spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(spearmanr(first, second).statistic)


def spearman_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """A 95 % interval of Spearman's rho: Fisher's z with the variance of Bonett and Wright (2000); None under 4 pairs.

    After complete agreement z has no end; the interval is then (rho, rho).
    """
    from math import atanh, sqrt, tanh

    rho = spearman_correlation(first, second)
    if rho is None or len(first) < 4:
        return None
    if abs(rho) > 1 - 1e-12:
        return rho, rho
    half = Z_95 * sqrt((1 + rho**2 / 2) / (len(first) - 3))
    return tanh(atanh(rho) - half), tanh(atanh(rho) + half)


def krippendorff_alpha(units: Sequence[Sequence[float]], metric: str = "ordinal") -> float | None:
    """Krippendorff's alpha of any number of raters, each of whom may have left out some units: 1 - observed / expected
    disagreement (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").

    units: for each thing that was rated the values it got. metric: "nominal", "ordinal" or "interval". Units with one
    value count for nothing. None where it is not defined: no unit with two values, or one and the same value throughout.
    """
    import numpy as np

    paired = [unit for unit in units if len(unit) > 1]
    values = sorted({value for unit in paired for value in unit})
    if len(values) < 2:
        return None
    counts = np.array([[unit.count(value) for value in values] for unit in map(list, paired)], float)
    sizes = counts.sum(axis=1)
    # coincidences: every ordered pair of values in a unit of m values counts 1 / (m - 1)
    weights = counts / (sizes - 1)[:, None]
    coincidences = weights.T @ counts - np.diag(weights.sum(axis=0))
    totals = coincidences.sum(axis=0)
    distance = _measure_distance(np.array(values, float), totals, metric)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    return float(1 - (coincidences * distance).sum() / (expected * distance).sum())


def _measure_distance(values: np.ndarray, totals: np.ndarray, metric: str) -> np.ndarray:
    """The squared difference of every two values, (k, k), as the metric sees it."""
    import numpy as np

    if metric == "nominal":
        return 1.0 - np.eye(len(values))
    # ordinal: how many answers lie between the two, their own counted half
    places = {"interval": values, "ordinal": np.cumsum(totals) - totals / 2}
    if metric not in places:
        raise ParameterError(f'metric="{metric}": choose nominal, ordinal or interval')
    return np.subtract.outer(places[metric], places[metric]) ** 2


def alpha_interval(
    units: Sequence[Sequence[float]], metric: str = "ordinal", draws: int = 1000, random_seed: int = 42
) -> tuple[float, float] | None:
    """The middle 95 % of alpha over resampled units; None where fewer than 10 units have two values or alpha is undefined."""
    import numpy as np

    paired = [unit for unit in units if len(unit) > 1]
    if len(paired) < 10 or krippendorff_alpha(paired, metric) is None:
        return None
    rng = np.random.default_rng(random_seed)
    drawn = (rng.integers(len(paired), size=len(paired)) for _ in range(draws))
    alphas = [krippendorff_alpha([paired[k] for k in chosen], metric) for chosen in drawn]
    low, high = np.quantile([alpha for alpha in alphas if alpha is not None], [0.025, 0.975])
    return float(low), float(high)


def fisher_p(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """The p of Fisher's exact test that two separate sets have the same share of True; None where one is empty."""
    from scipy.stats import fisher_exact

    if not first or not second:
        return None
    return float(fisher_exact([[sum(one), len(one) - sum(one)] for one in (first, second)]).pvalue)


def mcnemar_p(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """The p of McNemar's exact test that both answers to the same things have the same share of True; None without pairs."""
    from scipy.stats import binomtest

    if not pairs:
        return None
    up, down = pairs.count((False, True)), pairs.count((True, False))
    return float(binomtest(up, up + down).pvalue) if up + down else 1.0


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order: to call those under 0.05 different errs in 5 % of families at most.

    >>> adjust_holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def predict_share(labelled: Sequence[tuple[bool, bool]], unlabelled: Sequence[bool]) -> dict[str, Any]:
    """The share of yes that a person would give to all things, from the few that the person judged and the many that only a
    model did (prediction-powered: Angelopoulos et al. 2023; the weight of the model as in PPI++, arXiv 2311.01453).

    labelled: (the person's, the model's) answer; unlabelled: the model's. `share` is None without labelled answers, and
    `interval` (95 %) needs two; `weight` is 0 where the model knows nothing and near 1 where it answers as the person does.
    The variances take in one more answer of each of the four kinds, as Agresti and Coull (1998) do for a share, and the
    interval is laid around the share so moved: without it a model that never erred among few answers gives no width at all.
    """
    import numpy as np

    if not labelled:
        return {"labelled": 0, "unlabelled": len(unlabelled), "share": None, "interval": None, "weight": None}
    person, model = np.array(labelled, float).T
    others = np.array(unlabelled, float)
    share, weight, _ = _correct_mean(person, model, others)
    found = {"labelled": len(labelled), "unlabelled": len(unlabelled), "share": float(np.clip(share, 0, 1))}
    if len(labelled) < 2:
        return {**found, "interval": None, "weight": weight}
    padded = np.append(person, [1, 1, 0, 0]), np.append(model, [1, 0, 1, 0])
    middle, _, variance = _correct_mean(*padded, np.append(others, [1, 1, 0, 0]) if len(others) else others)
    half = Z_95 * np.sqrt(variance)
    low, high = np.clip([middle - half, middle + half], 0, 1)
    return {**found, "interval": (float(min(low, share)), float(max(high, share))), "weight": weight}


def _correct_mean(person: np.ndarray, model: np.ndarray, others: np.ndarray) -> tuple[float, float, float]:
    """(mean of `person` corrected by the model's, the model's weight, its variance)."""
    import numpy as np

    if not len(others):
        return float(person.mean()), 0.0, float(person.var() / len(person))
    spread = np.append(model, others).var()
    covariance = np.cov(person, model, ddof=0)[0, 1] if len(person) > 1 else 0.0
    weight = float(np.clip(covariance / spread / (1 + len(person) / len(others)), 0, 1)) if spread else 0.0
    mean = person.mean() + weight * (others.mean() - model.mean())
    variance = (person - weight * model).var() / len(person) + weight**2 * others.var() / len(others)
    return float(mean), weight, float(variance)


def as_table(rows: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Results by question, or one after the other, as a table to look at: two digits (p-values more), and an interval as "0.47 to
    0.61"; empty without rows.
    """
    import pandas as pd

    named = isinstance(rows, Mapping)
    table = pd.DataFrame(rows.values(), index=list(rows)) if named else pd.DataFrame(list(rows))
    for name in table.columns:
        if name.endswith("interval"):
            table[name] = [f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else "" for ends in table[name]]
        elif name in ("p", "p_holm"):
            table[name] = [show_number(value) for value in table[name]]
    return table.round(2)
