"""Lists as models write them: items behind "10.", "**10.**", "10)", "(10)", "１０．", "10、", "⑩", "Task 10:" or a dash.

    split_items("1) Sort these names.\\n2) Name a colour.")         # ["Sort these names.", "Name a colour."]

The released parser knows one style, "\\n10. " (`parsing`). This is for `quirks="fixed"`, and for the answers of chat models.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_NAMES = (
    "tasks?|instructions?|questions?|items?|prompts?|exercises?|problems?|no|nr|nº|aufgabe|anweisung|frage|übung|tâche|consigne"
    "|tarea|instrucción|pregunta|ejercicio|tarefa|instrução|compito|istruzione|задача|задание|инструкция|вопрос|任务|任務|指令"
    "|题目|題目|问题|問題|タスク|課題|과제|작업|지시"
)
_NUMBER = r"(?:\d{1,3}|[一二三四五六七八九十]{1,3}|(?-i:[IVX]{1,5})(?=[.)]\s))"
_CIRCLED = "\u2460-\u249b\u24ea-\u24ff\u2776-\u2793\u3220-\u3229\u3251-\u325f\u3280-\u3289\u32b1-\u32bf"
_BOLD = r"(?:\*{1,3}|__)"
_MARKER = re.compile(
    rf"""^[ \t\u3000]*(?:>[ \t]*)?(?:[-*•][ \t]+(?=\W{{0,6}}(?:(?:{_NAMES})\W{{0,3}})?\d))?(?:\#{{1,6}}[ \t]*)?
    (?P<bold>{_BOLD})?
    (?:
        [(（\[【〔]\s?(?P<inside>{_NUMBER})\s?[)）\]】〕]{_BOLD}?[.:：、]?                       # (10) [10] 【10】
      | (?P<number>{_NUMBER})[ \t]?(?:[.．。)）\]、:：]|(?P<dash>[-–—])(?=[ \t]+\D))(?!\d)            # 10. 10) 10、 10 -
      | \#(?P<hash>{_NUMBER})(?=[ \t])                                                              # #10
      | (?P<closed>{_NUMBER})[ \t]?{_BOLD}[.．。)）、:：]?                                        # **10** **10**.
      | (?:{_NAMES})[ \t]?[.\#№]?[ \t]?(?P<named>{_NUMBER})[ \t]?{_BOLD}?(?:[.．。:：)）、–—-](?!\d)|(?=[ \t]*$))  # Task 10:
      | 第[ \t]?(?P<ordinal>{_NUMBER})[ \t]?[个個条條项項题題]?[.．:：、，,)）]                   # 第10题：
      | (?P<circled>[{_CIRCLED}])[.．、:：]?
      | (?P<keycap>(?:\d\ufe0f?\u20e3){{1,2}}|🔟)[.:]?
    )
    (?:{_BOLD}(?=[\s.:：]))?[.:：]?[ \t]*
    """,
    re.MULTILINE | re.VERBOSE | re.IGNORECASE,
)
_BULLET = re.compile(r"^[ \t]*[-*•‣⁃◦●▪–—·][ \t]+", re.MULTILINE)
_EMPHASIS = re.compile(r"\s*(?:\*\*|__)")
_CANONICAL = re.compile(r"\d{1,3}\s?\. ")


class Marker(NamedTuple):
    """Where an item's number stands in a text; `number` is None where it has none that is read as one, or is a dash."""

    start: int
    end: int
    number: int | None = None


def find_markers(text: str) -> list[Marker]:
    """The numbers of a list, in any style, each at the start of a line; dashes only where the text begins with one."""
    found = [Marker(*one.span(), _read_number(one)) for one in _MARKER.finditer(text)]
    if not found and _BULLET.match(text.lstrip("\n")):
        found = [Marker(*one.span()) for one in _BULLET.finditer(text)]
    return found


def _read_number(found: re.Match) -> int | None:
    label = next(value for name, value in found.groupdict().items() if value and name not in ("bold", "dash"))
    label = re.sub("[\ufe0f\u20e3]", "", label).replace("🔟", "10")
    if label.isdecimal():
        return int(label)
    tens, _, ones = label.rpartition("十")
    values = [int(unicodedata.numeric(one, 0)) for one in (tens[-1:], ones[-1:]) if one]
    if "十" in label:
        return 10 * (values.pop(0) if tens else 1) + sum(values)
    return values[-1] if len(label) == 1 and values[-1] else None


def split_items(text: str) -> list[str]:
    """The items of a list without their numbers, empty ones dropped; what precedes the first number is an item, too."""
    markers = find_markers(text)
    starts, ends = [0, *(one.end for one in markers)], [*(one.start for one in markers), len(text)]
    items = (_drop_emphasis(text[start:end].strip()) for start, end in zip(starts, ends, strict=True))
    return [item for item in items if item]


def _drop_emphasis(item: str) -> str:
    """An item without the stars of a bold item or title, of which the number may have taken the first half."""
    for stars in ("**", "__"):
        first, found, rest = item.partition(stars)
        if found and item.count(stars) % 2:
            item = first.rstrip() + rest if not rest.strip() else first + rest
        elif item.startswith(stars) and item.endswith(stars) and item.count(stars) == 2:
            item = item[len(stars) : -len(stars)]
    return item.strip()


def is_canonical(text: str) -> bool:
    """True if a text is what a completion model writes: no number first, each other one on the next line, as in "\\n10. "."""
    markers = find_markers(text)
    starts = [0, *(one.end for one in markers)]
    return not any(_EMPHASIS.match(text, start) for start in starts) and all(
        one.start and text[one.start - 2 : one.start - 1] != "\n" and _CANONICAL.fullmatch(text, one.start, one.end)
        for one in markers
    )
