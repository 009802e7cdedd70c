"""The paper's figures in matplotlib: one function a figure, data and an `ax` in, the `ax` out.

    figure, ax = new_figure(source="release (n = 995)")
    plot_overlap({"release": scores}, ax)

Made for one column of a printed page (3.35 in; only the figure of `rings` may be wider), in the colours of Okabe and Ito,
which colour-blind readers can tell apart.
Where several data sets are drawn together they also differ in line style, and the y axis is their share, not their count.
A single one stands before the outline of the paper's release, scaled to as many values; few values get wide bars.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display import count_of
from ..files import read_json
from .statistics import LONG, PARTS

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..data.datasets import Dataset


COLUMN_INCHES, PAGE_INCHES = 3.35, 7.0  # one column of a printed page, and both
LEGEND_POINTS = 6.5
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
LINES = ("-", "--", "-.", ":")
STYLE = {
    "font.size": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": LEGEND_POINTS,
    "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "legend.frameon": False, "figure.dpi": 150,
    "svg.hashsalt": "selfinstruct",
}  # fmt: skip
# What a histogram needs for bars as narrow as the paper's: with fewer values, one bar more or less is chance
LENGTH_BARS = ((500, 1), (0, 5))  # at least so many values: words a bar
SCORE_BARS = ((1000, 0.01), (250, 0.02), (0, 0.05))
# The counts behind the paper's Figures 4 and 5 are not printed; these are of 1,000 rows of its release, in its narrow bars
SHAPES = Path(__file__).with_name("release_shapes.json")
SEEDS = "any seed task"
OUTLINE = "thin line: the shape of 1,000 rows of the paper's release"


def new_figure(
    rows: int = 1,
    height: float = 2.1,
    source: str = "",
    columns: int = 1,
    width: float = COLUMN_INCHES,
    words: Iterable[str] = (),
) -> tuple[Figure, Any]:
    """A figure `width` inches wide with `rows` axes, `height` inches each, in `columns`; `source` in small print below it.

    words: what else of the data will be written in it; characters that no font has are named in the small print.
    """
    import matplotlib.pyplot as plt

    fonts, unknown = find_fonts("".join([source, *words]))
    plt.rcParams.update({**STYLE, "font.family": ["sans-serif", *fonts]})
    if unknown:
        warnings.filterwarnings(
            "ignore", r"Glyph \d+ .*missing", UserWarning
        )  # one for each character and each drawing
        source = f"{source.rstrip('.')}. {_name_unknown(unknown)}".lstrip(". ")
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows), layout="constrained")
    if source:
        text = textwrap.fill(source, int(78 * width / COLUMN_INCHES))
        figure.text(0.5, -0.01, text, ha="center", va="top", fontsize=6, color="0.35", parse_math=False)
    return figure, axes


def find_fonts(text: str) -> tuple[list[str], str]:
    """Fonts of this machine for what matplotlib's own font lacks of `text`, and the characters that none of them has."""
    if text.isascii():
        return [], ""
    from matplotlib.font_manager import fontManager

    lacking = {one for one in text if one.isprintable()} - _read_letters(fontManager.findfont("DejaVu Sans"))
    chosen: list[str] = []
    plain = [one for one in fontManager.ttflist if one.style == "normal" and "Last Resort" not in one.name]
    for font in sorted(plain, key=lambda one: (abs(int(one.weight) - 400), one.name)) if lacking else []:
        if found := lacking & _read_letters(font.fname):
            lacking -= found
            chosen.append(font.name)
    return list(dict.fromkeys(chosen)), "".join(sorted(lacking))


@cache
def _read_letters(path: str) -> frozenset[str]:
    """The characters of a font file; none where matplotlib cannot draw with it, as with pictures in colour."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
        font.set_size(7, 100)
        return frozenset(map(chr, font.get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _name_unknown(letters: str) -> str:
    """A sentence on characters that will be boxes in the figure."""
    more = f" and {len(letters) - 1} more characters" if len(letters) > 1 else ""
    return (
        f"No font of this machine has U+{ord(letters[0]):04X}{more}: a box stands for each; Noto Sans has most scripts."
    )


def source_line(datasets: Sequence[Dataset], counts: Sequence[int], unit: str) -> str:
    """The small print: each data set, who wrote it, and n. Small models' words are always marked as theirs."""
    parts = [
        f"{one.name}{f', {one.label}' if one.label else ''} (n = {count_of(unit.removesuffix('s'), count)})"
        for one, count in zip(datasets, counts, strict=True)
    ]
    return "; ".join(parts)


def escape_dollars(text: str) -> str:
    """`text` for matplotlib, to which two dollar signs mean a formula."""
    return text.replace("$", r"\$")


def plot_lengths(words: Mapping[str, np.ndarray], ax: Axes, part: str = "instruction") -> Axes:
    """A histogram of lengths in words, as a panel of the paper's Figure 5: 0 to 60, one bar a word; medians dashed.

    words: data set -> lengths (n,). The legend tells n, and the share of the tail over 60. Of fewer than 500 values a bar
    takes in five words, 1 to 5 and so on.
    """
    import numpy as np

    width = _choose_width(words, LENGTH_BARS)
    bins = np.arange(0.5, LONG + 1, width)
    bins = np.append(-0.5, bins) if width == 1 else np.append(-0.5, bins[1:])  # no words at all: with the shortest
    _draw_histograms(words, bins, ax, part)
    for number, counts in enumerate(words.values()):
        if len(counts):
            ax.axvline(
                float(np.median(counts)), color=_choose_look(number)["color"], linestyle=(0, (2, 2)), linewidth=0.9
            )
    title = {"instruction": "instruction", "input": "input (where not empty)", "output": "output"}[part]
    bars = f", {width} a bar" if width > 1 else ""
    ax.set(xlim=(0, LONG), xlabel=f"length of the {title} in words{bars}")
    _add_legend([_label_lengths(name, counts, len(words) > 1) for name, counts in words.items()], ax)
    return ax


