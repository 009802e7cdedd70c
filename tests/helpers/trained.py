"""A run folder in which notebook 06 has been, without a model: base weights and adapters that only look like some."""

from __future__ import annotations

import hashlib
from pathlib import Path

from selfinstruct.evaluation.columns import Column, find_columns
from selfinstruct.evaluation.tasks import EvaluationTask, TaskSet, build_prompt
from selfinstruct.files import write_json, write_records
from selfinstruct.runfolder import RunFolder
from selfinstruct.training.loss import CompletionLoss

TRAINED = ("seeds_only", "generated_only", "run_data", "shuffled_outputs")


def write_base(folder: Path, content: bytes = b"base") -> Path:
    """A file that passes for GGUF weights until somebody loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "base.gguf"
    path.write_bytes(b"GGUF" + content)
    return path


def write_adapter(path: Path, content: bytes = b"weights") -> Path:
    """A file that passes for an adapter until a server loads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF adapter.type lora " + content)
    return path


def train(run: RunFolder, base: Path, columns=TRAINED, seeds=("1",), prompts=("Add.\nOutput:",)) -> list[Column]:
    """Adapters of `columns` in the run folder, as training leaves them; returns the columns that 07 judges."""
    sha256 = hashlib.sha256(base.read_bytes()).hexdigest()
    for column in columns:
        rows = [{"prompt": prompt, "completion": " x<|endoftext|>"} for prompt in prompts]
        write_records(run / f"adapters/{column}/train.jsonl", rows)
        for seed in seeds:
            folder = run / f"adapters/{column}/{seed}"
            write_adapter(folder / "adapter.gguf", f"{column} {seed}".encode())
            write_json(
                folder / "training.json",
                {"base": {"name": base.stem, "sha256": sha256}, "train_file": {"rows": 1}, "steps": 3},
            )
    return find_columns(run, base=base)


def task_set(count: int = 5, name: str = "own") -> TaskSet:
    rows = [(f"Name {n} rivers.", "Peru" * (n % 2), "Nile " * (n + 1)) for n in range(count)]
    tasks = [
        EvaluationTask(f"t{n}", build_prompt(instruction, given), (output.strip(),), instruction, instruction, given)
        for n, (instruction, given, output) in enumerate(rows)
    ]
    return TaskSet(name, tuple(tasks), name, hashlib.sha256(name.encode()).hexdigest())


def measure_by_length(adapter, asked: list | None = None):
    """Losses without a model: a nat for each character, halved by an adapter; `asked` gets every pair."""

    def measure(pairs):
        if asked is not None:
            asked.extend(pairs)
        factor = 0.5 if adapter else 1.0
        return [CompletionLoss(factor * len(text), len(text.split())) for _, text in pairs]

    return measure
