"""Does one arm of a sweep differ from another one? One sentence for each arm, from runs with several random seeds.

    verdicts = compare_arms({"6+2": {1: 2.1, 2: 1.7}, "8+0": {1: 2.9, 2: 2.2}})     # arm -> random seed -> number
    print(verdicts[0].sentence)

The unit is the run, and runs are paired by `random_seed`: Student's t interval of the paired differences, with Holm's
correction over the arms. `tests/analysis/test_verdicts.py` holds its error rate: an arm against itself is called different in
about 5 of 100 sweeps, with a drift between runs as well. Intervals that resample requests or a handful of seeds do not keep that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf, isfinite, sqrt

from ..display import count_of, show_number
from ..files import ParameterError
from .statistics import find_unit

ALPHA, POWER = 0.05, 0.8
DEFAULT_SEEDS = 6
SMALLEST_SHARE = 0.2  # of the reference's mean: what counts as a difference worth having where nobody says
MOST_SEEDS = 1000
GRID = 2000  # points that the power is averaged over

Values = Mapping[str, Mapping[int, float]]  # arm -> random seed -> the number of that run


@dataclass(frozen=True)
class Verdict:
    """One arm against the reference.

    `low` and `high` are the ends of the interval at `level` (0.95 for one arm; higher for several, after Holm), `p` is
    adjusted for the number of arms, `detectable` the difference that these seeds see in 80 of 100 sweeps, and `smallest` the
    difference that the plan asks for, `spread` the standard deviation of the paired differences. Numbers that these seeds cannot give are None.
    """

    number: str
    arm: str
    reference: str
    seeds: int
    value: float
    reference_value: float
    difference: float
    low: float | None
    high: float | None
    level: float
    p: float | None
    detectable: float | None
    smallest: float
    spread: float
    more_seeds: int
    kind: str  # "differs", "no difference" or "more seeds"

    @property
    def sentence(self) -> str:
        """What these runs say of the arm, as the notebook prints it."""
        return f"{self.arm} {self._finding()}. {self._sight()}"

    def _finding(self) -> str:
        if self.kind == "differs":
            return f"differs from {self.reference} by {self.show_difference()}"
        if self.kind == "no difference":
            most = max(abs(self.low or 0.0), abs(self.high or 0.0))
            return f"does not differ from {self.reference} by more than {self._show(most)} {self.interval}"
        needed = f"needs about {self.more_seeds} more seed{'s' * (self.more_seeds != 1)}"
        return f"{needed} to be told from {self.reference}; so far {self.show_difference()}"

    def _sight(self) -> str:
        if self.detectable is None:
            return f"From {count_of('seed', self.seeds)} nothing can be said of the spread."
        sees = (
            f"{count_of('seed', self.seeds)} see{'s' * (self.seeds == 1)} a difference of {self._show(self.detectable)}"
        )
        return f"{sees} in 80 of 100 sweeps; asked for: {self._show(self.smallest)}."

    @property
    def interval(self) -> str:
        """Such as "[0.1, 0.9]"; "" where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"[{self._show(self.low, True)}, {self._show(self.high, True)}]"

    @property
    def basis(self) -> str:
        """What the interval is over."""
        return count_of("seed", self.seeds)

    def show_difference(self) -> str:
        """The difference with its interval."""
        return f"{self._show(self.difference, True)} {self.interval}".rstrip()

    def _show(self, value: float, signed: bool = False) -> str:
        unit = find_unit(self.number)
        text = show_number(abs(value) if signed else value, unit).replace("%", " pp" if unit else "%")
        return f"{'+' if value > 0 else '−' if value < 0 else ''}{text}" if signed else text


def compare_arms(
    values: Values, reference: str = "", measure: str = "", smallest_difference: float = 0.0, alpha: float = ALPHA
) -> list[Verdict]:
    """A verdict for each arm but the reference (the first arm by default), in order; arms without a common seed have none.

    measure: the number's name.

    `smallest_difference` is the difference that matters, in the number's own unit; 0: a fifth of the reference's mean.
    Raises ParameterError where there is no such reference.
    """
    reference = reference or next(iter(values), "")
    if reference not in values:
        raise ParameterError(f'reference="{reference}": no such arm; there are {", ".join(values)}')
    paired = {arm: _pair(found, values[reference]) for arm, found in values.items() if arm != reference}
    paired = {arm: pairs for arm, pairs in paired.items() if pairs}
    tests = {arm: _test([b - a for a, b in pairs]) for arm, pairs in paired.items()}
    adjusted = adjust_by_holm({arm: p for arm, p in tests.items() if p is not None}, alpha)
    return [
        _judge(
            measure, arm, reference, pairs, *adjusted.get(arm, (None, alpha / len(paired))), smallest_difference, alpha
        )
        for arm, pairs in paired.items()
    ]


