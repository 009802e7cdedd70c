"""A row of a data set, and how its texts are taken from what others wrote.

    Row("Name a colour.", "", "Blue")
    take_text({"output": 7}, "output", remarks)     # "7", and a remark that it was a number

What is unusual and yet readable leaves a remark on the row; what cannot be used raises `Unreadable`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Inputs of people who meant none. The paper's own data has some, and its Table 1 counts them as inputs.
PLACEHOLDERS = {"<noinput>", "<no input>", "noinput", "no input", "n/a", "none", "null", "nan", "-"}


@dataclass(frozen=True, slots=True)
class Row:
    """One instance. `input` and `output` are None where the data set has instructions only, "" where they are empty.

    An input of blanks alone is "", as it is to the templates of step 4. `remarks` say what was unusual in the row.
    """

    instruction: str
    input: str | None = None
    output: str | None = None
    is_classification: bool | None = None  # None: the data set does not say
    remarks: tuple[str, ...] = field(default=(), compare=False, repr=False)


class Unreadable(Exception):
    """Why a row cannot be used; `formats.read_rows` adds its place."""


def is_blank(text: str) -> bool:
    r"""True if there is nothing to see in `text`: it is empty, or all white space and characters without a width.

    >>> is_blank(" \u200b\n"), is_blank("-")
    (True, False)
    """
    return not any(one.isprintable() and not one.isspace() for one in text)


def take_text(row: Mapping[str, Any], name: str, remarks: list[str]) -> str:
    """The text of a field, "" for null; of several texts the first, of a number its digits, both with a remark."""
    value = row.get(name)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        remarks += [f'with several texts as "{name}", the first taken'] * (len(value) > 1)
        value = value[0]
    if isinstance(value, bool | int | float):
        remarks.append(f'with a number as "{name}", read as text')
        value = json.dumps(value)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f'"{name}" is {repr(value)[:60]}; expected text')
    # lone surrogates are legal in JSON and in no file
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def take_instruction(row: Mapping[str, Any], name: str, remarks: list[str]) -> str:
    """The text of an instruction; raises Unreadable where there is nothing to see in it."""
    text = take_text(row, name, remarks)
    if is_blank(text):
        raise Unreadable(f'"{name}" is empty; every row needs an instruction')
    return text


def take_input(row: Mapping[str, Any], name: str, remarks: list[str]) -> str:
    """The text of an input, "" for one of blanks and where the data set has no field for it."""
    text = take_text(row, name, remarks) if name else ""
    if text and is_blank(text):
        remarks.append("with blanks as input, read as empty")
        return ""
    if len(text) < 12 and text.strip().casefold() in PLACEHOLDERS:
        remarks.append("with an input such as <noinput> or N/A, counted as an input")
    return text
