"""One named rule per reason to drop a candidate; a filter says *which* rule it was.

Instruction rules are those of step 1 (paper section 2.2, "Filtering"; released `post_process_gpt3_response`), instance
rules those of step 4 (released `filter_invalid_instances` and `filter_duplicate_instances`).
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence

from .parsing import check_quirks
from .records import Instance
from .similarity.words import UNSPACED, count_words, split_unicode

MIN_WORDS, MAX_WORDS = 4, 150
BLACKLIST = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot", "go to",
)  # fmt: skip
_BLACKLIST = re.compile(r"\b(?:" + "|".join(BLACKLIST) + r")\b", re.IGNORECASE)


def _count(text: str, fixed: bool) -> int:
    return count_words(text, "fixed" if fixed else "published")


def _is_endless(text: str) -> bool:
    """True for a few "words" that are hundreds of the tokenizer's, such as a.b.c.d: such a text is no instruction."""
    return len(text) > 2 * MAX_WORDS and len(split_unicode(UNSPACED.sub(" ", text))) > 2 * MAX_WORDS


# name -> does it drop (text, fixed); later rules see no empty text
INSTRUCTION_RULES: dict[str, Callable[[str, bool], bool]] = {
    "empty": lambda text, fixed: not text,
    "too_short": lambda text, fixed: _count(text, fixed) < MIN_WORDS,
    "too_long": lambda text, fixed: _count(text, fixed) > MAX_WORDS or (fixed and _is_endless(text)),
    # Q4: released, "file a complaint" is dropped for "file"; fixed sets such idioms aside first
    "blacklisted_word": lambda text, fixed: bool(_BLACKLIST.search(without_idioms(text) if fixed else text)),
    "write_a_program": lambda text, fixed: text.startswith("Write a program"),
    "punctuation_start": lambda text, fixed: text[0] in string.punctuation,
    # Q6: released, any first character beyond ASCII; fixed lets letters and digits of every script pass
    "non_ascii_start": lambda text, fixed: not text[0].isascii() and not (fixed and text[0].isalnum()),
}


def instruction_rejection(instruction: str, quirks: str = "published") -> str | None:
    """The name of the first rule that drops `instruction`, in released order, or None where it is kept.

    >>> instruction_rejection("Write a program that sorts a list."), instruction_rejection("Name three rivers in Asia.")
    ('write_a_program', None)
    """
    fixed = check_quirks(quirks)
    return next((name for name, drops in INSTRUCTION_RULES.items() if drops(instruction, fixed)), None)


INSTANCE_RULES: dict[str, Callable[[Instance], bool]] = {
    "input_equals_output": lambda instance: instance.input == instance.output,
    "empty_output": lambda instance: instance.output == "",
    "input_ends_with_colon": lambda instance: instance.input.strip().endswith(":"),
    "output_ends_with_colon": lambda instance: instance.output.strip().endswith(":"),
}


def instance_rejections(instances: Sequence[Instance]) -> list[str | None]:
    """For each instance of ONE task the rule that drops it, or None, in order.

    Two different outputs for one non-empty input ("conflicting_outputs") drop every instance of the task; an exact
    repetition is a "duplicate". The released code then keeps a `set`, whose order changes with the interpreter's hash
    seed (Q15); here first-seen order is kept in both modes.
    """
    reasons = [
        next((name for name, drops in INSTANCE_RULES.items() if drops(instance)), None) for instance in instances
    ]
    valid = [instance for instance, reason in zip(instances, reasons, strict=True) if reason is None]
    conflict = _has_conflict(valid)
    seen: set[tuple[str, str]] = set()
    for index, instance in enumerate(instances):
        if reasons[index] is None:
            pair = (instance.input, instance.output)
            reasons[index] = "conflicting_outputs" if conflict else "duplicate" if pair in seen else None
            seen.add(pair)
    return reasons


def _has_conflict(instances: Sequence[Instance]) -> bool:
    first: dict[str, str] = {}
    return any(first.setdefault(one.input, one.output) != one.output for one in instances if one.input)


