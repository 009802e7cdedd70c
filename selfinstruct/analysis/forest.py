"""The figures of a sweep: differences with their intervals, and what each round of step 1 brought.

plot_forest(compare_arms(values, number="admitted_per_request"), values, ax)
plot_rounds(cells, ax)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from ..display import show_number
from .figures import COLOURS, LEGEND_POINTS, LINES, shorten_name
from .statistics import find_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .cells import Cell
    from .verdicts import Values, Verdict

MARKS = {"differs": "D", "no difference": "o", "more seeds": "s"}
ROOM = 0.32  # inches for each arm of a forest plot
UNITS = {
    "admitted_per_request": "instructions admitted per request",
    "novelty": "novelty: 1 − best ROUGE-L with all before, mean",
    "mean_instruction_words": "words per instruction, mean",
    "tokens_per_admitted": "tokens per admitted instruction",
    "distinct_1": "different words, share of all words (0 to 1)",
    "distinct_2": "different pairs of words, share of all pairs (0 to 1)",
    "trial_accepted_per_request": "instructions accepted per request of a trial",
}


def name_axis(number: str) -> str:
    """A number's name with its unit, for an axis."""
    unit = " (percentage points)" if find_unit(number) else ""
    return UNITS.get(number, number.removesuffix("_share").replace("_", " ") + unit)


def plot_forest(verdicts: Sequence[Verdict], values: Values, ax: Axes) -> Axes:
    """A row for each verdict: the difference with its interval, and a small dot for the difference of each pair of runs in `values`.

    The grey band is the difference that the plan asks for. A diamond differs, a circle does not differ by more than that, and
    for a square more seeds are needed.
    """
    if not verdicts:
        return _say_nothing(ax, "no two arms to compare")
    scale = 100 if find_unit(verdicts[0].number) else 1
    for row, one in enumerate(reversed(verdicts)):
        base, found = values.get(one.reference, {}), values.get(one.arm, {})
        dots = [scale * (found[seed] - base[seed]) for seed in sorted(found) if seed in base]
        colour = COLOURS[1] if one.kind == "differs" else COLOURS[0]
        ax.plot(dots, [row + 0.22] * len(dots), ".", color="0.6", markersize=3)
        if one.low is not None and one.high is not None:
            ax.plot([scale * one.low, scale * one.high], [row, row], color=colour, linewidth=1.4)
        ax.plot([scale * one.difference], [row], MARKS[one.kind], color=colour, markersize=4)
    ax.axvline(0, color="0.2", linewidth=0.8)
    smallest = scale * verdicts[0].smallest
    ax.axvspan(-smallest, smallest, color="0.93", zorder=0, linewidth=0)
    ax.set_xlabel(f"difference from {shorten_name(verdicts[0].reference)}:\n{name_axis(verdicts[0].number)}")
    ax.locator_params(axis="x", nbins=6)
    ax.set_yticks(range(len(verdicts)), [_name_row(one) for one in reversed(verdicts)])
    ax.set_ylim(-0.6, len(verdicts) - 0.3)
    return ax


def _say_nothing(ax: Axes, why: str) -> Axes:
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, ha="center", transform=ax.transAxes)
    return ax


def _name_row(one: Verdict) -> str:
    return f"{shorten_name(one.arm)}\n{one.basis}, {show_number(round(100 * one.level, 2))} %"


def plot_rounds(cells: Sequence[Cell], ax: Axes, what: str = "admitted") -> Axes:
    """A line for each run of step 1, in its arm's colour, over rounds: all instructions "admitted" so far, or the "novelty" of
    those that the round admitted (1 minus their best ROUGE-L with what was known, the mean).
    """
    arms = list(dict.fromkeys(cell.arm for cell in cells if cell.rounds))
    if not arms:
        return _say_nothing(ax, "no rounds of step 1 to draw")
    for cell in cells:
        if not cell.rounds:
            continue
        at = arms.index(cell.arm)
        first = cell is next(one for one in cells if one.rounds and one.arm == cell.arm)
        found = list(accumulate(one.admitted for one in cell.rounds)) if what == "admitted" else [
            float("nan") if one.novelty is None else one.novelty for one in cell.rounds
        ]  # fmt: skip
        look = {
            "color": COLOURS[at % len(COLOURS)],
            "linestyle": LINES[at % len(LINES)],
            "linewidth": 0.9,
            "alpha": 0.75,
        }
        label = shorten_name(cell.arm) if first else None
        ax.plot(range(1, len(found) + 1), found, marker=".", markersize=3, label=label, **look)
    names = {"admitted": "instructions admitted so far", "novelty": "novelty of the round's\ninstructions (0 to 1)"}
    ax.set(xlabel="round of step 1", ylabel=names[what])
    ax.xaxis.get_major_locator().set_params(integer=True)
    if what == "admitted":
        ax.set_ylim(bottom=0)
    if len(arms) > 1 and what == "admitted":  # above the lines; the axes below have the same arms
        spacing = {"borderaxespad": 0.3, "borderpad": 0, "labelspacing": 0.25, "handlelength": 2.6}
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), **spacing)
        ax.figure.set_figheight(ax.figure.get_figheight() + len(arms) * 1.3 * LEGEND_POINTS / 72)
    return ax
