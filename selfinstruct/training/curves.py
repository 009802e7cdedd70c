"""The loss curves of trained columns: what is learnt from the rows themselves, and what of it holds for other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis.figures import COLOURS, LINES
from ..files import iter_lines
from .lora import LOSSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def load_losses(folders: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """column -> the lines of its loss.jsonl; of several training seeds the first one's."""
    losses: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        losses.setdefault(folder.parent.name, [line for _, line in iter_lines(folder / LOSSES)])
    return losses


def plot_losses(losses: Mapping[str, Sequence[Mapping[str, Any]]], axes: Sequence[Axes]) -> None:
    """Two panels: the training loss (a mean over a tenth of the steps, or it would be a comb) and the held-out loss."""
    for (column, lines), colour, style in zip(losses.items(), COLOURS, LINES * 2, strict=False):
        train = [(one["step"], one["train_loss"]) for one in lines if one["train_loss"] is not None]
        held = [(one["step"], one["heldout_loss"]) for one in lines if one["heldout_loss"] is not None]
        axes[0].plot(*zip(*_smooth(train), strict=True), style, color=colour, label=column)
        if held:
            axes[1].plot(*zip(*held, strict=True), style, color=colour, marker="o", markersize=2.5, label=column)
    axes[0].set(xlabel="update step", ylabel="training loss (nats a token)")
    axes[1].set(xlabel="update step", ylabel="held-out loss (nats a token)")
    axes[0].legend()


def _smooth(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Each step with the mean of the last tenth of the steps up to it."""
    width = max(1, len(points) // 10)
    values = [value for _, value in points]
    parts = [values[max(0, place - width + 1) : place + 1] for place in range(len(points))]
    return [(step, sum(part) / len(part)) for (step, _), part in zip(points, parts, strict=True)]
