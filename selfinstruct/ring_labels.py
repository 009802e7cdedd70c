"""Labels that stand around a circle like the rays of a sun: how large they may be, how far out, and where.

    fit = fit_labels(lambda unit: [Label("story", 0.1, 0.2), Label("list", 0.6, 0.1)], start=0.72, scale=120)
    fit.unit, fit.size, fit.turns        # points a radius, points, turns of the circle

A turn is a part of the whole circle, clockwise from the top: 0.25 is to the right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

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
