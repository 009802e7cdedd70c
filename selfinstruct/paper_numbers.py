"""Every number of the paper, once: `paper_numbers.json`, a row each, with where it stands (sections as in arXiv v2).

    paper_number("table1.instructions").value          # as printed, in the unit the paper prints
    for number in paper_numbers():
        print(number.where, number.what, number.value)

A row also holds the tolerance, and where ours is found: a results file of the run folder and the path in it. `scorecard`
looks ours up and judges it; analyses and the review read theirs here. The settings of Table 4 that the released code sends
are in `prompts`; a test holds them against the rows of Table 4.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from .display import show_number
from .files import read_json
from .records import Record

MOST_NAMES = 12  # of a list in a table; the results file has all


class Ours(Record):
    """Where our number is: `results/<results>.json` ("run": run.json), and the paths in it of the value, its interval and n.

    An interval is a list of two, or a row with `low` and `high`. The value is `offset + scale * value`, in the published
    unit. `published`: only where the notebook says that it followed `quirks="published"`, as the paper did. `positive`: a
    count that is nothing at all where it is 0.
    """

    results: str
    key: str
    interval: str = ""
    count: str = ""
    published: bool = False
    positive: bool = False
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
    set of names, in no order. `whole`: a count, to compare with a data set of the paper's size only. `derived_from`: another
    number that says the same, so that the two count once. `data`: the kinds of data set it is a number of; without, a finding
    is one of generated data, a setting of any.
    """

    id: str
    what: str
    where: str
    value: int | float | list[str]
    unit: str = ""
    shown: str = ""
    tolerance: float = 0.0
    names: bool = False
    whole: bool = False
    derived_from: str = ""
    data: tuple[str, ...] = ()
    ours: Ours | None = None
    when_off: str = ""
    given: str = ""
    not_measured: str = ""


@cache
def paper_numbers() -> tuple[PaperNumber, ...]:
    """Every published number that the kit knows, in the paper's order."""
    return tuple(PaperNumber(**row) for row in _data()["numbers"])


def paper_number(id: str) -> PaperNumber:
    """The published number of this id, such as "table1.instructions"; raises KeyError where there is none."""
    return {number.id: number for number in paper_numbers()}[id]


@cache
def _data() -> dict[str, Any]:
    return read_json(Path(__file__).with_name("paper_numbers.json"))


def reasons() -> dict[str, str]:
    """The sentences that `when_off`, `given` and `not_measured` name."""
    return _data()["reasons"]


def show_value(value: Any) -> str:
    """A published value, or ours, as text: numbers by `show_number`, of a list as many names as a cell holds."""
    if not isinstance(value, list):
        return show_number(value)
    if not all(item.replace(" ", "").isalpha() for item in value):
        return " ".join(map(repr, value))  # such as stop sequences
    more = f" and {len(value) - MOST_NAMES} more" if len(value) > MOST_NAMES else ""
    return ", ".join(value[:MOST_NAMES]) + more
