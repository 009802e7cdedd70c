"""The two-ring figure of verbs and nouns (paper Figure 3), with labels that never overlap.

Slices are drawn in exact proportion, verbs large and small in turn, so that thin slices do not crowd. Noun labels stand
outside, moved apart just as far as their height asks and tied to their slices by thin lines, but never by more than eight
degrees, or a label would stand in front of another verb. A verb's label stands in its slice; where that is too thin, the
verb joins its nouns outside. Where labels do not fit so they get smaller, down to five points, the least for print; what
still finds no room is left out, the rarest pairs first, and counted below. Where the rings stand for fewer than 100
instructions a slice is a handful: the labels say how many, and the line below that one is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from .figures import COLOURS, COLUMN_INCHES, PAGE_INCHES, new_figure, shorten_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Pairs = Mapping[str, Mapping[str, int]]  # verb -> noun -> count
CROWDED, CROWDED_INCHES = 40, 5.0  # labels that fill a column, and the width of a figure with more
HOLE, VERBS_END, NOUNS_END, LABELS_START = 0.12, 0.54, 0.66, 0.72  # radii
SIZES = [tenths / 10 for tenths in range(70, 49, -1)]  # points: smaller ones cannot be read in print
LINE_HEIGHT = 1.1  # of a label, in font sizes
LONGEST, LONGEST_PREFIX = 10.0, 6.0  # font sizes of a word, and of a verb before its noun: "recommendation" has nine
LEAST_RINGS = 0.3  # of the room, each way from the middle: smaller letters come before smaller rings
MOST_SHIFT = 8 / 360  # turns between a label and the middle of its slice
NOTE = 6.0  # points, of the line below the rings
FEW = 100  # instructions: of fewer, the rings say how many each slice is
SLACK = 0.97  # of the room around the circle is filled at most: a full one would push every label far from its place
ROUNDS, SETTLED = 12, 0.99


class Label(NamedTuple):
    """A text, the turn where the middle of its slice is, clockwise from the top, the slice's share of the circle, its colour."""

    text: str
    turn: float
    share: float
    colour: str


Slice = tuple[Label, list[Label]]  # a verb and its nouns


class Fit(NamedTuple):
    """Points a radius, the labels outside with their size in points and the turns they are moved to, how many were left out."""

    unit: float
    size: float
    labels: list[Label]
    turns: list[float]
    unnamed: int = 0


def draw_verb_nouns(sets: Mapping[str, Pairs], source: str, covered: Mapping[str, float]) -> Figure:
    """The whole figure: one data set in a column, or five inches wide if it is crowded; several two by two on a page.

    sets and covered: data set -> its pairs, and the share of its instructions that they are. A verb has one colour in all.
    """
    words = [word for pairs in sets.values() for verb, nouns in pairs.items() for word in (verb, *nouns)]
    if len(sets) == 1:
        (pairs,) = sets.values()
        width = CROWDED_INCHES if sum(map(len, pairs.values())) > CROWDED else COLUMN_INCHES
        figure, ax = new_figure(1, width, source, width=width, words=words)
        plot_verb_nouns(pairs, ax)
        return figure
    rows, height = math.ceil(len(sets) / 2), PAGE_INCHES / 2 + 0.2
    figure, grid = new_figure(rows, height, source, columns=2, width=PAGE_INCHES, words=[*words, *sets])
    for ax in grid.flat[len(sets) :]:
        ax.remove()
    panels = list(zip(sets.items(), grid.flat, strict=False))
    for (name, _), ax in panels:
        ax.axis("off")
        ax.set_title(f"{shorten_name(name)}: {covered[name]:.0%} of the instructions")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # all panels keep the room that the titles leave, whatever is drawn in the others
    colours = choose_colours(list(sets.values()))
    for (_, pairs), ax in panels:
        plot_verb_nouns(pairs, ax, colours)
    return figure


def plot_verb_nouns(pairs: Pairs, ax: Axes, colours: Mapping[str, str] | None = None) -> Axes:
    """Draw verb -> noun -> count as two rings, clockwise from the top, verbs inside and their nouns outside.

    colours: verb -> its colour, where several rings share them.
    """
    ax.axis("off")
    ax.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    if not pairs:
        ax.text(0, 0, "no verb-noun pair occurs often enough", ha="center", va="center")
        return ax
    slices, whole = _cut_slices(pairs, colours or choose_colours([pairs])), count_instructions(pairs)
    ax.figure.draw_without_rendering()  # lays the axes out
    scale = 36 * ax.get_window_extent().width / ax.figure.dpi  # half their width in points
    fit = fit_labels(slices, scale, noted=whole < FEW)
    _draw_rings(ax, slices)
    for verb, _ in slices:
        if size := _fit_verb(verb, fit.unit):
            _write(ax, verb.text, verb.turn, VERBS_END - 0.02, size, inwards=True, weight="bold")
    for label, turn in zip(fit.labels, fit.turns, strict=True):
        _tie(ax, label, turn)
        _write(ax, label.text, turn, LABELS_START, fit.size)
    half = scale / fit.unit
    ax.set(xlim=(-half, half), ylim=(-half, half))
    notes = [describe_slices(pairs)] if whole < FEW else []
    notes += [f"the {fit.unnamed} rarest pairs are not named"] if fit.unnamed else []
    if notes:
        place = {"ha": "center", "va": "bottom", "rotation_mode": "anchor"}
        ax.text(0, -half, "; ".join(notes), fontsize=NOTE, color="0.35", **place)
    return ax


