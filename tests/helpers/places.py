"""Where tests find what is not code: themselves, samples of our own, and the published files once they are fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfinstruct.files import PROJECT_ROOT, InputError
from selfinstruct.paper.release import find_published_file

TESTS = PROJECT_ROOT / "tests"
SAMPLES = TESTS / "samples"
SEED_TASKS = "data/seed_tasks.jsonl"
RELEASE_82K = "data/gpt3_generations/batch_221203/all_instances_82K.jsonl"
USER_ORIENTED = "human_eval/user_oriented_instructions.jsonl"
PREDICTIONS = "human_eval/predictions/{}_predictions.jsonl"


def find_published(name: str) -> Path:
    """The published file `name`, verified. Where it is not fetched, the test is skipped, naming the command that brings it."""
    try:
        return find_published_file(name)
    except InputError as error:
        pytest.skip(str(error))