def filter_instances(instances: Sequence[Instance], quirks: str = "published") -> list[Instance]:
    """The instances of one task that pass the released invalid and duplicate rules, in first-seen order."""
    check_quirks(quirks)
    return [one for one, reason in zip(instances, instance_rejections(instances), strict=True) if reason is None]


# Turns of phrase in which a blacklisted word asks for nothing that a text model cannot do (Q4, "fixed")
_FINDING = r"(?:(?:conclusion|inference|lesson|parallel|distinction|comparison|contrast)s?|analog(?:y|ies))"
_FILED = r"(?:(?:complaint|claim|lawsuit|return|report|patent|appeal|charge|petition)s?|tax(?:es)?|divorce|bankruptcy)"
_WEB = r"(?:[\w-]+ ){0,3}(?:web ?(?:sites?|pages?)|sites?|links?|urls?|https?|www)\b"
_ON_A_MAP = r"[^.?!]{0,300}\b(?:routes?|roads?|way|cities|countries|locations?|places)\b"
_IDIOMS = (
    rf"draw (?:(?:an?|any|the|some|your|up|more) )?(?:[\w-]+ )?(?:{_FINDING}|attention|inspiration|lots)",
    rf"{_FINDING}\b[^.?!]{{0,40}}\bdraw|(?:end|ends|ended|result|results) in an? draw|draw (?:up)?on (?:your|its|their)",
    r"draw up (?:an?|the|your) (?:contract|agreement|will|budget|list|schedule)|plot against|plot to (?:kill|rob|escape)",
    r"plot (?:twists?|summary|summaries|points?|holes?|devices?)",
    rf"file (?:(?:an?|for|your|my|the|their|his|her|our|any) )+(?:[\w-]+ )?{_FILED}|single file|rank and file",
    r"file (?:complaints|claims|lawsuits|tax(?:es)?|bankruptcy|charges)|map out|on the map|road ?maps?|(?:hash|tree) ?maps?",
    rf"(?:(?:to|and|can|that|which|you) maps? |(?<![\w,;:-] )map (?=(?:the|each|every|these|all) ))(?!{_ON_A_MAP})"
    r"(?:[\w',-]+ ){1,6}?(?:to|onto|into)",
    r"(?:i|we|they|he|she|people|cats|dogs|kids|children|students|can't|cannot|not|never|(?<!you )to)"
    rf" go to(?! {_WEB})",
    r"go to (?:bed|sleep|school|work|church|war|court|jail|the (?:gym|doctor|dentist|beach|park|store|bathroom|movies))",
    r"(?:self|public|body|brand|mirror|docker)[- ]images?|big(?:ger)? picture|motion pictures?|best picture",
    r"(?:knowledge|social) graphs?|graph (?:theory|databases?|algorithms?|traversals?)",
)
# "plot" is also what happens, as a noun in a text about stories: not in "Make a plot of movie ratings"
_STORY = (
    r"(?:(?:movie|film|serie|storie|novel|book|play|drama|episode|tale|character|script|scene)s?|story|comedy|fiction)"
)
_FIGURE = (
    r"\b(?:(?:dataset|chart|histogram|bar|curve|function|equation|number|value|rating|sale|price|revenue|count|length"
    r"|temperature|distribution|correlation)s?|data|ax[ei]s|scatter|over time|versus|vs|per (?:day|week|month|year)"
    r"|matplotlib|python|excel)\b"
)
_PLOT = rf"(?:the|an?|its|his|her|their|your|my|our|this|that|main|new|whole|{_STORY}(?:['’]s?)?) plot|plot of"
_IDIOM, _IDIOM_OR_PLOT = (
    re.compile("|".join(rf"\b(?:{one})\b" for one in phrases), re.IGNORECASE)
    for phrases in (_IDIOMS, (*_IDIOMS, _PLOT))
)


def without_idioms(text: str) -> str:
    """`text` without the first blacklisted word of each such turn of phrase; any other one in it stays."""
    story = re.search(rf"\b{_STORY}\b", text, re.IGNORECASE) and not re.search(_FIGURE, text, re.IGNORECASE)
    return (_IDIOM_OR_PLOT if story else _IDIOM).sub(lambda found: _BLACKLIST.sub(" ", found[0], count=1), text)