def compare_numbers(values: Mapping[str, Values], reference: str = "") -> dict[str, list[Verdict]]:
    """number -> its verdicts, of every number that the reference has. Of so many numbers some differ by chance: Holm's correction
    is for the arms of each, not for the numbers.
    """
    first = reference or next((arm for found in values.values() for arm in found), "")
    return {name: compare_arms(found, first, name) for name, found in values.items() if first in found}


def _pair(found: Mapping[int, float], base: Mapping[int, float]) -> list[tuple[float, float]]:
    return [(base[seed], found[seed]) for seed in sorted(found) if seed in base]


def _test(differences: Sequence[float]) -> float | None:
    """The p value of Student's t; None where there is no spread to judge by: one seed, or all differences the same."""
    n = len(differences)
    spread = _spread(differences)
    if n < 2 or spread == 0:
        return None
    from scipy.special import stdtr

    t = abs(sum(differences) / n) / (spread / sqrt(n))
    return float(2 * stdtr(n - 1, -t))


def _spread(differences: Sequence[float]) -> float:
    from statistics import stdev

    spread = stdev(differences) if len(differences) > 1 else 0.0
    largest = max(map(abs, differences), default=0.0)
    return spread if spread > 1e-12 * largest else 0.0  # differences of equal sizes may differ in the last bit


def adjust_by_holm(p_values: Mapping[str, float], alpha: float = ALPHA) -> dict[str, tuple[float, float]]:
    """arm -> (its p value adjusted for all arms by Holm, the alpha that its interval is to be drawn at).

    With that alpha the interval excludes zero exactly where the adjusted p value is below `alpha`.

    >>> adjust_by_holm({"a": 0.01, "b": 0.04})
    {'a': (0.02, 0.025), 'b': (0.04, 0.05)}
    """
    adjusted, largest, held = {}, 0.0, 0.0
    for rank, (arm, p) in enumerate(sorted(p_values.items(), key=lambda one: one[1])):
        rest = len(p_values) - rank
        largest = max(largest, min(1.0, p * rest))
        # after the first arm that does not differ, none does: those are drawn at its alpha
        held = held or (alpha / rest if largest >= alpha else 0.0)
        adjusted[arm] = (largest, held or alpha / rest)
    return {arm: adjusted[arm] for arm in p_values}


def _judge(
    number: str, arm: str, reference: str, pairs: Sequence[tuple[float, float]],
    p: float | None, drawn_at: float, smallest: float, alpha: float,
) -> Verdict:  # fmt: skip
    differences = [b - a for a, b in pairs]
    n, spread = len(pairs), _spread(differences)
    base, value = (sum(side) / n for side in zip(*pairs, strict=True))
    difference, smallest = value - base, smallest or SMALLEST_SHARE * abs(base)
    low = high = detectable = None
    if p is not None:
        half = find_t_quantile(n - 1, drawn_at) * spread / sqrt(n)
        low, high, detectable = difference - half, difference + half, find_detectable(n, spread, drawn_at)
    elif n > 1 and difference == 0:  # the same number in every pair
        low = high = detectable = 0.0
    kind = _name_kind(p, low, high, smallest, alpha)
    more = _count_more(n, spread, smallest, drawn_at) if kind == "more seeds" else 0
    return Verdict(
        number,
        arm,
        reference,
        n,
        value,
        base,
        difference,
        low,
        high,
        1 - drawn_at,
        p,
        detectable,
        smallest,
        spread,
        more,
        kind,
    )


def _name_kind(p: float | None, low: float | None, high: float | None, smallest: float, alpha: float) -> str:
    if p is not None and p < alpha:
        return "differs"
    bounded = low is not None and high is not None and max(abs(low), abs(high)) <= smallest
    return "no difference" if bounded else "more seeds"


def _count_more(seeds: int, spread: float, smallest: float, alpha: float) -> int:
    """Seeds to add until `smallest` would be seen; at least one, and up to the default where the spread is not known."""
    needed = count_seeds(spread, smallest, alpha) if spread and smallest else DEFAULT_SEEDS
    return max(1, needed - seeds)


