"""The figures: the numbers they draw, labels that do not overlap, and text that matplotlib must not take for a formula."""

from __future__ import annotations

import itertools
import json
import math
import re
import warnings
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.colors import to_rgb
from matplotlib.font_manager import fontManager
from matplotlib.patches import FancyBboxPatch

from selfinstruct.analysis.figures import (
    SHAPES,
    find_fonts,
    new_figure,
    plot_lengths,
    plot_overlap,
    scale_shape,
    shorten_name,
    source_line,
)
from selfinstruct.analysis.method import BOXES, draw_method
from selfinstruct.analysis.rings import choose_colours, draw_verb_nouns, order_verbs, plot_verb_nouns, spread_turns
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
# as many instructions a pair as in 1,000 rows of the paper's release, and in 5,000 of 52,002 of another model's
RELEASE, LARGE = (
    {verb: dict(zip(NOUNS, map(int, counts.split(",")), strict=False)) for verb, counts in zip(VERBS, rows.split(), strict=True)}
    for rows in (
        "21,16,11,10 10,5,5,4 11,5,3,2 6,2,2,1 5,2,2,1 2,2,2,2 4,2,2,2 2,2,1,1 4,2,2,1 1,1,1,1 2,1,1,1 2,2,2,1 1,1,1,1 "
        "2,1,1,1 1,1,1,1 3,2,1,1 2,1,1,1 1,1,1,1 2,1,1,1 1,1,1,1",
        "76,34,28,21 43,17,15,15 36,21,16,15 12,11,7,7 15,7,5,5 10,10,8,4 14,5,5,4 26,9,8,6 22,18,7,7 22,8,5,5 48,5,4,3 "
        "74,4,3,3 21,5,5,4 16,6,5,4 15,6,5,4 13,9,4,3 25,3 6,5,5,4 8,7,5,4 10,6,5,3",
    )
)  # fmt: skip


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


@pytest.mark.parametrize(("pairs", "width"), [(EVEN, 3.35), (EVEN, 5.0), (RELEASE, 5.0)])
def test_every_verb_and_noun_is_named(pairs, width):
    texts = [text.get_text() for text in drawn(pairs, width)[1].texts]
    for verb, nouns in pairs.items():
        for noun in nouns:
            assert f"{verb} {noun}" in texts or (verb in texts and noun in texts)
    assert sum(text.split()[-1] in NOUNS for text in texts) == 80


def test_what_has_no_room_is_the_rarest_and_is_counted():
    texts = [text.get_text() for text in drawn(SKEWED)[1].texts]
    named = sum(text.split()[-1] in NOUNS for text in texts)
    assert f"the {80 - named} rarest pairs are not named" in texts and 30 <= named < 80
    assert "write" in texts and not any("categorize" in text for text in texts)


def measure_shifts(ax):
    """Degrees between each noun's label and the middle of its slice: the two ends of the line that ties them."""
    ends = [np.degrees(np.arctan2(line.get_xdata()[[0, -1]], line.get_ydata()[[0, -1]])) for line in ax.lines]
    return [abs((label - of_slice + 180) % 360 - 180) for of_slice, label in ends]


@pytest.mark.parametrize("sets", [{"one": RELEASE}, dict(zip("abcd", (RELEASE, LARGE, SKEWED, STEEP), strict=True))])
def test_no_label_stands_far_from_its_slice(sets):
    figure = draw_verb_nouns(sets, "x", dict.fromkeys(sets, 0.1))
    for ax in figure.axes:
        shifts = measure_shifts(ax)
        assert np.mean(shifts) <= max(shifts) <= 8.01
        assert min(text.get_fontsize() for text in ax.texts) >= 5
        named = sum(text.get_text().split()[-1] in NOUNS for text in ax.texts)
        note = "" if named == len(shifts) == 80 else ax.texts[-1].get_text()
        assert not note or "rarest pairs are not named" in note
    assert len(measure_shifts(figure.axes[0])) >= (80 if len(sets) == 1 else 40)
    assert clashes(figure) == ([], [])


def test_a_verb_has_one_colour_in_all_rings_and_its_neighbours_have_others():
    rings = [RELEASE, dict(reversed(LARGE.items())), {"write": {"story": 1}, "cook": {"soup": 9}}]
    colours = choose_colours(rings)
    assert set(colours) == {*VERBS, "cook"} and len(set(colours.values())) == 7
    for ring in rings:
        order = order_verbs(ring)
        assert all(colours[one] != colours[other] for one, other in itertools.pairwise([*order, order[0]]))
    figure = draw_verb_nouns(dict(zip("abc", rings, strict=True)), "x", dict.fromkeys("abc", 0.1))
    for ring, ax in zip(rings, figure.axes, strict=True):
        inner = [patch.get_facecolor()[:3] for patch in ax.patches[: len(ring)]]
        assert inner == [pytest.approx(to_rgb(colours[verb])) for verb in order_verbs(ring)]


