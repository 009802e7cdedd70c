"""The figures: the numbers they draw, labels that do not overlap, and text that matplotlib must not take for a formula."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch

from selfinstruct.analysis.figures import new_figure, plot_lengths, plot_overlap, source_line
from selfinstruct.analysis.method import BOXES, draw_method
from selfinstruct.analysis.rings import draw_verb_nouns, plot_verb_nouns, spread_turns
from selfinstruct.data.datasets import Dataset
from selfinstruct.data.formats import Row
from selfinstruct.paper.scorecard import plot_ratios
from selfinstruct.runfolder import RunFolder

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
    points = [
        (px, py)
        for px, py in (
            (box.x0, box.y0 + shrink),
            (box.x1, box.y0 + shrink),
            (box.x1, box.y1 - shrink),
            (box.x0, box.y1 - shrink),
        )
    ]
    return np.array([matrix @ (px - x, py - y) + (x, y) for px, py in points])


def overlap(a, b):
    """True if two convex shapes meet (separating axis theorem)."""
    for shape in (a, b):
        for i in range(4):
            edge = shape[i] - shape[i - 1]
            axis = np.array([-edge[1], edge[0]])
            if (a @ axis).max() <= (b @ axis).min() or (b @ axis).max() <= (a @ axis).min():
                return False
    return True


def drawn(pairs, width=3.35):
    figure, ax = new_figure(height=width, width=width)
    assert plot_verb_nouns(pairs, ax) is ax
    return figure, ax


def clashes(figure):
    """The pairs of texts that overlap, within each axes and between them, and the texts that leave the figure."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    shapes = [(text.get_text(), corners(text, renderer)) for ax in figure.axes for text in ax.texts]
    high = figure.bbox.y1 + 3
    out = [text for text, at in shapes if at.min() < -3 or at[:, 0].max() > figure.bbox.x1 + 3 or at[:, 1].max() > high]
    return [(a, b) for (a, one), (b, other) in itertools.combinations(shapes, 2) if overlap(one, other)], out


FEW = dict(list(SKEWED.items())[:7])


@pytest.mark.parametrize("width", [3.35, 5.0])
@pytest.mark.parametrize("pairs", [EVEN, SKEWED, STEEP, {"write": {"story": 3}}, FEW])
def test_no_label_overlaps_another_and_all_can_be_read_in_print(pairs, width):
    figure, ax = drawn(pairs, width)
    assert clashes(figure) == ([], [])
    assert min(text.get_fontsize() for text in ax.texts) >= 5


@pytest.mark.parametrize(("pairs", "width"), [(EVEN, 3.35), (EVEN, 5.0), (SKEWED, 5.0), (STEEP, 5.0)])
def test_every_verb_and_noun_is_named(pairs, width):
    texts = [text.get_text() for text in drawn(pairs, width)[1].texts]
    for verb, nouns in pairs.items():
        for noun in nouns:
            assert f"{verb} {noun}" in texts or (verb in texts and noun in texts)
    assert sum(text.split()[-1] in NOUNS for text in texts) == 80


def test_what_has_no_room_is_the_rarest_and_is_counted():
    texts = [text.get_text() for text in drawn(SKEWED)[1].texts]
    named = sum(text.split()[-1] in NOUNS for text in texts)
    assert f"the {80 - named} rarest pairs are not named" in texts and 40 <= named < 80
    assert "write" in texts and not any("categorize" in text for text in texts)


def test_a_crowded_figure_is_wider_than_a_column():
    assert [draw_verb_nouns({"a": pairs}, "x", {}).get_figwidth() for pairs in (FEW, SKEWED)] == [3.35, 5.0]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_several_data_sets_stand_two_by_two_on_a_page(count):
    names = ["a_very_long_name_of_a_data_set", "$b$", "c", "d", "e"][:count]
    figure = draw_verb_nouns(dict.fromkeys(names, EVEN), "x (n = 80)", dict.fromkeys(names, 0.5))
    figure.canvas.draw()
    assert figure.get_figwidth() == 7 and len(figure.axes) == count
    assert [ax.get_title() for ax in figure.axes[:2]] == [
        "a_very_long_name_of_a…: 50% of the instructions",
        r"\$b\$: 50% of the instructions",
    ]
    places = [ax.get_position() for ax in figure.axes]
    assert places[0].x1 <= places[1].x0 and places[0].y0 == pytest.approx(places[1].y0)
    if count > 2:
        assert places[2].y1 < places[0].y0 and places[2].x0 == pytest.approx(places[0].x0, abs=0.02)
    assert clashes(figure) == ([], [])
    assert len({round(ax.get_xlim()[1], 6) for ax in figure.axes}) == 1  # the same pairs are drawn alike in every panel


def test_slices_are_in_proportion():
    _, ax = new_figure(height=3.35)
    plot_verb_nouns({"write": {"story": 6, "letter": 2}, "give": {"list": 2}}, ax)
    spans = sorted(wedge.theta2 - wedge.theta1 for wedge in ax.patches)
    assert spans == pytest.approx([72, 72, 72, 216, 288], abs=1e-4)  # single precision


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
    [
        ([0.1, 0.11, 0.12, 0.6], 0.05),
        ([0.98, 0.99, 0.0, 0.01], 0.1),
        ([0.5], 0.5),
        ([0.2] * 10, 0.1),
        ([0.0, 0.3, 0.6], 0.05),
    ],
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
    ax = plot_lengths(
        {"a": np.array([1, 1, 2, 2]), "b": np.array([3]), "none": np.array([], dtype=int)}, new_figure()[1]
    )
    tops = [patch.get_data().values.max() for patch in ax.patches]
    assert tops == [0.5, 1.0, 0.0]
    styles = {(str(patch.get_edgecolor()), str(patch.get_linestyle())) for patch in ax.patches}
    assert len(styles) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "a: n = 4, median 1.5",
        "b: n = 1, median 3",
        "none: none",
    ]


