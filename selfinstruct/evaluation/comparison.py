"""What may be concluded: every column with its interval, the differences with what could have been seen, and the texts.

    plan_comparison({"rouge_l": 60}, {"rouge_l": 6})              # before looking: the least difference that can be seen
    table = compare_measures(scores, find_pairs(columns))         # a row a pair and measure, Holm within each measure
    [say_difference(row) for row in table if row["measure"] == PRIMARY]
    find_extremes(tasks, before, after, gains)                    # the two answers, word for word, largest gains and losses first

A null is reported as a null, with the difference that the comparison was planned to find.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..analysis.figures import COLOURS, PAGE_INCHES
from ..display import MOST_CHARACTERS, reveal, show_number
from ..paper_numbers import paper_number, paper_numbers
from .columns import PROVIDER
from .responses import Response
from .tasks import EvaluationTask

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

PRIMARY = "bits_per_byte"
UNITS = {
    PRIMARY: "bits per byte", "rouge_l": "points of ROUGE-L", "rouge_l_no_stemmer": "points of ROUGE-L, no stemmer",
    "rouge_l_reference_length": "points of ROUGE-L at the reference's length", "stopped": "percentage points of responses that stopped",
    "tokens": "tokens",
}  # fmt: skip
LABELS = {  # short ones, for tables; "stopped" in percent
    PRIMARY: "bits per byte", "rouge_l": "ROUGE-L", "stopped": "stopped, %", "rouge_l_no_stemmer": "no stemmer",
    "rouge_l_reference_length": "at reference's length", "tokens": "tokens",
}  # fmt: skip
WRITTEN = tuple(name for name in UNITS if name != PRIMARY)  # measures of what the models write
LOWER_IS_BETTER = (PRIMARY, "tokens")
COMPARED = (PRIMARY, "rouge_l", "rouge_l_reference_length", "stopped")
# SD of a paired difference on one task, stated before looking. ROUGE-L: 16 to 19 points between tuned models of this size; the others
# are assumptions, on the large side. What the differences then show stands in the records as `observed_detectable_difference`.
ASSUMED_SD = {PRIMARY: 0.2, "rouge_l": 17.0, "rouge_l_reference_length": 17.0, "stopped": 0.5}
# what the loop asks first: does the run's own data add to the seed tasks, and does it matter which output belongs to which task?
PAIRS = (
    ("run_data", "seeds_only"), ("run_data", "shuffled_outputs"), ("run_data", "before_plain"), ("run_data", "before_chat"),
    ("generated_only", "before_plain"), ("seeds_only", "before_plain"), (PROVIDER, "before_plain"), (PROVIDER, "run_data"),
    # of the published predictions
    ("davinci-self-instruct", "davinci"), ("davinci-self-instruct", "text-davinci-001"),
    ("davinci-self-instruct", "davinci-superni-ft"), ("text-davinci-001", "text-davinci-002"),
    ("davinci-self-instruct-and-superni-ft", "davinci-self-instruct"),
)  # fmt: skip
CLEAR = 0.05  # of p after Holm
WORDS = re.compile(r"\s+|\S+")
LOST, GAINED = "background:#fbe3d6;text-decoration:line-through", "background:#d8ecdf"

Scores = Mapping[str, Mapping[str, Any]]  # measure -> column -> array (n_seeds, n_tasks)


def plan_comparison(sizes: Mapping[str, int], pairs: Mapping[str, int]) -> dict[str, float]:
    """measure -> the least true difference that is found with 80 % power on so many tasks and in so many pairs, from the SDs
    stated in ASSUMED_SD: in Holm's strictest step, so that it holds for each of the pairs.

    Rows of one task count as one, as they are resampled: the SD of a task's mean is at most that of a row.
    """
    from ..analysis.paired import measure_detectable_difference

    return {name: measure_detectable_difference(n, ASSUMED_SD[name], max(pairs[name], 1)) for name, n in sizes.items()}


def find_pairs(columns: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of PAIRS whose columns are there; of other columns, each with the first."""
    pairs = [pair for pair in PAIRS if set(pair) <= set(columns)]
    return pairs or [(name, columns[0]) for name in columns[1:]]


