"""What a reader of a notebook sees: numbers, tables and a model's text, each in one way everywhere."""

from __future__ import annotations

from typing import Any


def show_number(value: Any, unit: str = "") -> str:
    """A value as text: counts with thousands marked, measures with no more digits than tell, a dash where there is none.

    `unit="%"` reads the value as a share. What is no number is its own text.

    >>> show_number(52445), show_number(0.4348, "%"), show_number(12.7049), show_number(None)
    ('52,445', '43.5%', '12.7', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if unit == "%":
        return f"{value:.1%}"
    rounded = round(float(value), 3 if abs(value) < 1 else 2)
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,}"