def _label_lengths(name: str, counts: np.ndarray, named: bool) -> str:
    import numpy as np

    prefix = f"{shorten_name(name)}: " if named else ""
    if not len(counts):
        return f"{prefix}none"
    over, longest = float((counts > LONG).mean()), int(counts.max())
    tail = f", {_show_percent(over)} > {LONG}" if over else ""
    end = "" if named else f", max {longest:,}"  # for several there is no room
    return f"{prefix}n = {len(counts):,}, median {np.median(counts):g}{tail}{end}"


def _show_percent(share: float) -> str:
    """One decimal, but never 0.0% for what is not 0."""
    return f"{share:.1%}" if share >= 0.0005 or not share else f"{100 * share:.1g}%"


def plot_overlap(scores: Mapping[str, np.ndarray], ax: Axes, threshold: float = 0.7, other: str = SEEDS) -> Axes:
    """A histogram of each instruction's best ROUGE-L with `other`, as the paper's Figure 4; the threshold dashed.

    scores: data set -> values in 0..1 (n,); bars are 0.01 wide, of fewer than 1,000 values 0.02, of fewer than 250 0.05,
    outlines of several data sets at least 0.02. Each holds its right end, not its left one.
    """
    import numpy as np

    width = max(_choose_width(scores, SCORE_BARS), 0.01 * min(len(scores), 2))
    # a hair above the round numbers: a score of just the threshold, which the filter keeps, stands left of the line
    bins = np.arange(0, 1 + width / 2, width) + 1e-9
    bins[0] = 0  # and 0 itself in the first bar
    _draw_histograms(scores, bins, ax, "overlap" if other == SEEDS else "")
    ax.axvline(threshold, color="0.2", linestyle=(0, (2, 2)), linewidth=0.9)
    ax.set(xlim=(0, 1.01), xlabel=f"best ROUGE-L with {other}")
    _add_legend([_label_overlap(name, values, threshold, len(scores) > 1) for name, values in scores.items()], ax)
    return ax


def _label_overlap(name: str, values: np.ndarray, threshold: float, named: bool) -> str:
    import numpy as np

    prefix = f"{shorten_name(name)}: " if named else ""
    return f"{prefix}mean {np.mean(values):.2f}, {_show_percent(float(np.mean(values > threshold)))} > {threshold:g}"


def shorten_name(name: str) -> str:
    """A data set's or an arm's name for legends and titles; a long one loses its middle, since names of one kind differ at the end."""
    return escape_dollars(name if len(name) <= 22 else f"{name[:7]}…{name[-12:]}")


def _choose_width(values: Mapping[str, np.ndarray], widths: Sequence[tuple[int, Any]]) -> Any:
    """The width of the bars that the smallest data set allows."""
    smallest = min((len(one) for one in values.values() if len(one)), default=0)
    return next(width for least, width in widths if smallest >= least)


def _draw_histograms(values: Mapping[str, np.ndarray], bins: np.ndarray, ax: Axes, shape: str) -> None:
    """Counts in bars for one data set, before the release's outline; outlines of shares, which compare across sizes, for several.

    shape: which outline, "" for none.
    """
    import numpy as np

    if len(values) == 1:
        (counts,) = values.values()
        heights, _ = np.histogram(counts, bins)
        ax.stairs(heights, bins, fill=True, color=COLOURS[0], alpha=0.75)
        outline = scale_shape(shape, bins, len(counts)) if shape and len(counts) else np.zeros(1)
        if outline.any():
            ax.stairs(outline, bins, color="0.35", linewidth=0.6, zorder=0.5)
        return _set_count_axis(ax, max(heights.max(), outline.max()), f"{shape}s" if shape in PARTS else "instructions")
    peak = 0.0
    for number, one in enumerate(values.values()):
        heights = np.histogram(one, bins)[0] / max(len(one), 1)
        peak = max(peak, float(heights.max()))
        ax.stairs(heights, bins, **_choose_look(number))
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %" if share <= 1 else "")
    ax.set(ylim=(0, 1.05 * peak or 1), ylabel="share")


def scale_shape(shape: str, bins: np.ndarray, count: int) -> np.ndarray:
    """What `count` values would have in `bins`, were they spread as the release's; `bins` join its narrow bars."""
    import numpy as np

    known = read_json(SHAPES)[shape]
    narrow = len(known["counts"])
    middles = np.arange(narrow) if shape in PARTS else (np.arange(narrow) + 0.5) / narrow
    return np.histogram(middles, bins, weights=known["counts"])[0] * count / known["n"]


def _set_count_axis(ax: Axes, peak: float, unit: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set(ylim=(0, 1.05 * float(peak) or 1), ylabel=unit)


def _choose_look(number: int) -> dict[str, str]:
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}


def _add_legend(labels: Sequence[str], ax: Axes) -> None:
    """The labels above the axes, clear of bars and lines; the figure grows by their height, so that the axes keep theirs."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **_choose_look(number)) for number in range(len(labels))]
    alone = {"handlelength": 0, "handletextpad": 0} if len(labels) == 1 else {"handlelength": 2.6}
    spacing = {"borderaxespad": 0.2, "borderpad": 0, "labelspacing": 0.25}
    ax.legend(handles, labels, loc="lower right", bbox_to_anchor=(1, 1), **spacing, **alone)
    ax.figure.set_figheight(ax.figure.get_figheight() + len(labels) * 1.3 * LEGEND_POINTS / 72)
