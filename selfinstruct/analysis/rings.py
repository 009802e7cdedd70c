"""The two-ring figure of verbs and nouns (paper Figure 3), with labels that never overlap.

Slices are drawn in exact proportion, verbs large and small in turn, so that thin slices do not crowd. Noun labels stand
outside, moved apart just as far as their height asks and tied to their slices by thin lines. A verb's label stands in its
slice; where that is too thin, the verb joins its nouns outside. No label is smaller than five points, for print: the rings
shrink to make room, and what still finds none is left out, the rarest pairs first, and counted below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from .figures import COLOURS, COLUMN_INCHES, PAGE_INCHES, new_figure, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Pairs = Mapping[str, Mapping[str, int]]  # verb -> noun -> count
CROWDED, CROWDED_INCHES = 40, 5.0  # labels that fill a column, and the width of a figure with more
HOLE, VERBS_END, NOUNS_END, LABELS_START = 0.12, 0.54, 0.66, 0.72  # radii
NOTE = 6.0  # points


def draw_verb_nouns(sets: Mapping[str, Pairs], source: str, covered: Mapping[str, float]) -> Figure:
    """The whole figure: one data set in a column, or five inches wide if it is crowded; several two by two on a page.

    sets and covered: data set -> its pairs, and the share of its instructions that they are.
    """
    if len(sets) == 1:
        (pairs,) = sets.values()
        width = CROWDED_INCHES if sum(map(len, pairs.values())) > CROWDED else COLUMN_INCHES
        figure, ax = new_figure(1, width, source, width=width)
        plot_verb_nouns(pairs, ax)
        return figure
    figure, grid = new_figure(math.ceil(len(sets) / 2), PAGE_INCHES / 2 + 0.2, source, columns=2, width=PAGE_INCHES)
    for ax in grid.flat[len(sets) :]:
        ax.remove()
    panels = list(zip(sets.items(), grid.flat, strict=False))
    for (name, _), ax in panels:
        ax.axis("off")
        ax.set_title(f"{short_name(name)}: {covered[name]:.0%} of the instructions")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # all panels keep the room that the titles leave, whatever is drawn in the others
    for (_, pairs), ax in panels:
        plot_verb_nouns(pairs, ax)
    return figure


def plot_verb_nouns(pairs: Pairs, ax: Axes) -> Axes:
    """Draw verb -> noun -> count as two rings, clockwise from the top, verbs inside and their nouns outside."""
    ax.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    ax.axis("off")
    total = sum(sum(nouns.values()) for nouns in pairs.values())
    if not total:
        ax.text(0, 0, "no verb-noun pair occurs often enough", ha="center", va="center")
        return ax
    slices = _slices(pairs, total)
    scale = _half_width(ax)
    fit = fit_labels(lambda unit: _outside(slices, unit), LABELS_START, scale, note=LINE_HEIGHT * NOTE)
    half = scale / fit.unit
    ax.set(xlim=(-half, half), ylim=(-half, half))
    for slice_ in slices:
        _draw_slice(ax, slice_, fit.unit)
    for label, moved in zip(fit.labels, fit.turns, strict=True):
        _tie(ax, label.turn, moved)
        _write(ax, label.text, moved, LABELS_START, fit.size)
    if fit.unnamed:
        said = f"the {fit.unnamed} rarest pairs are not named"
        ax.text(0, -half, said, fontsize=NOTE, color="0.35", ha="center", va="bottom", rotation_mode="anchor")
    return ax


def _half_width(ax: Axes) -> float:
    """Half the width of the axes in points, after the figure has laid them out."""
    ax.figure.draw_without_rendering()
    return 36 * ax.get_window_extent().width / ax.figure.dpi


@dataclass(frozen=True)
class _Slice:
    """A verb's part of the circle: where it begins, in turns, and the shares of its nouns in the whole turn."""

    verb: str
    nouns: dict[str, float]
    at: float
    colour: str

    @property
    def share(self) -> float:
        return sum(self.nouns.values())


def _slices(pairs: Pairs, total: int) -> list[_Slice]:
    slices: list[_Slice] = []
    for number, (verb, nouns) in enumerate(_in_turn(pairs)):
        at = slices[-1].at + slices[-1].share if slices else 0.0
        shares = {noun: count / total for noun, count in nouns.items()}
        slices.append(_Slice(verb, shares, at, COLOURS[number % len(COLOURS)]))
    return slices


