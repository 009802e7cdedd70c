"""The published numbers, and how ours is found and judged beside each of them.

    for number in paper_numbers():
        verdict, reason = judge(number, find_ours(number, results, "name of a data set"))

The numbers are data: `paper_numbers.json`, one row each, with where it stands in the paper (sections as in arXiv v2), the
tolerance, and where ours is found: a results file of the run folder and the path in it. Ours is never anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .records import Record, read_json

VERDICTS = ("reproduced", "differs", "not measured")
WIDEST_SHARE = 15.0  # points: 200 answers, as in Table 2, leave at most 14
WIDEST = 0.3  # of the published value, for averages; beyond either, an interval covers nearly anything
MOST_NAMES = 12  # of a list in a table; the results file has all
ENOUGH = 30  # values: with fewer, a bootstrap interval is too narrow to be believed
ROUNDING = 1e-9  # two decimal fractions that print alike may differ by this


class Ours(Record):
    """Where our number is: `results/<results>.json` ("run": run.json), and the paths in it of the value, its interval and n.

    An interval is a list of two, or a row with `low` and `high`. The value is `offset + scale * value`, in the published
    unit. `published`: only where the notebook says that it followed `quirks="published"`, as the paper did.
    """

    results: str
    key: str
    interval: str = ""
    count: str = ""
    published: bool = False
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
    set of names, in no order. `whole`: a count, to compare with a data set of the paper's size only.
    """

    id: str
    what: str
    where: str
    value: float | list[str]
    unit: str = ""
    shown: str = ""
    tolerance: float = 0.0
    names: bool = False
    whole: bool = False
    ours: Ours | None = None
    when_off: str = ""
    given: str = ""
    not_measured: str = ""


@dataclass(frozen=True)
class Found:
    """Ours, in the published unit: None where the run folder does not hold it; `count` values stand behind it."""

    value: Any = None
    interval: tuple[float, float] | None = None
    count: int | None = None


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


def find_ours(number: PaperNumber, results: dict[str, Any], data: str) -> Found:
    """Our value, its interval and its n, as the notebooks recorded them in `results` for the data set `data`."""
    ours = number.ours
    record = results.get(ours.results) if ours else None
    if ours is None or (ours.published and (record or {}).get("quirks") != "published"):
        return Found()
    interval = look_up(record, ours.interval, data) if ours.interval else None
    if isinstance(interval, dict):
        interval = [interval["low"], interval["high"]]
    ends = tuple(sorted(map(ours.in_unit, interval or ())))
    count = look_up(record, ours.count, data) if ours.count else None
    return Found(ours.in_unit(look_up(record, ours.key, data)), ends or None, count)


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


def judge(number: PaperNumber, found: Found) -> tuple[str, str]:
    """(verdict, reason): reproduced within the tolerance, or where our 95 % interval covers the published value.

    Not measured where that says little: with fewer than 30 values, or where the interval is wider than 15 points (a
    share) or 30 % of the published value (an average), unless ours is farther off than the whole interval is wide.
    """
    if found.value is None:
        return "not measured", reasons()[number.not_measured]
    if found.count is not None and found.count < ENOUGH:
        return "not measured", f"too little data: ours is {shown(found.value)}, with n = {found.count}"
    if isinstance(number.value, list):
        return _judge_list(number, number.value, list(found.value))
    off = abs(found.value - number.value)
    if found.interval and off <= found.interval[1] - found.interval[0] > _widest(number.value, number.unit):
        low, high = map(shown, found.interval)
        covered = found.interval[0] <= number.value <= found.interval[1]
        beside = "" if covered else "; that leaves the published value out, but by less than its own width"
        return "not measured", f"too little data: ours is {shown(found.value)}, anywhere from {low} to {high}{beside}"
    if off <= number.tolerance + ROUNDING:
        return "reproduced", reasons().get(number.given, "")
    if found.interval and found.interval[0] <= number.value <= found.interval[1]:
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
