"""The curve of quality against data size: what may be concluded, the figure beside the published one, the scorecard's rows.

    curve = compare_points(points, judging, scores)     # of `scaling` and `evaluate`
    curve.draw()                                        # Fig. 7 as published, and ours
    curve.say()                                         # each difference in a sentence

What is compared is each size with the smallest, and better outputs with the own outputs of that size, on the same tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..analysis.figures import COLOURS, PAGE_INCHES, new_figure
from ..display import count_of
from ..paper_numbers import paper_number
from .comparison import (
    PRIMARY,
    compare_measures,
    plan_comparison,
    say_difference,
    summarise_measures,
    tabulate_differences,
)
from .scaling import BETTER, OWN, Point, ScalingData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .evaluate import Evaluation

# Fig. 7: instructions, and the row of `paper_numbers` that says how many responses were rated A after training on so many
ALL = int(paper_number("table1.instructions").value)
PUBLISHED = {175: "fig7.175", 1000: "fig7.1k", 16_000: "fig7.16k", ALL: "fig7.52k"}
SAME_SIZE = 0.1  # the sizes of Fig. 7 are read off its axis: so far may ours be from one of them
NAMES = {OWN: "outputs as generated", BETTER: "outputs of a stronger model"}
BARS = "Bars: 95 % intervals of the difference to the smallest size, or of better outputs to own ones"
PANELS = {"bits_per_byte": "bits per byte (lower is better)", "rouge_l": "ROUGE-L (0 to 100)"}


@dataclass(frozen=True)
class Curve:
    """A row of numbers for each point, the differences of `pair_points`, and the small print."""

    points: Sequence[Point]
    rows: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    source: str

    def tabulate(self) -> list[dict[str, Any]]:
        """The points to read."""
        names = ("column", "instructions", "rows", *PANELS)
        return [{name.replace("_", " "): row[name] for name in names if name in row} for row in self.rows]

    def tabulate_differences(self) -> list[dict[str, Any]]:
        """The differences to read."""
        return tabulate_differences(self.differences)

    def say(self) -> str:
        """Each difference in a sentence, a line each; a null as a null."""
        return "\n".join(map(say_difference, self.differences))

    def draw(self) -> Figure:
        """Fig. 7 as published, and ours: a panel for bits per byte, and one for ROUGE-L where answers were written."""
        measures = [name for name in PANELS if name in self.rows[0]]
        figure, axes = new_figure(columns=1 + len(measures), width=PAGE_INCHES, height=2.3, source=self.source)
        plot_published(axes[0])
        for measure, ax in zip(measures, axes[1:], strict=True):
            plot_scaling(self.rows, measure, ax, PANELS[measure])
        axes[1].set_title("this run", loc="left")
        if self.rows[-1]["curve"] == BETTER:
            axes[1].legend()
        return figure

    def record(self, data: ScalingData, ratings: Mapping[str, Any]) -> dict[str, Any]:
        """What notebook 16 records; `ratings` are the results of notebook 15, see `match_published`."""
        largest = f"size_{data.sizes[-1]}"
        return {
            "headline": next((say_difference(row) for row in self.differences if row["a"] == largest), ""),
            "sources": {data.source.rpartition("/")[2].partition(".")[0]: data.source},
            "sizes": list(data.sizes), "points": self.rows, "differences": self.differences,
            "rated_a": match_published(self.points, ratings),
            "figures": {"scale_data": f"Quality against data size, as published and ours. {self.source}"},
        }  # fmt: skip


def plan_curve(points: Sequence[Point], judging: Evaluation) -> dict[str, float]:
    """Before looking: measure -> the least true difference that is found with 80 % power in each of the pairs of `pair_points`,
    after Holm's correction for their number.
    """
    written = {"rouge_l": judging.sample.units} if judging.sample.tasks else {}
    sizes = {PRIMARY: judging.heldout.units, **written}
    return plan_comparison(sizes, dict.fromkeys(sizes, len(pair_points(points))))


def compare_points(points: Sequence[Point], judging: Evaluation, scores: Mapping[str, Any]) -> Curve:
    """The curve of trained points; `scores` are those of `judging` (measure -> column -> (n_seeds, n_tasks))."""
    summary = summarise_measures(scores, judging.clusters)
    differences = compare_measures(scores, pair_points(points), judging.clusters)
    seeds = count_of("training seed", max(len(one.adapters) for one in judging.columns))
    written = f", {len(judging.sample.tasks)} for ROUGE-L" if judging.sample.tasks else ""
    source = f"Ours: {judging.base.stem}, {seeds}; {len(judging.heldout.tasks)} tasks ({judging.heldout.name}){written}"
    return Curve(points, tabulate_points(points, summary, differences), differences, f"{source}. {BARS}")


def pair_points(points: Sequence[Point]) -> list[tuple[str, str]]:
    """What is compared: each size with the smallest, and with better outputs each size with its own outputs."""
    own = [point for point in points if point.curve == OWN]
    pairs = [(point.column, own[0].column) for point in own[1:]]
    names = {point.size: point.column for point in own}
    return pairs + [(point.column, names[point.size]) for point in points if point.curve == BETTER]


def tabulate_points(
    points: Sequence[Point], summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A record a point: its size, and by measure the mean, its interval over tasks ("..._interval"), and the interval of its
    difference to what `pair_points` compares it with, laid from the mean of that ("..._paired"; None for the first).

    summary and records are those of `comparison.summarise_measures` and `compare_measures`.
    """
    paired = {(row["a"], row["measure"]): row for row in records}
    rows = []
    for point in points:
        row: dict[str, Any] = {
            "column": point.column, "curve": point.curve, "size": point.size, "instructions": point.instructions,
            "rows": len(point.rows),
        }  # fmt: skip
        for measure, ends in summary[point.column]["intervals"].items():
            one = paired.get((point.column, measure))
            base = summary[one["b"]][measure] if one else 0
            row[measure], row[f"{measure}_interval"] = summary[point.column][measure], ends
            row[f"{measure}_paired"] = [base + one["low"], base + one["high"]] if one else None
        rows.append(row)
    return rows


