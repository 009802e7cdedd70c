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

MIN_WORDS, MAX_WORDS = 4, 150
BLACKLIST = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot", "go to",
)  # fmt: skip
_BLACKLIST = re.compile(r"\b(?:" + "|".join(BLACKLIST) + r")\b", re.IGNORECASE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")


def _empty(text: str, fixed: bool) -> bool:
    return not text


def _too_short(text: str, fixed: bool) -> bool:
    return _word_count(text, fixed) < MIN_WORDS


def _too_long(text: str, fixed: bool) -> bool:
    return _word_count(text, fixed) > MAX_WORDS


def _blacklisted(text: str, fixed: bool) -> bool:
    """Q4: released, "file a complaint" is dropped for "file"; fixed sets such idioms aside first."""
    return _BLACKLIST.search(without_idioms(text) if fixed else text) is not None


def _write_a_program(text: str, fixed: bool) -> bool:
    return text.startswith("Write a program")


def _punctuation_start(text: str, fixed: bool) -> bool:
    return text[0] in string.punctuation


def _non_ascii_start(text: str, fixed: bool) -> bool:
    """Q6: released, any first character beyond ASCII; fixed lets letters and digits of every script pass."""
    return not text[0].isascii() and not (fixed and text[0].isalnum())


def _word_count(text: str, fixed: bool) -> int:
    """White-space words; fixed counts each Chinese, Japanese or Korean character as one, since those scripts set no spaces."""
    return len((_CJK.sub(" x ", text) if fixed else text).split())


INSTRUCTION_RULES: dict[str, Callable[[str, bool], bool]] = {
    "empty": _empty,
    "too_short": _too_short,
    "too_long": _too_long,
    "blacklisted_word": _blacklisted,
    "write_a_program": _write_a_program,
    "punctuation_start": _punctuation_start,
    "non_ascii_start": _non_ascii_start,
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


_PLAIN = r"(?!(?:images?|graphs?|pictures?|files?|maps?|plots?)\b)[\w-]+"  # any word but a blacklisted one
_WEB = r"(?:[\w-]+ ){0,3}(?:web ?(?:sites?|pages?)|sites?|links?|urls?|https?|www)\b"
_ON_A_MAP = r"[^.?!]*\b(?:routes?|roads?|way|cities|countries|locations?|places)\b"
_FINDINGS = r"(?:conclusions?|inferences?|lessons?|parallels?|distinctions?|comparisons?|analog(?:y|ies)|contrasts?)"
_FILED = (
    r"(?:complaints?|claims?|lawsuits?|suit|tax(?:es)?|tax returns?|reports?|bankruptcy|patents?|appeals?|grievances?"
    r"|charges|divorce|petitions?|motions?|unemployment|restraining order)"
)
_FOR_WHOM = r"(?:(?:an?|for|your|my|the|their|his|her|our|any) )"

IDIOMS: dict[str, tuple[str, ...]] = {
    "draw": (
        rf"draws? (?:(?:an?|any|the|some|your|up|more) )?(?:{_PLAIN} )?(?:{_FINDINGS}|attention|inspiration|lots|blood)",
        rf"{_FINDINGS}\b[^.?!]{{0,40}}\bdraw",
        r"draw (?:up)?on (?:your|his|her|its|their|our|my|past|personal|previous|experiences?|knowledge|evidence)",
        r"(?:ends?|ended|ending|finish(?:es|ed)?|result(?:s|ed)?) in an? draw",
        r"draw up (?:an?|the|your) (?:contract|agreement|will|budget|list|schedule)",
    ),
    "plot": (
        r"plot (?:twists?|summary|summaries|points?|holes?|devices?)",
        r"plot to (?:kill|murder|assassinate|overthrow|steal|rob|destroy|escape)",
        r"plot (?:against|of land)",
    ),
    "file": (
        rf"file {_FOR_WHOM}+(?:{_PLAIN} )?{_FILED}",
        r"file (?:complaints|claims|lawsuits|suit|tax(?:es)?|bankruptcy|patents|appeals|charges)",
        r"single file|rank and file|nail files?",
    ),
    "map": (
        r"map out|on the map|road maps?|hash ?maps?|tree ?maps?|map function",
        rf"(?:to|and|can|could|that|which|please|then|you|we) maps? (?!{_ON_A_MAP})(?:[\w',-]+ ){{1,6}}?(?:to|onto|into)",
        rf"(?<![\w,;:-] )map (?!{_ON_A_MAP})(?:the|each|every|these|all) (?:[\w',-]+ ){{1,5}}?(?:to|onto|into)",
    ),
    "go to": (
        rf"(?:i|we|they|he|she|people|cats|dogs|kids|children|students|don't|can't|cannot|not|never) go to(?! {_WEB})",
        rf"(?<!you )to go to(?! {_WEB})",
        r"go to (?:bed|sleep|school|work|college|university|church|war|court|jail|prison|waste)",
        r"go to the (?:gym|doctor|dentist|beach|park|store|shop|movies|bathroom|hospital)",
    ),
    "image": (r"(?:self|public|body|brand|mirror|corporate|spitting|docker|disk|container)[- ]images?",),
    "picture": (r"big(?:ger)? picture|motion pictures?|best picture|picture yourself",),
    "graph": (r"(?:knowledge|social) graphs?|graph (?:theory|databases?|algorithms?|traversals?)",),
}
_IDIOMS = re.compile("|".join(rf"\b(?:{phrase})\b" for phrases in IDIOMS.values() for phrase in phrases), re.IGNORECASE)

# "plot" is also what happens, where it is a noun in a text about stories: not in "Make a plot of movie ratings"
_STORIES = (
    r"(?:movies?|films?|series|stor(?:y|ies)|novels?|novellas?|books?|plays?|dramas?|comed(?:y|ies)|thrillers?|episodes?"
    r"|fiction|tales?|characters?|protagonist|screenplays?|scripts?|narratives?|operas?|musicals?|anime|comics?|scenes?|genre)"
)
_FIGURES = (
    r"(?:data|datasets?|ax[ei]s|charts?|histograms?|scatter|bars?|curves?|functions?|equations?|numbers?|values?|ratings?"
    r"|sales|prices?|revenues?|counts?|lengths?|temperatures?|over time|versus|vs|per (?:day|week|month|year)|matplotlib|python"
    r"|excel|distributions?|correlations?)"
)
_STORY, _FIGURE = (re.compile(rf"\b{words}\b", re.IGNORECASE) for words in (_STORIES, _FIGURES))
_PLOT_AS_NOUN = re.compile(
    rf"(?:\b(?:the|an?|its|his|her|their|your|my|our|this|that|main|new|original|central|whole)|['’]s?|\b{_STORIES}) plot\b"
    r"|\bplot of\b",
    re.IGNORECASE,
)


def without_idioms(text: str) -> str:
    """`text` with a space in place of each such turn of phrase."""
    if _STORY.search(text) and not _FIGURE.search(text):
        text = _PLOT_AS_NOUN.sub(" ", text)
    return _IDIOMS.sub(" ", text)
