"""The quality review as a spreadsheet: a CSV out, the same CSV with answers back in.

    export_sheet(items, review.answers, "review.csv")
    import_sheet("review.csv", review)          # -> how many answers changed

Rows may be sorted and columns moved; an item is found by its id. Only the answers and the notes are read back, from what
spreadsheets save as CSV: commas, semicolons or tabs, UTF-8 or UTF-16, any line ends. Texts that were changed are named and
left aside: a spreadsheet makes 0.5 of "0.50" by itself, so that to refuse them would refuse honest sheets. Only where an
id stands beside another item's instruction (one column was sorted alone) nothing can be read.
"""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from ..files import InputError, shown_path, write_text
from .items import QUESTIONS, Answer, Review, ReviewItem

TEXTS = ("instruction", "input", "output")
COLUMNS = ["id", *TEXTS, *QUESTIONS, "notes"]
_WORDS = {
    **dict.fromkeys(("yes", "y", "1", "true"), True),
    **dict.fromkeys(("no", "n", "0", "false"), False),
    "": None,
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_ID_MARK = "item-"  # an id may be 12 digits, or 4e9 in a longer form: a spreadsheet would round it to 1.2E+11
_NAMED_AT_ONCE = 5
_SHOWN = {True: "yes", False: "no", None: ""}


def export_sheet(items: Sequence[ReviewItem], answers: dict[str, Answer], path: str | Path) -> Path:
    """Write the items, with the answers so far, as CSV that Excel, LibreOffice and Google Sheets open as UTF-8."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in items:
        answer = answers.get(item.id) or Answer(id=item.id, rater="")
        texts = [_as_text(getattr(item, name)) for name in TEXTS]
        given = [_SHOWN[value] for value in answer.given]
        writer.writerow([_ID_MARK + item.id, *texts, *given, _as_text(answer.notes)])
    return write_text(path, "\ufeff" + out.getvalue())


def _as_text(text: str) -> str:
    """A model may begin its text with "=": an apostrophe keeps a spreadsheet from computing it."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _from_text(text: str | None) -> str:
    text = (text or "").strip()
    return text[1:] if text[:1] == "'" and text[1:].startswith(_FORMULA_STARTS) else text


def import_sheet(path: str | Path, review: Review, note: Callable[[str], None] = print) -> int:
    """Save the answers of a filled-in sheet that differ from those in `review`; returns how many items changed.

    Nothing is saved unless every row can be read. Raises InputError with file:line and row for a missing column, an id that
    is not in the sample, stands twice or stands beside another item's instruction, or an answer that is neither yes nor no;
    it names the first five of such faults. `note` is told in the same way of texts that are not the sample's.
    """
    path, seen, changed, faults, edits = Path(path), {}, [], [], []
    sample = _Sample(review.items)
    for where, row in _rows(path):
        key = (row["id"] or "").strip().removeprefix(_ID_MARK)
        given, wrong = _read_answers(row)
        if mistaken := sample.mistaken(key, row):
            wrong = [mistaken]
        elif key in seen:
            wrong = [f'id "{key}" stands on line {seen[key]} already']
        elif edited := sample.edited(key, row):
            edits.append(f"{shown_path(path)}:{where}: {edited}")
        faults += [f"{shown_path(path)}:{where}: {fault}" for fault in wrong]
        seen[key] = where
        if not wrong and given != review.of(key).model_dump(include=set(given)):
            changed.append((key, given))
    if faults:
        raise InputError(_first_of(faults))
    if edits:
        note(_first_of(edits))
    for key, given in changed:
        review.answer(key, **given)
    return len(changed)


class _Sample:
    """The texts of the sample as a sheet may hold them: without regard to blanks and line ends."""

    def __init__(self, items: Sequence[ReviewItem]) -> None:
        self._texts = {item.id: {name: _plain(_as_text(getattr(item, name))) for name in TEXTS} for item in items}
        self._ids = {texts["instruction"]: key for key, texts in self._texts.items()}

    def mistaken(self, key: str, row: dict[str, str | None]) -> str:
        """Why the row cannot be about the item that its id names; "" where it can."""
        if key not in self._texts:
            return f'id "{key}" is not in the sample; import a sheet exported from this run folder'
        instruction = _plain(row.get("instruction"))
        beside = self._ids.get(instruction, key)
        if beside == key or instruction == self._texts[key]["instruction"]:
            return ""
        return f'id "{key}" stands beside the instruction of "{beside}"; sort whole rows, or export the sheet anew'

    def edited(self, key: str, row: dict[str, str | None]) -> str:
        """Which texts of the row are not the item's, in words; "" where none. A column that is gone was not edited."""
        names = [name for name in TEXTS if name in row and _plain(row[name]) != self._texts[key][name]]
        return f'{" and ".join(names)} of "{key}" changed in the sheet: left aside' if names else ""


def _plain(text: str | None) -> str:
    return " ".join(_from_text(text).split())


def _first_of(messages: Sequence[str]) -> str:
    more = len(messages) - _NAMED_AT_ONCE
    return "\n".join([*messages[:_NAMED_AT_ONCE], *([f"and {more} more"] if more > 0 else [])])


def _read_answers(row: dict[str, str | None]) -> tuple[dict[str, bool | str | None], list[str]]:
    """(the answers and the notes of a row, what is wrong with it)."""
    words = {question: (row[question] or "").strip() for question in QUESTIONS}
    wrong = [
        f'{question} is "{word}"; write yes or no, or leave it empty'
        for question, word in words.items()
        if word.casefold() not in _WORDS
    ]
    given = {question: _WORDS.get(word.casefold()) for question, word in words.items()}
    return {**given, "notes": _from_text(row["notes"])}, wrong


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str | None]]]:
    """("line (row n)", cells by column) of each row that is not blank; the row is as a spreadsheet numbers it."""
    text = _read_text(path)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a cell may be as long as a model's text
    lines, skipped = io.StringIO(text, newline=""), 0
    if text[:4].lower() == "sep=":  # Excel understands such a first line, and does not show it
        skipped = bool(next(lines))
    reader = csv.reader(lines, delimiter=_separator(text, skipped))
    columns = [name.strip().lower() for name in next(reader, [])]
    missing = [name for name in ("id", *QUESTIONS, "notes") if name not in columns]
    if missing:
        needed = f"needed are id, {', '.join(QUESTIONS)}, notes"
        raise InputError(f"{shown_path(path)}:{1 + skipped}: no column {', '.join(missing)}; {needed}")
    line = reader.line_num + 1
    for number, cells in enumerate(reader, 2):
        if any(cell.strip() for cell in cells):
            yield f"{line + skipped} (row {number})", dict(zip_longest(columns, cells[: len(columns)]))
        line = reader.line_num + 1


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{shown_path(path)}: no such file; `selfinstruct review export` writes one") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{shown_path(path)}: not UTF-8 text; save it as CSV UTF-8") from error


def _separator(text: str, head: int) -> str:
    """The one that line `head` has most of; spreadsheets in some countries write semicolons."""
    return max(",;\t", key=re.split("\r\n?|\n", text, maxsplit=2)[head].count)
