"""The script that texts are written in, and what it hides from measures that were made for English.

find_script("写一首关于秋天的短诗。")                        # "Cjk"
note_scripts({"instruction": texts}, "words")      # ["992 of 1,000 instructions in a script without spaces (Cjk), ..."]
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

WITHOUT_SPACES = {"Cjk", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Yi"}
WORTH_SAYING = 0.05  # share of the texts
LOOKED_AT = 200  # characters of a text: its first ones tell the script
HIDDEN = {
    "words": "which counts as one word what stands between two spaces",
    "rouge": 'whose words ROUGE-L as published does not see; quirks="fixed" does',
    "verbs": "in which an English parser finds no verbs",
    "all": "hard to see for word counts, ROUGE-L as published and the English parser",
}


def find_script(text: str) -> str:
    """The script of most letters of `text` by their Unicode names; "no letters" where there are none."""
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else "no letters"
    letters = Counter(map(_name_script, filter(str.isalpha, text[:LOOKED_AT])))
    return letters.most_common(1)[0][0].capitalize() if letters else "no letters"


@cache
def _name_script(letter: str) -> str:
    return unicodedata.name(letter, "unknown").split()[0]


def note_scripts(parts: Mapping[str, Iterable[str]], measure: str = "all") -> list[str]:
    """A line for each part of a data set of which one text in twenty or more is in a script that `measure` cannot see.

    parts: what a text is -> the texts. Word counts fail where a script sets no spaces, the rest on all but Latin.
    """
    return [
        line for part, texts in parts.items() if (line := _note_part(part, Counter(map(find_script, texts)), measure))
    ]


def _note_part(part: str, scripts: Mapping[str, int], measure: str) -> str:
    seen = {"Latin", "no letters"} if measure != "words" else scripts.keys() - WITHOUT_SPACES
    hidden = {name: count for name, count in scripts.items() if name not in seen}
    count, total = sum(hidden.values()), sum(scripts.values())
    if not count or count < WORTH_SAYING * total:
        return ""
    kind = "a script without spaces" if hidden.keys() <= WITHOUT_SPACES else "another script than Latin"
    names = ", ".join(sorted(hidden, key=lambda name: -hidden[name])[:3])
    return f"{count:,} of {total:,} {part}s in {kind} ({names}), {HIDDEN[measure]}"
