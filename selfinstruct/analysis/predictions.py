"""Responses to held-out tasks: published files of them, ROUGE-L as Tk-Instruct computes it, and how much of a gain is stopping.

davinci, tuned = load_predictions(before), load_predictions(after)
score_responses([row.response for row in tuned], [row.target for row in tuned])      # (n,), 0 to 100
score_cuts(...)["reference_length"]                                                  # both equally long
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from pydantic import field_validator

from ..files import InputError, iter_records, project_path, show_path
from ..records import Record
from ..similarity import rouge_l

if TYPE_CHECKING:
    import numpy as np

# where a model that does not stop goes on: with the next example, or an end token written out
_NEXT_EXAMPLE = re.compile(r"\n\s*\n(?:Input|Output|Task)|\n(?:Input|Output)\s*:|<\|endoftext\|>")
_INPUT_MARKS = re.compile(r"\n\s*(?:Now complete the following example[\s-]*)?Input\s*:"), re.compile(r"\n\s*\n")
_OUTPUT_MARK = re.compile(r"\n\s*Output\s*:$")
References = Sequence[str | Sequence[str]]


class Prediction(Record):
    """A line of the published `human_eval/predictions/*.jsonl`; the texts are stripped, `target` is the person's answer."""

    prompt: str = ""
    instruction: str
    input: str = ""
    response: str
    target: str

    @field_validator("instruction", "input", "response", "target")
    @classmethod
    def _strip(cls, text: str) -> str:
        return text.strip()


def load_predictions(path: str | Path, tasks: Sequence[tuple[str, str]] = ()) -> list[Prediction]:
    """The published responses of one model, in the order of the file, which is that of the 252 tasks.

    `tasks`, (instruction, input) each, are those that the rows must answer, in their order. Raises InputError with
    file:line for a row that is malformed or answers another task, and for a file that is empty or too short.
    """
    path = project_path(path)
    rows = list(iter_records(path, Prediction))
    if not rows:
        raise InputError(f"{show_path(path)}: no predictions in it; every line must be one response")
    for (number, row), (instruction, given) in zip(rows, tasks, strict=False):
        if (row.instruction, row.input) != (instruction.strip(), given.strip()):
            asked = f'"{row.instruction[:60]}" where "{instruction.strip()[:60]}" is expected'
            raise InputError(f"{show_path(path)}:{number}: answers another task: {asked}; keep the order of the tasks")
    if tasks and len(rows) != len(tasks):
        raise InputError(f"{show_path(path)}: {len(rows)} predictions for {len(tasks)} tasks; every task needs one")
    return [row for _, row in rows]


def split_prompt(prompt: str) -> tuple[str, str]:
    """(definition, input) of a row of `superni_test_set.jsonl`, whose prompts are "DEFINITION\\n\\nInput: INPUT\\n\\nOutput:".

    All rows of a task have its definition. One of several paragraphs ends at the first "Input:"; where a prompt has none, at its
    first blank line.

    >>> split_prompt("Name the capital.\\n\\nInput: Peru\\n\\nOutput:"), split_prompt("Name it.\\n\\nChad")
    (('Name the capital.', 'Peru'), ('Name it.', 'Chad'))
    """
    text = _OUTPUT_MARK.sub("", prompt.strip())
    for mark in _INPUT_MARKS:
        definition, *rest = mark.split(text, maxsplit=1)
        if rest:
            return definition.strip(), rest[0].strip()
    return text.strip(), ""


def find_definition(prompt: str) -> str:
    """The task of a row of `superni_test_set.jsonl`: its definition; white space makes no other one."""
    return " ".join(split_prompt(prompt)[0].split())


@cache
def _load_stemmer() -> Callable[[str], list[str]]:
    from nltk.stem.porter import PorterStemmer
    from rouge_score.tokenize import tokenize

    stemmer = SimpleNamespace(stem=cache(PorterStemmer().stem))  # slow, and words come again and again
    return lambda text: tokenize(text, stemmer)


def score_responses(responses: Sequence[str], references: References, stemmer: bool = True) -> np.ndarray:
    """ROUGE-L F of each response, times 100: an array (n,).

    As the evaluation of Tk-Instruct computes it, from which Table 3 comes: words are stemmed, and of several references the
    one that fits best counts. A text without a word of a-z and 0-9 scores 0. `stemmer=False` is the measure of step 1.

    >>> score_responses(["Two dogs bark"], [["a cat", "two barking dogs"]]).round(1), score_responses(["Yes"], ["no"])
    (array([66.7]), array([0.]))
    """
    import numpy as np

    how = {"quirks": "fixed", "tokenizer": _load_stemmer()} if stemmer else {}
    pairs = zip(responses, map(_list_references, references), strict=True)
    return np.array([100 * max(rouge_l(text, one, **how) for one in known) for text, known in pairs])


def _list_references(references: str | Sequence[str]) -> list[str]:
    return [references] if isinstance(references, str) else list(references) or [""]


def cut_at_next_example(text: str) -> str:
    """`text` up to where it begins another example, which is what a model that was never tuned does when it has answered.

    >>> cut_at_next_example(" Paris\\n\\nInput: Peru\\nOutput: Lima")
    'Paris'
    """
    return _NEXT_EXAMPLE.split(text.strip(), maxsplit=1)[0]


def cut_to_length(text: str, reference: str) -> str:
    """The first words of `text`, as many as `reference` has, at least one.

    >>> cut_to_length("Paris is the capital of France.", "It is Paris.")
    'Paris is the'
    """
    return " ".join(text.split()[: max(1, len(reference.split()))])


def score_cuts(responses: Sequence[str], references: References, stemmer: bool = True) -> dict[str, np.ndarray]:
    """The scores (n,) of responses as they are ("whole"), up to the next example, and at the reference's length.

    What is left of a difference at the reference's length is not stopping.
    """
    import numpy as np

    known = [_list_references(one) for one in references]
    equally_long = [
        max(score_responses([cut_to_length(text, one)], [one], stemmer)[0] for one in several)
        for text, several in zip(responses, known, strict=True)
    ]
    return {
        "whole": score_responses(responses, known, stemmer),
        "next_example": score_responses([cut_at_next_example(text) for text in responses], known, stemmer),
        "reference_length": np.array(equally_long),
    }