def summarise_measures(scores: Scores, clusters: Mapping[str, Sequence[str] | None], **how: Any) -> dict[str, Any]:
    """column -> measure -> its mean, and under "intervals" and "seed_sd" the ends over tasks and the SD over training seeds.

    clusters: measure -> the task of each row. `how` goes to `analysis.paired.summarise_columns`.
    """
    from ..analysis.paired import summarise_columns

    found: dict[str, Any] = {}
    for measure, columns in scores.items():
        for row in summarise_columns(columns, clusters.get(measure), **how).to_dict("records"):
            one = found.setdefault(row["column"], {"intervals": {}, "seed_sd": {}, "training_seeds": row["seeds"]})
            one[measure] = row["mean"]
            one["intervals"][measure] = [row["low"], row["high"]]
            one["seed_sd"][measure] = None if row["seed_sd"] != row["seed_sd"] else row["seed_sd"]
    return found


def tabulate_columns(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`summarise_measures` to read: a row a column, the first measures with their intervals over tasks; a dash for what is not there."""
    names = [name for name in LABELS if any(name in one for one in summary.values())]
    return [{"column": column, **_tabulate(one, names)} for column, one in summary.items()]


def _tabulate(one: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    cells = {LABELS[name]: _show_cell(one.get(name), one["intervals"].get(name), name) for name in names}
    spread = one["seed_sd"].get(PRIMARY, one["seed_sd"].get("rouge_l"))
    return {**cells, "seeds": one["training_seeds"], "SD over seeds": spread}


def _show_cell(value: float | None, ends: Sequence[float] | None, measure: str) -> str:
    if value is None or ends is None:
        return "–"
    how, factor = ("{:.0f}", 100) if measure == "stopped" else ("{:.3f}", 1) if measure == PRIMARY else ("{:.1f}", 1)
    value, low, high = (how.format(factor * number) for number in (value, *ends))
    # no line breaks within an interval
    return f"{value}\u00a0[{low},\u00a0{high}]" if measure in (PRIMARY, "rouge_l", "stopped") else value


def compare_measures(
    scores: Scores,
    pairs: Sequence[tuple[str, str]],
    clusters: Mapping[str, Sequence[str] | None],
    n_resamples: int = 10_000,
    random_seed: int = 0,
) -> list[dict[str, Any]]:
    """The difference of each pair in each of COMPARED, a record each: measure, pair, difference, low, high, p, p_holm, n, ...

    `minimum_detectable_difference` is the one planned with ASSUMED_SD, before looking, `observed_detectable_difference` the same with
    the SD that these differences have. Holm's correction is within a measure, and both figures are of its strictest step.
    """
    from ..analysis.paired import compare_columns

    records: list[dict[str, Any]] = []
    for measure in (name for name in COMPARED if name in scores):
        here = [pair for pair in pairs if set(pair) <= set(scores[measure])]
        if here:
            given = (scores[measure], here, clusters.get(measure))
            how = {"n_resamples": n_resamples, "random_seed": random_seed}
            table = compare_columns(*given, **how, sd=ASSUMED_SD[measure])
            # a few resamples: the SD is of the differences themselves
            seen = compare_columns(*given, n_resamples=100)["minimum_detectable_difference"]
            table["observed_detectable_difference"] = seen
            rows = table.astype(object).where(table.notna(), None).to_dict("records")
            records += [{"measure": measure, "pair": f"{row['a']} - {row['b']}", **row} for row in rows]
    return records


def say_difference(row: Mapping[str, Any]) -> str:
    """One comparison in a sentence, a null as a null, with what could have been seen."""
    difference, low, high = (_signed(row[name], row["measure"]) for name in ("difference", "low", "high"))
    head = f"{row['a']} minus {row['b']}: {difference} {UNITS[row['measure']]} [{low}, {high}], p {_show_p(row['p_holm'])} (Holm)"
    names = ("minimum_detectable_difference", "observed_detectable_difference")
    limit, here = (show_number(_scale(row[name], row["measure"])) for name in names)
    if row["p_holm"] >= CLEAR:
        return f"{head}: no difference seen (planned to see {limit}; by the SD here {here})."
    better = row["a"] if (row["difference"] < 0) == (row["measure"] in LOWER_IS_BETTER) else row["b"]
    return f"{head}: {better} is better (planned to see {limit})."


def _signed(value: float, measure: str) -> str:
    """With its sign, in as many decimals as tell."""
    decimals = {PRIMARY: 3, "stopped": 0}.get(measure, 2)
    return f"{_scale(value, measure):+.{decimals}f}".replace("-", "−")


def _scale(value: float | None, measure: str) -> float | None:
    """As tables and sentences show it: shares in percent."""
    return 100 * value if measure == "stopped" and value is not None else value


def _show_p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"


def tabulate_differences(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`compare_measures` to read."""
    return [
        {
            "measure": LABELS[row["measure"]], "pair": row["pair"].replace(" - ", " − "),
            "difference": _signed(row["difference"], row["measure"]),
            "95 % interval": f"[{_signed(row['low'], row['measure'])},\u00a0{_signed(row['high'], row['measure'])}]",
            "p (Holm)": _show_p(row["p_holm"]).removeprefix("= "),
            "could be seen from": _scale(row["minimum_detectable_difference"], row["measure"]),
            "by the SD here": _scale(row["observed_detectable_difference"], row["measure"]),
            "SD over seeds": _scale(row["seed_sd"], row["measure"]), "n": row["n"],
        }
        for row in records
    ]  # fmt: skip


def plot_differences(records: Sequence[Mapping[str, Any]], measure: str, ax: Axes) -> Axes:
    """The differences of one measure with their 95 % intervals, a line a pair; grey: less than was planned to be seen (80 % power)."""
    rows = [row for row in records if row["measure"] == measure]
    limit = max((row["minimum_detectable_difference"] for row in rows), default=ASSUMED_SD[measure])
    ax.axvspan(-limit, limit, color="0.93", zorder=0)
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=1)
    for height, row in enumerate(rows):
        colour = COLOURS[0] if row["p_holm"] < CLEAR else COLOURS[-1]
        ax.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=1.2)
        ax.plot(row["difference"], height, "o" if row["p_holm"] < CLEAR else "s", color=colour, markersize=4)
    ax.set_yticks(range(len(rows)), [row["pair"].replace(" - ", " −\n") for row in rows], fontsize=6.5)
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    side = "left" if measure in LOWER_IS_BETTER else "right"
    ax.set_xlabel(f"difference in {UNITS[measure]}\n({side}: the first is better)")
    return ax


