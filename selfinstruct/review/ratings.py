"""Grades A to D of responses (paper section 4.4, Figure 6, appendix B): who got which, and how far raters agree.

    ratings = Ratings(items, run.path, rater="ann")          # a Review: the form takes it
    summarise_grades(ratings.answers, key)["run_data"]["shares"]["valid"]
    measure_rating_agreement(load_raters(items, run.path))

The grades are people's. A rater called "scripted ..." exists in tests alone; whatever is made of its grades says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..analysis.agreement import (
    adjust_holm,
    alpha_interval,
    cohen_kappa,
    kappa_interval,
    krippendorff_alpha,
    mcnemar_p,
    share_interval,
    spearman_correlation,
    spearman_interval,
)
from ..analysis.compare import Sample, compare_samples
from ..analysis.figures import COLOURS
from .items import Judgement, Review, load_answers, measure_share
from .questions import GRADES, RUBRIC, VALID
from .responses import KeyRow, RatingItem

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RANKS = {grade: rank for rank, grade in enumerate(reversed(GRADES), 1)}  # D is 1, A is 4
SCRIPTED = "scripted"


class Rating(Judgement):
    """A rater's grade of one response."""

    asked = RUBRIC
    grade: Literal["A", "B", "C", "D"] | None = None


class Ratings(Review):
    """The responses of a sample and one rater's grades, each on disk at once."""

    record = Rating
    stem = "ratings/grades"


def describe_rater(rater: str) -> str:
    """ "person", unless the name says that a script wrote the grades."""
    return SCRIPTED if rater.startswith(SCRIPTED) else "person"


def load_raters(items: Sequence[RatingItem], folder: str | Path) -> dict[str, dict[str, Rating]]:
    """rater -> id -> grade, of everybody in the run folder who graded something of this sample, in order of their names."""
    stem, raters = Path(folder) / Ratings.stem, {}
    for path in sorted(stem.parent.glob(f"{stem.name}_*.jsonl")):
        known = load_answers(path, Rating)
        given = {item.id: known[item.id] for item in items if item.id in known and known[item.id].grade}
        raters |= {path.stem.removeprefix(f"{stem.name}_"): given} if given else {}
    return raters


def collect_grades(ratings: Mapping[str, Rating], key: Sequence[KeyRow]) -> dict[str, dict[str, str]]:
    """column -> task -> grade, where there is one; the columns in the key's order."""
    found: dict[str, dict[str, str]] = {row.column: {} for row in key}
    for row in key:
        if (rating := ratings.get(row.id)) and rating.grade:
            found[row.column][row.task] = rating.grade
    return found


def summarise_grades(ratings: Mapping[str, Rating], key: Sequence[KeyRow]) -> dict[str, dict[str, Any]]:
    """By column: how many responses are rated, how many got each grade, and the shares of each, of "valid" (A or B) and of "C or
    D", with Wilson's 95 % interval; None where nothing is rated.
    """
    summary = {}
    for column, grades in collect_grades(ratings, key).items():
        given = list(grades.values())
        groups = {grade: grade for grade in GRADES} | {"valid": VALID}
        yes = {name: sum(grade in group for grade in given) for name, group in groups.items()}
        shares = {
            name: {"share": count / len(given) if given else None, "interval": share_interval(count, len(given))}
            for name, count in yes.items()
        }
        summary[column] = {"rated": len(given), "grades": {grade: yes[grade] for grade in GRADES}, "shares": shares}
    return summary


def compare_columns(ratings: Mapping[str, Rating], key: Sequence[KeyRow]) -> list[dict[str, Any]]:
    """Each column against each earlier one in the share of A or B, over the tasks that both are rated on: difference, 95 % interval
    (tasks resampled), McNemar's exact p, and that p adjusted by Holm for all these comparisons.
    """
    found = {column: grades for column, grades in collect_grades(ratings, key).items() if grades}
    records = [_compare_two(one, other, found[one], found[other]) for one, other in combinations(found, 2)]
    records = [record for record in records if record["shared"]]
    adjusted = adjust_holm([record["p"] for record in records])
    return [{**record, "p_holm": p} for record, p in zip(records, adjusted, strict=True)]


def _compare_two(one: str, other: str, first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, Any]:
    shared = [task for task in first if task in second]
    pairs = [(first[task] in VALID, second[task] in VALID) for task in shared]
    names = {"data_set": other, "against": one, "shared": len(shared)}
    if not pairs:
        return {**names, "difference": None, "interval": None, "p": None}
    samples = {name: {"valid": Sample(list(side), shared)} for name, side in zip((one, other), zip(*pairs), strict=True)}
    row = compare_samples(samples)[0]
    return {
        **names, "difference": row["difference"], "interval": (row["low"], row["high"]), "p": mcnemar_p(pairs),
    }  # fmt: skip


