"""Quality against data size and against better outputs: the trainings behind the paper's Fig. 7 (section 4.5; notebook 16).

    points = open_scaling(run).plan_points()
    trainings = open_trainings(run, points)                 # what could not work is refused here
    judging = open_judging(run, points, trainings)          # the held-out tasks
    trainings.train()                                       # RUN/scaling/COLUMN/TRAINING_SEED/adapter.gguf, ...
    judging.columns = find_points(trainings)
    compare_points(points, judging, judging.score(judging.measure_bits(), {})).draw()      # of `curve`

A size is a number of generated instructions, each with all its rows; the seed tasks are in every size, as in the paper. Samples
are nested: what a small size trains on is in every larger one, so that no two sizes differ by luck of the draw alone.

All sizes get equally many updates by default. With equal epochs, as in the paper, a small size is also trained less, and with
rows as few as here that alone moves the curve; with equal updates a small size sees its rows more often, which costs it nothing
unless it learns them by heart.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.origin import find_prompt_set
from ..data.tasks import TrainingRow, find_task
from ..display import count_of
from ..files import InputError, ParameterError, load_records, write_records
from ..prompts import load_prompts
from ..records import Completion, FinetuningRow, Request
from ..runfolder import RunFolder
from ..steps.export import END_OF_TEXT, build_finetuning_rows, build_seed_rows
from ..training.lineage import load_training_rows
from ..training.local import LocalTraining, Planned, check_training
from ..training.lora import Settings, describe_training, find_progress
from ..training.rows import load_pairs, tokenise_rows
from ..training.weights import load_tokenizer
from .columns import OF_16, Column, TrainedAdapter, load_trained
from .evaluate import Evaluation, leave_out_leaks
from .tasks import build_prompt, load_tasks

FOLDER = OF_16.adapters  # of a run folder: COLUMN/train.jsonl, COLUMN/TRAINING_SEED/adapter.gguf, ...
OWN, BETTER = "own", "better"  # the curves: outputs as the run wrote them, and those of a stronger model
SIZES = (0, 0.25, 0.5, 1)


@dataclass(frozen=True)
class Point:
    """One training of a curve: on the seed tasks and on `size` generated instructions with all their rows."""

    curve: str
    size: int
    instructions: int  # with those of the seed tasks: the x axis of Fig. 7
    rows: tuple[FinetuningRow, ...]

    @property
    def column(self) -> str:
        """Its name as a column of notebooks 15 and 16: "size_500", or "better_500"."""
        return f"{'size' if self.curve == OWN else self.curve}_{self.size}"

    def write(self, run: RunFolder) -> Path:
        """Its training file, `scaling/COLUMN/train.jsonl`; left as it is where it has these rows."""
        path = run / f"{FOLDER}/{self.column}/train.jsonl"
        if not path.is_file() or tuple(load_records(path, FinetuningRow)) != self.rows:
            write_records(path, self.rows)
        return path


# the data


@dataclass(frozen=True)
class ScalingData:
    """Rows to train on and the sizes to train at, in generated instructions."""

    rows: Sequence[TrainingRow]
    sizes: Sequence[int]
    source: str
    notes: Sequence[str]
    random_seed: int

    def describe(self) -> str:
        """The data and its sizes, in a line."""
        has = count_of("generated instruction", count_generated(self.rows))
        return f"{self.source} has {has}; sizes: {', '.join(map(str, self.sizes))}"

    def build_requests(self, max_tokens: int) -> list[Request]:
        """What a stronger model is asked; see `build_output_requests`."""
        return build_output_requests(self.rows, max_tokens)

    def read_outputs(self, completions: Sequence[Completion]) -> dict[str, str]:
        """Row id -> what it answered; see `read_outputs`."""
        return read_outputs(self.rows, completions)

    def list_outputs(self, outputs: Mapping[str, str], count: int = 5) -> list[dict[str, str]]:
        """The first outputs in both versions, to read."""
        kept = [row for row in self.rows if row.id in outputs][:count]
        return [{"instruction": row.instruction, "as generated": row.output, "better": outputs[row.id]} for row in kept]

    def plan_points(self, outputs: Mapping[str, str] | None = None) -> list[Point]:
        """What is trained; see `plan_points`."""
        return plan_points(self.rows, self.sizes, self.random_seed, outputs)


def open_scaling(run: RunFolder, data: str = "", sizes: Sequence[float] = SIZES, random_seed: int = 42) -> ScalingData:
    """The rows of the run's fine-tuning file or of another data set, and the chosen sizes. Errors are those of
    `load_scaling_rows` and `choose_sizes`.
    """
    rows, facts = load_scaling_rows(run, data, random_seed)
    return ScalingData(rows, choose_sizes(sizes, count_generated(rows)), facts["source"], facts["notes"], random_seed)


def load_scaling_rows(
    run: RunFolder, data: str = "", random_seed: int = 42
) -> tuple[list[TrainingRow], dict[str, Any]]:
    """(rows, facts on them) of the run's fine-tuning file, in its order, or of any other data set; always with the seed tasks.

    Raises InputError where there is no generated output to train on.
    """
    rows, facts = load_training_rows(data or run, random_seed)
    if not count_generated(rows):
        raise InputError(f"{facts['source']}: no generated rows in it; 05_filter_and_export writes them")
    return rows if any(row.is_seed for row in rows) else [*rows, *_encode_seeds(run, random_seed)], facts


def _encode_seeds(run: RunFolder, random_seed: int) -> list[TrainingRow]:
    """The run's seed tasks as rows, for data that was exported without them."""
    tasks = build_seed_rows(load_prompts(find_prompt_set(run)).seed_tasks)
    encoded = build_finetuning_rows([], tasks, random.Random(random_seed), quirks="fixed")  # these say what they are of
    return [TrainingRow(**{**row.model_dump(), "is_seed": True}) for row in encoded]


