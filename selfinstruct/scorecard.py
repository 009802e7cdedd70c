"""The scorecard: every number of the paper beside ours, with a verdict and, where they part, the reason.

    card = build_scorecard("outputs/run")
    card.frame("reproduced")                      # a table of those rows
    scorecard_html("outputs/run")                 # what notebook 17 recorded, for report.html

The published numbers are data: `paper_numbers.json`, one row each, with where in the paper it stands, the tolerance, and
where ours is found: a results file of the run folder and the path in it. Ours is never anything else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .datasets import author_of, known_author
from .records import ParameterError, Record, project_path, read_json

if TYPE_CHECKING:
    import pandas as pd

NOTEBOOK = "17_compare_with_paper"
VERDICTS = ("reproduced", "differs", "not measured")
TEMPLATE = Path(__file__).with_name("scorecard.html.jinja")
TOO_WIDE = 1 / 3  # of the published value: an interval wider than that covers nearly anything
ROUNDING = 1e-9  # two decimal fractions that print alike may differ by this


class Ours(Record):
    """Where our number is: `results/<results>.json` ("run": run.json), and the path of the value and its interval in it.

    An interval is a list of two, or a row with `low` and `high`.
    """

    results: str
    key: str
    interval: str = ""
    scale: float = 1.0


class PaperNumber(Record):
    """One published number; `when_off`, `given` and `not_measured` name entries of the reasons in the same file.

    `given`: why agreement with it is no finding, for what is set and not found, such as Table 4.
    """

    id: str
    what: str
    where: str
    value: float | list[str]
    unit: str = ""
    shown: str = ""
    tolerance: float = 0.0
    ours: Ours | None = None
    when_off: str = ""
    given: str = ""
    not_measured: str = ""


@dataclass(frozen=True)
class ScoreRow:
    """A published number beside ours; `difference` is ours less published, in `unit`."""

    id: str
    what: str
    where: str
    unit: str
    published: Any
    ours: Any
    interval: list[float] | None
    difference: float | None
    tolerance: float
    verdict: str
    reason: str
    finding: bool = True  # False: set, not found


@dataclass(frozen=True)
class Scorecard:
    """All rows, for one data set of one run folder."""

    data: str
    label: str
    rows: list[ScoreRow] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many rows have each verdict: "findings", and apart from them "settings", which agree because they were set."""
        counted = Counter((row.finding, row.verdict) for row in self.rows)
        kinds = {"findings": True, "settings": False}
        return {kind: {verdict: counted[found, verdict] for verdict in VERDICTS} for kind, found in kinds.items()}

    @property
    def headline(self) -> str:
        """The counts in a line."""
        found, given = self.counts["findings"], self.counts["settings"]
        findings = f"{found['reproduced']} of {sum(found.values())} findings reproduced, {found['differs']} differ"
        return f"{findings}; {given['reproduced']} of {sum(given.values())} settings as published"

    def frame(self, verdict: str) -> pd.DataFrame:
        """The rows of one verdict as a table to read."""
        import pandas as pd

        hidden = ["id", "verdict", "finding"]
        hidden += ["ours", "interval", "difference", "tolerance"] if verdict == "not measured" else []
        rows = [readable(asdict(row)) for row in self.rows if row.verdict == verdict]
        return pd.DataFrame(rows, columns=list(ScoreRow.__dataclass_fields__)).drop(columns=hidden).set_index("where")

    def reasons(self) -> pd.Series:
        """Why numbers were not measured, and how many for each reason."""
        import pandas as pd

        counted = Counter(row.reason for row in self.rows if row.verdict == "not measured")
        return pd.Series(dict(counted.most_common()), name="numbers", dtype=int)


@cache
def paper_numbers() -> tuple[PaperNumber, ...]:
    """Every published number that the kit knows, in the paper's order."""
    return tuple(PaperNumber(**row) for row in _data()["numbers"])


@cache
def _data() -> dict[str, Any]:
    return read_json(Path(__file__).with_name("paper_numbers.json"))