def test_a_long_word_is_cut_where_it_is_written():
    long = {"x" * 5000: 3, "Donaudampfschifffahrtsgesellschaft": 2, "recommendation": 2, "W" * 40: 1}
    figure, ax = drawn({"internationalise" * 3: long, "a": {"b": 9}})
    texts = [text.get_text() for text in ax.texts[:-1]]
    assert any(text.endswith("recommendation 2") for text in texts) and any("Donaudampfsch" in text for text in texts)
    assert max(map(len, " ".join(texts).split())) < 22
    assert clashes(figure) == ([], [])
    assert ax.get_xlim()[1] < 1 / 0.3  # the rings keep some of the room


@pytest.mark.parametrize("name", ["语言模型", "ภาษาไทย"])
def test_what_no_font_has_is_one_sentence(tmp_path, name):
    with warnings.catch_warnings(record=True) as caught:
        figure = draw_verb_nouns({name: {"写": {"故事": 2, "诗": 1}}}, f"{name} (n = 3 instructions).", {name: 1})
        plot_lengths({name: np.array([1, 2])}, new_figure(source=f"{name} (n = 2)")[1])
        for number in plt.get_fignums():
            plt.figure(number).savefig(tmp_path / f"{number}.svg")
    assert not [one for one in caught if "Glyph" in str(one.message)]
    note = " ".join(figure.texts[0].get_text().split())
    assert re.search(
        r"\(n = 3 instructions\)\. No font of this machine has U\+\w{4} and \d more characters: a box", note
    )