def count_generated(rows: Iterable[TrainingRow]) -> int:
    """How many generated instructions rows have."""
    return len({find_task(row) for row in rows if not row.is_seed})


def choose_sizes(sizes: Sequence[float], available: int) -> list[int]:
    """Numbers of generated instructions, smallest first: 0 is the seed tasks alone, up to 1 a share of all, above 1 a number.

    Raises ParameterError for a size below 0 or above what there is, and where fewer than two remain.

    >>> choose_sizes([0, 0.25, 0.5, 1], 54), choose_sizes([500, 2000], 4000)
    ([0, 14, 27, 54], [500, 2000])
    """
    for size in sizes:
        if not 0 <= size <= max(available, 1):
            raise ParameterError(f"sizes: {size:g} is not between 0 and the {available:,} instructions that there are")
    chosen = sorted({round(available * size) if size <= 1 else int(size) for size in sizes})
    if len(chosen) < 2:
        raise ParameterError(f"sizes={list(sizes)}: one training is no curve; give two different sizes or more")
    return chosen


def plan_points(
    rows: Sequence[TrainingRow],
    sizes: Sequence[int],
    random_seed: int = 42,
    outputs: Mapping[str, str] | None = None,
) -> list[Point]:
    """A point for each size, and with `outputs` (row id -> the output of a stronger model) one more for each but 0.

    Rows keep their order, so that the file with all instructions is the run's fine-tuning file. A row to which the stronger
    model gave no output is left out of its curve.
    """
    order = list(dict.fromkeys(find_task(row) for row in rows if not row.is_seed))
    random.Random(random_seed).shuffle(order)
    place = {task: number for number, task in enumerate(order)}
    curves = {OWN: rows, **({BETTER: replace_outputs(rows, outputs)} if outputs is not None else {})}
    points = []
    for curve, known in curves.items():
        for size in sizes if curve == OWN else filter(None, sizes):
            kept = [row for row in known if row.is_seed or place[find_task(row)] < size]
            encoded = tuple(FinetuningRow(prompt=row.prompt, completion=row.completion) for row in kept)
            points.append(Point(curve, size, len({find_task(row) for row in kept}), encoded))
    return points


# better outputs


def build_output_requests(rows: Sequence[TrainingRow], max_tokens: int) -> list[Request]:
    """A request for the output of each generated row, given its instruction and input, decoded greedily."""
    settings = {"max_tokens": max_tokens, "temperature": 0.0, "top_p": 1.0, "as_message": True}
    return [
        Request(prompt=row.instruction if row.is_joined else build_prompt(row.instruction, row.input), **settings)
        for row in rows
        if not row.is_seed
    ]


