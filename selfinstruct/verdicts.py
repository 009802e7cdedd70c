"""The published numbers, and how ours is found and judged beside each of them.

    for number in paper_numbers():
        ours, interval = find_ours(number, results, "outputs/run's data set")
        verdict, reason = judge(number, ours, interval)

The numbers are data: `paper_numbers.json`, one row each, with where it stands in the paper (sections as in arXiv v2), the
tolerance, and where ours is found: a results file of the run folder and the path in it. Ours is never anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .records import Record, read_json

VERDICTS = ("reproduced", "differs", "not measured")
WIDEST_SHARE = 15.0  # points: 200 answers, as in Table 2, leave at most 14
WIDEST = 0.3  # of the published value, for averages; beyond either, an interval covers nearly anything
MOST_NAMES = 12  # of a list in a table; the results file has all
ROUNDING = 1e-9  # two decimal fractions that print alike may differ by this


class Ours(Record):
    """Where our number is: `results/<results>.json` ("run": run.json), and the path of the value and its interval in it.

    An interval is a list of two, or a row with `low` and `high`. The value is `offset + scale * value`, in the published unit.
    """

    results: str
    key: str
    interval: str = ""
    scale: float = 1.0
    offset: float = 0.0

    def in_unit(self, value: Any) -> Any:
        """A recorded number in the published unit; what is no number, as it is."""
        if not isinstance(value, (int, float)) or (self.offset, self.scale) == (0, 1):
            return value
        return self.offset + self.scale * value


class PaperNumber(Record):
    """One published number; `when_off`, `given` and `not_measured` name entries of the reasons in the same file.

    `given`: why agreement with it is no finding, for what is set and not found, such as Table 4. `names`: the value is a
    set of names, in no order.
    """

    id: str
    what: str
    where: str
    value: float | list[str]
    unit: str = ""
    shown: str = ""
    tolerance: float = 0.0
    names: bool = False
    ours: Ours | None = None
    when_off: str = ""
    given: str = ""
    not_measured: str = ""


@cache
def paper_numbers() -> tuple[PaperNumber, ...]:
    """Every published number that the kit knows, in the paper's order."""
    return tuple(PaperNumber(**row) for row in _data()["numbers"])


@cache
def _data() -> dict[str, Any]:
    return read_json(Path(__file__).with_name("paper_numbers.json"))


def reasons() -> dict[str, str]:
    """The sentences that `when_off`, `given` and `not_measured` name."""
    return _data()["reasons"]


def find_ours(number: PaperNumber, results: dict[str, Any], data: str) -> tuple[Any, list[float] | None]:
    """Our value and its interval in the published unit, None where the run folder does not hold them."""
    if number.ours is None:
        return None, None
    record = results.get(number.ours.results)
    value = number.ours.in_unit(look_up(record, number.ours.key, data))
    interval = look_up(record, number.ours.interval, data) if number.ours.interval else None
    ends = [interval["low"], interval["high"]] if isinstance(interval, dict) else interval or []
    return value, sorted(map(number.ours.in_unit, ends)) or None


def look_up(record: Any, path: str, data: str) -> Any:
    """The value at `path`: keys by "/", "{data}" for the data set, "a=x,b=y" for the row of a list, "#" for a length.

    None where there is no such value.

    >>> look_up({"rows": [{"set": "a", "n": 1}, {"set": "b", "n": 2}]}, "rows/set={data}/n", "b")
    2
    """
    try:
        for part in path.split("/"):
            if part == "#":
                record = len(record)
            elif "=" in part:
                wanted = [condition.split("=") for condition in part.split(",")]
                record = next(row for row in record if all(row[k] == v.replace("{data}", data) for k, v in wanted))
            else:
                record = record[part.replace("{data}", data)]
    except (KeyError, TypeError, StopIteration):
        return None
    return record


def judge(number: PaperNumber, ours: Any, interval: Sequence[float] | None) -> tuple[str, str]:
    """(verdict, reason): reproduced within the tolerance, or where our 95 % interval covers the published value.

    An interval that covers it and is wider than 15 points (a share) or 30 % of it (an average) would cover nearly
    anything: then the number counts as not measured.
    """
    if ours is None:
        return "not measured", reasons()[number.not_measured]
    if isinstance(number.value, list):
        return _judge_list(number, number.value, list(ours))
    covered = interval is not None and interval[0] <= number.value <= interval[1]
    if covered and interval[1] - interval[0] > _widest(number.value, number.unit):
        low, high = map(shown, interval)
        return "not measured", f"too little data: ours is {shown(ours)}, anywhere from {low} to {high}"
    if abs(ours - number.value) <= number.tolerance + ROUNDING:
        return "reproduced", reasons().get(number.given, "")
    if covered:
        return "reproduced", "our 95 % interval covers it"
    return "differs", reasons()[number.when_off]


def _widest(value: float, unit: str) -> float:
    return min(WIDEST_SHARE, WIDEST * value) if unit == "%" else WIDEST * value


def _judge_list(number: PaperNumber, published: list[str], ours: list[str]) -> tuple[str, str]:
    if ours == published or (number.names and set(ours) == set(published)):
        return "reproduced", reasons().get(number.given, "")
    if number.names:
        return "differs", f"{len(set(published) & set(ours))} of {len(published)} in common; {reasons()[number.when_off]}"
    return "differs", reasons()[number.when_off]


def shown(value: Any) -> str:
    """A value as text: counts with their thousands marked, measures with no more digits than tell, lists by their items."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        return _shown_list(value)
    rounded = round(float(value), 3 if abs(value) < 1 else 2)
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,}"


def _shown_list(items: list[str]) -> str:
    """Names with commas, no more than a cell holds; other texts, such as stop sequences, as Python writes them."""
    if not all(item.replace(" ", "").isalpha() for item in items):
        return " ".join(map(repr, items))
    more = f" and {len(items) - MOST_NAMES} more" if len(items) > MOST_NAMES else ""
    return ", ".join(items[:MOST_NAMES]) + more