@cache
def find_t_quantile(degrees: int, alpha: float = 0.05) -> float:
    """How many standard errors a two-sided 1 - `alpha` interval of Student's t reaches to either side."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 1 - alpha / 2))


@cache
def _detectable_spreads(seeds: int, alpha: float, power: float) -> float:
    """The difference that a paired t test of `seeds` pairs sees with `power`, in standard deviations of the differences."""
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import gammaincinv, ndtr

    degrees = seeds - 1
    middles = (np.arange(GRID) + 0.5) / GRID  # of the probabilities; scipy's own noncentral t fails for few degrees
    limits = find_t_quantile(degrees, alpha) * np.sqrt(2 * gammaincinv(degrees / 2, middles) / degrees)

    def missing(size: float) -> float:
        shift = size * sqrt(seeds)
        return float((ndtr(shift - limits) + ndtr(-shift - limits)).mean()) - power

    highest = 1.0
    while missing(highest) < 0:
        highest *= 2
    return float(brentq(missing, 0, highest, xtol=1e-4))


def find_detectable(seeds: int, spread: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest difference that `seeds` paired runs see with `power`, where paired differences have this `spread`.

    inf for a single seed, which sees nothing.

    >>> [round(find_detectable(seeds, 1.0), 2) for seeds in (3, 6, 10)]
    [3.26, 1.44, 1.0]
    """
    return _detectable_spreads(seeds, alpha, power) * spread if seeds > 1 else inf


def count_seeds(spread: float, difference: float, alpha: float = ALPHA, power: float = POWER) -> int:
    """How many paired runs see `difference` with `power`; MOST_SEEDS where that many are not enough.

    >>> count_seeds(1.0, 1.5), count_seeds(1.0, 0.5)
    (6, 34)
    """
    low, high = 2, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if find_detectable(middle, spread, alpha, power) <= difference else (middle + 1, high)
    return low


@dataclass(frozen=True)
class VarianceSplit:
    """Where the spread of one number comes from: variances of a run's number, and what the design cannot tell apart."""

    parts: dict[str, float]
    notes: tuple[str, ...]

    def table(self) -> list[dict[str, object]]:
        """The parts with their shares of the whole."""
        whole = sum(self.parts.values())
        return [
            {"part": name, "variance": part, "share": show_number(part / whole if whole else None, "%")}
            for name, part in self.parts.items()
        ]


SEED_PART = "random seed, what all arms have in common of it"
RUN_PART = "the run itself, beyond its rounds"
ROUND_PART = "rounds of a run: draws of demonstrations and the model's sampling"
TOGETHER = (
    "Draws of demonstrations and the model's sampling cannot be told apart: every round draws new demonstrations, and asks each "
    "prompt once. Asking the same prompts again would separate them."
)


def split_variance(values: Values, rounds: Mapping[tuple[str, int], Sequence[float]] = {}) -> VarianceSplit:
    """The variance of a run's number, split into the random seed, the run and its rounds, after the arms' means are removed.

    rounds: (arm, random seed) -> the number of each round of that run, of which the run's number is the mean. Only seeds that
    every arm has count. With one arm, or one seed, less can be told apart; the notes say what.
    """
    seeds = sorted(set.intersection(*(set(found) for found in values.values()))) if values else []
    if len(seeds) < 2:
        return VarianceSplit({}, ("With fewer than two seeds that all arms have, no spread can be measured.",))
    within = _average([_mean_error(rounds[arm, seed]) for arm in values for seed in seeds if (arm, seed) in rounds])
    notes = [TOGETHER] if within is not None else ["Without rounds, nothing inside a run can be measured."]
    seed_part, rest = _split_two_ways([[values[arm][seed] for seed in seeds] for arm in values])
    parts = {} if seed_part is None else {SEED_PART: seed_part}
    if seed_part is None:
        notes.append("With one arm, what a seed has in common with itself in another run cannot be measured.")
    inside = min(within or 0.0, rest)
    parts |= {RUN_PART: rest - inside} | ({} if within is None else {ROUND_PART: inside})
    return VarianceSplit(parts, tuple(notes))


def _average(found: Sequence[float | None]) -> float | None:
    known = [value for value in found if value is not None and isfinite(value)]
    return sum(known) / len(known) if known else None


def _mean_error(values: Sequence[float]) -> float | None:
    """The variance of a mean of these values."""
    from statistics import variance

    return variance(values) / len(values) if len(values) > 1 else None


def _split_two_ways(table: Sequence[Sequence[float]]) -> tuple[float | None, float]:
    """(variance of the seeds, of the rest) of a table arms x seeds, by its mean squares; one row cannot be split."""
    import numpy as np

    values = np.asarray(table, dtype=float)
    arms, seeds = values.shape
    if arms == 1:
        return None, float(values.var(ddof=1))
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    rest = float((left**2).sum() / ((arms - 1) * (seeds - 1)))
    between = float(arms * values.mean(axis=0).var(ddof=1))
    return max(0.0, (between - rest) / arms), rest