def read_outputs(rows: Sequence[TrainingRow], completions: Sequence[Completion]) -> dict[str, str]:
    """Row id -> the new output; without those that failed, are empty, or were cut off and so would teach no end."""
    generated = [row for row in rows if not row.is_seed]
    pairs = zip(generated, completions, strict=True)
    return {
        row.id: text
        for row, one in pairs
        if (text := one.text.strip()) and not one.error and one.finish_reason == "stop"
    }


def replace_outputs(rows: Sequence[TrainingRow], outputs: Mapping[str, str]) -> list[TrainingRow]:
    """Rows with the outputs of `outputs` (row id -> output); those of seed tasks stay, generated ones without any go."""
    return [
        row if row.is_seed else _replace_output(row, outputs[row.id])
        for row in rows
        if row.is_seed or row.id in outputs
    ]


def _replace_output(row: TrainingRow, output: str) -> TrainingRow:
    """The space before a completion belongs to the template of its prompt, and stays."""
    lead = row.completion[: len(row.completion) - len(row.completion.lstrip())]
    return replace(row, output=output, completion=f"{lead}{output}{END_OF_TEXT}")


# training


def open_trainings(
    run: RunFolder,
    points: Sequence[Point],
    training_seeds: Sequence[int] = (42,),
    base_model: str = "",
    equal: str = "steps",
    steps: int = 0,
    epochs: int = 2,
    learning_rate: float = Settings.learning_rate,
    rank: int = Settings.rank,
) -> LocalTraining:
    """What will be trained, planned as notebook 06 plans it; everything that could not work is refused here.

    equal "steps": as many updates for each size, `steps` of them, or 0 for those of `epochs` of the largest size. "epochs": the
    updates of `epochs` for each size, as the paper does. The order is by training seed: after a stop a whole curve is there
    sooner. Raises ParameterError for another word or no training seed, and what `check_training` raises.
    """
    if equal not in ("steps", "epochs"):
        raise ParameterError(f'equal="{equal}": give "steps" or "epochs", which all sizes have in common')
    if not training_seeds:
        raise ParameterError("training_seeds=[]: give one training seed at least, such as [42]")
    base = check_training(base_model)
    settings, tokenizer = Settings(learning_rate=learning_rate, rank=rank, epochs=epochs), load_tokenizer(base)
    files = {point.column: point.write(run) for point in points}
    rows = {name: tokenise_rows(load_pairs(path), tokenizer, settings.max_length) for name, path in files.items()}
    updates = {name: len(settings.plan(tokens)) for name, tokens in rows.items()}
    if equal == "steps":
        largest = max((one for one in points if one.curve == OWN), key=lambda one: one.size)
        updates = dict.fromkeys(updates, steps or updates[largest.column])
    planned = []
    for seed in training_seeds:
        for name, path in files.items():
            own, out_dir = replace(settings, steps=updates[name], random_seed=seed), run / f"{FOLDER}/{name}/{seed}"
            progress = find_progress(out_dir, describe_training(base, path, own))
            planned.append(Planned(name, seed, path, out_dir, own, rows[name], progress))
    return LocalTraining(base, tokenizer, rows, planned)


def find_points(trainings: LocalTraining) -> list[Column]:
    """The trained points as columns of `evaluate`; raises InputError where a training has not ended."""
    adapters: dict[str, list[TrainedAdapter]] = {}
    for one in trainings.planned:
        adapters.setdefault(one.column, []).append(load_trained(one.out_dir))
    return [Column(name, tuple(found)) for name, found in adapters.items()]


# judging


def open_judging(
    run: RunFolder,
    points: Sequence[Point],
    trainings: LocalTraining,
    tasks: str = "heldout",
    n_tasks: int = 0,
    n_written_tasks: int = 0,
    random_seed: int = 42,
) -> Evaluation:
    """What judges the points, before there are any columns: set `columns` to those of `find_points`.

    Held-out tasks that a point is trained on are left out, and named in `problems`. `n_written_tasks` 0: nothing is written.
    """
    heldout, problems = leave_out_leaks(load_tasks(tasks), [row.prompt for point in points for row in point.rows])
    heldout = heldout.draw(n_tasks, random_seed)
    sample = heldout.draw(n_written_tasks, random_seed) if n_written_tasks else replace(heldout, tasks=())
    seed_and_places = {"random_seed": random_seed, "places": OF_16}
    return Evaluation(run, heldout, sample, [], trainings.base, {}, {}, problems, **seed_and_places)
