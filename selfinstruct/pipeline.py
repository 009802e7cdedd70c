"""Steps 1 to 3 over records, so that a notebook can stop after one round (paper section 2.2).

    for round_ in generate_instructions(client, seed_tasks, settings, num_instructions_to_generate=64):
        ...                                     # a round: requests, completions, what was admitted, what was dropped
    answers = identify_classification(client, instructions, templates, settings)
    instances = generate_instances(client, records, labels, templates, settings)

Step 1 is in `bootstrap`; step 4 in `export`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .bootstrap import (
    Round,
    build_round,
    generate_instructions,
    judge_completion,
    judge_round,
    new_pool,
    seed_instructions,
)
from .parsing import check_quirks, parse_is_classification
from .prompts import CLASSIFICATION_INSTANCE_MAX_TOKENS, Templates
from .records import ClassificationAnswer, MachineInstances, MachineInstruction, SelfInstructError

if TYPE_CHECKING:
    from .client import ModelClient, Request

__all__ = [
    "Round", "build_round", "choose_tasks", "classification_labels", "classification_requests", "generate_instances",
    "generate_instructions", "identify_classification", "instance_requests", "judge_completion", "judge_round", "new_pool",
    "seed_instructions",
]  # fmt: skip


def classification_requests(
    instructions: Sequence[str], templates: Templates, settings: dict[str, Any]
) -> list[Request]:
    """One step-2 request for each instruction."""
    from .client import Request

    return [Request(prompt=templates.classification_prompt(text), **settings) for text in instructions]


def identify_classification(
    client: ModelClient, instructions: Sequence[str], templates: Templates, settings: dict[str, Any]
) -> list[ClassificationAnswer]:
    """Step 2: the raw answer to "Is it classification?" for every instruction, "" where the request failed."""
    completions = client.complete(
        classification_requests(instructions, templates, settings), desc="is it classification?"
    )
    return [
        ClassificationAnswer(instruction=text, is_classification=completion.text)
        for text, completion in zip(instructions, completions, strict=True)
    ]


def classification_labels(answers: Sequence[ClassificationAnswer], quirks: str = "published") -> dict[str, bool]:
    """instruction -> is it a classification task, from the raw answers of step 2."""
    return {answer.instruction: parse_is_classification(answer.is_classification, quirks) for answer in answers}


def instance_requests(
    instructions: Sequence[str],
    labels: dict[str, bool],
    templates: Templates,
    settings: dict[str, Any],
    *,
    max_instances_to_generate: int = 5,
    request_batch_size: int = 5,
    quirks: str = "published",
) -> list[Request]:
    """One step-3 request for each instruction: output-first for classification tasks, input-first for the others.

    Q13: released, `max_tokens` is 300 for every task of a batch of five that holds a classification task, 350 else; fixed,
    it goes by the task alone. Other values of `max_tokens` than the paper's are used as they are.
    """
    from .client import Request

    requests = []
    settings = {**settings, "stop": (f"Example {max_instances_to_generate + 1}", "Task:")}
    span = 1 if check_quirks(quirks) else request_batch_size
    for start in range(0, len(instructions), span):
        batch = instructions[start : start + span]
        max_tokens = instance_max_tokens(settings["max_tokens"], any(labels[text] for text in batch))
        for text in batch:
            prompt = templates.instance_prompt(text, labels[text])
            requests.append(Request(prompt=prompt, **{**settings, "max_tokens": max_tokens}))
    return requests


def instance_max_tokens(chosen: int, any_classification: bool) -> int:
    """Released: 350, but 300 where a classification task is in the batch; a smaller choice stands."""
    return min(chosen, CLASSIFICATION_INSTANCE_MAX_TOKENS) if any_classification else chosen


def choose_tasks(
    records: Sequence[MachineInstruction],
    labels: dict[str, bool],
    num_instructions: int = 0,
    generation_tasks_only: bool = False,
    classification_tasks_only: bool = False,
) -> list[MachineInstruction]:
    """The tasks step 3 writes instances for: the first `num_instructions` (0 = all), of one type if asked.

    Both `..._only` together leave nothing, as released. Raises SelfInstructError for an instruction step 2 has not seen.
    """
    chosen = list(records[:num_instructions] if num_instructions else records)
    unseen = [record.instruction for record in chosen if record.instruction not in labels]
    if unseen:
        raise SelfInstructError(
            f"{len(unseen)} instructions have no classification answer (first: {unseen[0][:60]!r}); "
            "run 03_identify_classification on all of them first"
        )
    if generation_tasks_only:
        chosen = [record for record in chosen if not labels[record.instruction]]
    if classification_tasks_only:
        chosen = [record for record in chosen if labels[record.instruction]]
    return chosen


def generate_instances(
    client: ModelClient,
    records: Sequence[MachineInstruction],
    labels: dict[str, bool],
    templates: Templates,
    settings: dict[str, Any],
    **layout: Any,
) -> list[MachineInstances]:
    """Step 3: the raw instances of every task, "" where the request failed; `layout` goes to `instance_requests`."""
    requests = instance_requests([record.instruction for record in records], labels, templates, settings, **layout)
    completions = client.complete(requests, desc="instances")
    return [
        MachineInstances(
            instruction=record.instruction,
            raw_instances=completion.text,
            instance_metadata=completion.metadata(request.prompt),
            instruction_metadata=record.metadata,
            most_similar=record.most_similar,
            avg_similarity_score=record.avg_similarity_score,
        )
        for record, request, completion in zip(records, requests, completions, strict=True)
    ]