def count_instructions(pairs: Pairs) -> int:
    """How many instructions the rings stand for."""
    return sum(sum(nouns.values()) for nouns in pairs.values())


def describe_slices(pairs: Pairs) -> str:
    """How many instructions an outer slice of a small figure is, and the whole."""
    sizes = {count for nouns in pairs.values() for count in nouns.values()}
    size = min(sizes) if len(sizes) == 1 else 1
    labelled = ", or as many as its label says" if len(sizes) > 1 else ""
    return f"each slice is {size} instruction{'s' * (size > 1)}{labelled}; {count_instructions(pairs)} in all"


def order_verbs(pairs: Pairs) -> list[str]:
    """The verbs as they stand around the circle: the largest, the smallest, the second largest, and so on."""
    ranked = sorted(pairs, key=lambda verb: -sum(pairs[verb].values()))
    return [ranked[i // 2] if i % 2 == 0 else ranked[-1 - i // 2] for i in range(len(ranked))]


def choose_colours(rings: Sequence[Pairs]) -> dict[str, str]:
    """verb -> its colour in all `rings`: of those that no neighbour has in any of them, the one used least."""
    orders = [order_verbs(pairs) for pairs in rings]
    neighbours: dict[str, set[str]] = {}
    for order in orders:
        for verb, following in zip(order, order[1:] + order[:1], strict=True):
            neighbours.setdefault(verb, set()).add(following)
            neighbours.setdefault(following, set()).add(verb)
    colours: dict[str, str] = {}
    for verb in dict.fromkeys(verb for order in orders for verb in order):
        taken = [colours.get(one) for one in neighbours[verb]]
        used = list(colours.values())
        colours[verb] = min(COLOURS, key=lambda one: (taken.count(one), used.count(one)))
    return colours


def _cut_slices(pairs: Pairs, colours: Mapping[str, str]) -> list[Slice]:
    """The verbs with their nouns, long words cut. In a small figure a noun has its count after it, unless that is 1."""
    total, done, slices = count_instructions(pairs), 0, []
    for verb in order_verbs(pairs):
        nouns, colour = pairs[verb], colours[verb]
        *starts, end = accumulate(nouns.values(), initial=done)
        labels = []
        for start, (noun, count) in zip(starts, nouns.items(), strict=True):
            text = f"{cut_word(noun)} {count}" if count > 1 and total < FEW else cut_word(noun)
            labels.append(Label(text, (start + count / 2) / total, count / total, colour))
        slices.append((Label(cut_word(verb), (done + end) / 2 / total, (end - done) / total, colour), labels))
        done = end
    return slices


def cut_word(word: str, longest: float = LONGEST) -> str:
    """`word`, cut where one label would be so long that the rings had to shrink for it; the data keep all of it."""
    if measure_width(word) <= longest:
        return word
    return next(cut for count in range(40, -1, -1) if measure_width(cut := f"{word[:count]}…") <= longest)


def _draw_rings(ax: Axes, slices: Sequence[Slice]) -> None:
    """Each verb in its colour, its nouns in four lighter ones."""
    verbs, nouns = [], []
    for verb, labels in slices:
        verbs.append((verb.share, (verb.colour, 0.55)))
        nouns += [(noun.share, (noun.colour, 0.4 - 0.08 * (i % 4))) for i, noun in enumerate(labels)]
    for ring, inner, outer in ((verbs, HOLE, VERBS_END), (nouns, VERBS_END, NOUNS_END)):
        shares, colours = zip(*ring, strict=True)
        edge = {"width": outer - inner, "edgecolor": "white", "linewidth": 0.5}
        ax.pie(
            shares, radius=outer, colors=colours, wedgeprops=edge, startangle=90, counterclock=False, labeldistance=None
        )


def _write(ax: Axes, text: str, turn: float, radius: float, size: float, inwards: bool = False, **look) -> None:
    """Radial text at `turn`, upright on both sides, that begins (or, inwards, ends) at `radius`."""
    angle = 2 * math.pi * turn
    right = math.sin(angle) >= 0
    ax.text(
        radius * math.sin(angle), radius * math.cos(angle), text, fontsize=size, parse_math=False, clip_on=False,
        rotation=90 - 360 * turn if right else 270 - 360 * turn, rotation_mode="anchor", va="center",
        ha="left" if right != inwards else "right", **look,
    )  # fmt: skip


def _tie(ax: Axes, label: Label, turn: float) -> None:
    """A thin line in the verb's colour from a slice to its label, in the gap between the two, never across the rings."""
    import numpy as np

    angles = 2 * math.pi * np.linspace(label.turn, label.turn + _measure_way(label.turn, turn), 5)
    radii = np.linspace(NOUNS_END, LABELS_START - 0.01, 5)
    ax.plot(radii * np.sin(angles), radii * np.cos(angles), color=label.colour, lw=0.5)


def _measure_way(turn: float, moved: float) -> float:
    """The short way round from one turn to another, negative against the clock."""
    return (moved - turn + 0.5) % 1 - 0.5


def _fit_verb(verb: Label, unit: float) -> float:
    """The largest size at which the verb fits into its slice, 0 where none does; `unit` is points a radius."""
    for size in SIZES:
        innermost = VERBS_END - 0.02 - measure_width(verb.text, "bold") * size / unit  # where the slice is narrowest
        if innermost > HOLE and 2 * math.pi * min(verb.share, 0.25) * innermost * unit >= LINE_HEIGHT * size:
            return size
    return 0.0


def fit_labels(slices: Sequence[Slice], scale: float, noted: bool = False) -> Fit:
    """The largest labels near their slices that end within `scale` points each way from the middle, then the largest circle.

    Where not even the smallest size has room for all, the rarest are left out, and a line is kept free to say so; `noted`
    keeps it free in any case.
    """
    count = sum(len(nouns) for _, nouns in slices)
    tries = [*((size, 0) for size in SIZES), *((SIZES[-1], unnamed) for unnamed in range(1, count))]
    fits = (_fit_circle(slices, size, scale, unnamed, noted) for size, unnamed in tries)
    return next(filter(None, fits), Fit(scale / 2, SIZES[-1], [], [], count))


def _fit_circle(slices: Sequence[Slice], size: float, scale: float, unnamed: int, noted: bool) -> Fit | None:
    """The largest circle that labels of this size leave room for; None where they have none, or none near their slices.

    A smaller circle may ask for other labels and moves them further, so it takes a few rounds to settle.
    """
    tall = scale - LINE_HEIGHT * NOTE * (noted or unnamed > 0)
    unit = tall
    for _ in range(ROUNDS):
        labels = _choose_labels(slices, unit, unnamed)
        gap = LINE_HEIGHT * size / (2 * math.pi * LABELS_START * unit)
        if gap * len(labels) > SLACK:
            return None
        turns = spread_turns([label.turn for label in labels], gap)
        shifts = [abs(_measure_way(label.turn, turn)) for label, turn in zip(labels, turns, strict=True)]
        rooms = [_measure_room(label.text, turn, size, scale, tall) for label, turn in zip(labels, turns, strict=True)]
        room = min(rooms) / LABELS_START
        if room < LEAST_RINGS * scale:
            return None
        if room >= SETTLED * unit:
            return Fit(unit, size, labels, turns, unnamed) if max(shifts) <= MOST_SHIFT else None
        unit = room
    return None


def _choose_labels(slices: Sequence[Slice], unit: float, unnamed: int) -> list[Label]:
    """The nouns without the rarest ones, after their verb where that has no room in its own slice."""
    labels = []
    for verb, nouns in slices:
        prefix = "" if _fit_verb(verb, unit) else f"{cut_word(verb.text, LONGEST_PREFIX)} "
        labels += [noun._replace(text=prefix + noun.text) for noun in nouns]
    ranked = sorted(labels, key=lambda label: -label.share)
    return sorted(ranked[: len(labels) - unnamed], key=lambda label: label.turn)


def _measure_room(text: str, turn: float, size: float, wide: float, tall: float) -> float:
    """How many points from the middle the label at `turn` may begin, to end within `wide` and `tall` points from it."""
    across, up = abs(math.sin(2 * math.pi * turn)), abs(math.cos(2 * math.pi * turn))
    thick = LINE_HEIGHT * size / 2
    ends = [(limit - thick * side) / way for limit, way, side in ((wide, across, up), (tall, up, across)) if way > 1e-6]
    return min(ends) - measure_width(text) * size


@cache
def measure_width(text: str, weight: str = "normal") -> float:
    """In font sizes; a little more than drawn, since letters at small sizes are moved to whole pixels."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=100, weight=weight)
    return 1.05 * text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 100


def spread_turns(turns: Sequence[float], gap: float) -> list[float]:
    """`turns` (ascending, in 0..1) moved as little as can be until neighbours are `gap` apart, around the circle too.

    Least squares: after taking the gaps out, what is left must not fall, which is isotonic regression.
    """
    import numpy as np
    from scipy.optimize import isotonic_regression

    count, cut = len(turns), int(np.argmax(np.diff(turns, prepend=turns[-1] - 1)))  # opened where it is emptiest
    gaps = gap * np.arange(count)
    level = isotonic_regression(np.concatenate([turns[cut:], np.add(turns[:cut], 1)]) - gaps).x
    middle, free = (level[0] + level[-1]) / 2, (1 - gap * count) / 2
    return np.roll(np.clip(level, middle - free, middle + free) + gaps, cut).tolist()
