"""The quality review as a spreadsheet: a CSV out, the same CSV with answers back in.

    export_sheet(items, review.answers, "review.csv")
    import_sheet("review.csv", review)          # -> how many answers changed

A question's column is headed by its name and its wording; the name alone is enough to read it. Rows may be sorted and
columns moved; an item is found by its id. Only the answers and the notes are read back, from what spreadsheets save as CSV
in UTF-8: commas, semicolons or tabs, any line ends. Texts that were changed are named and left aside: a spreadsheet makes
0.5 of "0.50" by itself, so that to refuse them would refuse honest sheets. Only where an id has the instruction of another
item (one column was sorted alone) nothing can be read.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import InputError, show_path, write_text
from .items import Answer, Review, ReviewItem
from .questions import QUESTIONS

TEXTS = ("instruction", "input", "output")
# also what spreadsheets of other languages make of TRUE and FALSE; one letter only where no language says no with it
_YES = (
    "yes y 1 1.0 true ✓ ✔ ja j jawohl wahr oui vrai si sí sì verdadero vero sim verdadeiro tak prawda ano áno da да igen kyllä "
    "evet doğru ναι はい 是 是的 对 對 真 예 네 نعم हाँ हां כן ใช่ có ya waar sann sand tosi pravda истина"
)
_NO = (
    "no n 0 0.0 false ✗ ✘ nein falsch non faux falso não nao nie fałsz ne нет ні nem hayır yanlış όχι いいえ 否 不 不是 不对 不對 假 "
    "아니요 아니오 لا नहीं לא ไม่ không tidak nee onwaar nej falskt ei epätosi nepravda ложь"
)
_WORDS = {**dict.fromkeys(_YES.split(), True), **dict.fromkeys(_NO.split(), False), "": None}
_WORD_OF = {True: "yes", False: "no", None: ""}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_ID_MARK = "item-"  # an id may be 12 digits, or 4e9 in a longer form: a spreadsheet would round it to 1.2E+11
_NAMED_AT_ONCE = 5


def export_sheet(items: Sequence[ReviewItem], answers: dict[str, Answer], path: str | Path) -> Path:
    """Write the items, with the answers so far, as CSV that Excel, LibreOffice and Google Sheets open as UTF-8."""
    import pandas as pd

    rows = []
    for item in items:
        answer = answers.get(item.id) or Answer(id=item.id, rater="")
        texts = {name: _guard_formula(getattr(item, name)) for name in TEXTS}
        words = {f"{name}: {text}": _WORD_OF[getattr(answer, name)] for name, text in QUESTIONS.items()}
        rows.append({"id": _ID_MARK + item.id, **texts, **words, "notes": _guard_formula(answer.notes)})
    return write_text(path, "\ufeff" + pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def _guard_formula(text: str) -> str:
    """A model may begin its text with "=": an apostrophe keeps a spreadsheet from computing it."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _read_cell(cell: str) -> str:
    cell = cell.strip()
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA_STARTS) else cell


def _read_word(cell: str) -> bool | str | None:
    """Yes, no or nothing, in any of many languages; the cell itself where it is something else."""
    return _WORDS.get(unicodedata.normalize("NFC", cell).strip().rstrip(".!").casefold(), cell)


def import_sheet(path: str | Path, review: Review, note: Callable[[str], None] = print) -> int:
    """Save the answers of a filled-in sheet that differ from those in `review`; returns how many items changed.

    Nothing is saved unless every row can be read. Raises InputError with file, line and row for a missing column, an id that is not
    in the sample, is there twice or has another item's instruction, or an answer that is neither yes nor no; it names the
    first five of such faults. `note` gets the texts that are not the sample's, in the same form.
    """
    given, faults, edits = {}, [], []
    texts = {item.id: {name: _compact(getattr(item, name)) for name in TEXTS} for item in review.items}
    for place, row in _iter_rows(Path(path)):
        where, key = f"{show_path(path)}:{place}", row["id"].strip().removeprefix(_ID_MARK)
        answers = {question: _read_word(row[question]) for question in QUESTIONS}
        wrong = [f'id "{key}" is in an earlier row already'] if key in given else _find_faults(key, row, answers, texts)
        faults += [f"{where}: {fault}" for fault in wrong]
        given[key] = {**answers, "notes": _read_cell(row["notes"])}
        edited = [name for name, text in texts.get(key, {}).items() if _compact(row.get(name, text)) != text]
        edits += [f'{where}: {" and ".join(edited)} of "{key}" changed in the sheet: left aside'] if edited else []
    if faults:
        raise InputError(_join_first(faults))
    if edits:
        note(_join_first(edits))
    changed = {key: one for key, one in given.items() if one != review.of(key).model_dump(include=set(one))}
    for key, one in changed.items():
        review.answer(key, **one)
    return len(changed)


def _compact(text: str) -> str:
    """A text as a sheet may hold it: without regard to blanks, line ends and the guard against formulas."""
    return " ".join(_read_cell(text).split())


def _find_faults(
    key: str, row: Mapping[str, str], answers: Mapping[str, Any], texts: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Why the row cannot be about the item that its id names, or else which of its answers cannot be read."""
    if key not in texts:
        return [f'id "{key}" is not in the sample; import a sheet exported from this run folder']
    instruction = _compact(row.get("instruction", ""))
    others = [other for other, its in texts.items() if its["instruction"] == instruction]
    if others and key not in others:
        return [f'id "{key}" has the instruction of "{others[0]}"; sort whole rows, or export the sheet anew']
    advice = "write yes or no, or leave it empty"
    return [f'{question} is "{word}"; {advice}' for question, word in answers.items() if isinstance(word, str)]


def _join_first(messages: Sequence[str]) -> str:
    more = len(messages) - _NAMED_AT_ONCE
    return "\n".join([*messages[:_NAMED_AT_ONCE], *([f"and {more} more"] if more > 0 else [])])


def _iter_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """("line, row" of the file and as a spreadsheet counts, cells by column) of each row that is not blank."""
    import pandas as pd

    how = {"dtype": str, "keep_default_na": False, "skip_blank_lines": False, "index_col": False}
    how["usecols"] = lambda _: True  # cells to the right of the header's are no fault
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)  # spreadsheets in some countries write semicolons
        sheet = pd.read_csv(io.StringIO(text), sep=separator, **how).fillna("")
    except FileNotFoundError as error:
        raise InputError(f"{show_path(path)}: no such file; `selfinstruct review export` writes one") from error
    except ValueError as error:
        raise InputError(f"{show_path(path)}: not a CSV in UTF-8 ({error}); save it as CSV UTF-8") from error
    names = [name.strip().lower() for name in sheet.columns]
    sheet.columns = [next((one for one in QUESTIONS if name.startswith(f"{one}:")), name) for name in names]
    if missing := [name for name in ("id", *QUESTIONS, "notes") if name not in sheet.columns]:
        needed = f"needed are id, {', '.join(QUESTIONS)}, notes"
        raise InputError(f"{show_path(path)}:1: no column {', '.join(missing)}; {needed}")
    line = 2
    for number, row in enumerate(sheet.to_dict("records"), 2):
        if any(cell.strip() for cell in row.values()):
            yield f"{line}, row {number}", row
        line += 1 + sum(len(cell.splitlines()) - 1 for cell in row.values() if cell)