def plot_published(ax: Axes) -> Axes:
    """Fig. 7 as published: the share rated A against instructions, on a logarithmic axis, and the point of better outputs."""
    sizes, values = list(PUBLISHED), [paper_number(id).value for id in PUBLISHED.values()]
    ax.plot(sizes, values, "o-", color=COLOURS[-1], markersize=4, label="outputs by GPT-3")
    best = paper_number("fig7.better_outputs").value
    ax.plot(sizes[-1], best, "D", color=COLOURS[1], markersize=4, label="outputs by InstructGPT 003")
    ax.set(xscale="log", ylim=(0, 62), ylabel="responses rated A (%)", xlabel="instructions trained on")
    ax.set_xticks(sizes, [show_size(size) for size in sizes])
    ax.minorticks_off()
    ax.set_title("the paper (GPT-3, 252 tasks)", loc="left")
    ax.legend(loc="lower right")
    return ax


def show_size(size: int) -> str:
    """A number of instructions on an axis.

    >>> show_size(175), show_size(16000)
    ('175', '16K')
    """
    return f"{size // 1000}K" if size >= 1000 else str(size)


def plot_scaling(rows: Sequence[Mapping[str, Any]], measure: str, ax: Axes, label: str) -> Axes:
    """Ours: the mean of `measure` against instructions, a line a curve; rows are those of `tabulate_points`.

    A bar is the 95 % interval of a *difference*: of own outputs to the smallest size (dotted), of better ones to own ones at
    that size. The same tasks judge all, and what is common to both cancels out.
    """
    ax.axhline(rows[0][measure], color="0.6", linewidth=0.8, linestyle=":", zorder=1)
    for curve, colour, mark in ((OWN, COLOURS[0], "o"), (BETTER, COLOURS[1], "D")):
        for row in (kept := [row for row in rows if row["curve"] == curve]):
            ends = row[f"{measure}_paired"] or [row[measure]] * 2
            ax.plot([row["instructions"]] * 2, ends, "_-", color=colour, linewidth=1, markersize=5)
        sizes, values = [row["instructions"] for row in kept], [row[measure] for row in kept]
        ax.plot(
            sizes, values, f"{mark}-", color=colour, markersize=4, linewidth=1, label=NAMES[curve] if kept else None
        )
    ax.set(xlabel="instructions trained on", ylabel=label)
    if rows[-1]["instructions"] > 10 * rows[0]["instructions"]:
        ax.set_xscale("log")
    return ax


# the scorecard's rows


def match_published(points: Sequence[Point], ratings: Mapping[str, Any]) -> dict[str, Any]:
    """What `scorecard` looks up for Fig. 7: the share of responses that a person rated A, with its interval and their number.

    ratings: the results of notebook 15, whose columns may be the responses of these points. The keys are sizes of Fig. 7
    ("175", "1000", ...) to which one of ours comes within 10 %, and "better_outputs" for the largest. No other measure fills
    them: bits per byte are no share rated A.
    """
    rated = ratings.get("rated", {}).get("person", {})
    found: dict[str, Any] = {}
    for point in points:
        columns = [name for name in rated if name == point.column or name.startswith(f"{point.column}-")]
        near = [size for size in PUBLISHED if abs(point.instructions - size) <= SAME_SIZE * size]
        keys = map(str, near) if point.curve == OWN else ["better_outputs"] * (near == [ALL])
        found |= {
            key: {**rated[columns[0]]["shares"]["A"], "rated": rated[columns[0]]["rated"]} for key in keys if columns
        }
    return found
