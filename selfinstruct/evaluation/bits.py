"""Bits per byte of the references, teacher-forced: the primary measure, and the file that keeps what is computed.

    meter = LossMeter(base)                             # loads the weights at its first use
    estimate_bits(run, columns, heldout, base, meter)   # how long it will take: a first part is computed, and kept
    measure_bits(run, columns, heldout, base, meter)    # column -> array (n_seeds, n_tasks), lower is better

It has no decoding noise. The end token is left out, so that a model which has only learnt to stop gains nothing by it. Losses are
kept in `evaluation/losses_*.jsonl` as they are computed: after a stop the same command goes on, and a second one computes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bars import progress_bar
from ..display import count_of
from ..files import append_record, iter_lines
from ..runfolder import RunFolder
from ..training.weights import describe_base, load_adapter, load_model
from .columns import FILLER, FOLDER, Column, TrainedAdapter, find_chat_layout
from .tasks import EvaluationTask, TaskSet

if TYPE_CHECKING:
    import numpy as np

LONGEST = (
    4096  # tokens of a prompt with its reference, where the model has room: of a longer one the end is not measured
)
CHUNK = 30  # tasks whose losses are computed, and kept, at a time
LAYOUT = "human_eval predictions, no end token"  # of the losses in the cache
Measure = Callable[[Sequence[tuple[str, str]]], Sequence[Any]]  # (prompt, completion) pairs -> their losses
MakeMeasure = Callable[[TrainedAdapter | None], Measure]


def measure_bits(
    run: RunFolder,
    columns: Sequence[Column],
    tasks: TaskSet,
    base: Path,
    make_measure: MakeMeasure,
) -> dict[str, np.ndarray]:
    """column -> bits per byte of each task's reference, an array (n_seeds, n_tasks): nats / ln 2 / bytes of its UTF-8.

    Of several references the likeliest counts. What `evaluation/losses_*.jsonl` holds for these weights, adapter and tasks is not
    computed again, and where it holds all, torch is not loaded.
    """
    import numpy as np

    files = _open_files(run, columns, tasks, base)
    missing = {key: file.find_missing(tasks.tasks) for key, file in files.items()}
    bar = progress_bar(
        total=sum(map(len, missing.values())), desc="bits per byte", unit="task", disable=not any(missing.values())
    )
    with bar:
        for key, file in files.items():
            if missing[key]:
                bar.set_postfix_str(f"{key[0]}, {file.name_seed()}")
                file.complete(missing[key], make_measure, bar.update)
    return {
        column.name: np.array([files[column.name, place].read(tasks.tasks) for place in range(len(column.variants))])
        for column in columns
    }


def _open_files(
    run: RunFolder, columns: Sequence[Column], tasks: TaskSet, base: Path
) -> dict[tuple[str, int], LossFile]:
    return {
        (column.name, place): LossFile(run, tasks, base, column, adapter)
        for column in columns
        for place, adapter in enumerate(column.variants)
    }


def find_missing_bits(run: RunFolder, columns: Sequence[Column], tasks: TaskSet, base: Path) -> int:
    """How many losses `measure_bits` would compute."""
    return sum(len(one.find_missing(tasks.tasks)) for one in _open_files(run, columns, tasks, base).values())


def estimate_bits(
    run: RunFolder, columns: Sequence[Column], tasks: TaskSet, base: Path, make_measure: MakeMeasure
) -> str:
    """How many losses `measure_bits` would compute, and how long that takes: a part of them, of all lengths, is computed now."""
    found = {file: file.find_missing(tasks.tasks) for file in _open_files(run, columns, tasks, base).values()}
    left = {file: missing for file, missing in found.items() if missing}
    if not left:
        return "Bits per byte: every loss is known."
    first, missing = next(iter(left.items()))
    chosen = sorted(missing, key=_measure_length)[:: -(-len(missing) // CHUNK)]
    make_measure(first.adapter)  # loads the weights
    began = time.perf_counter()
    first.complete(chosen, make_measure, lambda count: None)
    speed = (time.perf_counter() - began) / sum(map(_measure_length, chosen))
    count = sum(map(len, left.values())) - len(chosen)
    rest = sum(_measure_length(task) for tasks in left.values() for task in tasks) - sum(map(_measure_length, chosen))
    minutes = count_of("minute", max(1, round(speed * rest / 60)))
    return f"Bits per byte: {count:,} losses to compute, about {minutes} ({len(chosen)} have just been measured)."


def _measure_length(task: EvaluationTask) -> int:
    return len(task.prompt) + len(task.references[0])


class LossFile:
    """The losses of one adapter, or of the base, on one file of tasks: a line a task, kept as they are computed."""

    def __init__(self, run: RunFolder, tasks: TaskSet, base: Path, column: Column, adapter: TrainedAdapter | None):
        self.column, self.adapter, self.run, self.base = column, adapter, run, base
        layout = LAYOUT + (", chat template" if column.chat else "")
        made_of = [describe_base(base)["sha256"], adapter.sha256 if adapter else "", tasks.sha256, layout]
        key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
        self.path = run / f"{FOLDER}/losses_{column.name}_{key[:16]}.jsonl"
        lines = iter_lines(self.path, unfinished=True) if self.path.is_file() else ()
        self.known = {row["id"]: row for _, row in lines}

    def name_seed(self) -> str:
        return f"training seed {self.adapter.training_seed}" if self.adapter else "no training"

    def find_missing(self, tasks: Sequence[EvaluationTask]) -> list[EvaluationTask]:
        return [task for task in tasks if task.id not in self.known]

    def complete(
        self, missing: Sequence[EvaluationTask], make_measure: MakeMeasure, tell: Callable[[int], Any]
    ) -> None:
        """Compute the losses of `missing`, longest last, and keep them part by part."""
        measure = make_measure(self.adapter)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        ordered = sorted(missing, key=_measure_length)
        for start in range(0, len(ordered), CHUNK):
            part = ordered[start : start + CHUNK]
            pairs = [pair for task in part for pair in self._build_pairs(task)]
            losses = iter(measure(pairs))
            rows = [self._build_row(task, [next(losses) for _ in task.references]) for task in part]
            append_record(self.path, *rows)
            self.known |= {row["id"]: row for row in rows}
            tell(len(part))

    def _build_pairs(self, task: EvaluationTask) -> list[tuple[str, str]]:
        """(prompt, completion) of each reference, without an end token; in a chat nothing stands before the answer."""
        if self.column.chat:
            prompt = find_chat_layout(self.run, self.base).replace(FILLER, task.prompt)
            return [(prompt, reference) for reference in task.references]
        return [(task.prompt, f" {reference}") for reference in task.references]

    @staticmethod
    def _build_row(task: EvaluationTask, losses: Sequence[Any]) -> dict[str, Any]:
        best = min(
            ((one, text) for one, text in zip(losses, task.references, strict=True)),
            key=lambda pair: pair[0].nats / len(pair[1].encode()),
        )
        size = len(best[1].encode())
        return {"id": task.id, "nats": round(best[0].nats, 6), "tokens": best[0].tokens, "bytes": size}

    def read(self, tasks: Sequence[EvaluationTask]) -> list[float]:
        """Bits per byte of each task."""
        rows = (self.known[task.id] for task in tasks)
        return [row["nats"] / math.log(2) / row["bytes"] for row in rows]


class LossMeter:
    """Adapter -> how its losses are measured; the base is loaded once, for the first that is missing."""

    def __init__(self, base: Path):
        self.base = base
        self._model = self._tokenizer = None

    def __call__(self, adapter: TrainedAdapter | None) -> Measure:
        from ..training.loss import measure_completion_loss

        if self._model is None:
            self._model, self._tokenizer = load_model(self.base)
            self._length = min(LONGEST, getattr(self._model.config, "max_position_embeddings", 1024))
        if adapter:
            with warnings.catch_warnings():  # of transformers, about its own names
                warnings.simplefilter("ignore", FutureWarning)
                self._model = load_adapter(self._model, adapter.folder / "peft")
        elif hasattr(self._model, "unload"):
            self._model = self._model.unload()
        return partial(measure_completion_loss, self._model, self._tokenizer, max_length=self._length)