def draw_differences(
    records: Sequence[Mapping[str, Any]], new_figure: Callable[..., Any], source: str = ""
) -> tuple[Any, Any]:
    """A panel for bits per byte and one for ROUGE-L, of those that were measured; (figure, its axes)."""
    import numpy as np

    measures = [name for name in (PRIMARY, "rouge_l") if any(row["measure"] == name for row in records)]
    rows = max((sum(row["measure"] == name for row in records) for name in measures), default=1)
    height = 0.6 + 0.32 * rows
    figure, axes = new_figure(height=height, source=source, columns=max(len(measures), 1), width=PAGE_INCHES)
    for measure, ax in zip(measures or [PRIMARY], np.atleast_1d(axes), strict=True):
        plot_differences(records, measure, ax)
    return figure, axes


# side by side


@dataclass(frozen=True)
class Extreme:
    """A task with the answers of two columns, and by how much the second scores higher."""

    task: EvaluationTask
    first: str
    second: str
    gain: float


def find_extremes(
    tasks: Sequence[EvaluationTask],
    first: Sequence[Response],
    second: Sequence[Response],
    gains: np.ndarray,
    show_rows: int = 3,
) -> list[Extreme]:
    """The `show_rows` largest gains of `second` over `first`, largest first, then as many losses, the largest first."""
    found = [
        Extreme(task, one["response"], other["response"], float(gain))
        for task, one, other, gain in zip(tasks, first, second, gains, strict=True)
    ]
    ordered = sorted(found, key=lambda one: -one.gain)
    best = [one for one in ordered[:show_rows] if one.gain > 0]
    return best + [one for one in ordered[::-1][:show_rows] if one.gain < 0]


