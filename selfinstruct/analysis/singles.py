"""Single runs and data sets, an arm each: with no random seed to pair by, what can be said is said over rows.

    found = compare_rows(cells)                                    # records: number, value, reference, difference, low, high
    verdicts, sentences = judge_rows(found, "admitted_per_request")

The unit is a round of step 1, or an instruction with all its instances; of a trial of notebook 20 it is a draw. An interval over
rows says how far a difference would move with other rows of the same runs. It does not hold what another random seed would move,
which is more, and the sentences say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from typing import Any

from ..display import count_of
from ..files import ParameterError
from .cells import Cell, Round, count_requests_per_round, find_trial_step, read_trial
from .compare import Sample, compare_datasets, compare_lengths, compare_samples
from .verdicts import SMALLEST_SHARE, Verdict, find_t_quantile

NORMAL = 1.96
OVER_ROWS = (
    "The intervals are over rows: other rounds of step 1, or other instructions, of the same runs. A difference between two single "
    "runs may be the luck of a run; several random seeds can tell (selfinstruct sweep)."
)
OVER_DRAWS = (
    "The intervals are over draws of single trials, as if they had no draw in common. Notebook 20 compares two trials draw by draw; "
    "several random seeds can tell (selfinstruct sweep docs/example_trial_sweep.yaml)."
)
_BASES = {"over rows": OVER_ROWS, "over draws": OVER_DRAWS}


@dataclass(frozen=True)
class RowVerdict(Verdict):
    """One run or data set against the reference in one number; `low` and `high` are the ends of the 95 % interval over rows, or
    over draws in a number of trials.
    """

    @property
    def sentence(self) -> str:
        """What the rows say, as the notebook prints it."""
        name = f"{self.arm} {{}} {self.reference} in {self.number.replace('_', ' ')}"
        if self.kind == "differs":
            return f"{name.format('differs from')} by {self.show_difference()} {self.basis}."
        if not self.interval:
            one = "one draw" if self.basis == "over draws" else "one round"
            return f"{name.format('cannot be told from')}: {one} gives no interval; so far {self.show_difference()}."
        most = self._show(max(abs(self.low or 0.0), abs(self.high or 0.0)))
        return f"{name.format('does not differ from')} by more than {most}: {self.show_difference()} {self.basis}."

    @property
    def basis(self) -> str:
        """What the interval is over."""
        return "over draws" if self.number.startswith("trial_") else "over rows"


def compare_rows(cells: Sequence[Cell], random_seed: int = 42, reference: str = "") -> list[dict[str, Any]]:
    """The differences of single runs and data sets from `reference` (the first one), row by row: records as of `compare_samples`.

    [] where an arm has several runs: those are compared run by run. Raises ParameterError where there is no such reference.
    """
    arms = [cell.arm for cell in cells]
    if len(set(arms)) < len(arms):
        return []
    if reference and reference not in arms:
        raise ParameterError(f'reference="{reference}": no such arm; there are {", ".join(arms)}')
    cells = sorted(cells, key=lambda cell: cell.arm != (reference or arms[0]))
    datasets, steps = [cell.dataset for cell in cells], _collect_step_1(cells)
    found = []
    if cells[0].arm in steps and len(steps) > 1:
        rounds = {cell.arm: len(cell.rounds) for cell in cells}
        records = compare_samples(steps, random_seed=random_seed)
        found = [_widen(one, min(rounds[one["data_set"]], rounds[one["against"]])) for one in records]
    for compare in (compare_datasets, compare_lengths) if all(one.rows for one in datasets) else ():  # a trial has none
        known = {(one["number"], one["data_set"]) for one in found}
        found += [
            one for one in compare(datasets, random_seed=random_seed) if (one["number"], one["data_set"]) not in known
        ]
    return found + _compare_trials(cells)


def _compare_trials(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The numbers of single trials against those of the first one, where both are of one step."""
    first, *others = ((cell.arm, find_trial_step(cell), read_trial(cell)) for cell in cells)
    arm, step, base = first
    return [
        {"number": name, "data_set": other, "against": arm, **_subtract(found[name], base[name]), "shared": 0}
        for other, its_step, found in others
        for name in (found if its_step == step else {})
        if name in base and None not in (found[name][0], base[name][0])
    ]


def _subtract(value: Sequence[float | None], base: Sequence[float | None]) -> dict[str, Any]:
    """The difference of two numbers that have intervals of their own, and its interval (MOVER; Zou and Donner, 2008)."""
    (middle, *ends), (other, *other_ends) = value, base
    difference, low, high = middle - other, None, None
    if None not in (*ends, *other_ends):
        low = difference - hypot(middle - ends[0], other_ends[1] - other)
        high = difference + hypot(ends[1] - middle, other - other_ends[0])
    return {  # not rounded: dollars are small
        "value": middle, "reference": other, "difference": difference,
        "low": low, "high": high, "excludes_zero": low is not None and (low > 0 or high < 0),
    }  # fmt: skip