def test_every_data_set_tells_its_n_and_its_tail():
    long = np.array([682] * 249 + [5])
    ax = plot_lengths({"a": np.array([1, 2]), "b": long, "c": np.array([1] * 9_999 + [61])}, new_figure()[1], "output")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [
        "a: n = 2, median 1.5",
        "b: n = 250, median 682, 99.6% > 60",
        "c: n = 10,000, median 1, 0.01% > 60",
    ]
    alone = plot_lengths({"a": np.array([1, 2])}, new_figure()[1]).get_legend().get_texts()[0].get_text()
    assert alone == "n = 2, median 1.5, max 2"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_the_legend_covers_neither_bars_nor_lines_and_takes_no_room_from_them(count):
    peak = np.array([1] * 52_445 + [60, 61])  # the highest bar is at the left, and one at the right end
    figure, axes = new_figure(3, 1.5, source="x")
    _, plain = new_figure(3, 1.5, source="x")
    for ax, part in zip(axes, ("instruction", "input", "output"), strict=True):
        plot_lengths({f"a_name_that_is_longer_than_any_legend_{k}": peak for k in range(count)}, ax, part)
    plain[0].set(xlabel="length of the instruction in words", ylabel="share")
    for each in (figure, plain[0].figure):
        each.canvas.draw()
    for ax in axes:
        box, inside = ax.get_legend().get_window_extent(), ax.get_window_extent()
        assert box.y0 >= inside.y1 - 0.5
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1
        assert ax.patches[0].get_data().values.max() < ax.get_ylim()[1]
        assert inside.height > 0.9 * plain[1].get_window_extent().height
    boxes = [ax.get_tightbbox() for ax in axes]
    assert all(above.y0 >= below.y1 - 1 for above, below in itertools.pairwise(boxes))


def test_the_overlaps_label_does_not_lie_across_the_threshold():
    for scores in ({"a": np.linspace(0, 1, 500)}, {"a": np.linspace(0, 1, 500), "b": np.ones(9)}):
        figure, ax = new_figure()
        plot_overlap(scores, ax)
        figure.canvas.draw()
        assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1 - 0.5


def test_overlap_scores_fall_into_the_right_bars():
    ax = plot_overlap({"a": np.array([0.0, 0.01, 0.29, 0.3, 0.7, 0.7, 0.71, 1.0])}, new_figure()[1])
    data = ax.patches[0].get_data()
    assert [data.values[i] for i in (0, 28, 29, 69, 70, 99)] == [2, 1, 1, 2, 1, 1] and data.values.sum() == 8
    assert data.edges[70] == pytest.approx(0.7)  # what is just the threshold stands left of its line
    assert "25.0% > 0.7" in ax.get_legend().get_texts()[0].get_text()


def test_every_score_that_can_be_is_in_the_bar_that_ends_there():
    exact = np.array([2 * k / n for n in range(2, 60) for k in range(n // 2 + 1)])  # as F-measures come about
    for scores in ({"a": exact}, {"a": exact, "b": exact}):
        data = plot_overlap(scores, new_figure()[1]).patches[0].get_data()
        shares = data.values / data.values.sum()
        past = shares[data.edges[:-1] > 0.7 - 1e-6].sum()
        assert past == pytest.approx((exact > 0.7).mean())


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
    boxes = [text.get_bbox_patch() for text in ax.texts]
    assert all(box.get_facecolor() == (1, 1, 1, 1) for box in boxes)  # the line at 1 does not run through the names
    assert min(text.get_zorder() for text in ax.texts) > ax.lines[-1].get_zorder()


def test_the_source_names_who_wrote_it_and_how_many():
    small = Dataset("mine", [Row("Say yes.")], "x", "written by SmolLM2-135M, a very small model")
    other = Dataset("other", [Row("Say no.")], "x")
    line = source_line([small, other], [1234, 5], "instructions")
    assert (
        line == "mine, written by SmolLM2-135M, a very small model (n = 1,234 instructions); other (n = 5 instructions)"
    )
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


def test_the_method_is_drawn_with_its_text_inside_its_boxes():
    figure = draw_method(seed_tasks=12)
    figure.canvas.draw()
    renderer, ax = figure.canvas.get_renderer(), figure.axes[0]
    boxes = [patch.get_window_extent(renderer) for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == len(BOXES) and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    places = {text.get_text(): text.get_window_extent(renderer) for text in ax.texts}
    assert "12 seed tasks" in places
    for box, outline in zip(BOXES, boxes, strict=True):
        for name in (box.title.format(seed_tasks=12), box.text):
            text = places[name]
            assert outline.x0 + 3 < text.x0 and text.x1 < outline.x1 - 3, name
            assert outline.y0 + 3 < text.y0 and text.y1 < outline.y1, name
    assert min(text.get_fontsize() for text in ax.texts) >= 7
