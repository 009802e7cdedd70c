"""The scorecard: every published number, ours beside it, and a verdict with its reason (notebook 17).

    card = build_scorecard(run)
    card.headline                       # how many findings came out as published, of those measured
    card.table("differs")               # ours and the paper's, with intervals and reasons

The numbers are `paper_numbers`; ours is found where the row says, in a results file of the run folder, and nowhere else.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis.figures import COLOURS, escape_dollars
from ..data.datasets import author_of, find_author
from ..display import count_of, show_number
from ..files import ParameterError
from ..paper_numbers import PaperNumber, paper_number, paper_numbers, reasons, show_value
from ..runfolder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes


NOTEBOOK = "17_compare_with_paper"
TEMPLATE = Path(__file__).with_name("scorecard.html.jinja")
VERDICTS = ("reproduced", "differs", "not measured")
INSTRUCTIONS = paper_number("table1.instructions").value
SAME_SIZE = 0.01  # how far another data set's number of instructions may be from that, for its counts to compare
WIDEST_SHARE = 15.0  # points: 200 answers, as in Table 2, leave at most 14
WIDEST = 0.3  # of the published value, for averages; beyond either, an interval covers nearly anything
ENOUGH = 30  # values: with fewer, a bootstrap interval is too narrow to be believed
TOO_LITTLE = "too little data"
OTHER_KIND = "another kind of data"
GENERATED = ("generated data", "this run")
KINDS = {  # data sets that no model generated, by the names of their files
    "*seed_tasks.*": "seed tasks", "seed_tasks": "seed tasks", "user_oriented_*": "evaluation tasks",
    "*_predictions*": "evaluation tasks", "superni_test_*": "evaluation tasks",
}  # fmt: skip
GROUPS = {  # what a finding that was not measured needs, for the headline: by the reasons of paper_numbers.json
    "people who rate": ("ratings", "review", "evaluation", "scale_ratings"),
    "the paper's models or test sets": ("gpt3", "gpt3_training", "11b", "superni", "judged", "price", "baselines"),
}
OTHERS = "another notebook or data set"
LOOKS = {  # of a verdict in the figure: they differ without colour, too
    "reproduced": ("o", COLOURS[0], "reproduced"), "differs": ("D", COLOURS[1], "differs"),
    "not measured": ("s", COLOURS[-1], "too little data"),
}  # fmt: skip
NAME_LETTERS = 30  # in a line, left of the axis
ROUNDING = 1e-9  # two decimal fractions that print alike may differ by this


@dataclass(frozen=True)
class ScoreRow:
    """A published number beside ours; `difference` is ours less published, in `unit`.

    `counted` is False where another row says the same: it stands in the tables, and the two count once.
    """

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
    counted: bool = True


@dataclass(frozen=True)
class Scorecard:
    """All rows, for one data set of one run folder; `label` says who wrote it, `instructions` how many it has.

    `problems`: notebooks that were left out, since they read something else under the data set's name.
    """

    data: str
    label: str
    rows: list[ScoreRow] = field(default_factory=list)
    instructions: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        """The small print of a figure: the data set, who wrote it, and n."""
        if not self.data:
            return "no data set"
        return (
            f"{self.data}{f', {self.label}' if self.label else ''} (n = {count_of('instruction', self.instructions)})"
        )

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many rows have each verdict: "findings", and apart from them "settings", which agree because they were set."""
        counted = Counter((row.finding, row.verdict) for row in self.rows if row.counted)
        kinds = ("findings", True), ("settings", False)
        return {kind: {verdict: counted[found, verdict] for verdict in VERDICTS} for kind, found in kinds}

    @property
    def headline(self) -> str:
        """How many findings came out as published, of those that this run can measure, and why the rest was not measured."""
        found = self.counts["findings"]
        measured = found["reproduced"] + found["differs"]
        missing = Counter(group_reason(row.reason) for row in self._select("not measured") if row.counted)
        needs = ", ".join(f"{group} ({count})" for group, count in missing.most_common())
        rest = f"; the other {missing.total()} need {needs}" if missing else ""
        return f"of the {measured} findings this run can measure, {found['reproduced']} came out as published{rest}"

    def table(self, verdict: str) -> list[dict[str, str]]:
        """The findings of one verdict to read, numbers as text."""
        measured = () if verdict == "not measured" else ("ours", "interval", "difference", "tolerance")
        names = ("where", "what", "unit", "published", *measured, "reason")
        return [_pick(row, names) for row in self._select(verdict)]

    def settings(self) -> list[dict[str, str]]:
        """What was set and not found, to read: the ones that are as published first."""
        names = ("where", "what", "unit", "published", "ours", "verdict", "reason")
        return [_pick(row, names) for verdict in VERDICTS for row in self._select(verdict, finding=False)]

    def reasons(self) -> dict[str, int]:
        """Why findings were not measured, and how many for each reason."""
        counted = Counter(row.reason for row in self._select("not measured") if row.counted)
        return dict(counted.most_common())

    def _select(self, verdict: str, finding: bool = True) -> list[ScoreRow]:
        return [row for row in self.rows if (row.verdict, row.finding) == (verdict, finding)]


