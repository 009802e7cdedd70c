"""The four steps of the method, one file a step (paper section 2.2), and what a run of them will cost."""

from .classification import (
    build_classification_requests,
    choose_threshold,
    identify_classification,
    name_answer_file,
    parse_bare_labels,
    parse_labels,
)
from .estimate import estimate_requests, estimate_run
from .export import (
    ParsedTask,
    build_finetuning_rows,
    build_seed_rows,
    cap_instances,
    encode_instance,
    parse_task,
    sample_instructions,
    strip_field_name,
)
from .instances import build_instance_requests, choose_tasks, generate_instances
from .instructions import (
    Round,
    build_pool,
    build_round,
    choose_seed_instructions,
    generate_instructions,
    judge_completion,
    judge_round,
    list_classification_seeds,
    settle_rounds,
)
from .lesson import follow_tasks
from .progress import show_rounds
from .quality import count_faults, drop_copied, list_prompt_texts, measure_quality, measure_tasks
