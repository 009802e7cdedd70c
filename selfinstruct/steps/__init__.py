"""The four steps of the method, one file a step (paper section 2.2), and what a run of them will cost."""

from .classification import classification_labels, classification_requests, identify_classification
from .estimate import estimate_run
from .export import (
    ParsedTask,
    build_finetuning_rows,
    cap_instances,
    encode_instance,
    parse_task,
    sample_instructions,
    seed_rows,
    strip_field_name,
)
from .instances import choose_tasks, generate_instances, instance_requests
from .instructions import (
    Round,
    build_round,
    generate_instructions,
    judge_completion,
    judge_round,
    new_pool,
    seed_instructions,
)

__all__ = [
    "ParsedTask",
    "Round",
    "build_finetuning_rows",
    "build_round",
    "cap_instances",
    "choose_tasks",
    "classification_labels",
    "classification_requests",
    "encode_instance",
    "estimate_run",
    "generate_instances",
    "generate_instructions",
    "identify_classification",
    "instance_requests",
    "judge_completion",
    "judge_round",
    "new_pool",
    "parse_task",
    "sample_instructions",
    "seed_instructions",
    "seed_rows",
    "strip_field_name",
]
