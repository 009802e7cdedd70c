"""The local backend of notebook 06: everything that can be refused is refused first, then what is left to do is planned,
its minutes estimated, and trained, with the weights loaded once.

    base = check_training(base_model, columns)                      # one sentence if anything is missing
    rows, source = find_rows(run, data, seed_tasks, random_seed)
    trainings = plan_trainings(run, base, files, columns, [42], settings)
    records = run_trainings(trainings, heldout)
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.datasets import load_dataset
from ..data.reading import iter_objects
from ..display import count_of
from ..files import InputError, ParameterError, given_path, project_path, show_path
from ..models.embedded import weights_sha256
from ..records import FinetuningRow, SeedTask
from ..runfolder import FINETUNING, RunFolder
from .cost import check_memory, choose_precision, count_tokens, time_tokens
from .lora import MEASURES, Progress, Settings, adapted, describe_training, find_progress, train_adapter
from .rows import ADAPTERS, TRAINED, TokenRow, lay_out_rows, load_pairs, tokenise_rows
from .weights import check_libraries, find_base, load_model, load_tokenizer

HELDOUT = "seeds/heldout_tasks.jsonl"


def check_training(
    base_model: str = "",
    columns: Sequence[str] = TRAINED,
    batch_tokens: int = 1024,
    backend: str = "local",
    merge: bool = False,
) -> Path:
    """The base weights, once all is there that training needs; raises the kit's errors, each with what to do, where it is not:
    libraries, weights, memory, names of columns.
    """
    if backend != "local":
        raise ParameterError(f'backend={backend!r}: this notebook trains on this machine; choose backend="local"')
    if unknown := [name for name in columns if name not in TRAINED]:
        raise ParameterError(f"columns: no column {unknown[0]!r} to train; there are {', '.join(TRAINED)}")
    check_libraries()
    base = find_base(base_model)
    if merge and base.is_dir():
        raise ParameterError(
            f"merge: {show_path(base)} is no GGUF file, and only such a file is written again; leave merge out"
        )
    check_memory(base, batch_tokens)
    return base


def find_rows(
    run: RunFolder, data: str, seed_tasks: Sequence[SeedTask], random_seed: int
) -> tuple[list[FinetuningRow], dict[str, Any]]:
    """(training rows, where they come from): the run's own export as it is, or a file of prompts and completions as it is, or
    the rows of any other data set, laid out in the paper's templates with the seed tasks among them.

    Raises InputError where there is none, or none with an output.
    """
    path = given_path(data) if data else run.require(FINETUNING)
    if path.is_file() and _holds_pairs(path):
        rows = [FinetuningRow(**value) for _, value in iter_objects(path)]
        source = {"file": path.name, "sha256": weights_sha256(path), "rows": len(rows), "left_out": 0}
    else:
        dataset = load_dataset(data)
        rows, without = lay_out_rows(dataset.rows, seed_tasks, random_seed)
        source = {"file": dataset.name, "sha256": None, "rows": len(dataset.rows), "left_out": without}
        if without == len(dataset.rows):
            raise InputError(
                f"{show_path(path)}: no completion to learn in any of its rows; training needs outputs, not instructions alone"
            )
    return rows, source


def _holds_pairs(path: Path) -> bool:
    """True if the first row of a file is a prompt and its completion, both laid out already."""
    _, first = next(iter_objects(path))
    return {"prompt", "completion"} <= set(first)


def load_heldout_pairs(count: int, random_seed: int = 42) -> list[tuple[str, str]]:
    """(prompt, completion) of `count` held-out tasks drawn at random, for a curve that decides nothing; asked as the published
    predictions were.
    """
    tasks = [task for task in _read_heldout()]
    chosen = random.Random(random_seed).sample(tasks, min(count, len(tasks)))
    return [
        (f"{text}\n\nInput: {x}\nOutput:" if x else f"{text}\nOutput:", f" {y}<|endoftext|>") for text, x, y in chosen
    ]


def _read_heldout() -> list[tuple[str, str, str]]:
    values = (value for _, value in iter_objects(project_path(HELDOUT)))
    return [(one["instruction"], one["instances"][0]["input"], one["instances"][0]["output"]) for one in values]


@dataclass(frozen=True)
class Planned:
    """One adapter to train: of which column, with which training seed and settings, and what is there of it."""

    column: str
    training_seed: int
    base: Path
    train_file: Path
    out_dir: Path
    settings: Settings
    rows: Sequence[TokenRow]
    progress: Progress

    @property
    def tokens(self) -> int:
        """The tokens that are still to be read."""
        done = {"finished": len(self.plan), "continues": self.progress.step}.get(self.progress.state, 0)
        return count_tokens(self.rows, self.plan[done:])

    @property
    def plan(self) -> list[list[int]]:
        return self.settings.plan(self.rows)

    def line(self) -> dict[str, Any]:
        """A row of the table that is shown before anything is trained."""
        plan, total = self.plan, sum(len(row.ids) for row in self.rows)
        state, step, changed = self.progress
        told = {"continues": f"continues after step {step}", "replaces": f"replaces one ({changed})"}.get(state, state)
        epochs = count_tokens(self.rows, plan) / total
        row = {"rows": len(self.rows), "tokens": total, "steps": len(plan), "epochs": round(epochs, 1), "state": told}
        return {**self.key(), **row}

    def key(self) -> dict[str, str]:
        """Column and training seed, which tables begin with; a seed is a name and no number."""
        return {"column": self.column, "training seed": str(self.training_seed)}


def plan_trainings(
    run: RunFolder,
    base: Path,
    files: Mapping[str, Path],
    columns: Sequence[str],
    training_seeds: Sequence[int],
    settings: Settings,
) -> list[Planned]:
    """Every column with every training seed. All have as many update steps as `run_data` has in the settings' epochs, unless
    `settings.steps` says how many: what differs is the data, and not how long it is trained on.
    """
    tokenizer = load_tokenizer(base)
    rows = {name: tokenise_rows(load_pairs(path), tokenizer, settings.max_length) for name, path in files.items()}
    steps = settings.steps or len(settings.plan(rows["run_data"]))
    planned = []
    for column in columns:
        for seed in training_seeds:
            own, out_dir = replace(settings, steps=steps, random_seed=seed), run / f"{ADAPTERS}/{column}/{seed}"
            progress = find_progress(out_dir, describe_training(base, files[column], own))
            planned.append(Planned(column, seed, base, files[column], out_dir, own, rows[column], progress))
    return planned


def estimate_training(
    trainings: Sequence[Planned], loaded: tuple[Any, Any], heldout: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """{"tokens", "seconds_per_1000_tokens", "minutes"} of what is still to be trained: one batch is timed."""
    left = [one for one in trainings if one.tokens]
    if not left:
        return {"tokens": 0, "seconds_per_1000_tokens": None, "minutes": 0.0}
    model, tokenizer = loaded
    with adapted(model, left[0].settings) as tuned:
        precision = choose_precision(left[0].settings.precision, model.device.type)
        seconds = time_tokens(tuned, left[0].rows, left[0].plan[0], precision)
    tokens = sum(one.tokens for one in left)
    held = sum(len(row.ids) for row in tokenise_rows(heldout, tokenizer))
    forward = len(left) * (MEASURES + 1) * held / 2.5  # the way there alone costs less
    return {"tokens": tokens, "seconds_per_1000_tokens": 1000 * seconds, "minutes": (tokens + forward) * seconds / 60}


def run_trainings(
    trainings: Sequence[Planned],
    loaded: tuple[Any, Any] | None,
    heldout: Sequence[tuple[str, str]] = (),
    merge: bool = False,
    source: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The training records of all, in order; what is finished is read, the others are trained or go on."""
    return [
        train_adapter(
            one.base,
            one.train_file,
            one.out_dir,
            heldout=heldout,
            loaded=loaded,
            merge=merge,
            source=source,
            **vars(one.settings),
        )
        for one in trainings
    ]


def tabulate_records(trainings: Sequence[Planned], records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row an adapter: its loss on what it was trained on, and on the held-out tasks before and after."""
    return [
        {
            **one.key(),
            "training loss": record["train_loss"]["last_fifth"],
            **{f"held-out loss {when}": loss for when, loss in (record["heldout_loss"] or {}).items()},
            "seconds": record["seconds"],
        }
        for one, record in zip(trainings, records, strict=True)
    ]


def load_needed(trainings: Sequence[Planned], base: Path) -> tuple[Any, Any] | None:
    """(model, tokenizer), or None where everything is trained already."""
    return load_model(base) if any(one.progress.state != "finished" for one in trainings) else None


def say_estimate(estimate: Mapping[str, Any]) -> str:
    """Such as "about 6 minutes for 72,700 tokens (4.9 s for 1,000, measured just now)"."""
    if not estimate["tokens"]:
        return "Nothing to train: every adapter is there, of these data and settings."
    minutes = max(1, round(estimate["minutes"]))
    speed = f"{estimate['seconds_per_1000_tokens']:.1f} s for 1,000, measured just now"
    return f"About {count_of('minute', minutes)} for {estimate['tokens']:,} tokens ({speed})."