def _outside(slices: Sequence[_Slice], unit: float) -> list[Label]:
    """A label for every noun, the verb before it where the verb has no room in its own slice; `unit` is points a radius."""
    labels = []
    for slice_ in slices:
        at, prefix = slice_.at, "" if _verb_size(slice_, unit) else f"{slice_.verb} "
        for noun, share in slice_.nouns.items():
            labels.append(Label(prefix + noun, at + share / 2, share))
            at += share
    return labels


def _in_turn(pairs: Pairs) -> list[tuple[str, Mapping[str, int]]]:
    """The verbs with their nouns: the largest, the smallest, the second largest, and so on."""
    ranked = sorted(pairs.items(), key=lambda item: -sum(item[1].values()))
    return [ranked[i // 2] if i % 2 == 0 else ranked[-1 - i // 2] for i in range(len(ranked))]


def _tint(colour: str, white: float) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(white + (1 - white) * part for part in to_rgb(colour))


def _draw_slice(ax: Axes, slice_: _Slice, unit: float) -> None:
    _draw_ring(ax, slice_.at, [slice_.share], HOLE, VERBS_END, [_tint(slice_.colour, 0.45)])
    tints = [_tint(slice_.colour, 0.6 + 0.08 * (i % 4)) for i in range(len(slice_.nouns))]
    _draw_ring(ax, slice_.at, list(slice_.nouns.values()), VERBS_END, NOUNS_END, tints)
    inside = _verb_size(slice_, unit)
    if inside:
        turn = slice_.at + slice_.share / 2
        _write(ax, slice_.verb, turn, VERBS_END - 0.02, inside, inwards=True, weight="bold")


def _draw_ring(ax: Axes, at: float, shares: Sequence[float], inner: float, outer: float, colours: Sequence) -> None:
    """Slices of a ring from turn `at` on, clockwise from the top; shares are of the whole turn."""
    from matplotlib.patches import Wedge

    for share, colour in zip(shares, colours, strict=True):
        left, right = 90 - 360 * (at + share), 90 - 360 * at
        ax.add_patch(
            Wedge((0, 0), outer, left, right, width=outer - inner, facecolor=colour, edgecolor="white", lw=0.5)
        )
        at += share


def _write(ax: Axes, text: str, turn: float, radius: float, size: float, inwards: bool = False, **look) -> None:
    """Radial text at `turn`, upright on both sides, that begins (or, inwards, ends) at `radius`."""
    angle = 2 * math.pi * turn
    right = math.sin(angle) >= 0
    ax.text(
        radius * math.sin(angle), radius * math.cos(angle), text, fontsize=size, parse_math=False, clip_on=False,
        rotation=90 - 360 * turn if right else 270 - 360 * turn, rotation_mode="anchor", va="center",
        ha="left" if right != inwards else "right", **look,
    )  # fmt: skip


def _verb_size(slice_: _Slice, unit: float) -> float:
    """The largest size at which the verb fits into its slice, 0 where none does; `unit` is points a radius."""
    for size in SIZES:
        innermost = VERBS_END - 0.02 - text_width(slice_.verb, "bold") * size / unit  # where the slice is narrowest
        if innermost > HOLE and 2 * math.pi * min(slice_.share, 0.25) * innermost * unit >= LINE_HEIGHT * size:
            return size
    return 0.0


def _tie(ax: Axes, turn: float, moved: float) -> None:
    """A thin line from a slice to its label, in the gap between the rings and the labels, never across the rings."""
    way = (moved - turn + 0.5) % 1 - 0.5  # the short way round
    steps = max(2, int(abs(way) * 120))
    out = LABELS_START - 0.01 - NOUNS_END
    path = [(NOUNS_END + out * k / steps, 2 * math.pi * (turn + way * k / steps)) for k in range(steps + 1)]
    ax.plot([r * math.sin(a) for r, a in path], [r * math.cos(a) for r, a in path], color="0.6", lw=0.4)


SIZES = [tenths / 10 for tenths in range(70, 49, -1)]  # points: smaller ones cannot be read in print
LINE_HEIGHT = 1.1  # of a label, in font sizes
SLACK = 0.97  # of the room around the circle is filled at most: a full one would push every label far from its place
ROUNDS, SETTLED = 12, 0.99


@dataclass(frozen=True)
class Label:
    """A text, the turn of what it names, and how much of the whole that is."""

    text: str
    turn: float
    share: float


@dataclass(frozen=True)
class Fit:
    """Points a radius, the labels with their size in points and the turns they are moved to, and how many were left out."""

    unit: float
    size: float
    labels: list[Label]
    turns: list[float]
    unnamed: int = 0


def fit_labels(labels_at: Callable[[float], list[Label]], start: float, scale: float, note: float = 0) -> Fit:
    """The largest labels that end within `scale` points each way from the middle, and then the largest circle.

    `labels_at` gives the labels for a circle of so many points a radius; they begin `start` radii from its middle. Where not
    even the smallest size has room for all, the rarest are left out, and `note` points above and below kept free to say so.
    """
    count = len(labels_at(scale))
    whole = (_try(labels_at, start, size, scale, scale) for size in SIZES)
    thinned = (_try(labels_at, start, SIZES[-1], scale, scale - note, unnamed) for unnamed in range(1, count))
    return next((fit for fit in chain(whole, thinned) if fit), Fit(scale / 2, SIZES[-1], [], [], count))


def _try(
    labels_at: Callable[[float], list[Label]], start: float, size: float, wide: float, tall: float, unnamed: int = 0
) -> Fit | None:
    """The largest circle that labels of this size leave room for; None where they have none.

    A smaller circle may ask for other labels and moves them further, so it takes a few rounds to settle.
    """
    unit = min(wide, tall)
    for _ in range(ROUNDS):
        labels = _commonest(labels_at(unit), unnamed)
        gap = LINE_HEIGHT * size / (2 * math.pi * start * unit)
        if gap * len(labels) > (SLACK if len(labels) > 1 else 1):
            return None
        turns = spread_turns([label.turn for label in labels], gap)
        room = min(_room(label.text, turn, size, wide, tall) for label, turn in zip(labels, turns, strict=True)) / start
        if room >= SETTLED * unit:
            return Fit(unit, size, labels, turns, unnamed)
        unit = max(room, 1e-3)
    return None


def _commonest(labels: list[Label], unnamed: int) -> list[Label]:
    """The labels without the rarest ones, in their order."""
    ranked = sorted(range(len(labels)), key=lambda i: -labels[i].share)
    return [labels[i] for i in sorted(ranked[: len(labels) - unnamed])]


def _room(text: str, turn: float, size: float, wide: float, tall: float) -> float:
    """How many points from the middle the label at `turn` may begin, to end within `wide` and `tall` points from it."""
    across, up = abs(math.sin(2 * math.pi * turn)), abs(math.cos(2 * math.pi * turn))
    thick = LINE_HEIGHT * size / 2
    ends = [(limit - thick * side) / way for limit, way, side in ((wide, across, up), (tall, up, across)) if way > 1e-6]
    return min(ends) - text_width(text) * size


@cache
def text_width(text: str, weight: str = "normal") -> float:
    """In font sizes; a little more than drawn, since letters at small sizes are moved to whole pixels."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=100, weight=weight)
    return 1.05 * text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 100


def spread_turns(turns: Sequence[float], gap: float) -> list[float]:
    """`turns` (ascending, in 0..1) moved as little as can be until neighbours are `gap` apart, around the circle too.

    Least squares: after taking the gaps out, what is left must not fall, which is isotonic regression.
    """
    free = 1 - gap * len(turns)
    cut = max(range(len(turns)), key=lambda i: (turns[i] - turns[i - 1]) % 1) if len(turns) > 1 else 0
    order = [*range(cut, len(turns)), *range(cut)]
    rest = [turns[i] + (i < cut) - gap * place for place, i in enumerate(order)]
    level = _not_falling(rest)
    middle = (level[0] + level[-1]) / 2
    low, high = middle - free / 2, middle + free / 2
    moved = {
        i: min(max(value, low), high) + gap * place for place, (i, value) in enumerate(zip(order, level, strict=True))
    }
    return [moved[i] for i in range(len(turns))]


def _not_falling(values: Sequence[float]) -> list[float]:
    """The closest sequence to `values` that never falls: neighbours out of order are pooled to their mean."""
    blocks: list[list[float]] = []  # [mean, size]
    for value in values:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * size) / (blocks[-1][1] + size), blocks[-1][1] + size]
    return [mean for mean, size in blocks for _ in range(int(size))]
