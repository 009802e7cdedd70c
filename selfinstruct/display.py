"""What a reader of a notebook sees: numbers, tables and a model's text, each in one way everywhere.

    show([{"instruction": "Name a river.", "ROUGE-L": 0.4}])    # the last line of a cell
    show_text(completion.text)                                  # printed, with nothing hidden in it

Text of models is data: in a table it is escaped and never a formula, printed it can neither move the cursor nor colour a line.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any

from .bars import tell_person
from .session import works_for_another

MOST_ROWS, MOST_CHARACTERS = 200, 400  # of a table and of one cell: the data files hold the rest
LONG_WORD, LONG_TEXT = 40, 60  # characters: what may be broken inside, and what takes more than a line
LONG_NAME = 16  # characters of a column's name

# all that a terminal or browser obeys instead of showing it: control characters but line breaks and tabs, what turns the
# direction of text, what has no width or is never drawn, and halves of characters
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_TIMES = (
    ("second", 1, 89.5),
    ("minute", 60, 89.5),
    ("hour", 3600, 239.5),
    ("day", 86400, math.inf),
)  # seconds; how many at most
_NUMERIC = re.compile(r"-?(\d[\d,.]*(e[-+]\d+)?%?|inf)|–")  # a number that somebody has already written as text


def show_number(value: Any, unit: str = "") -> str:
    """A value as text: counts with thousands marked, measures with no more digits than tell, a dash where there is none.

    `unit="%"` reads the value as a share. What is no number is its own text.

    >>> show_number(52002), show_number(0.4348, "%"), show_number(12.7049), show_number(None)
    ('52,002', '43.5%', '12.7', '–')
    """
    if value is None or (isinstance(value, Real) and value != value):
        return "–"
    if not _is_number(value):
        return str(value)
    if unit == "%":
        return f"{value:.1%}"
    if isinstance(value, Integral) or abs(value) == float("inf"):
        return f"{value:,}"
    if 0 < abs(value) < 0.0005:
        return f"{value:.1g}"
    rounded = round(float(value), 3 if abs(value) < 1 else 2)
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,}"


def count_of(noun: str, count: int) -> str:
    """A count with its noun in the right number; of several words the first is counted.

    >>> count_of("instance", 1), count_of("instance of one task", 1200)
    ('1 instance', '1,200 instances of one task')
    """
    first, *rest = noun.split(" ", 1)
    plural = "" if count == 1 else "s"
    return " ".join([f"{count:,} {first}{plural}", *rest])


def show_duration(seconds: float) -> str:
    """An estimated time in the unit that a person would say it in; never less than a second.

    >>> show_duration(20), show_duration(90), show_duration(500_000), show_duration(3e6)
    ('20 seconds', '1.5 minutes', '139 hours', '35 days')
    """
    noun, size, _ = next(unit for unit in _TIMES if seconds < unit[1] * unit[2])
    number = seconds / size
    exact = noun != "second" and number < 9.95
    return f"{number:.1f} {noun}s" if exact else count_of(noun, max(1, round(number)))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


class Table:
    """A table to look at: HTML in a notebook, plain text elsewhere."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[Any]]):
        self.names, self.count = [reveal(name) for name in names], len(rows)
        self.rows = [[_cell_text(value) for value in row] for row in rows[:MOST_ROWS]]
        columns = zip(*self.rows, strict=True)
        self.sides = ["right" if all(map(_NUMERIC.fullmatch, column)) else "left" for column in columns]

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>(nothing)</p>"
        top = any("\n" in text or len(text) > LONG_TEXT for row in self.rows for text in row)
        head = f"<thead>\n{self._html_row('th', self.names, False)}\n</thead>\n" if any(self.names) else ""
        body = "\n".join(self._html_row("td", row, top) for row in self.rows)
        # these two classes keep JupyterLab from reading "$100 to $1000" as a formula
        classes = "dataframe tex2jax_ignore mathjax_ignore"
        table = f'<table class="{classes}">\n{head}<tbody>\n{body}\n</tbody>\n</table>'
        return f"{table}<p>{self._rest()}</p>" if self._rest() else table

    def _html_row(self, tag: str, texts: Sequence[str], top: bool) -> str:
        cells = (_html_cell(tag, text, side, top) for text, side in zip(texts, self.sides, strict=True))
        return f"<tr>{''.join(cells)}</tr>"

    def _rest(self) -> str:
        return f"and {self.count - MOST_ROWS:,} more rows" if self.count > MOST_ROWS else ""

    def __repr__(self) -> str:
        if not self.rows:
            return "(nothing)"
        lines = [[" ".join(text.split())[:LONG_WORD] for text in row] for row in (self.names, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        pads = [f"{'>' if side == 'right' else '<'}{width}" for side, width in zip(self.sides, widths, strict=True)]
        text = ["  ".join(map(format, row, pads)).rstrip() for row in lines]
        return "\n".join([*text, self._rest()]).rstrip("\n")


def _cell_text(value: Any) -> str:
    text = reveal(show_number(value))
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _html_cell(tag: str, text: str, side: str, top: bool) -> str:
    """One cell. JupyterLab's own rules for cells win over all but a style in the cell, so each has what its text needs."""
    style = [f"text-align:{side}"]
    if top:
        style.append("vertical-align:top")
    long_name = tag == "th" and len(text) > LONG_NAME and "_" in text  # breaks at an underscore, where there is no room
    if tag == "th" and len(text) < LONG_WORD and not long_name:
        style.append("white-space:nowrap")
    elif re.search(r"[\n\t]|^ |  ", text):
        style.append("white-space:pre-wrap")
    if max(map(len, text.split()), default=0) > LONG_WORD:
        style.append("overflow-wrap:anywhere")
    shown = html.escape(text, quote=False)
    return f'<{tag} style="{";".join(style)}">{shown.replace("_", "_<wbr>") if long_name else shown}</{tag}>'


def show(rows: Any, *columns: str) -> Table:
    """`rows` as the last line of a cell: records or dicts, a dict of name and value or of columns, or what pandas makes.

    `columns` chooses fields of records, and names the columns of a dict. The index of what pandas makes becomes the first
    columns, unless it only counts.
    """
    if isinstance(rows, Mapping):
        names, values = _read_columns(rows) if _has_columns(rows) else (["", ""], [*rows.items()])
        names = columns or names
    elif hasattr(rows, "to_frame") or hasattr(rows, "columns"):
        names, values = _read_frame(rows)
    else:
        records = [_read_fields(row) for row in rows]
        names = columns or list(dict.fromkeys(name for row in records for name in row))
        values = [[row.get(name) for name in names] for row in records]
    return Table(list(map(str, names)), values)


def _has_columns(rows: Mapping[str, Any]) -> bool:
    return bool(rows) and all(isinstance(value, Mapping) for value in rows.values())


def _read_columns(columns: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """A row for each name that any of the columns has."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    return ["", *columns], [[name, *(column.get(name) for column in columns.values())] for name in names]


def _read_fields(row: Any) -> Mapping[str, Any]:
    """The fields of a row: a dict, a named tuple, a dataclass, or one of the kit's records."""
    if isinstance(row, Mapping):
        return row
    if is_dataclass(row):
        return {field.name: getattr(row, field.name) for field in fields(row)}
    return row._asdict() if hasattr(row, "_asdict") else vars(row)


def _read_frame(frame: Any) -> tuple[list[str], list[list[Any]]]:
    """The columns of a data frame or a series, its index before them."""
    frame = frame.to_frame("" if frame.name is None else frame.name) if hasattr(frame, "to_frame") else frame
    index, values = frame.index, frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    names = [
        _join_levels(frame.columns.names[:1] if frame.columns.nlevels == 1 else [], name) for name in frame.columns
    ]
    if index.nlevels == 1 and index.dtype.kind in "iu" and not index.name:
        return names, values  # mere positions say nothing
    keys = [key if isinstance(key, tuple) else (key,) for key in index]
    return [*(name or "" for name in index.names), *names], [
        [*key, *row] for key, row in zip(keys, values, strict=True)
    ]


def _join_levels(title: Sequence[str | None], name: Any) -> str:
    """The head of a column: "has input: True" of a cross table, "mine: verbs" of two levels."""
    levels = name if isinstance(name, tuple) else (name,)
    return ": ".join(str(level) for level in (*title, *levels) if level is not None)


def reveal(text: str) -> str:
    r"""`text` with every character that is obeyed rather than shown written as an escape, such as \x1b or \u202e.

    >>> print(reveal("a\rb\x1b[31mred"))
    a\rb\x1b[31mred
    """
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


def announce(text: str) -> None:
    """Print `text` in a cell; under the runner also in its terminal, at once: there nobody reads the cell before the end."""
    print(text)
    if works_for_another():
        for line in text.splitlines():
            tell_person(line)


def show_text(*parts: Any, **how: Any) -> None:
    """Print a model's text, as `print` does, with nothing hidden: see `reveal`."""
    print(*(reveal(str(part)) for part in parts), **how)


class MarkedText:
    """A text in pieces, those that are marked in bold, in a frame and on orange: to be told apart in print and by everybody."""

    def __init__(self, pieces: Iterable[tuple[str, bool]]):
        self.pieces = [(reveal(text), marked) for text, marked in pieces]

    def _repr_html_(self) -> str:
        return f'<div style="{_MARKED_BOX}">{"".join(_html_piece(*piece) for piece in self.pieces)}</div>'

    def __repr__(self) -> str:
        return "".join(f"[{text}]" if marked else text for text, marked in self.pieces)


_MARKED_BOX = "white-space: pre-wrap; font-family: monospace; line-height: 1.9; max-width: 90ch"
_MARKED = "background: #ffd699; color: #000; font-weight: bold; border: 1px solid #8a5a00"
_PLAIN = "color: #555; border: 1px solid #ccc"


def _html_piece(text: str, marked: bool) -> str:
    """A piece in its frame; a line break is drawn as well as made."""
    shown = html.escape(text).replace("\n", "↵<br>")
    return f'<span style="{_MARKED if marked else _PLAIN}">{shown}</span>'


def show_problems(problems: Iterable[str], what: str = "NOT READ") -> None:
    """Print what could not be read, a line each; nothing where all is well."""
    for problem in problems:
        show_text(what, problem)
