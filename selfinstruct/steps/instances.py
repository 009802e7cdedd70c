"""Step 3, instances input-first or output-first (paper section 2.2, "Instance Generation"; generate_instances.py).

instances = generate_instances(client, records, labels, prompts, settings)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..files import SelfInstructError
from ..parsing import check_quirks
from ..prompts import CLASSIFICATION_INSTANCE_MAX_TOKENS, PromptSet
from ..records import Client, Completion, MachineInstances, MachineInstruction, Request, SeedTask

T = TypeVar("T", MachineInstruction, MachineInstances, SeedTask)


def build_instance_requests(
    instructions: Sequence[str],
    labels: dict[str, bool],
    prompts: PromptSet,
    settings: dict[str, Any],
    *,
    request_batch_size: int = 5,
    quirks: str = "published",
) -> list[Request]:
    """One step-3 request for each instruction: output-first for classification tasks, input-first for the others.

    Q13: released, `max_tokens` is 300 for every task of a batch of five that holds a classification task, 350 else; fixed,
    it depends on the task alone. A `max_tokens` below these is used as it is.
    """
    requests = []
    span = 1 if check_quirks(quirks) else request_batch_size
    for start in range(0, len(instructions), span):
        batch = instructions[start : start + span]
        max_tokens = settings["max_tokens"]
        if any(labels[text] for text in batch):
            max_tokens = min(max_tokens, CLASSIFICATION_INSTANCE_MAX_TOKENS)
        for text in batch:
            prompt = prompts.instance_prompt(text, labels[text])
            chosen = {**settings, "max_tokens": max_tokens}
            if labels[text]:  # the embedded model's alone is not 0: it keeps "Class label:" from coming a second time
                chosen["frequency_penalty"] = 0.0
            requests.append(Request(prompt=prompt, **chosen))
    return requests


def choose_tasks(
    records: Sequence[T],
    labels: dict[str, bool],
    num_instructions: int = 0,
    generation_tasks_only: bool = False,
    classification_tasks_only: bool = False,
) -> list[T]:
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
    client: Client,
    records: Sequence[MachineInstruction],
    labels: dict[str, bool],
    prompts: PromptSet,
    settings: dict[str, Any],
    desc: str = "instances",
    known: Mapping[str, MachineInstances] = {},
    **layout: Any,
) -> list[MachineInstances]:
    """Step 3: the raw instances of every task, "" where the request failed; `layout` goes to `build_instance_requests`.

    A task whose instruction is in `known` is not asked about.
    """
    requests = build_instance_requests([record.instruction for record in records], labels, prompts, settings, **layout)
    wanted = [pair for pair in zip(records, requests, strict=True) if pair[0].instruction not in known]
    completions = client.complete([request for _, request in wanted], desc=desc)
    made = (
        build_record(record, request, completion, prompts, prompts.answer_start(labels[record.instruction]))
        for (record, request), completion in zip(wanted, completions, strict=True)
    )
    return [known[one.instruction] if one.instruction in known else next(made) for one in records]


def build_record(
    record: MachineInstruction, request: Request, completion: Completion, prompts: PromptSet, start: str
) -> MachineInstances:
    """The row of one answer; `start` is what the query said of it already."""
    return MachineInstances(
        instruction=record.instruction,
        raw_instances="" if completion.error else prompts.to_english(start + completion.text),
        instance_metadata=completion.metadata(request.prompt),
        instruction_metadata=record.metadata,
        most_similar=record.most_similar,
        avg_similarity_score=record.avg_similarity_score,
    )