def _pick(row: ScoreRow, names: Sequence[str]) -> dict[str, str]:
    texts = readable(asdict(row))
    return {name: texts[name] for name in names}


def group_reason(reason: str) -> str:
    """What a finding that was not measured needs, in a few words."""
    if reason.startswith(TOO_LITTLE):
        return "more data"
    if reason.startswith(OTHER_KIND):
        return OTHER_KIND
    if reason.startswith("counts "):
        return "a data set of the paper's size"
    sentences = reasons()
    return next((group for group, keys in GROUPS.items() if reason in [sentences[key] for key in keys]), OTHERS)


def build_scorecard(run: RunFolder, data_set: str = "") -> Scorecard:
    """Judge every published number by what the notebooks recorded in `run`.

    `data_set` names one of the data sets in those records, "" the first. Raises ParameterError for a name that none has.
    """
    results = {**run.all_results(), "run": run.state}
    data = _choose_data(results, data_set)
    problems = _leave_out_others(results, data)
    kind = GENERATED[1] if data in ("", run.path.name) else find_kind(results, data)
    rows = _count_once([_score(number, results, data, kind) for number in paper_numbers()])
    label = find_author(data) or (author_of(run) if data == run.path.name else "")
    return Scorecard(data, label, rows, _size(results, data), problems)


def _choose_data(results: dict[str, Any], data: str) -> str:
    described = results.get("10_describe_dataset", {}).get("datasets", {})
    known = list(dict.fromkeys([*described, *results.get("11_parse_verb_nouns", {}).get("covered", {})]))
    if data and data not in known:
        raise ParameterError(
            f'data_set="{data}": no results of it in this run folder; there are: {", ".join(known) or "none"}'
        )
    return data or next(iter(known), "")


def _leave_out_others(results: dict[str, Any], data: str) -> list[str]:
    """Take out of `results` what another file of the same name gave, and say so: the first notebook's file counts."""
    paths = {name: "data" if name.startswith("14") else "sources/{data}" for name in results}
    sources = {name: source for name, record in results.items() if (source := look_up(record, paths[name], data))}
    first = next(iter(sources.values()), "")
    others = {name: source for name, source in sources.items() if source != first}
    for name in others:
        del results[name]
        results["run"].get("parameters", {}).pop(name, None)
    return [f"{name} is left out: it read {one}, and {next(iter(sources))} {first}" for name, one in others.items()]


def find_kind(results: dict[str, Any], data: str) -> str:
    """What kind of data set it is, by the name of its file: generated data unless it is one of KINDS."""
    sources = (look_up(record, "sources/{data}", data) for record in results.values())
    name = Path(next(filter(None, sources), data)).name
    return next((kind for pattern, kind in KINDS.items() if fnmatch(name, pattern)), GENERATED[0])


def _count_once(rows: list[ScoreRow]) -> list[ScoreRow]:
    """The rows with those marked that follow from another row, unless they alone are measured."""
    verdicts = {row.id: row.verdict for row in rows}
    first = {number.id: number.derived_from for number in paper_numbers() if number.derived_from}
    alone = {
        row.id for row in rows if row.verdict != "not measured" and verdicts.get(first.get(row.id)) == "not measured"
    }
    return [replace(row, counted=row.id not in first or row.id in alone) for row in rows]


def _score(number: PaperNumber, results: dict[str, Any], data: str, kind: str) -> ScoreRow:
    found, kinds = find_ours(number, results, data), number.data or ((kind,) if number.given else GENERATED)
    verdict, reason = judge(number, found)
    if found.value is not None and kind not in kinds:
        found, verdict = Found(), "not measured"
        reason = f"{OTHER_KIND}: this is a number of {kinds[0]}, and {data} has {kind}"
    size = _size(results, data)
    if number.whole and verdict != "not measured" and abs(size - INSTRUCTIONS) > SAME_SIZE * INSTRUCTIONS:
        verdict = "not measured"
        reason = f"counts {INSTRUCTIONS:,} instructions, and this data set has {size:,}: see the share"
    numeric = isinstance(number.value, (int, float)) and isinstance(found.value, (int, float))
    return ScoreRow(
        number.id, number.what, number.where, number.unit, number.shown or number.value, found.value,
        list(found.interval) if found.interval else None, found.value - number.value if numeric else None,
        number.tolerance, verdict, reason, not number.given,
    )  # fmt: skip


