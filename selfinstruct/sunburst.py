"""The two-ring figure of verbs and nouns (paper Figure 3), with labels that never overlap.

Slices are drawn in exact proportion, verbs large and small in turn, so that thin slices do not crowd. Noun labels stand
outside, moved apart just as far as their height asks and tied to their slices by thin lines. A verb's label stands in its
slice; where that is too thin, the verb joins its nouns outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HOLE, VERBS_END, NOUNS_END, LABELS_START = 0.12, 0.54, 0.66, 0.72  # radii
LARGEST, SMALLEST = 7.0, 4.0  # points
LINE_HEIGHT, LETTER_WIDTH, BOLD_WIDTH = 1.2, 0.58, 0.7  # of a label, in font sizes
SLACK = 0.87  # of the room around the rings is filled at most: a full circle would push every label far from its slice


def plot_verb_nouns(pairs: Mapping[str, Mapping[str, int]], ax: Axes) -> Axes:
    """Draw verb -> noun -> count as two rings, clockwise from the top, verbs inside and their nouns outside."""
    ax.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    ax.axis("off")
    total = sum(sum(nouns.values()) for nouns in pairs.values())
    if not total:
        ax.text(0, 0, "no verb-noun pair occurs often enough", ha="center", va="center")
        return ax
    slices = _slices(pairs, total)
    scale = _half_width(ax)
    half, size = _fit(slices, scale)
    ax.set(xlim=(-half, half), ylim=(-half, half))
    for slice_ in slices:
        _draw_ring(ax, slice_.at, [slice_.share], HOLE, VERBS_END, [_tint(slice_.colour, 0.45)])
        tints = [_tint(slice_.colour, 0.6 + 0.08 * (i % 4)) for i in range(len(slice_.nouns))]
        _draw_ring(ax, slice_.at, list(slice_.nouns.values()), VERBS_END, NOUNS_END, tints)
        inside = _verb_size(slice_, scale / half)
        if inside:
            turn = slice_.at + slice_.share / 2
            _write(ax, slice_.verb, turn, VERBS_END - 0.02, inside, inwards=True, weight="bold")
    _write_nouns(ax, _outside(slices, scale / half), size, scale / half)
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


def _slices(pairs: Mapping[str, Mapping[str, int]], total: int) -> list[_Slice]:
    slices: list[_Slice] = []
    for number, (verb, nouns) in enumerate(_in_turn(pairs)):
        at = slices[-1].at + slices[-1].share if slices else 0.0
        shares = {noun: count / total for noun, count in nouns.items()}
        slices.append(_Slice(verb, shares, at, COLOURS[number % len(COLOURS)]))
    return slices


def _fit(slices: Sequence[_Slice], scale: float) -> tuple[float, float]:
    """(half width of the axes in radii, size of the nouns' labels in points) so that the longest label ends inside.

    A wider view makes the rings smaller, hence the labels closer and smaller: a few rounds settle it.
    """
    half, size = 1.0, LARGEST
    for _ in range(8):
        unit = scale / half
        labels = _outside(slices, unit)
        size = max(SMALLEST, min(LARGEST, SLACK * 2 * math.pi * LABELS_START * unit / (LINE_HEIGHT * len(labels))))
        half = max(1.0, LABELS_START + max(len(text) for _, text in labels) * LETTER_WIDTH * size / unit)
    return half, size


def _outside(slices: Sequence[_Slice], unit: float) -> list[tuple[float, str]]:
    """(turn, label) of every noun, the verb before it where the verb has no room in its own slice."""
    labels = []
    for slice_ in slices:
        at, prefix = slice_.at, "" if _verb_size(slice_, unit) else f"{slice_.verb} "
        for noun, share in slice_.nouns.items():
            labels.append((at + share / 2, prefix + noun))
            at += share
    return labels


def _in_turn(pairs: Mapping[str, Mapping[str, int]]) -> list[tuple[str, Mapping[str, int]]]:
    """The verbs with their nouns: the largest, the smallest, the second largest, and so on."""
    ranked = sorted(pairs.items(), key=lambda item: -sum(item[1].values()))
    return [ranked[i // 2] if i % 2 == 0 else ranked[-1 - i // 2] for i in range(len(ranked))]


def _tint(colour: str, white: float) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(white + (1 - white) * part for part in to_rgb(colour))


def _draw_ring(ax: Axes, at: float, shares: Sequence[float], inner: float, outer: float, colours: Sequence) -> None:
    """Slices of a ring from turn `at` on, clockwise from the top; shares are of the whole turn."""
    from matplotlib.patches import Wedge

    for share, colour in zip(shares, colours, strict=True):
        left, right = 90 - 360 * (at + share), 90 - 360 * at
        ax.add_patch(Wedge((0, 0), outer, left, right, width=outer - inner, facecolor=colour, edgecolor="white", lw=0.5))
        at += share


def _write(ax: Axes, text: str, turn: float, radius: float, size: float, inwards: bool = False, **look) -> None:
    """Radial text at `turn`, upright on both sides, that begins (or, inwards, ends) at `radius`."""
    angle = 2 * math.pi * turn
    right = math.sin(angle) >= 0
    ax.text(
        radius * math.sin(angle), radius * math.cos(angle), text, fontsize=size, parse_math=False, clip_on=False,
        rotation=90 - 360 * turn if right else 270 - 360 * turn, rotation_mode="anchor", va="center_baseline",
        ha="left" if right != inwards else "right", **look,
    )  # fmt: skip


def _verb_size(slice_: _Slice, unit: float) -> float:
    """The largest size at which the verb fits into its slice, 0 where none does; `unit` is points a radius."""
    size = LARGEST
    while size >= SMALLEST + 0.6:
        innermost = VERBS_END - 0.02 - len(slice_.verb) * BOLD_WIDTH * size / unit  # where the slice is narrowest
        if innermost > HOLE and 2 * math.pi * min(slice_.share, 0.25) * innermost * unit >= LINE_HEIGHT * size:
            return size
        size -= 0.2
    return 0.0


def _write_nouns(ax: Axes, labels: Sequence[tuple[float, str]], size: float, unit: float) -> None:
    gap = LINE_HEIGHT * size / (2 * math.pi * LABELS_START * unit)
    turns = spread_turns([turn for turn, _ in labels], min(gap, 1 / len(labels)))
    for (turn, text), moved in zip(labels, turns, strict=True):
        _tie(ax, turn, moved)
        _write(ax, text, moved, LABELS_START, size)


def _tie(ax: Axes, turn: float, moved: float) -> None:
    """A thin line from a slice to its label, in the gap between the rings and the labels, never across the rings."""
    way = (moved - turn + 0.5) % 1 - 0.5  # the short way round
    steps = max(2, int(abs(way) * 120))
    out = LABELS_START - 0.01 - NOUNS_END
    path = [(NOUNS_END + out * k / steps, 2 * math.pi * (turn + way * k / steps)) for k in range(steps + 1)]
    ax.plot([r * math.sin(a) for r, a in path], [r * math.cos(a) for r, a in path], color="0.6", lw=0.4)


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
    moved = {i: min(max(value, low), high) + gap * place for place, (i, value) in enumerate(zip(order, level, strict=True))}
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
