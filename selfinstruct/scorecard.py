"""The scorecard: every number of the paper beside ours, with a verdict and, where they part, the reason.

    card = build_scorecard("outputs/run")
    card.frame("reproduced")                      # a table of those rows
    scorecard_html("outputs/run")                 # what notebook 17 recorded, for report.html

How one number is found and judged is in `verdicts`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .datasets import author_of, known_author
from .records import ParameterError, project_path, read_json
from .verdicts import VERDICTS, PaperNumber, find_ours, judge, look_up, paper_numbers, shown

if TYPE_CHECKING:
    import pandas as pd

NOTEBOOK = "17_compare_with_paper"
INSTRUCTIONS = 52_445  # of the paper's data
SAME_SIZE = 0.01  # how far another data set's number of instructions may be from that, for its counts to compare
TEMPLATE = Path(__file__).with_name("scorecard.html.jinja")


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
        return f"{self.data}{f', {self.label}' if self.label else ''} (n = {self.instructions:,} instructions)"

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


def build_scorecard(run_dir: str | Path, data_set: str = "") -> Scorecard:
    """Judge every published number by what the notebooks recorded in `run_dir`.

    `data_set` names one of the data sets in those records, "" the first. Raises ParameterError for a name that none has.
    """
    folder = project_path(run_dir)
    results = {path.stem: read_json(path) for path in sorted(folder.glob("results/*.json"))}
    results["run"] = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    data = _choose_data(results, data_set)
    problems = _leave_out_others(results, data)
    rows = [_score(number, results, data) for number in paper_numbers()]
    label = known_author(data) or (author_of(folder) if data == folder.name else "")
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
    sources = {name: source for name, record in results.items() if (source := look_up(record, "sources/{data}", data))}
    first = next(iter(sources.values()), "")
    problems = []
    for name, source in sources.items():
        if source != first:
            problems.append(f"{name} is left out: it read {source}, and {next(iter(sources))} {first}")
            del results[name]
            results["run"].get("parameters", {}).pop(name, None)
    return problems


def _score(number: PaperNumber, results: dict[str, Any], data: str) -> ScoreRow:
    found = find_ours(number, results, data)
    verdict, reason = judge(number, found)
    if number.whole and verdict != "not measured" and not _is_whole(size := _size(results, data)):
        verdict, reason = "not measured", f"counts {INSTRUCTIONS:,} instructions, and this data set has {size:,}: see the share"
    numeric = isinstance(number.value, float) and isinstance(found.value, (int, float))
    return ScoreRow(
        number.id, number.what, number.where, number.unit, number.shown or number.value, found.value,
        list(found.interval) if found.interval else None, found.value - number.value if numeric else None,
        number.tolerance, verdict, reason, not number.given,
    )  # fmt: skip


def _size(results: dict[str, Any], data: str) -> int:
    """How many instructions the data set has, as notebook 10 or 11 counted them."""
    places = (("10_describe_dataset", "datasets/{data}/instructions"), ("11_parse_verb_nouns", "shares/data_set={data}/instructions"))
    return next((count for name, path in places if (count := look_up(results.get(name), path, data))), 0)


def _is_whole(size: int) -> bool:
    return abs(size - INSTRUCTIONS) <= SAME_SIZE * INSTRUCTIONS


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its numbers as text: counts with their thousands marked, measures with no more digits than tell."""
    ends = [shown(end) for end in row["interval"] or ()]
    return {
        **row,
        **{name: shown(row[name]) for name in ("published", "ours", "difference", "tolerance")},
        "interval": " to ".join(ends),
    }


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
