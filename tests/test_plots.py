"""The figures: the numbers they draw, labels that do not overlap, and text that matplotlib must not take for a formula."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from selfinstruct.datasets import Dataset, Row
from selfinstruct.plots import new_figure, plot_lengths, plot_overlap, plot_ratios, source_line
from selfinstruct.runfolder import RunFolder
from selfinstruct.sunburst import plot_verb_nouns, spread_turns

matplotlib.use("Agg")

VERBS = (
    "write give find create make describe design generate classify have explain tell identify output predict detect "
    "summarize translate recommend categorize"
).split()
NOUNS = ("function", "essay", "paragraph", "recommendation")
EVEN = {verb: {noun: 10 for noun in NOUNS} for verb in VERBS}
SKEWED = {
    verb: {noun: int(4000 * 0.72**i * 0.8**k) + 31 for k, noun in enumerate(NOUNS)} for i, verb in enumerate(VERBS)
}
STEEP = {verb: {noun: max(1, int(9000 / 4**i)) for noun in NOUNS} for i, verb in enumerate(VERBS)}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def corners(text, renderer):
    """The four corners, in pixels, of a text's own rectangle, turned as the text is."""
    angle, mode = text.get_rotation(), text.get_rotation_mode()
    x, y = text.get_transform().transform(text.get_position())
    text.set_rotation(0)
    box = text.get_window_extent(renderer)
    text.set_rotation(angle)
    assert mode == "anchor"
    shrink = 0.06 * box.height  # the box has some air above and below the letters
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = [(px, py) for px, py in ((box.x0, box.y0 + shrink), (box.x1, box.y0 + shrink), (box.x1, box.y1 - shrink), (box.x0, box.y1 - shrink))]
    return np.array([matrix @ (px - x, py - y) + (x, y) for px, py in points])


def overlap(a, b):
    """Whether two convex shapes meet (separating axis theorem)."""
    for shape in (a, b):
        for i in range(4):
            edge = shape[i] - shape[i - 1]
            axis = np.array([-edge[1], edge[0]])
            if (a @ axis).max() <= (b @ axis).min() or (b @ axis).max() <= (a @ axis).min():
                return False
    return True


@pytest.mark.parametrize("pairs", [EVEN, SKEWED, STEEP, {"write": {"story": 3}}, dict(list(SKEWED.items())[:7])])
def test_no_label_overlaps_another_at_column_width(pairs):
    figure, ax = new_figure(height=3.35)
    assert plot_verb_nouns(pairs, ax) is ax
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    rectangles = [(text.get_text(), corners(text, renderer)) for text in ax.texts]
    clashes = [(a, b) for (a, one), (b, other) in itertools.combinations(rectangles, 2) if overlap(one, other)]
    assert clashes == []
    for _, points in rectangles:  # and all of it inside the figure
        assert points.min() >= -3 and points[:, 0].max() <= figure.bbox.x1 + 3 and points[:, 1].max() <= figure.bbox.y1 + 3


@pytest.mark.parametrize("pairs", [EVEN, SKEWED, STEEP])
def test_every_verb_and_noun_is_named(pairs):
    _, ax = new_figure(height=3.35)
    plot_verb_nouns(pairs, ax)
    texts = [text.get_text() for text in ax.texts]
    for verb, nouns in pairs.items():
        for noun in nouns:
            assert f"{verb} {noun}" in texts or (verb in texts and noun in texts)
    assert sum(text.split()[-1] in NOUNS for text in texts) == 80
    assert min(text.get_fontsize() for text in ax.texts) >= 4


def test_slices_are_in_proportion():
    _, ax = new_figure(height=3.35)
    plot_verb_nouns({"write": {"story": 6, "letter": 2}, "give": {"list": 2}}, ax)
    spans = sorted(round(wedge.theta2 - wedge.theta1, 6) for wedge in ax.patches)
    assert spans == [72, 72, 72, 216, 288]


def test_no_pairs_is_said():
    _, ax = new_figure(height=3.35)
    plot_verb_nouns({}, ax)
    assert "no verb-noun pair" in ax.texts[0].get_text()


@pytest.mark.filterwarnings("ignore:Glyph")
def test_dollars_and_signs_in_labels_are_text(tmp_path):
    _, ax = new_figure(height=3.35, source="$x^$ (n = 1)")
    plot_verb_nouns({"$\\frac{": {"_{^$": 2, "语": 1}}, ax)
    plot_lengths({"a_$b$": np.array([1, 2])}, new_figure()[1])
    plot_overlap({"$\\bad{": np.array([0.1]), "$": np.array([0.2])}, new_figure()[1])
    for number in plt.get_fignums():
        plt.figure(number).savefig(tmp_path / f"{number}.svg")


