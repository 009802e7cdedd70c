"""Grades A to D of responses (paper section 4.4, Figure 6, appendix B): who got which, and how far raters agree.

    ratings, key = open_ratings(run, load_responses("", run), rater="ann")     # a Review: the form takes it
    summarise_grades(ratings.answers, key)["run_data"]["shares"]["valid"]
    measure_raters(load_raters(ratings.items, run.path))

The grades are people's. A rater called "scripted ..." exists in tests alone; whatever is made of its grades says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
from ..analysis.figures import COLOURS, new_figure
from ..runfolder import RunFolder
from .items import Judgement, Review, load_answers, measure_share
from .questions import GRADES, RUBRIC, VALID
from .responses import (
    PUBLISHED,
    KeyRow,
    RatingItem,
    Response,
    draw_responses,
    keep_responses,
    name_published,
    published_grades,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANKS = {grade: rank for rank, grade in enumerate(reversed(GRADES), 1)}  # D is 1, A is 4
SCRIPTED = "scripted"
DRAWS = 2000  # resamples for each of what may be 28 comparisons


class Rating(Judgement):
    """A rater's grade of one response."""

    asked = RUBRIC
    grade: Literal["A", "B", "C", "D"] | None = None


class Ratings(Review):
    """The responses of a sample and one rater's grades, each on disk at once."""

    record = Rating
    stem = "ratings/grades"


def open_ratings(
    run: RunFolder, responses: Sequence[Response], rated_tasks: int = 50, random_seed: int = 42, rater: str = "me"
) -> tuple[Ratings | None, list[KeyRow]]:
    """The sample with this rater's grades so far, and whose each response is; (None, []) where there are no responses.

    The sample is drawn and written at the first call; see `draw_responses`.
    """
    items, key = draw_responses(responses, rated_tasks, random_seed)
    keep_responses(run, items, key)
    return Ratings(items, run.path, rater) if items else None, key


def describe_raters(*raters: str) -> str:
    """ "person", unless a name says that a script wrote its grades: what came of such grades is no measurement."""
    return SCRIPTED if any(rater.startswith(SCRIPTED) for rater in raters) else "person"


def load_raters(items: Sequence[RatingItem], folder: str | Path, rater: str = "") -> dict[str, dict[str, Rating]]:
    """rater -> id -> grade, of everybody in the run folder who graded something of this sample: `rater` first, then by name."""
    stem, raters = Path(folder) / Ratings.stem, {}
    for path in sorted(stem.parent.glob(f"{stem.name}_*.jsonl")):
        known = load_answers(path, Rating)
        given = {item.id: known[item.id] for item in items if item.id in known and known[item.id].grade}
        raters |= {path.stem.removeprefix(f"{stem.name}_"): given} if given else {}
    return dict(sorted(raters.items(), key=lambda one: one[0] != rater))


def collect_grades(ratings: Mapping[str, Rating], key: Sequence[KeyRow]) -> dict[str, dict[str, str]]:
    """column -> task -> grade, where there is one; the columns in the key's order."""
    found: dict[str, dict[str, str]] = {row.column: {} for row in key}
    for row in key:
        if (rating := ratings.get(row.id)) and rating.grade:
            found[row.column][row.task] = rating.grade
    return found