def _collect_step_1(cells: Sequence[Cell]) -> dict[str, dict[str, Sample]]:
    """The numbers of step 1, a round being the unit; no two runs have a round in common."""
    rules, found = list(dict.fromkeys(rule for cell in cells for rule in cell.dropped)), {}
    for cell in cells:
        per_round = count_requests_per_round([cell]).get(cell.name)
        if not per_round or not any(one.candidates for one in cell.rounds):
            continue
        units = [f"{cell.arm}, round {at}" for at in range(len(cell.rounds))]
        rounds = list(zip(units, cell.rounds, strict=True))
        found[cell.arm] = {
            "admitted_per_request": Sample([one.admitted / per_round for one in cell.rounds], units),
            "admitted_share": _collect_share(rounds, lambda one: one.admitted),
            **{
                f"{rule}_share": _collect_share(rounds, lambda one, rule=rule: one.dropped.get(rule, 0))
                for rule in rules
            },
            "novelty": _spread([(unit, [one.novelty] * one.admitted) for unit, one in rounds]),
        }
    return found


def _collect_share(rounds: Iterable[tuple[str, Round]], count: Callable[[Round], int]) -> Sample:
    """How many of each round's candidates are counted, a flag for each candidate."""
    return _spread([(unit, [at < count(one) for at in range(one.candidates)]) for unit, one in rounds])


def _spread(found: Iterable[tuple[str, Sequence[Any]]]) -> Sample:
    pairs = [(value, unit) for unit, values in found for value in values]
    return Sample([value for value, _ in pairs], [unit for _, unit in pairs])


def _widen(record: dict[str, Any], units: int) -> dict[str, Any]:
    """A record with the interval that Student's t asks for with so few units: percentiles of resamples are too narrow then
    (Hesterberg, 2015, section 3.4). One unit has no interval.
    """
    if units < 2:
        return {**record, "low": None, "high": None, "excludes_zero": False}
    factor, middle = find_t_quantile(units - 1) * sqrt(units / (units - 1)) / NORMAL, record["difference"]
    low, high = (round(middle + factor * (record[end] - middle), 4) for end in ("low", "high"))
    return {**record, "low": low, "high": high, "excludes_zero": low > 0 or high < 0}


def judge_rows(
    records: Sequence[Mapping[str, Any]], measure: str, smallest_difference: float = 0.0
) -> tuple[list[RowVerdict], list[str]]:
    """(a verdict about `measure` for each data set that has it, what to say): for each data set a sentence about `measure`, and
    one about all its numbers, then what intervals over rows are. Where none has `measure`, the verdicts are about the number that
    differs most clearly. `smallest_difference` is as of `compare_arms`.
    """
    arms: dict[str, list[RowVerdict]] = {}
    for record in records:
        smallest = smallest_difference if record["number"] == measure else 0.0
        arms.setdefault(record["data_set"], []).append(_judge(record, smallest))
    chosen = [one for found in arms.values() for one in found if one.number == measure]
    lines = [one.sentence for one in chosen] + [_sum_up(found) for found in arms.values()]
    if lines and not chosen:
        clearest = max((one for found in arms.values() for one in found), key=_measure_clearness).number
        chosen = [one for found in arms.values() for one in found if one.number == clearest]
    bases = {one.basis: None for found in arms.values() for one in found}
    return chosen, [*lines, *(_BASES[basis] for basis in bases)]


def _judge(record: Mapping[str, Any], smallest: float) -> RowVerdict:
    value, base, low, high = (record[name] for name in ("value", "reference", "low", "high"))
    smallest = smallest or SMALLEST_SHARE * abs(base)
    bounded = low is not None and max(abs(low), abs(high)) <= smallest
    kind = "differs" if record["excludes_zero"] else "no difference" if bounded else "more seeds"
    return RowVerdict(
        record["number"], record["data_set"], record["against"], seeds=1, value=value, reference_value=base,
        difference=record["difference"], low=low, high=high, level=0.95, p=None, detectable=None,
        smallest=smallest, spread=0.0, more_seeds=0, kind=kind,
    )  # fmt: skip


def _sum_up(found: Sequence[RowVerdict]) -> str:
    """All numbers of one data set that have an interval in a sentence, with the one that is farthest from zero in widths of it."""
    arm, reference = found[0].arm, found[0].reference
    found = [one for one in found if one.interval]
    if not found:
        return f"{arm} cannot be told from {reference}: no number has an interval."
    apart, numbers = [one for one in found if one.kind == "differs"], count_of("number", len(found))
    basis = " and ".join(dict.fromkeys(one.basis for one in found))
    if not apart:
        return f"{arm} does not differ from {reference} in any of {numbers}: every interval {basis} holds zero."
    clearest = max(apart, key=_measure_clearness)
    name = clearest.number.replace("_", " ")
    return (
        f"{arm} differs from {reference} in {len(apart)} of {numbers} {basis}, most clearly in {name} by "
        f"{clearest.show_difference()}; one in twenty does so by chance."
    )


def _measure_clearness(one: RowVerdict) -> float:
    width = (one.high or 0.0) - (one.low or 0.0)
    return abs(one.difference) / width if width else 0.0
