"""What a reader of a notebook sees: numbers, tables and a model's text, each in one way everywhere.

    show([{"instruction": "Name a river.", "ROUGE-L": 0.4}])    # the last line of a cell
    show_text(completion.text)                                  # printed, with nothing hidden in it

Text of models is data: in a table it is escaped and never a formula, printed it can neither move the cursor nor colour a line.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# all that a terminal or browser obeys instead of showing it: control characters but line breaks and tabs, what turns the
# direction of text, what has no width, and halves of characters
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
# JupyterLab aligns every cell to the right, and lets a long word push a table out of the page
_CELL = "text-align: {}; vertical-align: top; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 36em"


def show_number(value: Any, unit: str = "") -> str:
    """A value as text: counts with thousands marked, measures with no more digits than tell, a dash where there is none.

    `unit="%"` reads the value as a share. What is no number is its own text.

    >>> show_number(52002), show_number(0.4348, "%"), show_number(12.7049), show_number(None)
    ('52,002', '43.5%', '12.7', '–')
    """
    if value is None or value != value:
        return "–"
    if isinstance(value, bool) or not _is_number(value):
        return str(value)
    if unit == "%":
        return f"{value:.1%}"
    rounded = round(float(value), 3 if abs(value) < 1 else 2)
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,}"


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, (bool, str))


class Table:
    """A table for reading: HTML in a notebook, plain text elsewhere."""

    def __init__(self, frame: pd.DataFrame):
        self.frame = frame

    def _repr_html_(self) -> str:
        if self.frame.empty:
            return "<p>(nothing)</p>"
        numeric = [all(value is None or _is_number(value) for value in self.frame[name]) for name in self.frame]
        sides = ["right" if one else "left" for one in numeric]
        head = "".join(_cell("th", name, side) for name, side in zip(self.frame.columns, sides, strict=True))
        rows = (
            "".join(_cell("td", value, side) for value, side in zip(row, sides, strict=True))
            for row in self.frame.itertuples(index=False, name=None)
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        # these two classes keep JupyterLab from reading "$100 to $1000" as a formula
        classes = "dataframe tex2jax_ignore mathjax_ignore"
        return f'<table class="{classes}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    def __repr__(self) -> str:
        return "(nothing)" if self.frame.empty else self.frame.map(show_number).to_string(index=False)


def _cell(tag: str, value: Any, side: str) -> str:
    return f'<{tag} style="{_CELL.format(side)}">{html.escape(reveal(show_number(value)))}</{tag}>'


def show(rows: Any, *columns: str) -> Table:
    """`rows` as the last line of a cell: a list of dicts, a dict of name and value, or what pandas makes.

    An index with names in it becomes the first columns. `columns` names the two columns of a dict or a series.
    """
    import pandas as pd

    if isinstance(rows, Mapping):
        rows = pd.Series(dict(rows), dtype=object)
    if isinstance(rows, pd.Series):
        rows = rows.rename(rows.name if rows.name is not None else "").to_frame()
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if frame.index.dtype.kind not in "iu" or any(frame.index.names):  # mere positions say nothing
        names = [name or "" for name in frame.index.names]
        frame = frame.rename_axis(names).reset_index(allow_duplicates=True)
    if columns:
        frame = frame.set_axis(list(columns), axis=1)
    return Table(frame.astype(object))


def reveal(text: str) -> str:
    r"""`text` with every character that is obeyed rather than shown written as an escape, such as \x1b or \u202e.

    >>> print(reveal("a\rb\x1b[31mred"))
    a\rb\x1b[31mred
    """
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


def show_text(*parts: Any, **how: Any) -> None:
    """Print a model's text, as `print` does, with nothing hidden: see `reveal`."""
    print(*(reveal(str(part)) for part in parts), **how)


def show_problems(problems: Iterable[str]) -> None:
    """Print what could not be read, a line each; nothing where all is well."""
    for problem in problems:
        show_text("NOT READ", problem)
