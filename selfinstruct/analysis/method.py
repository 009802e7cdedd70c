"""The method as one picture: the paper's Figure 2 in our own form, with two small tasks to follow through it.

figure = draw_method(seed_tasks=175)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .figures import COLOURS, PAGE_INCHES, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 3.5  # inches, the unit of every place below
MAKERS = {
    "written by people": COLOURS[2], "written by the language model": COLOURS[1], "decided by rules": COLOURS[0],
    "files": "#595959",
}  # fmt: skip
PEOPLE, MODEL, RULES, FILES = MAKERS
LEGEND_AT = (0.95, 2.35, 4.45, 5.85)
LINE = {"color": "0.3", "linewidth": 1.1}
RADIUS = 0.09  # of corners


class Box(NamedTuple):
    """A box of the picture: its centre and size, who makes what is in it, the step's number, a title, and text below it."""

    x: float
    y: float
    width: float
    height: float
    maker: str
    step: str
    title: str
    text: str


BOXES = (
    Box(0.76, 3.09, 1.44, 0.62, PEOPLE, "", "{seed_tasks} seed tasks", "instruction, input, output"),
    Box(0.76, 1.95, 1.44, 0.80, FILES, "", "Task pool", "the seed tasks and\nall that is kept"),
    Box(0.76, 0.70, 1.44, 0.62, FILES, "", "Fine-tuning data", "prompt, completion"),
    Box(2.52, 2.14, 1.40, 1.06, MODEL, "1", "New instructions",
        "8 of the pool in a list;\nthe model continues:\n9. Which date is earlier?\n10. Is this mail spam?"),
    Box(4.14, 2.14, 1.20, 1.06, MODEL, "2", "Classification?", "Is there a small,\nfixed set of labels?\n9. No\n10. Yes"),
    Box(5.96, 2.65, 1.56, 0.90, MODEL, "3", "Input first", "9. Which date is earlier?\nInput: 3 May, 9 March\nOutput: 9 March"),
    Box(5.96, 1.63, 1.56, 0.90, MODEL, "3", "Output first", "10. Is this mail spam?\nClass label: Yes\nInput: You won a car!"),
    Box(4.14, 0.70, 1.62, 0.66, RULES, "4", "Filter", "empty, odd or too similar\ntext is dropped"),
)  # fmt: skip
ARROWS = (
    [(0.76, 2.78), (0.76, 2.35)],
    [(1.48, 2.14), (1.82, 2.14)],
    [(3.22, 2.14), (3.54, 2.14)],
    [(4.74, 2.30), (4.95, 2.30), (4.95, 2.65), (5.18, 2.65)],
    [(4.74, 1.98), (4.95, 1.98), (4.95, 1.63), (5.18, 1.63)],
    [(6.74, 2.65), (6.92, 2.65), (6.92, 0.70), (4.95, 0.70)],
    [(3.33, 0.70), (1.65, 0.70), (1.65, 1.76), (1.48, 1.76)],
    [(0.76, 1.55), (0.76, 1.01)],
)
MEETING = [6.74, 6.92], [1.63, 1.63]  # the output-first line joins the other
WORDS = {"No": (4.83, 2.77), "Yes": (4.82, 1.51), "kept": (2.38, 0.80), "at the end": (0.84, 1.28)}


def draw_method(seed_tasks: int) -> Figure:
    """The loop from seed tasks to fine-tuning data; the colours, named below it, tell who does what."""
    figure, ax = new_figure(height=HEIGHT, width=PAGE_INCHES)
    ax.set(xlim=(0, PAGE_INCHES), ylim=(0, HEIGHT), aspect="equal")
    ax.set_axis_off()
    for box in BOXES:
        _draw_box(box._replace(title=box.title.format(seed_tasks=seed_tasks)), ax)
    for points in ARROWS:
        _draw_arrow(points, ax)
    ax.plot(*MEETING, **LINE)
    for word, (x, y) in WORDS.items():
        ax.text(x, y, word, fontsize=7, va="center", color="0.15")
    for x, (maker, colour) in zip(LEGEND_AT, MAKERS.items(), strict=True):
        ax.plot(x, 0.1, "s", color=colour, markersize=5)
        ax.text(x + 0.1, 0.1, maker, fontsize=7, va="center", color="0.15")
    return figure


def _draw_box(box: Box, ax: Axes) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import FancyBboxPatch

    colour, left, top = MAKERS[box.maker], box.x - box.width / 2, box.y + box.height / 2
    look = {"facecolor": to_rgba(colour, 0.1), "edgecolor": colour, "linewidth": 1.1}
    shape = f"round,pad=0,rounding_size={RADIUS}"
    ax.add_patch(FancyBboxPatch((left, top - box.height), box.width, box.height, boxstyle=shape, **look))
    ax.text(box.x, top - 0.18, box.title, ha="center", va="center", fontsize=8.5, weight="bold", color="0.1")
    ax.text(box.x, top - 0.32, box.text, ha="center", va="top", fontsize=7, color="0.15", linespacing=1.35)
    if box.step:
        ax.plot(left + 0.02, top - 0.02, "o", color=colour, markersize=12)
        ax.text(left + 0.02, top - 0.025, box.step, ha="center", va="center", fontsize=8, weight="bold", color="white")


def _draw_arrow(points: Sequence[tuple[float, float]], ax: Axes) -> None:
    """A line through `points`, its corners round, that ends in an arrow head."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_move(corner, before), corner, _move(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    path = Path([*vertices, points[-1]], [*codes, Path.LINETO])
    ax.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, **LINE))


def _move(point: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """`point`, moved by the radius of a corner along a line that is level or upright."""
    x, y = (here + RADIUS * ((there > here) - (there < here)) for here, there in zip(point, towards, strict=True))
    return x, y
