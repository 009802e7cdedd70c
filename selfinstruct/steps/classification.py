"""Step 2, which instructions are classification tasks (paper section 2.2, "Classification Task Identification").

answers = identify_classification(client, instructions, prompts, settings)
labels = parse_labels(answers)         # {instruction: True or False}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..parsing import parse_is_classification
from ..prompts import PromptSet
from ..records import ClassificationAnswer, Client, Request


def build_classification_requests(
    instructions: Sequence[str], prompts: PromptSet, settings: dict[str, Any]
) -> list[Request]:
    """One step-2 request for each instruction."""
    return [Request(prompt=prompts.classification_prompt(text), **settings) for text in instructions]


def identify_classification(
    client: Client, instructions: Sequence[str], prompts: PromptSet, settings: dict[str, Any]
) -> list[ClassificationAnswer]:
    """Step 2: the raw answer to "Is it classification?" for every instruction, "" where the request failed."""
    requests = build_classification_requests(instructions, prompts, settings)
    completions = client.complete(requests, desc="is it classification?")
    return [
        ClassificationAnswer(instruction=text, is_classification=completion.text)
        for text, completion in zip(instructions, completions, strict=True)
    ]


def parse_labels(answers: Sequence[ClassificationAnswer], quirks: str = "published") -> dict[str, bool]:
    """instruction -> is it a classification task, from the raw answers of step 2."""
    return {answer.instruction: parse_is_classification(answer.is_classification, quirks) for answer in answers}
