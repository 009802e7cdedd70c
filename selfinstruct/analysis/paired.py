"""Columns that were judged on the same tasks: means and differences with intervals, corrected p values, and what could be seen.

    plan = measure_detectable_difference(252, sd=17, comparisons=6)      # before looking: 3.7 points
    compare_columns({"before": before, "after": after}, [("after", "before")])

A column is a model, or one way of asking it; its scores are one number for each task, (n_tasks,), or (n_seeds, n_tasks) where
a model was trained with several seeds. The mean over the seeds comes first, then tasks are resampled: an interval says how
far a difference would move with other tasks of the same kind. What other training seeds would move is `seed_sd`.

Rows of one task belong together (Super-NaturalInstructions has 100 rows for each of 119 tasks): `clusters` names the task of
each row, and whole tasks are resampled. A bootstrap over rows finds a difference in 43 % of cases where there is none.

The ends of an interval are percentiles of the resampled means, at the levels that Student's t asks for with so many units
(the "expanded percentile interval" of Hesterberg, 2015, section 3.4): plain percentiles are too narrow for a few tasks, and
the two are the same for many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..files import ParameterError
from .agreement import adjust_holm
from .compare import draw_times

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

N_RESAMPLES = 10_000
CONFIDENCE = 0.95
POWER = 0.8


class Resampled(NamedTuple):
    """A mean and its resamples: `means` (resamples,), the number of units drawn, and the SD of one unit."""

    mean: float
    means: np.ndarray
    units: int
    unit_sd: float


def compare_columns(
    scores: Mapping[str, Any],
    pairs: Sequence[tuple[str, str]],
    clusters: Sequence[Any] | None = None,
    n_resamples: int = N_RESAMPLES,
    random_seed: int = 0,
    confidence: float = CONFIDENCE,
    sd: float | None = None,
) -> pd.DataFrame:
    """The difference a - b of each pair of columns, a row each: paired bootstrap over tasks, or over clusters of rows.

    scores: column -> array (n_tasks,) or (n_seeds, n_tasks), the tasks of all in one order. `p` is two-sided and belongs to
    the interval: below 1 - confidence exactly where the interval leaves out 0. `p_holm` corrects it for the number of pairs.
    `minimum_detectable_difference` is the one that `p_holm` finds with 80 % power even in Holm's first and strictest step, where
    each of m pairs is tested at (1 - confidence) / m; `sd` states, before looking, the SD of the difference on one task (with
    clusters: of a cluster's mean), without it that of these differences is taken. `seed_sd`: the SD of the difference over the
    training seeds, NaN with one. Equal seeds give equal intervals in any order of tasks.
    Raises ParameterError for columns of other lengths, a score that is NaN, and fewer than two tasks.
    """
    import pandas as pd

    columns = {name: _check_scores(name, values) for name, values in scores.items()}
    clusters = _check_tasks(columns, clusters, confidence)
    rows = []
    for a, b in _check_pairs(pairs, columns):
        found = _resample_mean(_mean_seeds(columns[a]) - _mean_seeds(columns[b]), clusters, n_resamples, random_seed)
        low, high, p = _read_resamples(found, confidence)
        means = [float(columns[name].mean()) for name in (a, b)]
        spread = found.unit_sd if sd is None else sd
        detectable = measure_detectable_difference(found.units, spread, len(pairs), confidence)
        rows.append({
            "a": a, "b": b, "mean_a": means[0], "mean_b": means[1], "difference": found.mean, "low": low, "high": high,
            "p": p, "minimum_detectable_difference": detectable, "seed_sd": _measure_seed_sd(columns, a, b),
            "n": columns[a].shape[1], "units": found.units, "resamples": len(found.means),
        })  # fmt: skip
    table = pd.DataFrame(rows, columns=None if rows else ["a", "b", "difference", "low", "high", "p"])
    table.insert(table.columns.get_loc("p") + 1, "p_holm", adjust_holm(list(table["p"])))
    return table


def summarise_columns(
    scores: Mapping[str, Any],
    clusters: Sequence[Any] | None = None,
    n_resamples: int = N_RESAMPLES,
    random_seed: int = 0,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """The mean of each column with its interval over tasks, a row each; scores and errors as in `compare_columns`."""
    import pandas as pd

    columns = {name: _check_scores(name, values) for name, values in scores.items()}
    clusters = _check_tasks(columns, clusters, confidence)
    rows = []
    for name, values in columns.items():
        found = _resample_mean(_mean_seeds(values), clusters, n_resamples, random_seed)
        low, high, _ = _read_resamples(found, confidence)
        rows.append({
            "column": name, "mean": found.mean, "low": low, "high": high, "seeds": len(values),
            "seed_sd": _sd(values.mean(axis=1)), "n": values.shape[1], "units": found.units,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _check_scores(name: str, values: Any) -> np.ndarray:
    """Scores as an array (n_seeds, n_tasks)."""
    import numpy as np

    array = np.asarray(values, dtype=float)
    if array.ndim not in (1, 2) or not array.size:
        raise ParameterError(f"{name}: scores of shape {array.shape}; give (n_tasks,) or (n_seeds, n_tasks)")
    missing = np.argwhere(~np.isfinite(np.atleast_2d(array)))
    if len(missing):
        where = f"{len(missing)} of {array.size} scores are no numbers, the first that of task {missing[0][1]}"
        raise ParameterError(f"{name}: {where}; score every task, or leave that task out of all columns")
    return np.atleast_2d(array)


def _check_tasks(
    columns: Mapping[str, np.ndarray], clusters: Sequence[Any] | None, confidence: float
) -> np.ndarray | None:
    """The number of each row's cluster, None without clusters; ParameterError where no interval can be had."""
    import numpy as np

    if not 0 < confidence < 1:
        raise ParameterError(f"confidence={confidence}; give a share between 0 and 1, such as 0.95")
    sizes = {name: values.shape[1] for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise ParameterError(f"columns of different lengths ({sizes}); all must be judged on the same tasks")
    size = next(iter(sizes.values()), 0)
    if clusters is not None and len(clusters) != size:
        raise ParameterError(f"{len(clusters)} clusters for {size} rows; name the task of each row")
    numbers = None if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1].ravel()
    units = size if numbers is None else int(numbers.max(initial=-1)) + 1
    if columns and units < 2:
        what = "task" if clusters is None else "cluster"
        raise ParameterError(f"{units} {what} to judge on; an interval needs at least two {what}s")
    return numbers


def _check_pairs(pairs: Sequence[tuple[str, str]], columns: Mapping[str, np.ndarray]) -> Sequence[tuple[str, str]]:
    for name in dict.fromkeys(name for pair in pairs for name in pair):
        if name not in columns:
            raise ParameterError(f"{name!r}: no column of that name; there are {', '.join(columns)}")
    return pairs


def _mean_seeds(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=0)


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _measure_seed_sd(columns: Mapping[str, np.ndarray], a: str, b: str) -> float:
    """SD of the difference over training seeds: seed by seed where both have as many, else of the one that has several."""
    means = [columns[name].mean(axis=1) for name in (a, b)]
    alike = len(means[0]) == len(means[1]) or 1 in map(len, means)
    return _sd(means[0] - means[1]) if alike else float("nan")


def _resample_mean(values: np.ndarray, clusters: np.ndarray | None, n_resamples: int, random_seed: int) -> Resampled:
    """The mean of `values` over rows, and its resamples; units are sorted first, so that their order does not matter."""
    import numpy as np

    clusters = np.arange(len(values)) if clusters is None else clusters
    sums, sizes = np.bincount(clusters, values), np.bincount(clusters).astype(float)
    order = np.lexsort((sizes, sums))
    sums, sizes = sums[order], sizes[order]
    count, mean = len(sums), float(sums.sum() / sizes.sum())
    blocks = draw_times(np.random.default_rng(random_seed), (count,), n_resamples)
    means = np.concatenate([times @ sums / (times @ sizes) for (times,) in blocks])
    spread = (
        np.sqrt(((sums - mean * sizes) ** 2).sum() * count / (count - 1)) / sizes.sum()
    )  # standard error of a ratio
    return Resampled(mean, means, count, float(spread * np.sqrt(count)))


def _read_resamples(found: Resampled, confidence: float) -> tuple[float, float, float]:
    """(low, high, p): the ends of the interval, and the p value at which an end would be 0."""
    import numpy as np
    from scipy.stats import norm, t

    narrow, free = np.sqrt(found.units / (found.units - 1)), found.units - 1
    level = norm.cdf(narrow * t.ppf((1 - confidence) / 2, free))
    low, high = np.quantile(found.means, [level, 1 - level])
    below = ((found.means < 0).sum() + ((found.means == 0).sum() + 1) / 2) / (len(found.means) + 1)
    p = 2 * t.sf(abs(norm.ppf(below)) / narrow, free)
    return float(low), float(high), float(min(p, 1.0))


def measure_detectable_difference(n: int, sd: float, comparisons: int = 1, confidence: float = CONFIDENCE) -> float:
    """The smallest true difference that is found with a probability of 80 %, in the unit of `sd`; infinite for n = 1.

    n: tasks (rows of one task count once); sd: standard deviation of the paired difference on one of them. `comparisons`: how
    many are made; the first step of Holm tests each at (1 - confidence) / comparisons, and no other step is stricter.
    Two-sided t test. Nothing of it needs a result: compute it before looking.

    >>> round(measure_detectable_difference(252, sd=17), 1), round(measure_detectable_difference(91, sd=17), 1)
    (3.0, 5.0)
    """
    from scipy.special import nctdtrinc
    from scipy.stats import t

    if n < 1 or sd < 0 or comparisons < 1:
        given = f"n={n}, sd={sd}, comparisons={comparisons}"
        raise ParameterError(f"{given}: n and comparisons must be 1 or more, sd 0 or more")
    if n == 1:
        return float("inf")
    edge = t.isf((1 - confidence) / 2 / comparisons, n - 1)
    return float(
        sd / n**0.5 * nctdtrinc(n - 1, 1 - POWER, edge)
    )  # the shift of t at which 1 - POWER stays below the edge
