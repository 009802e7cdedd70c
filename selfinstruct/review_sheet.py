"""The quality review as a spreadsheet: a CSV out, the same CSV with answers back in.

    export_sheet(items, review.answers, "review.csv")
    import_sheet("review.csv", review)          # -> how many answers changed

Rows may be sorted and columns moved; an item is found by its id. Only the answers and the notes are read back.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from .records import InputError, shown_path, write_text
from .review import QUESTIONS, Answer, Review, ReviewItem

COLUMNS = ["id", "instruction", "input", "output", *QUESTIONS, "notes"]
_WORDS = {
    **dict.fromkeys(("yes", "y", "1", "true"), True),
    **dict.fromkeys(("no", "n", "0", "false"), False),
    "": None,
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_SHOWN = {True: "yes", False: "no", None: ""}


def export_sheet(items: Sequence[ReviewItem], answers: dict[str, Answer], path: str | Path) -> Path:
    """Write the items, with the answers so far, as CSV that Excel, LibreOffice and Google Sheets open as UTF-8."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in items:
        answer = answers.get(item.id) or Answer(id=item.id, rater="")
        texts = [_as_text(text) for text in (item.instruction, item.input, item.output)]
        writer.writerow([item.id, *texts, *(_SHOWN[value] for value in answer.given), _as_text(answer.notes)])
    return write_text(path, "\ufeff" + out.getvalue())


def _as_text(text: str) -> str:
    """A model may begin its text with "=": an apostrophe keeps a spreadsheet from computing it."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _from_text(text: str | None) -> str:
    text = (text or "").strip()
    return text[1:] if text[:1] == "'" and text[1:].startswith(_FORMULA_STARTS) else text


def import_sheet(path: str | Path, review: Review) -> int:
    """Save the answers of a filled-in sheet that differ from those in `review`; returns how many items changed.

    Nothing is saved unless every row can be read. Raises InputError with file:line for a missing column, an id that is not
    in the sample or stands twice, or an answer that is neither yes nor no.
    """
    path = Path(path)
    known, seen, changed = {item.id for item in review.items}, {}, []
    for line, row in _rows(path):
        where = f"{shown_path(path)}:{line}"
        key = (row["id"] or "").strip()
        if key not in known:
            raise InputError(f'{where}: id "{key}" is not in the sample; import a sheet exported from this run folder')
        if key in seen:
            raise InputError(f'{where}: id "{key}" stands on line {seen[key]} already')
        seen[key] = line
        given = {question: _read_word(row[question], where, question) for question in QUESTIONS}
        given["notes"] = _from_text(row["notes"])
        before = review.of(key)
        if given != {name: getattr(before, name) for name in given}:
            changed.append((key, given))
    for key, given in changed:
        review.answer(key, **given)
    return len(changed)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{shown_path(path)}: no such file; `selfinstruct review export` writes one") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{shown_path(path)}: not UTF-8 text; save it as CSV UTF-8") from error
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)  # spreadsheets in some countries write semicolons
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    missing = [name for name in ("id", *QUESTIONS, "notes") if name not in (reader.fieldnames or [])]
    if missing:
        raise InputError(
            f"{shown_path(path)}:1: no column {', '.join(missing)}; needed are id, {', '.join(QUESTIONS)}, notes"
        )
    return [(reader.line_num, row) for row in reader]


def _read_word(text: str | None, where: str, question: str) -> bool | None:
    word = (text or "").strip().casefold()
    if word not in _WORDS:
        raise InputError(f'{where}: {question} is "{text}"; write yes or no, or leave it empty')
    return _WORDS[word]
