"""One named rule per reason to drop a candidate; a filter says *which* rule it was.

Instruction rules are those of step 1 (paper section 2.2, "Filtering"; released `post_process_gpt3_response`), instance
rules those of step 4 (released `filter_invalid_instances` and `filter_duplicate_instances`).
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence

from .idioms import without_idioms
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
