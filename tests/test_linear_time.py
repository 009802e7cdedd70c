"""No text makes the parser slow: its time grows with the length of a text, of which 32,000 blanks once took 3 s."""

import random
import re
import time
from collections.abc import Callable

import pytest

from selfinstruct import parsing
from selfinstruct.filters import instruction_rejection, without_idioms
from selfinstruct.paper import quirks
from selfinstruct.parsing import parse_instances, parse_is_classification, split_instructions
from selfinstruct.records import Instance
from selfinstruct.similarity.words import count_words, split_ascii, split_unicode
from selfinstruct.steps import export
from selfinstruct.steps.export import strip_field_name
from selfinstruct.steps.quality import measure_quality

SIZE = 16_000
MOST_SECONDS = 0.4
PIECES = [
    "a", "A", " ", "\n", "\t", "1", ":", ".", "-", "Input ", "Input", "Output 1 ", "Output", "Output\n", "Example ", "Example\n", "Class label:",
    "\n1. ", "1. ", "\n1", "yes ", "map the ", "that map ", "file a ", "draw a ", "go to ", "conclusion ", "end in a ", "plot ", "a:",
    "word: ", "'", "，",
    "一", "ก", "🙂", "e\u0301", "x.",
]  # fmt: skip
FUNCTIONS = {
    "published items": split_instructions,
    "fixed items": lambda text: split_instructions(text, "fixed"),
    "instances": lambda text: parse_instances(text, "", False, None),
    "fixed instances": lambda text: parse_instances(text, "", False, None, "fixed"),
    "class labels": lambda text: parse_instances(text, "", True, None, "fixed"),
    "label": lambda text: parse_is_classification(text, "fixed"),
    "marks of quirks": quirks._MARKER.search,
    "rules": instruction_rejection,
    "fixed rules": lambda text: instruction_rejection(text, "fixed"),
    "idioms": without_idioms,
    "field name": strip_field_name,
    "fixed field name": lambda text: strip_field_name(text, "fixed"),
    "quality": lambda text: measure_quality([("a", Instance(input="", output=text))]),
    "words": lambda text: (count_words(text, "fixed"), split_ascii(text), split_unicode(text)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_long_text_of_one_kind(name):
    slow = {}
    for piece in PIECES:
        for start in ("", "Output", "Output: a map Input"):
            text = start + piece * (SIZE // len(piece)) + "x"
            slow[start, piece] = measure_seconds(FUNCTIONS[name], text)
            if slow[start, piece] >= MOST_SECONDS:  # once more: Python may have tidied up after other tests meanwhile
                slow[start, piece] = measure_seconds(FUNCTIONS[name], text)
    assert max(slow.values()) < MOST_SECONDS, max(slow, key=slow.get)


def measure_seconds(function: Callable[[str], object], text: str) -> float:
    started = time.process_time()
    function(text)
    return time.process_time() - started


@pytest.mark.parametrize(
    ("ours", "released"),
    [(parsing._OUTPUT, r"Output\s*\d*\s*:"), (parsing._INPUT, r"Input\s*\d*\s*:"), (parsing._LEADING_INPUT, r"^Input\s*\d*\s*:"),
     (parsing._OUTPUT_LINE, r"^[ \t]*Output\s*\d*\s*:"), (export._WORD_AND_COLON, r"(\w+):")],
)  # fmt: skip
def test_the_linear_forms_find_what_the_released_ones_find(ours, released):
    rng, released = random.Random(1), re.compile(released, ours.flags & re.MULTILINE)
    pieces = ["Input", "Output", " ", "\n", "1", "23", ":", "::", "x", "é", "_", "\t", "٣", "\u00a0", "ab:"]
    for _ in range(8000):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
        assert [(one.span(), one.groups()) for one in ours.finditer(text)] == [
            (one.span(), one.groups()) for one in released.finditer(text)
        ]
        assert ours.split(text, maxsplit=1) == released.split(text, maxsplit=1)