def _size(results: dict[str, Any], data: str) -> int:
    """How many instructions the data set has, as notebook 10 or 11 counted them."""
    described = look_up(results.get("10_describe_dataset"), "datasets/{data}/instructions", data)
    return described or look_up(results.get("11_parse_verb_nouns"), "shares/data_set={data}/instructions", data) or 0


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its numbers as text: counts with their thousands marked, measures with no more digits than tell."""
    numbers = {name: show_value(row[name]) for name in ("published", "ours", "difference", "tolerance")}
    return {**row, **numbers, "interval": " to ".join(map(show_number, row["interval"] or ()))}


@dataclass(frozen=True)
class Found:
    """Ours, in the published unit: None where the run folder does not hold it; `count` values stand behind it."""

    value: Any = None
    interval: tuple[float, float] | None = None
    count: int | None = None


def find_ours(number: PaperNumber, results: dict[str, Any], data: str) -> Found:
    """Our value, its interval and its n, as the notebooks recorded them in `results` for the data set `data`."""
    ours = number.ours
    if ours is None:
        return Found()
    record = results.get(ours.results, {})
    if ours.published and record.get("quirks") != "published":
        return Found()
    value, interval, count = (look_up(record, path, data) for path in (ours.key, ours.interval, ours.count))
    if ours.positive and not value:
        return Found()
    if isinstance(interval, dict):
        interval = [interval["low"], interval["high"]]
    ends = tuple(sorted(map(ours.in_unit, interval or ())))
    return Found(ours.in_unit(value), ends or None, count)


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
        return "not measured", f"{TOO_LITTLE}: ours is {show_value(found.value)}, with n = {found.count}"
    if isinstance(number.value, list):
        return _judge_list(number, number.value, list(found.value))
    off, (low, high) = abs(found.value - number.value), found.interval or (found.value, found.value)
    widest = min(WIDEST_SHARE if number.unit == "%" else math.inf, WIDEST * number.value)
    covered = low <= number.value <= high
    if found.interval and off <= high - low > widest:
        beside = "" if covered else "; that leaves the published value out, but by less than its own width"
        ends = f"anywhere from {show_number(low)} to {show_number(high)}"
        return "not measured", f"{TOO_LITTLE}: ours is {show_value(found.value)}, {ends}{beside}"
    if off <= number.tolerance + ROUNDING:
        return "reproduced", reasons().get(number.given, "")
    return ("reproduced", "our 95 % interval covers it") if covered else ("differs", reasons()[number.when_off])


def _judge_list(number: PaperNumber, published: list[str], ours: list[str]) -> tuple[str, str]:
    if ours == published or (number.names and set(ours) == set(published)):
        return "reproduced", reasons().get(number.given, "")
    common = f"{len(set(published) & set(ours))} of {len(published)} in common; " if number.names else ""
    return "differs", common + reasons()[number.when_off]


def scorecard_html(run: RunFolder) -> str:
    """The scorecard that notebook 17 recorded in `run`, as HTML to put into a page; "" where it has recorded none."""
    import jinja2

    record = run.results(NOTEBOOK)
    if not record:
        return ""
    page = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    rows = [readable({"counted": True, **row}) for row in record["scorecard"]]  # an older record does not say
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render({**record, "rows": rows})


def plot_ratios(rows: Sequence[ScoreRow], ax: Axes) -> Axes:
    """Ours divided by the published value with its 95 % interval, a line for each row of a scorecard that has both.

    The axis is of ratios: half and double are equally far from 1. What is 0 stands at its left end.
    """
    found = [[value / row.published for value in (row.ours, *row.interval)] for row in rows]
    known = [value for values in found for value in values if value > 0]
    low, high = min([0.5, *known]) / 1.15, max([2, *known]) * 1.15
    names = [textwrap.fill(escape_dollars(row.what), NAME_LETTERS) for row in rows]
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:.3g}")
    for height, (row, values) in enumerate(zip(rows, found, strict=True)):
        marker, colour, label = LOOKS[row.verdict]
        ours, *ends = [max(value, low) for value in values]
        ax.plot(ends, [height, height], color=colour, linewidth=1.2)
        ax.plot(ours, height, marker, color=colour, markersize=4, label=label, clip_on=False)
    ax.axvline(1, color="0.7", linewidth=0.8, zorder=0)
    ax.set(xlabel="ours / published, with 95 % interval", xlim=(low, high), ylim=(max(len(rows), 1) - 0.5, -0.5))
    ax.set_yticks(range(len(rows)), names, fontsize=6.5)
    ax.tick_params(axis="y", length=0)
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if handles := {label: handles[label] for _, _, label in LOOKS.values() if label in handles}:
        place = {
            "loc": "lower right",
            "bbox_to_anchor": (1, 1),
            "handletextpad": 0.1,
            "columnspacing": 1,
            "borderaxespad": 0.2,
        }
        ax.legend(handles.values(), handles, ncols=len(handles), **place)
    return ax