@pytest.mark.parametrize(
    ("turns", "gap"),
    [([0.1, 0.11, 0.12, 0.6], 0.05), ([0.98, 0.99, 0.0, 0.01], 0.1), ([0.5], 0.5), ([0.2] * 10, 0.1), ([0.0, 0.3, 0.6], 0.05)],
)
def test_labels_are_spread_no_further_than_needed(turns, gap):
    moved = spread_turns(sorted(turns), gap)
    steps = [(b - a) % 1 for a, b in zip(moved, [*moved[1:], moved[0]], strict=True)]
    if len(turns) > 1:
        assert min(steps) >= gap - 1e-9
        assert math.isclose(sum(steps), 1, abs_tol=1e-9)  # still in order, once around
    if len(set(turns)) == len(turns) and min(np.diff(sorted(turns)), default=1) >= gap:
        assert moved == pytest.approx(sorted(turns))


def test_lengths_are_the_papers_figure():
    ax = plot_lengths({"a": np.array([1, 1, 2, 60, 61, 500])}, new_figure()[1], "output")
    stairs = ax.patches[0]
    heights, edges = stairs.get_data().values, stairs.get_data().edges
    assert ax.get_xlim() == (0, 60)
    assert len(heights) == 61 and (edges[1] - edges[0]) == 1
    assert (heights[1], heights[2], heights[60], heights.sum()) == (2, 1, 1, 4)
    assert "33.3% > 60, max 500" in ax.get_legend().get_texts()[0].get_text()
    assert ax.get_xlabel() == "length of the output in words"


def test_the_y_axis_is_the_papers_scaled_unless_bars_would_not_fit():
    count = 52_445
    spread = plot_lengths({"a": np.arange(count) % 50}, new_figure()[1])
    assert spread.get_ylim() == (0, 6_000)
    peaked = plot_lengths({"a": np.full(count, 9)}, new_figure()[1])
    assert peaked.get_ylim()[1] > count
    overlap_axis = plot_overlap({"a": np.linspace(0, 0.69, count)}, new_figure()[1])
    assert overlap_axis.get_ylim() == (0, 3_000)


def test_several_data_sets_are_drawn_as_shares():
    ax = plot_lengths({"a": np.array([1, 1, 2, 2]), "b": np.array([3]), "none": np.array([], dtype=int)}, new_figure()[1])
    tops = [patch.get_data().values.max() for patch in ax.patches]
    assert tops == [0.5, 1.0, 0.0]
    styles = {(str(patch.get_edgecolor()), str(patch.get_linestyle())) for patch in ax.patches}
    assert len(styles) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a: median 1.5", "b: median 3", "none: none"]


def test_overlap_scores_fall_into_the_right_bars():
    ax = plot_overlap({"a": np.array([0.0, 0.29, 0.3, 0.7, 0.7000000000000001, 1.0])}, new_figure()[1])
    heights = ax.patches[0].get_data().values
    assert [heights[i] for i in (0, 29, 30, 70, 100)] == [1, 1, 1, 2, 1]
    assert "33.3% > 0.7" in ax.get_legend().get_texts()[0].get_text()


def test_ratios_stand_where_they_belong_and_are_named():
    def row(what, published, ours, interval, verdict):
        return SimpleNamespace(what=what, published=published, ours=ours, interval=interval, verdict=verdict)

    _, ax = new_figure()
    plot_ratios([row("first", 50.0, 25.0, [20, 30], "differs"), row("$last", 2.0, 2.0, [1.8, 2.2], "reproduced")], ax)
    intervals, dots = ax.lines[0:-1:2], ax.lines[1:-1:2]
    assert [list(line.get_xdata()) for line in intervals] == [pytest.approx([0.9, 1.1]), pytest.approx([0.4, 0.6])]
    assert [line.get_xdata()[0] for line in dots] == [1, 0.5] and ax.lines[-1].get_xdata() == [1, 1]
    assert dots[0].get_marker() != dots[1].get_marker()  # told apart without colour, too
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert heights["first"] > heights[r"\$last"]  # the first row is on top


def test_the_source_names_who_wrote_it_and_how_many():
    small = Dataset("mine", [Row("Say yes.")], "x", "written by SmolLM2-135M, a very small model")
    other = Dataset("other", [Row("Say no.")], "x")
    line = source_line([small, other], [1234, 5], "instructions")
    assert line == "mine, written by SmolLM2-135M, a very small model (n = 1,234 instructions); other (n = 5 instructions)"
    figure, _ = new_figure(source=line)
    assert "very small model" in figure.texts[0].get_text().replace("\n", " ")


def test_the_same_figure_is_the_same_file(tmp_path):
    written = []
    for name in ("one", "two"):
        figure, ax = new_figure(height=3.35, source="x (n = 80)")
        plot_verb_nouns(SKEWED, ax)
        path = RunFolder(tmp_path / name, "11_parse_verb_nouns").save_figure(figure, "verb_nouns")
        written.append((path.read_bytes(), path.with_suffix(".svg").read_bytes()))
    assert written[0] == written[1]
    assert plt.imread(path).shape[1] < 700  # pixels: one column at 150 dpi
