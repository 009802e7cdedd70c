"""What a person is asked about an item, for the one form: the three questions of Table 2, and the four grades of Figure 6.

    QUALITY.match("yyn")            # ({"valid_task": True, "input_appropriate": True, "output_correct": False}, "")
    RUBRIC.match("b too long")      # ({"grade": "B"}, "too long")

The wording is ours. The four grades are those of the paper's section 4.4 (and appendix B).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

GRADES = "ABCD"
VALID = "AB"  # what the paper counts as a valid answer


class Choice(NamedTuple):
    """One answer to a question: what is stored, what its button says, and the whole of what it means."""

    value: Any
    label: str
    meaning: str


@dataclass(frozen=True)
class Question:
    """`choices` by the letter that is typed for them; `name` is the field of the answer."""

    name: str
    text: str
    choices: Mapping[str, Choice]


@dataclass(frozen=True)
class Shown:
    """A text of an item: its heading, and how many lines it takes before it scrolls."""

    heading: str
    lines: int


@dataclass(frozen=True)
class QuestionSet:
    """Questions that are asked together, and the texts of an item that they are about, in the order of the screen.

    `field` and `example` name the field to type in; `back` is typed there to turn a page back.
    """

    questions: tuple[Question, ...]
    texts: Mapping[str, Shown]
    field: str
    example: str
    ask: str
    back: str

    @property
    def names(self) -> list[str]:
        return [question.name for question in self.questions]

    def match(self, text: str) -> tuple[dict[str, Any], str] | None:
        """(the answers, the note) of a typed line: a letter for each question, then perhaps a note; None for anything else."""
        letters = "".join(rf"\s*([{''.join(question.choices)}])" for question in self.questions)
        found = re.fullmatch(rf"{letters}(?:\s+(.*))?\s*", text, re.IGNORECASE)
        if not found:
            return None
        typed = zip(self.questions, found.groups(), strict=False)
        given = {question.name: question.choices[letter.lower()].value for question, letter in typed}
        return given, (found.groups()[-1] or "").strip()


QUESTIONS = {
    "valid_task": "Is this a task that could be done?",
    "input_appropriate": "Does the input suit the task? (Say yes where the task needs none and there is none.)",
    "output_correct": "Is the output a right and acceptable answer to the task and the input?",
}
_SHORT = {"valid_task": "Task", "input_appropriate": "Input", "output_correct": "Output"}


def _ask_yes_no(name: str) -> Question:
    words = {"y": (True, "yes"), "n": (False, "no")}
    choices = {
        letter: Choice(value, f"{_SHORT[name]}: {word}", f"{word.capitalize()}: {QUESTIONS[name]}")
        for letter, (value, word) in words.items()
    }
    return Question(name, QUESTIONS[name], choices)


QUALITY = QuestionSet(
    questions=tuple(map(_ask_yes_no, QUESTIONS)),
    texts={"instruction": Shown("Instruction", 7), "input": Shown("Input", 10), "output": Shown("Output", 13)},
    field="All three at once",
    example="yyn and Enter; b: back",
    ask="Three letters, please, each y or n; a note may follow after a space. b goes back.",
    back="b",
)

MEANINGS = {
    "A": "valid, and all one could wish for",
    "B": "acceptable, with small errors or flaws",
    "C": "about the task, and with large errors: it may begin well and then lose its way",
    "D": "beside the point, or no use at all",
}
RUBRIC = QuestionSet(
    questions=(
        Question(
            name="grade",
            text="How good is the response?",
            choices={grade.lower(): Choice(grade, grade, f"{grade}: {text}") for grade, text in MEANINGS.items()},
        ),
    ),
    texts={
        "instruction": Shown("Instruction", 5), "input": Shown("Input", 7),
        "target": Shown("Reference: one good answer, not the only one", 5), "response": Shown("Response to grade", 12),
    },
    field="Grade",
    example="a, b, c or d and Enter; -: back",
    ask="One letter, please, a, b, c or d; a note may follow after a space. - goes back.",
    back="-",
)  # fmt: skip
