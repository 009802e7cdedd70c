"""Records: a row of every released file, and what is asked of a model.

The field names are those of the released files (yizhongw/self-instruct), so files of the original load here and ours load
there. `Request` and `Completion` are all that the steps know of a model: a client is anything with `complete(requests)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .files import InputError, iter_lines, load_records, project_path, show_path


class Record(BaseModel):
    """A line of a released file. Unknown fields are kept: files of others carry more than we read."""

    model_config = ConfigDict(extra="allow")


class Instance(Record):
    """One (input, output) pair of a task; `input` is empty where the instruction needs none."""

    model_config = ConfigDict(frozen=True)
    input: str
    output: str


class SeedTask(Record):
    """A human-written task of `seed_tasks.jsonl` (paper section 2.2)."""

    id: str
    name: str
    instruction: str = Field(min_length=1)
    instances: list[Instance] = Field(min_length=1)
    is_classification: bool


class MachineRecord(Record):
    """A line that steps 1 to 3 wrote, or another program. A field that nobody needs costs no line: where its value is of
    another kind (`most_similar` as a list, say), it is kept under `not_read` and the field is as if it were not there."""

    @model_validator(mode="wrap")
    @classmethod
    def _set_aside(cls, values: Any, validate: Any) -> Any:
        try:
            return validate(values)
        except ValidationError as error:
            odd = {one["loc"][0] for one in error.errors() if one["loc"]}
            if not odd or any(cls.model_fields[name].is_required() for name in odd):
                raise
            aside = {name: values[name] for name in values if name in odd}
            return validate({**{name: values[name] for name in values if name not in odd}, "not_read": aside})


class MachineInstruction(MachineRecord):
    """A line of `machine_generated_instructions.jsonl`: an admitted instruction and how near it is to the pool."""

    instruction: str
    most_similar: dict[str, float] = {}
    avg_similarity_score: float = 0.0
    metadata: dict[str, Any] = {}
    request_idx: int = 0


class ClassificationAnswer(Record):
    """A line of `is_clf_or_not_*.jsonl`; `is_classification` is the raw completion, such as " Yes", or true, as others write."""

    instruction: str
    is_classification: str

    @field_validator("is_classification", mode="before")
    @classmethod
    def _read_flag(cls, value: Any) -> Any:
        return ("Yes" if value else "No") if isinstance(value, bool) else value


class MachineInstances(MachineRecord):
    """A line of `machine_generated_instances.jsonl`: the raw completion of step 3, not yet parsed."""

    instruction: str
    raw_instances: str
    instance_metadata: dict[str, Any] = {}
    instruction_metadata: dict[str, Any] = {}
    most_similar: dict[str, float] = {}
    avg_similarity_score: float = 0.0


class InstanceRow(Record):
    """A line of `all_generated_instances.jsonl`."""

    instruction: str
    input: str
    output: str


class FinetuningRow(Record):
    """A line of `gpt3_finetuning_data_*.jsonl`."""

    prompt: str
    completion: str


class Rejection(Record):
    """A line of `rejections.jsonl`: one dropped candidate, the rule that dropped it and what it resembled."""

    step: str
    reason: str
    candidate: str
    instruction: str = ""
    request_idx: int | None = None
    nearest: str | None = None
    score: float | None = None


def load_seed_tasks(path: str | Path = "seeds/seed_tasks.jsonl") -> list[SeedTask]:
    """The seed tasks of `path` (relative to the project's root), validated.

    Raises InputError for a malformed line, a missing field, an empty file, or a duplicate id or instruction.
    """
    path = project_path(path)
    tasks = load_records(path, SeedTask)
    if not tasks:
        raise InputError(f"{show_path(path)}: no seed tasks in it; step 1 needs at least one")
    for field in ("id", "instruction"):
        _check_unique(path, tasks, field)
    return tasks


def _check_unique(path: Path, tasks: list[SeedTask], field: str) -> None:
    first: dict[str, int] = {}
    for (number, _), task in zip(iter_lines(path), tasks, strict=True):
        value = getattr(task, field)
        if value in first:
            where, repeated = f"{show_path(path)}:{number}", f'duplicate {field} "{value[:60]}"'
            raise InputError(f"{where}: {repeated}, first on line {first[value]}; each needs its own")
        first[value] = number


class Request(BaseModel):
    """One completion asked for; equal requests of a run differ in `sample_index`.

    Token counts are the model's; `logprobs` is the number of alternatives per token, None for none. With `as_message` a chat gets
    the prompt as a message and nothing else, as a model that was trained on such messages expects it; its answer stays as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    prompt: str
    max_tokens: int
    temperature: float
    top_p: float
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    seed: int | None = None
    sample_index: int = 0
    as_message: bool = False


class Completion(BaseModel):
    """What came back: the text up to the first stop, or the error of a request that failed for good."""

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    created_at: str
    latency_s: float = 0.0
    cached: bool = False
    error: str | None = None
    response: dict[str, Any] | None = None  # {"choices": [...]}, None when the request failed
    taken_off: tuple[str, ...] = ()  # what the model wrote around the text: thoughts, a greeting, ...

    def metadata(self, prompt: str) -> dict[str, Any]:
        """The released record of a call: {"prompt", "response", "created_at"}; the same bytes at every replay."""
        return {"prompt": prompt, "response": self.response, "created_at": self.created_at}


class Client(Protocol):
    """Whoever answers requests: `models.connect` makes one, a test writes its own."""

    def complete(self, requests: Sequence[Request], desc: str = "") -> list[Completion]:
        """The completions of `requests`, in their order; `desc` names the work for a progress bar."""
        ...
