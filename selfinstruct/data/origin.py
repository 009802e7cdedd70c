"""Where a data set comes from: who wrote it, under which quirks, and from which seed tasks; as run.json records it.

author_of(run)                    # "written by SmolLM2-135M, a very small model"
find_seeds(run).instructions      # the seed tasks that the run began with
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from ..files import SelfInstructError, project_path, show_path
from ..prompts import load_prompts
from ..runfolder import RunFolder

RELEASED = ("all_instances_82K", "release_sample_1000")  # what GPT-3 wrote, whole and a random sample of its rows
OURS = "seeds/seed_tasks.jsonl"
STEP_1, STEPS = (
    "02_generate_instructions",
    ("05_filter_and_export", "04_generate_instances", "03_identify_classification"),
)


def author_of(run: RunFolder) -> str:
    """Who wrote a run folder's text, from its run.json: a small model's work is never shown without saying so."""
    model = str(run.state.get("model", {}).get("model", ""))
    if "135M" in model or model == "embedded":
        return "written by SmolLM2-135M, a very small model"
    if "scripted" in model:
        return "written by a script, for tests only"
    return f"written by {model}" if model else ""


def find_author(name: str) -> str:
    """Who wrote the text of a published file, told by its name; "" for any other."""
    if name in RELEASED:
        return "written by GPT-3, as released"
    if name == "user_oriented_instructions":
        return "written by people, as released"
    return f"responses of {name.removesuffix('_predictions')}" if name.endswith("_predictions") else ""


def find_quirks(run: RunFolder) -> str:
    """The reading of the labels under which a run made its instances: the last of its steps that recorded one."""
    parameters = run.state.get("parameters", {})
    found = (parameters.get(step, {}).get("quirks") for step in STEPS)
    return next(filter(None, found), "published")


@dataclass(frozen=True)
class Seeds:
    """The instructions of seed tasks, what to call them, and what is to be said of them."""

    instructions: list[str]
    name: str
    problem: str = ""


def find_seeds(run: RunFolder | None, prompt_set: str = "", seed_tasks_path: str = "") -> Seeds:
    """The seed tasks that are asked for, else those that `run` came from, else ours.

    run.json names them; where the file is another one by now, or is gone, `problem` says so. Raises InputError and
    ParameterError for what is asked for and cannot be read.
    """
    if prompt_set or seed_tasks_path or run is None:
        return _load_seeds(prompt_set, seed_tasks_path)
    recorded = run.state.get("seed_tasks") or {}
    parameters = run.state.get("parameters", {}).get(STEP_1, {})
    path = recorded.get("path") or parameters.get("seed_tasks_path", "")
    try:
        seeds = _load_seeds("" if path else parameters.get("prompt_set") or find_prompt_set(run), path)
    except SelfInstructError as error:
        return replace(_load_seeds(), problem=f"{run}: its seed tasks cannot be read; compared with ours ({error})")
    if recorded.get("sha256") and path and _hash_file(path) != recorded["sha256"]:
        changed = "has changed since this run began with it; compared with what it is now"
        return replace(seeds, problem=f"{run}: {show_path(project_path(path))} {changed}")
    return seeds


def find_prompt_set(run: RunFolder) -> str:
    """The prompt set that a run was made with, "" where run.json does not say."""
    recorded = run.state.get("prompt_set") or ""
    return recorded if isinstance(recorded, str) else str(recorded.get("name", ""))


def _load_seeds(prompt_set: str = "", seed_tasks_path: str = "") -> Seeds:
    prompts = load_prompts(prompt_set, seed_tasks_path)
    ours = prompts.files["seed_tasks"] == project_path(OURS)
    name = "ours" if ours else Path(seed_tasks_path).name or prompt_set
    return Seeds([task.instruction for task in prompts.seed_tasks], name)


def _hash_file(path: str) -> str:
    return hashlib.sha256(project_path(path).read_bytes()).hexdigest()
