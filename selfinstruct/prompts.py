"""The prompts of steps 1 to 3 as data and small builders (paper section 2.2 and Tables 5-8; layout of the released code).

    prompts = load_prompts(embedded=True)               # "short"; others: "ours", "published", or a folder of yours
    build_instruction_prompt(task.instruction for task in prompts.seed_tasks[:8])
    prompts.classification_prompt("Name a colour.")

`parsing` is the inverse of this module. A prompt set is a folder: seed tasks and few-shot demonstrations. Ours is `seeds/`,
`seeds/short/` suits small models, and `selfinstruct fetch` writes the published one. Nobody has to change this file to ask in
other words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import InputError, ParameterError, iter_lines, project_path, show_path
from .records import SeedTask, load_seed_tasks

PROMPT_SOURCES = {"ours": "seeds", "short": "seeds/short", "published": "seeds/published/prompts"}

INSTRUCTION_HEADER = "Come up with a series of tasks:\n"
CLASSIFICATION_INSTRUCTION_HEADER = (
    "Come up with a series of classification tasks. Try to specify the possible output labels when possible.\n"
)
CLASSIFICATION_HEADER = "Can the following task be regarded as a classification task with finite output labels?\n\n"
OUTPUT_FIRST_HEADER = (
    "Each task below is a classification task. For every class label that the task allows, write the label and then one "
    "input that this label is right for. Where the task needs no input, write the class labels alone.\n\n"
)
INPUT_FIRST_HEADER = (
    "Come up with examples for the following tasks. Try to generate multiple examples when possible. "
    "If the task doesn't require additional input, you can generate the output directly.\n\n"
)

# Released request parameters (Table 4 where the code agrees with it; the code where it does not).
PAPER_REQUESTS: dict[str, dict[str, Any]] = {
    "instructions": {
        "max_tokens": 1024, "temperature": 0.7, "top_p": 0.5, "frequency_penalty": 0.0, "presence_penalty": 2.0,
        "stop": ("\n\n", "\n16", "16.", "16 ."), "logprobs": 1,
    },
    "classification": {
        "max_tokens": 3, "temperature": 0.0, "top_p": 0.0, "frequency_penalty": 0.0, "presence_penalty": 0.0,
        "stop": ("\n", "Task"), "logprobs": 1,
    },
    "instances": {
        "max_tokens": 350, "temperature": 0.0, "top_p": 0.0, "frequency_penalty": 0.0, "presence_penalty": 1.5,
        "stop": ("Example 6", "Task:"), "logprobs": 1,
    },
}  # fmt: skip
CLASSIFICATION_INSTANCE_MAX_TOKENS = 300

# What a 135M model on two cores needs to stay useful, measured by bench/bench_embedded.py (its table: seeds/README.md). It rambles,
# so its answers end sooner. The released code stores log-probabilities and never reads them; step 2 reads them here.
EMBEDDED_REQUESTS: dict[str, dict[str, Any]] = {
    "instructions": {
        "max_tokens": 200, "top_p": 0.7, "presence_penalty": 0.5, "stop": ("\n\n", "\n14.", "\n14 ."), "logprobs": None,
    },
    "classification": {"max_tokens": 1, "logprobs": 20},
    "instances": {  # two examples, not five; the frequency penalty, input-first only, ends half of the loops
        "max_tokens": 130, "frequency_penalty": 0.3, "stop": ("\n\n", "Example 3", "Task:"), "logprobs": None,
    },
}  # fmt: skip


def request_settings(
    step: str, embedded: bool, quirks: str = "published", max_instances_to_generate: int = 0, **chosen: Any
) -> dict[str, Any]:
    """Sampling parameters of one step: the paper's, what the embedded model changes, then what the caller chose.

    A chosen value of None (or 0 for max_tokens and max_instances_to_generate) means "as the default". The model is stopped
    before the example after the last one that it may write. Raises ParameterError for an unknown name.
    """
    settings = {**PAPER_REQUESTS[step], **(EMBEDDED_REQUESTS[step] if embedded else {})}
    if step == "instructions" and quirks == "fixed" and not embedded:
        settings["stop"] = ("\n\n", "\n16.", "\n16 .")  # Q2: "16." must not cut "in 2016." short
    for name, value in chosen.items():
        if name not in settings:
            raise ParameterError(f"{name}: not a sampling parameter of step {step!r}; it takes {', '.join(settings)}")
        if value is not None and not (name == "max_tokens" and value == 0):
            settings[name] = value
    if max_instances_to_generate:
        last = f"Example {max_instances_to_generate + 1}"
        settings["stop"] = tuple(last if stop.startswith("Example ") else stop for stop in settings["stop"])
    return settings


def build_instruction_prompt(instructions: Iterable[str], classification_only: bool = False) -> str:
    """The step-1 prompt: a header, the numbered in-context instructions, and the next number for the model to go on from.

    >>> build_instruction_prompt(["Name a  colour:"])
    'Come up with a series of tasks:\\n1. Name a colour\\n2.'
    """
    lines = [CLASSIFICATION_INSTRUCTION_HEADER if classification_only else INSTRUCTION_HEADER]
    number = 0
    for number, instruction in enumerate(instructions, 1):
        text = re.sub(r"\s+", " ", instruction).strip().rstrip(":")
        lines.append(f"{number}. {text}\n")
    return "".join(lines) + f"{number + 1}."


@dataclass(frozen=True)
class PromptSet:
    """The few-shot prefixes of steps 2 and 3, each ending in "Task:", where the queried instruction follows, and seed tasks.

    `output_first_start` is how an output-first answer begins, where the query already says it: "Class label:", or "".
    """

    classification: str
    output_first: str
    input_first: str
    seed_tasks: list[SeedTask] = field(default_factory=list, repr=False)
    output_first_start: str = ""
    name: str = ""
    files: Mapping[str, Path] = field(default_factory=dict, repr=False)

    def classification_prompt(self, instruction: str) -> str:
        """The step-2 query: the demonstrations, then `instruction` and the open question."""
        return f"{self.classification} {instruction.strip()}\nIs it classification?"

    def instance_prompt(self, instruction: str, is_classification: bool) -> str:
        """The step-3 query: output-first for a classification task, input-first for any other."""
        prefix = self.output_first if is_classification else self.input_first
        return f"{prefix} {instruction.strip()}\n{self.answer_start(is_classification)}"

    def describe_files(self, *parts: str) -> dict[str, dict[str, str]]:
        """The files of these `parts`, "seed_tasks" or a prefix, for run.json: part -> path and sha256 of what is in it."""
        return {
            part: {"path": show_path(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for part, path in self.files.items()
            if part.removesuffix("_start") in parts
        }

    def answer_start(self, is_classification: bool) -> str:
        """What the step-3 query says of the answer already; it belongs before the completion again."""
        return self.output_first_start if is_classification else ""


def load_prompts(
    prompt_source: str | Path = "", seed_tasks_path: str | Path = "", embedded: bool = False
) -> PromptSet:  # fmt: skip
    """The prompt set of a folder: "ours", "short", "published" (once fetched), or the path of any other.

    "" is "short" for the embedded model and "ours" for any other. A folder holds for each few-shot prefix its text,
    `classification.txt`, or its demonstrations, `classification_demonstrations.jsonl`; so for `output_first` and `input_first`.
    It may hold `seed_tasks.jsonl` (else ours are taken, or `seed_tasks_path`) and `output_first_start.txt`.
    Raises ParameterError for another source, InputError where a file is missing or malformed.
    """
    prompt_source = prompt_source or ("short" if embedded else "ours")
    folder = project_path(PROMPT_SOURCES.get(str(prompt_source), prompt_source))
    if not folder.is_dir():
        if prompt_source in PROMPT_SOURCES:
            raise InputError(f"{show_path(folder)}: not fetched; `selfinstruct fetch` brings it")
        raise ParameterError(f"prompt_source={str(prompt_source)!r}: choose one of {', '.join(PROMPT_SOURCES)}")
    seed_tasks, start = folder / "seed_tasks.jsonl", folder / "output_first_start.txt"
    if not seed_tasks.is_file():
        seed_tasks = project_path("seeds/seed_tasks.jsonl")
    files = {"seed_tasks": project_path(seed_tasks_path or seed_tasks)}
    files |= {name: _find_prefix(folder, name) for name in _RENDERERS}
    return PromptSet(
        **{name: _load_prefix(files[name], name) for name in _RENDERERS},
        seed_tasks=load_seed_tasks(files["seed_tasks"]),
        output_first_start=start.read_text(encoding="utf-8").strip() if start.is_file() else "",
        name=str(prompt_source),
        files={**files, "output_first_start": start} if start.is_file() else files,
    )


def _find_prefix(folder: Path, name: str) -> Path:
    """NAME.txt, a few-shot prefix as it is, or else NAME_demonstrations.jsonl, to render one from."""
    text = folder / f"{name}.txt"
    return text if text.is_file() else folder / f"{name}_demonstrations.jsonl"


def _load_prefix(path: Path, name: str) -> str:
    return path.read_text(encoding="utf-8") if path.suffix == ".txt" else _RENDERERS[name](_load_demonstrations(path))


def _load_demonstrations(path: Path) -> list[dict[str, Any]]:
    demonstrations = [value for _, value in iter_lines(path)]
    if not demonstrations:
        raise InputError(f"{show_path(path)}: no demonstrations in it")
    for number, value in enumerate(demonstrations, 1):
        if not isinstance(value.get("instruction"), str):
            raise InputError(f'{show_path(path)}:{number}: missing "instruction"; every demonstration needs one')
    return demonstrations


def render_classification(demonstrations: Sequence[dict[str, Any]]) -> str:
    """The step-2 prefix from {instruction, is_classification} demonstrations."""
    blocks = [
        f"Task: {demo['instruction']}\nIs it classification? {'Yes' if demo['is_classification'] else 'No'}\n\n"
        for demo in demonstrations
    ]
    return CLASSIFICATION_HEADER + "".join(blocks) + "Task:"


def render_output_first(demonstrations: Sequence[dict[str, Any]]) -> str:
    """The step-3 prefix for classification tasks: each class label, then an input it is right for."""
    blocks = []
    for demo in demonstrations:
        pairs = [_join_lines("Class label: " + pair["class_label"], pair["input"]) for pair in demo["instances"]]
        blocks.append("\n".join([f"Task: {demo['instruction']}", *pairs]) + "\n\n")
    return OUTPUT_FIRST_HEADER + "".join(blocks) + "Task:"


def render_input_first(demonstrations: Sequence[dict[str, Any]]) -> str:
    """The step-3 prefix for generation tasks: numbered examples, or the output directly where no input is needed."""
    blocks = []
    for demo in demonstrations:
        direct = demo.get("direct", False)
        examples = [
            _join_lines("" if direct else f"Example {number}", pair["input"], f"Output: {pair['output']}")
            for number, pair in enumerate(demo["instances"], 1)
        ]
        blocks.append("\n".join([f"Task: {demo['instruction']}", *examples]) + "\n\n")
    return INPUT_FIRST_HEADER + "".join(blocks) + "Task:"


def _join_lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


_RENDERERS = {
    "classification": render_classification,
    "output_first": render_output_first,
    "input_first": render_input_first,
}
