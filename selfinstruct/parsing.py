"""From completion text back to data: instructions, a label, instances (the inverse of `prompts`).

Everything here is as released unless `quirks="fixed"` says otherwise; the numbers Q1, Q3, ... name the quirks that
`22_meet_the_quirks` shows on real text.
"""

from __future__ import annotations

import re

from .files import ParameterError
from .numbering import split_items
from .records import Instance

QUIRKS = ("published", "fixed")
# the finish reasons of an answer whose end is missing: why what stands last is dropped
CUT_OFF = {"length": "cut_by_length", "content_filter": "cut_by_filter"}

# a set whose answers have fields: where an instruction begins, and what ends it
_INSTRUCTION_FIELD = re.compile(r"(?:^|\n)[ \t]*(?:\d+\s?\.[ \t]*)?Instructions?:", re.IGNORECASE)
_NEXT_FIELD = re.compile(
    r"\n[ \t]*(?:\d+\s?\.[ \t]*)?(?:(?:Input|Output|Constraints|Label|Class label|Answer):|###|Example \d+[ \t]*$)",
    re.IGNORECASE | re.MULTILINE,
)
_ITEM = re.compile(r"\n\d+\s?\. ")
_EXAMPLE = re.compile(r"Example\s?\d*\.?")
# as released, "Output\s*\d*\s*:", in a form that is linear: between its two \s* blanks can be shared out in many ways
_OUTPUT = re.compile(r"Output\s*(?:\d+\s*)?:")
_INPUT = re.compile(r"Input\s*(?:\d+\s*)?:")
_LEADING_INPUT = re.compile("^" + _INPUT.pattern)
# Q17: a marker is a marker only at the start of a line
_EXAMPLE_LINE = re.compile(r"^[ \t]*Example\s?\d*[.:]?[ \t]*$", re.MULTILINE)
_OUTPUT_LINE = re.compile(r"^[ \t]*Output\s*(?:\d+\s*)?:", re.MULTILINE)
_INPUT_LINE = re.compile(r"^[ \t]*Input\s*(?:\d+\s*)?:", re.MULTILINE)
_LABEL = "Class label:"
_YES = re.compile(r"\W*(?:(?:the )?(?:final )?answer(?: is)?\W*)?yes\b", re.IGNORECASE)


def check_quirks(quirks: str) -> bool:
    """True for "fixed", False for "published"; raises ParameterError for anything else."""
    if quirks not in QUIRKS:
        raise ParameterError(f"quirks={quirks!r}: choose one of {', '.join(QUIRKS)}")
    return quirks == "fixed"


def split_instructions(text: str, quirks: str = "published", parser: str = "numbered") -> list[str]:
    """Every item of a step-1 completion, cut off or not: white space collapsed, capitalised, empty ones dropped.

    Q1: the released `str.capitalize` lower-cases all but the first letter ("Python" becomes "python"); fixed keeps it, and
    reads numbers of every style. `parser` is the prompt set's: a "numbered" list as released, "fields" where each task is
    "Instruction: ..." with fields behind it, "whole" where the text is one instruction.
    """
    fixed = check_quirks(quirks)
    if parser == "numbered":
        chunks = split_items(text or "") if fixed else _ITEM.split(text or "")
    else:
        chunks = _split_fields(text or "") if parser == "fields" else [text or ""]
    items = (re.sub(r"\s+", " ", item).strip() for item in chunks)
    return [item[:1].upper() + item[1:] if fixed else item.capitalize() for item in items if item]


def _split_fields(text: str) -> list[str]:
    """What stands behind each "Instruction:", up to the next field; the prompt may end in the first one.

    >>> _split_fields(" Sort them.\\n4. Input:\\n2 1\\n###\\n5. Instruction: Name a colour.")
    [' Sort them.', ' Name a colour.']
    """
    return [_NEXT_FIELD.split(chunk, maxsplit=1)[0] for chunk in _INSTRUCTION_FIELD.split(text)]


def parse_instructions(text: str, finish_reason: str | None, quirks: str = "published") -> list[str]:
    """Instructions of a step-1 completion, before any filter (released `post_process_gpt3_response`).

    Q3: a completion that was cut off (`finish_reason` "length") is discarded whole; fixed drops its last item only.

    >>> parse_instructions(" Name a colour.\\n10. List three NASA missions.", "stop")
    ['Name a colour.', 'List three nasa missions.']
    """
    items = split_instructions(text, quirks)
    if finish_reason not in CUT_OFF:
        return items
    return items[:-1] if quirks == "fixed" else []


def parse_is_classification(text: str, quirks: str = "published") -> bool:
    """The step-2 label. Released: exactly Yes, yes or YES once stripped, all else is no; fixed also takes "Yes.", "Answer: yes" and the like."""
    if check_quirks(quirks):
        return _YES.match(text or "") is not None
    return (text or "").strip() in ("Yes", "yes", "YES")


def parse_instances(
    text: str, instruction: str, is_classification: bool, finish_reason: str | None, quirks: str = "published"
) -> list[Instance]:
    """Instances of a step-3 completion, before any filter; without the last where the end is missing (CUT_OFF).

    `instruction` is not needed to parse; it stands here as it does in the released signature. Released functions:
    `parse_instances_for_classification_task` and `parse_instances_for_generation_task`.
    """
    check_quirks(quirks)
    parse = _parse_classification if is_classification else _parse_generation
    instances = parse((text or "").strip(), quirks)
    return instances[:-1] if finish_reason in CUT_OFF else instances


def _parse_generation(text: str, quirks: str) -> list[Instance]:
    fixed = quirks == "fixed"
    example, output = (_EXAMPLE_LINE, _OUTPUT_LINE) if fixed else (_EXAMPLE, _OUTPUT)
    if example.search(text):
        chunks = [chunk.strip() for chunk in example.split(text)]
        return [_parse_input_output(chunk, fixed) for chunk in chunks if chunk]
    return [_parse_input_output(text, fixed)] if output.search(text) else []


def _parse_input_output(text: str, fixed: bool) -> Instance:
    """Input before the first "Output:", output after it. Q17: released, all after a second "Output:" is lost; fixed keeps it."""
    output_marker, input_marker = (_OUTPUT_LINE, _INPUT_LINE) if fixed else (_OUTPUT, _INPUT)
    parts = output_marker.split(text, maxsplit=1 if fixed else 0)
    before, after = (parts[0], parts[1]) if len(parts) > 1 else ("", text)
    output = input_marker.split(after)[0].strip()
    return Instance(input=_LEADING_INPUT.sub("", before.strip()).strip(), output=output)


def _parse_classification(text: str, quirks: str) -> list[Instance]:
    """First line of a chunk is the label (the OUTPUT), the rest the input. Q14: fixed spells a label as it was first spelled."""
    spelled: dict[str, str] = {}
    instances = []
    for chunk in text.split(_LABEL)[1:]:
        label, _, rest = chunk.strip().partition("\n")
        label = label.strip()
        if quirks == "fixed":
            label = spelled.setdefault(label.casefold(), label)
        instances.append(Instance(input=rest.strip(), output=label))
    return instances
