"""Step 2, which instructions are classification tasks (paper section 2.2, "Classification Task Identification").

answers = identify_classification(client, instructions, prompts, settings)
labels = parse_labels(answers)         # {instruction: True or False}

The embedded model answers "No" to nearly everything, yet it is less sure of it where the task is classification. So its label
is not its answer but its margin, log p(" Yes") - log p(" No"), against a threshold; every other model's label is its answer.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ..parsing import parse_is_classification
from ..prompts import PromptSet
from ..records import ClassificationAnswer, Client, Completion, Request

# Set on the 173 seed tasks that are no demonstrations, 23 of them classification (bench_embedded --threshold): balanced accuracy
# 0.82 with it, 0.75 with each task left out in turn, 0.79 for the bare answer; on 90 instructions of the model's own 0.68 and 0.63.
EMBEDDED_THRESHOLD = -0.36
NOT_AMONG_THEM = -20.0  # log p of a word that is not among the alternatives a model gives


def choose_threshold(model: str, prompts: PromptSet) -> float | None:
    """The margin above which a task is classification; None for every model but the one it was measured on, and its prompt."""
    return EMBEDDED_THRESHOLD if model == "embedded" and prompts.name == "short" else None


def build_classification_requests(
    instructions: Sequence[str], prompts: PromptSet, settings: dict[str, Any]
) -> list[Request]:
    """One step-2 request for each instruction."""
    return [Request(prompt=prompts.classification_prompt(text), **settings) for text in instructions]


def identify_classification(
    client: Client,
    instructions: Sequence[str],
    prompts: PromptSet,
    settings: dict[str, Any],
    threshold: float | None = None,
    known: Mapping[str, ClassificationAnswer] = {},
) -> list[ClassificationAnswer]:
    """Step 2: the raw answer to "Is it classification?" for every instruction, "" where the request failed.

    With a `threshold` the answer is " Yes" where the margin is above it, else " No", and the margin stands beside it. An
    instruction that is in `known` is not asked about.
    """
    asked = [text for text in instructions if text not in known]
    completions = client.complete(build_classification_requests(asked, prompts, settings), desc="is it classification?")
    answers = (build_answer(text, one, threshold, prompts) for text, one in zip(asked, completions, strict=True))
    return [known[text] if text in known else next(answers) for text in instructions]


def name_answer_file(model: str) -> str:
    """The released name of the file with a model's answers.

    >>> name_answer_file("org/some model")
    'is_clf_or_not_some-model_template_1.jsonl'
    """
    engine = re.sub(r"[^\w.-]+", "-", model.rsplit("/", 1)[-1]).strip("-")
    return f"is_clf_or_not_{engine}_template_1.jsonl"


def build_answer(
    instruction: str, completion: Completion, threshold: float | None, prompts: PromptSet
) -> ClassificationAnswer:
    """One answer: the model's own, or with a `threshold` what the margin says."""
    margin = None if threshold is None else read_margin(completion)
    if margin is None:
        return ClassificationAnswer(instruction=instruction, is_classification=prompts.read_label(completion.text))
    answer = " Yes" if margin > threshold else " No"
    return ClassificationAnswer(instruction=instruction, is_classification=answer, margin=round(margin, 4))


def read_margin(completion: Completion) -> float | None:
    """log p(" Yes") - log p(" No") of the answer's first token; None where the response has no log-probabilities."""
    content = ((completion.response or {"choices": [{}]})["choices"][0].get("logprobs") or {}).get("content")
    if not content:
        return None
    likely = {one["token"]: one["logprob"] for one in content[0]["top_logprobs"]}
    return likely.get(" Yes", NOT_AMONG_THEM) - likely.get(" No", NOT_AMONG_THEM)


def parse_labels(answers: Sequence[ClassificationAnswer], quirks: str = "published") -> dict[str, bool]:
    """instruction -> is it a classification task, from the raw answers of step 2.

    Warns of answers such as "Yes.", which the published rule reads as no.
    """
    if quirks == "published":
        _warn_of_unread_yes([answer.is_classification for answer in answers])
    return {answer.instruction: parse_is_classification(answer.is_classification, quirks) for answer in answers}


def _warn_of_unread_yes(answers: Sequence[str]) -> None:
    unread = [text for text in answers if parse_is_classification(text, "fixed") and not parse_is_classification(text)]
    if unread:
        warnings.warn(
            f"{len(unread)} of {len(answers)} answers say yes in a way that the published rule reads as no (the first: "
            f'{unread[0][:40]!r}); quirks="fixed" reads them as yes',
            stacklevel=3,
        )


def parse_bare_labels(answers: Sequence[ClassificationAnswer]) -> dict[str, bool]:
    """What the labels would be if the likelier of " Yes" and " No" were the answer, whatever the threshold."""
    return {answer.instruction: getattr(answer, "margin", -1.0) > 0 for answer in answers}