def measure_two_raters(first: Mapping[str, Rating], second: Mapping[str, Rating]) -> dict[str, dict[str, Any]]:
    """Two raters on what both graded: kappa of the four grades, kappa of A or B against C or D, and Spearman's rho of the ranks.

    Each row has `both`, the share of `equal` answers, the `value` and its 95 % interval, None where it is not defined.
    """
    pairs = [(first[key].grade, second[key].grade) for key in first if key in second and second[key].grade]
    pairs = [(one, other) for one, other in pairs if one]
    four = [[one for one, _ in pairs], [other for _, other in pairs]]
    valid = [[grade in VALID for grade in side] for side in four]
    ranks = [[RANKS[grade] for grade in side] for side in four]
    rows = {}
    for name, (a, b) in {"four grades": four, "A or B": valid}.items():
        equal = measure_share([one == other for one, other in zip(a, b, strict=True)])
        rows[name] = {"both": len(a), "equal": equal, "value": cohen_kappa(a, b), "interval": kappa_interval(a, b)}
    rho, interval = spearman_correlation(*ranks), spearman_interval(*ranks)
    rows["spearman"] = {"both": len(pairs), "equal": None, "value": rho, "interval": interval}
    return rows


def measure_all_raters(raters: Mapping[str, Mapping[str, Rating]]) -> dict[str, Any]:
    """Krippendorff's alpha of all raters, for grades in their order: how many raters, responses with two grades or more, value, 95 %
    interval (responses resampled).
    """
    keys = dict.fromkeys(key for given in raters.values() for key in given)
    units = [[RANKS[given[key].grade] for given in raters.values() if key in given] for key in keys]
    return {
        "raters": len(raters), "units": sum(len(unit) > 1 for unit in units),
        "value": krippendorff_alpha(units), "interval": alpha_interval(units),
    }  # fmt: skip


def prefer_longer(items: Sequence[RatingItem], ratings: Mapping[str, Rating], key: Sequence[KeyRow]) -> dict[str, Any]:
    """Of two responses to one task with unequal grades, how often the longer one (in characters) has the better: 0.5 is indifference."""
    size, tasks = {item.id: len(item.response) for item in items}, {}
    for row in key:
        if row.id in ratings and ratings[row.id].grade:
            tasks.setdefault(row.task, {})[row.id] = RANKS[ratings[row.id].grade]
    pairs = [pair for ranks in tasks.values() for pair in combinations(ranks.items(), 2)]
    longer = [
        (size[a] > size[b]) == (one > other) for (a, one), (b, other) in pairs if one != other and size[a] != size[b]
    ]
    return {"pairs": len(longer), "share": measure_share(longer), "interval": share_interval(sum(longer), len(longer))}


FILLS = {"A": COLOURS[0], "B": COLOURS[5], "AB": COLOURS[0], "C": COLOURS[4], "D": COLOURS[6]}


def plot_grades(bars: Mapping[str, Mapping[str, float]], ax: Axes) -> Axes:
    """Stacked bars of the four grades, as in Figure 6: `bars` is label -> grade -> count; each bar is as long as its shares.

    A bar whose label begins with "paper" is hatched, and the counts stand in it where there is room.
    """
    for place, (label, counts) in enumerate(bars.items()):
        left, total = 0.0, sum(counts.values())
        for grade, count in counts.items():
            width = count / total if total else 0
            theirs = label.startswith("paper")
            look = {"hatch": "////", "alpha": 0.55} if theirs else {}
            ax.barh(-place, width, left=left, height=0.78, color=FILLS[grade], edgecolor="white", linewidth=0.4, **look)
            if width > 0.06:
                back = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8} if theirs else None
                ax.text(left + width / 2, -place, f"{count:g}", ha="center", va="center", fontsize=6, bbox=back)
            left += width
    ax.set(xlim=(0, 1), xlabel="share of responses (numbers: counts)", ymargin=0.02)
    ax.set_yticks([-place for place in range(len(bars))], list(bars), fontsize=6.5)
    handles = [_swatch(FILLS[grade]) for grade in GRADES]
    ax.legend(handles, GRADES, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1), title="")
    return ax


def _swatch(colour: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=colour)