class SideBySide:
    """Two answers to each task with what only one of them has marked; text of models, escaped, and never obeyed."""

    def __init__(self, extremes: Sequence[Extreme], first: str, second: str):
        self.extremes, self.names = extremes, (first, second)

    def _repr_html_(self) -> str:
        if not self.extremes:
            return "<p>(no difference)</p>"
        titles = ("gain", "task", "reference", *self.names)
        head = "".join(f'<th style="text-align:left">{html.escape(title)}</th>' for title in titles)
        body = "\n".join(self._html_row(one) for one in self.extremes)
        classes = "dataframe tex2jax_ignore mathjax_ignore"
        return f'<table class="{classes}"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'

    def _html_row(self, one: Extreme) -> str:
        answers = mark_words(_cut(one.first), _cut(one.second))
        texts = [_escape(_cut(one.task.prompt)), _escape(_cut(one.task.references[0])), *answers]
        style = "text-align:left;vertical-align:top;white-space:pre-wrap;max-width:22em;overflow-wrap:anywhere"
        cells = "".join(f'<td style="{style}">{text}</td>' for text in texts)
        return f'<tr><td style="vertical-align:top">{one.gain:+.1f}</td>{cells}</tr>'

    def __repr__(self) -> str:
        lines = []
        for one in self.extremes:
            texts = zip(("reference", *self.names), (one.task.references[0], one.first, one.second), strict=True)
            lines.append(f"{one.gain:+.1f}  {reveal(_cut(one.task.prompt))}")
            lines += [f"  {name}: {reveal(_cut(text))}" for name, text in texts]
        return "\n".join(lines) or "(no difference)"


def mark_words(first: str, second: str) -> tuple[str, str]:
    """Two texts as HTML: what only the first has is struck through in it, what only the second has is marked in that.

    >>> mark_words("a cat", "a <b>")[1]
    'a <ins style="background:#d8ecdf">&lt;b&gt;</ins>'
    """
    one, other = WORDS.findall(first), WORDS.findall(second)
    left, right = [], []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        texts = "".join(one[a:b]), "".join(other[c:d])
        left.append(_mark("del", LOST, texts[0]) if kind != "equal" else _escape(texts[0]))
        right.append(_mark("ins", GAINED, texts[1]) if kind != "equal" else _escape(texts[1]))
    return "".join(left), "".join(right)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _mark(tag: str, style: str, text: str) -> str:
    return f'<{tag} style="{style}">{_escape(text)}</{tag}>' if text else ""


def _escape(text: str) -> str:
    return html.escape(reveal(text), quote=False)


TABLE_3 = {
    "before_plain": "table3.gpt_3_175b",
    "run_data": "table3.gpt_3_self_instruct",
}  # ours, and what it corresponds to


def compare_table_3(summary: Mapping[str, Any], tasks: str) -> list[dict[str, Any]]:
    """The paper's Table 3 with our columns in the places of GPT-3 before and after, a record a row.

    The paper's ROUGE-L is of SuperNI, a model of 175 billion parameters and far more data: a level of ours says little next to it, and on
    other `tasks` nothing; the gain is what to look at.
    """
    ours = {published: column for column, published in TABLE_3.items() if column in summary}
    numbers = [number for number in paper_numbers() if number.where == "Table 3"]
    rows = [
        {
            "paper's model": number.what.removeprefix("ROUGE-L on SuperNI, "), "paper, SuperNI": number.value,
            "our column": ours.get(number.id), f"ours, {tasks}": summary.get(ours.get(number.id), {}).get("rouge_l"),
        }
        for number in numbers
    ]  # fmt: skip
    gain = _find_gain(summary)
    return [*rows, {"paper's model": "gain of Self-Instruct over plain GPT-3", "paper, SuperNI": paper_number("table3.gain").value,
                    "our column": "run_data − before_plain" if gain is not None else None, f"ours, {tasks}": gain}]  # fmt: skip


def _find_gain(summary: Mapping[str, Any]) -> float | None:
    values = [summary.get(name, {}).get("rouge_l") for name in ("run_data", "before_plain")]
    return None if None in values else values[0] - values[1]