def build_scorecard(run_dir: str | Path, data_set: str = "") -> Scorecard:
    """Judge every published number by what the notebooks recorded in `run_dir`.

    `data_set` names one of the data sets in those records, "" the first. Raises ParameterError for a name that none has.
    """
    folder = project_path(run_dir)
    results = {path.stem: read_json(path) for path in sorted(folder.glob("results/*.json"))}
    results["run"] = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    data = _choose_data(results, data_set)
    rows = [_score(number, results, data) for number in paper_numbers()]
    return Scorecard(data, known_author(data) or (author_of(folder) if data == folder.name else ""), rows)


def _choose_data(results: dict[str, Any], data: str) -> str:
    described = results.get("10_describe_dataset", {}).get("datasets", {})
    known = list(dict.fromkeys([*described, *results.get("11_parse_verb_nouns", {}).get("covered", {})]))
    if data and data not in known:
        raise ParameterError(
            f'data_set="{data}": no results of it in this run folder; there are: {", ".join(known) or "none"}'
        )
    return data or next(iter(known), "")


def _score(number: PaperNumber, results: dict[str, Any], data: str) -> ScoreRow:
    ours, interval = _find_ours(number, results, data)
    verdict, reason = judge(number, ours, interval)
    numeric = isinstance(number.value, float) and isinstance(ours, (int, float))
    return ScoreRow(
        number.id, number.what, number.where, number.unit, number.shown or number.value, ours, interval,
        ours - number.value if numeric else None, number.tolerance, verdict, reason, not number.given,
    )  # fmt: skip


def _find_ours(number: PaperNumber, results: dict[str, Any], data: str) -> tuple[Any, list[float] | None]:
    """Our value and its interval in the published unit, None where the run folder does not hold them."""
    if number.ours is None:
        return None, None
    record, scale = results.get(number.ours.results), number.ours.scale
    value = look_up(record, number.ours.key, data)
    interval = look_up(record, number.ours.interval, data) if number.ours.interval else None
    if isinstance(value, (int, float)):
        value = value * scale if scale != 1 else value
    ends = [interval["low"], interval["high"]] if isinstance(interval, dict) else interval or []
    return value, [end * scale for end in ends] or None


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


def judge(number: PaperNumber, ours: Any, interval: list[float] | None) -> tuple[str, str]:
    """(verdict, reason): reproduced within the tolerance, or where our 95 % interval covers the published value.

    An interval wider than a third of that value would cover nearly anything: then the number counts as not measured.
    """
    reasons = _data()["reasons"]
    if ours is None:
        return "not measured", reasons[number.not_measured]
    if isinstance(number.value, list):
        same = list(ours) == number.value
        return ("reproduced", reasons.get(number.given, "")) if same else ("differs", reasons[number.when_off])
    covered = interval is not None and interval[0] <= number.value <= interval[1]
    if covered and interval[1] - interval[0] > TOO_WIDE * number.value:
        low, high = map(_text, interval)
        return "not measured", f"too little data: ours is {_text(ours)}, anywhere from {low} to {high}"
    if abs(ours - number.value) <= number.tolerance + ROUNDING:
        return "reproduced", reasons.get(number.given, "")
    if covered:
        return "reproduced", "our 95 % interval covers it"
    return "differs", reasons[number.when_off]


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its numbers as text: counts with their thousands marked, measures with no more digits than tell."""
    ends = [_text(end) for end in row["interval"] or ()]
    return {
        **row,
        **{name: _text(row[name]) for name in ("published", "ours", "difference", "tolerance")},
        "interval": " to ".join(ends),
    }


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        return " ".join(repr(item) for item in value)
    rounded = round(float(value), 3 if abs(value) < 1 else 2)
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,}"


def scorecard_html(run_dir: str | Path) -> str:
    """The scorecard that notebook 17 recorded in `run_dir`, as HTML to put into a page; "" where it has recorded none."""
    import jinja2

    path = project_path(run_dir) / "results" / f"{NOTEBOOK}.json"
    if not path.is_file():
        return ""
    record = read_json(path)
    page = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    rows = [readable(row) for row in record["scorecard"]]
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render({**record, "rows": rows})