def summarise_grades(ratings: Mapping[str, Rating], key: Sequence[KeyRow]) -> dict[str, dict[str, Any]]:
    """By column: how many responses are rated, how many got each grade, and the shares of each and of "valid" (A or B), with Wilson's
    95 % interval; None where nothing is rated.
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


def tabulate_shares(summary: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each column to look at: how many are rated, each grade, and the share of A or B with its interval."""
    rows = []
    for column, row in summary.items():
        valid = row["shares"]["valid"]
        rows.append(
            {
                "column": column,
                "rated": row["rated"],
                **row["grades"],
                "A or B": valid["share"],
                "interval": valid["interval"],
            }
        )
    return rows


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
    sides = {name: [grades[task] in VALID for task in shared] for name, grades in ((one, first), (other, second))}
    if not shared:
        return {"data_set": other, "against": one, "shared": 0}
    row = compare_samples({name: {"valid": Sample(values, shared)} for name, values in sides.items()}, DRAWS)[0]
    return {
        "data_set": other, "against": one, "shared": len(shared), "difference": row["difference"],
        "interval": (row["low"], row["high"]), "p": mcnemar_p(list(zip(sides[one], sides[other], strict=True))),
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


def measure_raters(raters: Mapping[str, Mapping[str, Rating]]) -> list[dict[str, Any]]:
    """How far raters agree: `measure_two_raters` of every two, a row for each measure; last Krippendorff's alpha of all."""
    rows = []
    for one, other in combinations(raters, 2):
        measures = measure_two_raters(raters[one], raters[other])
        rows += [{"raters": f"{one}, {other}", "measure": name, **row} for name, row in measures.items()]
    return [*rows, {"raters": "all", "measure": "Krippendorff's alpha", **measure_alpha(raters)}] if rows else []


def measure_alpha(raters: Mapping[str, Mapping[str, Rating]]) -> dict[str, Any]:
    """Krippendorff's alpha of all raters, for grades in their order: responses that two or more graded (`both`), the value, and its
    95 % interval (responses resampled). A rater may have left out some.
    """
    keys = dict.fromkeys(key for given in raters.values() for key in given)
    units = [[RANKS[given[key].grade] for given in raters.values() if key in given] for key in keys]
    both = sum(len(unit) > 1 for unit in units)
    return {"both": both, "equal": None, "value": krippendorff_alpha(units), "interval": alpha_interval(units)}


def record_ratings(
    raters: Mapping[str, Mapping[str, Rating]], rater: str, key: Sequence[KeyRow]
) -> dict[str, dict[str, Any]]:
    """What notebook 15 records of the grades, under "person": the scorecard reads no other. What a script graded is under "scripted".

    "agreement" is that of `rater` with the first other one.
    """
    grades, agreement = raters.get(rater, {}), measure_raters(raters)
    by, by_all = describe_raters(rater), describe_raters(*raters)
    return {
        "rater": rater, "graded": len(grades), "rated": {by: summarise_grades(grades, key)}, "differences": {by: compare_columns(grades, key)},
        "raters": {by_all: len(raters)}, "agreement": {by_all: {row["measure"]: row for row in reversed(agreement)}},
        "all_pairs_of_raters": {by_all: agreement},
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
    return {"of": len(longer), "share": measure_share(longer), "interval": share_interval(sum(longer), len(longer))}


FILLS = {"A": COLOURS[0], "B": COLOURS[5], "AB": COLOURS[0], "C": COLOURS[4], "D": COLOURS[6]}


class Bar(NamedTuple):
    """A bar of Figure 6: how many responses of a column got each grade, in the paper or here."""

    label: str
    counts: Mapping[str, float]
    published: bool = False


def stack_bars(summary: Mapping[str, Mapping[str, Any]], name: str = "yours") -> list[Bar]:
    """The paper's bars, each with ours of the same column below it as `name`; then our other columns. Nothing without a grade."""
    rated = {column: row["grades"] for column, row in summary.items() if row["rated"]}
    bars = []
    for column, counts in published_grades().items():
        bars.append(Bar(name_published(column), counts, published=True))
        bars += [Bar(f"{name} (n = {sum(rated[column].values())})", rated[column])] if column in rated else []
    others = {column: counts for column, counts in rated.items() if column not in PUBLISHED}
    return [*bars, *(Bar(f"{column} (n = {sum(counts.values())})", counts) for column, counts in others.items())]


def draw_grades(summary: Mapping[str, Mapping[str, Any]], source: str) -> Figure:
    """Figure 6 anew: the paper's bars, and those of `summary`; `source` stands in small print below."""
    bars = stack_bars(summary)
    figure, ax = new_figure(height=0.6 + 0.22 * len(bars), source=source)
    plot_grades(bars, ax)
    return figure


def plot_grades(bars: Sequence[Bar], ax: Axes) -> Axes:
    """Stacked bars of the four grades, as in Figure 6, each as long as its shares; the paper's are hatched.

    Counts stand in the bars where there is room; "A or B" of plain GPT-3, which the figure shows together, counts as A.
    """
    from matplotlib.patches import Patch

    for place, bar in enumerate(bars):
        left, total = 0.0, sum(bar.counts.values())
        look = {"hatch": "//////", "alpha": 0.5} if bar.published else {}
        for grade, count in bar.counts.items():
            width, text = count / total, _show_count(count)
            ax.barh(-place, width, left=left, height=0.8, color=FILLS[grade], edgecolor="white", linewidth=0.3, **look)
            if width > 0.02 + 0.03 * len(text):
                ax.text(left + width / 2, -place, text, ha="center", va="center", fontsize=5.5, bbox=_PAPER)
            left += width
    ax.set(xlim=(0, 1), xlabel="share of responses (in the bars: counts)", ylim=(0.6 - len(bars), 0.6))
    ax.set_yticks([-place for place in range(len(bars))], [textwrap.fill(bar.label, 22) for bar in bars], fontsize=6)
    handles = [Patch(facecolor=FILLS[grade], label=grade) for grade in GRADES]
    handles.append(Patch(facecolor="0.7", edgecolor="white", hatch="//////", label="paper"))
    ax.legend(handles=handles, ncols=5, loc="lower right", bbox_to_anchor=(1, 1), columnspacing=0.9, handlelength=1.1)
    return ax


def _show_count(count: float) -> str:
    """A count; of one that the figure leaves open by one, both, such as "186/187"."""
    return f"{count:g}" if count == int(count) else f"{int(count)}/{int(count) + 1}"


_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.75}