def test_a_font_of_the_machine_takes_what_ours_lacks(tmp_path, monkeypatch):
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "yu"])
    font.setupCharacterMap({ord("语"): "yu"})
    pen = TTGlyphPen(None)
    for x, y in ((0, 0), (0, 900), (900, 900)):
        (pen.lineTo if (x, y) != (0, 0) else pen.moveTo)((x, y))
    pen.closePath()
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "yu": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (500, 0), "yu": (1000, 0)})
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": "Yu Only", "styleName": "Regular"})
    font.setupOS2(sTypoAscender=900)
    font.setupPost()
    font.save(tmp_path / "yu.ttf")
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist])
    fontManager.addfont(tmp_path / "yu.ttf")
    assert find_fonts("a语è") == (["Yu Only"], "") and find_fonts("语言") == (["Yu Only"], "言")
    figure, _ = new_figure(source="语 (n = 1)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    assert figure.texts[0].get_text() == "语 (n = 1)"


def test_a_crowded_figure_is_wider_than_a_column():
    assert [draw_verb_nouns({"a": pairs}, "x", {}).get_figwidth() for pairs in (FEW, SKEWED)] == [3.35, 5.0]


def test_long_names_that_differ_at_the_end_stay_apart():
    short = [shorten_name(f"num_prompt_instructions={number}") for number in (8, 16)]
    assert short == ["num_pro…structions=8", "num_pro…tructions=16"] and shorten_name("$a") == r"\$a"


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_several_data_sets_stand_two_by_two_on_a_page(count):
    names = ["a_very_long_name_of_a_data_set", "$b$", "c", "d", "e"][:count]
    figure = draw_verb_nouns(dict.fromkeys(names, EVEN), "x (n = 80)", dict.fromkeys(names, 0.5))
    figure.canvas.draw()
    assert figure.get_figwidth() == 7 and len(figure.axes) == count
    assert [ax.get_title() for ax in figure.axes[:2]] == [
        "a_very_…f_a_data_set: 50% of the instructions",
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


def test_few_instructions_say_how_many_a_slice_is():
    def notes(pairs):
        texts = [text.get_text() for text in drawn(pairs)[1].texts]
        return texts, next((text for text in texts if "each slice" in text), "")

    texts, note = notes({"write": {"story": 3, "poem": 1}, "give": {"list": 1}})
    assert note == "each slice is 1 instruction, or as many as its label says; 5 in all"
    assert {"story 3", "poem", "list"} <= set(texts)
    assert notes({"write": {"story": 1}, "give": {"list": 1}})[1] == "each slice is 1 instruction; 2 in all"
    assert notes({"write": {"story": 4}, "give": {"list": 4}})[1] == "each slice is 4 instructions; 8 in all"
    assert notes({"write": {"story": 98, "poem": 1}})[1] and not notes({"write": {"story": 99, "poem": 1}})[1]


def test_every_slice_of_a_crowded_small_figure_fits_beside_its_line():
    ones = {verb: dict.fromkeys(NOUNS, 1) for verb in VERBS}  # 80 slices
    figure, ax = drawn(ones, 5.0)
    assert clashes(figure) == ([], []) and "each slice is 1 instruction; 80 in all" in ax.texts[-1].get_text()
    assert ax.texts[-1].get_window_extent().x0 > 0


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


def draw_heights(ax):
    """The bars of a single data set, and their edges."""
    data = ax.patches[0].get_data()
    return data.values, data.edges


def test_lengths_are_the_papers_figure():
    ax = plot_lengths({"a": np.array([1, 1, 2, 60, 61, 500] * 100)}, new_figure()[1], "output")
    heights, edges = draw_heights(ax)
    assert ax.get_xlim() == (0, 60)
    assert len(heights) == 61 and set(np.diff(edges)) == {1}
    assert (heights[1], heights[2], heights[60], heights.sum()) == (200, 100, 100, 400)
    assert "33.3% > 60, max 500" in ax.get_legend().get_texts()[0].get_text()
    assert ax.get_xlabel() == "length of the output in words"


def test_bars_of_one_word_become_bins_where_texts_are_few():
    ax = plot_lengths({"a": np.array([0, 1, 5, 6, 10, 11, 60, 61] * 62)}, new_figure()[1])  # 496
    heights, edges = draw_heights(ax)
    assert len(heights) == 12 and list(edges[1:3]) == [5.5, 10.5] and edges[-1] == 60.5
    assert list(heights) == [186, 124, 62, *[0] * 8, 62]  # 0 to 5, 6 to 10, 11 to 15, ..., 56 to 60
    assert ax.get_xlabel().endswith("in words, 5 a bar")
    assert len(draw_heights(plot_lengths({"a": np.ones(500)}, new_figure()[1]))[0]) == 61
    mixed = plot_lengths({"many": np.ones(900), "few": np.ones(9), "none": np.array([])}, new_figure()[1])
    assert {len(patch.get_data().values) for patch in mixed.patches} == {12}  # all as the smallest, to compare


@pytest.mark.parametrize(("count", "bars"), [(60, 20), (249, 20), (250, 50), (999, 50), (1000, 100)])
def test_overlap_bars_are_wider_where_instructions_are_few(count, bars):
    scores = np.linspace(0, 1, count)
    heights, edges = draw_heights(plot_overlap({"a": scores}, new_figure()[1]))
    assert len(heights) == bars and heights.sum() == count
    assert min(abs(edges - 0.7)) < 1e-6  # the threshold is the edge of a bar
    assert heights[edges[:-1] > 0.7 - 1e-6].sum() == (scores > 0.7).sum()
    two = plot_overlap({"a": scores, "b": scores}, new_figure()[1])
    assert len(two.patches[0].get_data().values) == min(bars, 50)


def test_the_y_axis_follows_the_data():
    for count in (60, 52_445):
        for ax in (
            plot_lengths({"a": np.full(count, 9)}, new_figure()[1]),
            plot_overlap({"a": np.full(count, 0.3)}, new_figure()[1]),
        ):
            assert ax.get_ylim() == (0, pytest.approx(1.05 * count))


def test_a_single_data_set_stands_before_the_outline_of_the_release():
    for count in (60, 2000):
        for ax in (
            plot_lengths({"a": np.full(count, 50)}, new_figure()[1], "output"),
            plot_overlap({"a": np.full(count, 0.9)}, new_figure()[1]),
        ):
            bars, outline = ax.patches
            assert bars.get_fill() and not outline.get_fill() and outline.get_zorder() < bars.get_zorder()
            assert 0.8 * count < outline.get_data().values.sum() <= count + 1e-6
            assert outline.get_data().values.max() < ax.get_ylim()[1]
            assert list(outline.get_data().edges) == list(bars.get_data().edges)
    one_word = plot_lengths({"a": np.full(1000, 50)}, new_figure()[1], "output").patches[1].get_data().values[1]
    assert one_word == pytest.approx(353)  # of 1,000 rows of the release
    nearest = plot_overlap({"a": np.full(60, 0.9)}, new_figure()[1], other="any other instruction")
    several = plot_lengths({"a": np.ones(9), "b": np.ones(9)}, new_figure()[1])
    assert (len(nearest.patches), len(several.patches)) == (
        1,
        2,
    )  # none: how near others are depends on how many there are


def test_wide_bars_of_the_release_hold_what_its_narrow_ones_do():
    for shape, bins in (("instruction", np.append(-0.5, np.arange(5.5, 61, 5))), ("overlap", np.arange(21) / 20)):
        counts = json.loads(SHAPES.read_text())[shape]
        heights = scale_shape(shape, bins, counts["n"])
        assert heights.sum() == pytest.approx(sum(counts["counts"]))
        assert heights[2] == pytest.approx(
            sum(counts["counts"][11:16] if shape != "overlap" else counts["counts"][10:15])
        )


def test_several_data_sets_are_drawn_as_shares():
    ax = plot_lengths(
        {"a": np.array([1, 1, 2, 9]), "b": np.array([3]), "none": np.array([], dtype=int)}, new_figure()[1]
    )
    tops = [patch.get_data().values.max() for patch in ax.patches]
    assert tops == [0.75, 1.0, 0.0]
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
    few = np.array([0.0, 0.01, 0.29, 0.3, 0.7, 0.7, 0.71, 1.0])
    ax = plot_overlap({"a": np.tile(few, 125)}, new_figure()[1])
    values, edges = draw_heights(ax)
    assert [values[i] / 125 for i in (0, 28, 29, 69, 70, 99)] == [2, 1, 1, 2, 1, 1] and values.sum() == 1000
    assert edges[70] == pytest.approx(0.7)  # what is just the threshold stands left of its line
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

    figure, ax = new_figure()
    name = "instructions with a root verb and a direct object, share"
    plot_ratios(
        [
            row("first", 50.0, 25.0, [20, 30], "differs"),
            row("$last", 2.0, 2.0, [1.8, 2.2], "reproduced"),
            row(name, 9.0, 0.0, [0, 27], "not measured"),
        ],
        ax,
    )
    figure.canvas.draw()
    intervals, dots = ax.lines[0:-1:2], ax.lines[1:-1:2]
    assert [list(line.get_xdata()) for line in intervals[:2]] == [pytest.approx([0.4, 0.6]), pytest.approx([0.9, 1.1])]
    assert [line.get_xdata()[0] for line in dots[:2]] == [0.5, 1] and ax.lines[-1].get_xdata() == [1, 1]
    assert ax.get_xscale() == "log"
    assert [*intervals[2].get_xdata()] == [dots[2].get_xdata()[0], 3] == [ax.get_xlim()[0], 3]  # 0 is at the left end
    assert len({dot.get_marker() for dot in dots}) == 3  # told apart without colour, too
    legend = {text.get_text() for text in ax.get_legend().get_texts()}
    assert legend == {"differs", "reproduced", "too little data"}
    names = ax.get_yticklabels()
    assert [one.get_text().replace("\n", " ") for one in names] == ["first", r"\$last", name]
    assert names[0].get_window_extent().y0 > names[1].get_window_extent().y1  # the first row is on top
    assert all(one.get_window_extent().x1 <= ax.get_window_extent().x0 for one in names)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_scorecard_without_numbers_has_empty_axes(rows):
    figure, ax = new_figure()
    assert plot_ratios(
        [SimpleNamespace(what="x", published=5, ours=5, interval=[4.9, 5], verdict="reproduced")] * rows, ax
    )
    figure.canvas.draw()
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert {"0.5", "1", "2"} <= set(ticks)


def test_the_source_names_who_wrote_it_and_how_many():
    small = Dataset("mine", [Row("Say yes.")], "x", "written by SmolLM2-135M, a very small model")
    other = Dataset("other", [Row("Say no.")], "x")
    line = source_line([small, other], [1234, 5], "instructions")
    assert (
        line == "mine, written by SmolLM2-135M, a very small model (n = 1,234 instructions); other (n = 5 instructions)"
    )
    assert source_line([other], [1], "instructions") == "other (n = 1 instruction)"
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


def test_in_a_notebook_the_saved_picture_is_shown_and_not_drawn_a_third_time(tmp_path, monkeypatch):
    import IPython.display
    import matplotlib
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    monkeypatch.setattr(IPython.display, "display", shown.append)
    figure, _ = pyplot.subplots()
    path = RunFolder(tmp_path, "12_measure_lengths").save_figure(figure, "lengths")
    assert [picture.data for picture in shown] == [path.read_bytes()]
    assert not pyplot.fignum_exists(figure.number)
