"""The local backend of notebook 06: everything that can be refused is refused first, then what is left to do is planned,
its minutes estimated, and trained, with the weights loaded once.

    base = check_training(base_model, columns)                      # one sentence if anything is missing
    rows, source = find_rows(run, data, seed_tasks, random_seed)
    local = plan_training(run, base, files, Settings())
    print(local.estimate(heldout))
    records = local.train(heldout)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.datasets import load_dataset
from ..data.reading import iter_objects
from ..display import show_duration
from ..files import InputError, ParameterError, given_path, show_path
from ..models.embedded import weights_sha256
from ..records import FinetuningRow, SeedTask
from ..runfolder import FINETUNING, RunFolder
from .cost import check_memory, choose_precision, count_tokens, time_tokens
from .curves import load_losses, plot_losses
from .lora import MEASURES, Progress, Settings, adapted, describe_training, find_progress, train_adapter
from .provider import ProviderTraining, plan_provider
from .rows import (
    ADAPTERS,
    TRAINED,
    TokenRow,
    count_unmovable,
    lay_out_rows,
    load_pairs,
    mark_tokens,
    strip_end,
    tokenise_rows,
)
from .weights import check_libraries, find_base, load_model, load_tokenizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORWARD_SHARE = 2.5  # training a token costs so many times what reading it costs


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
    if backend == "provider":
        return Path(base_model)  # nothing that is here
    if backend != "local":
        raise ParameterError(f"backend={backend!r}: choose local or provider")
    if not columns:
        raise ParameterError(f"columns=[]: name one to train at least, of {', '.join(TRAINED)}")
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
    the rows of any other data set, laid out in the paper's templates with the seed tasks among them. `not_shuffled` says how
    many rows of `shuffled_outputs` keep their output, see `count_unmovable`.

    Raises InputError where there is none, or none with an output.
    """
    path = given_path(data) if data else run.require(FINETUNING)
    if path.is_file() and _holds_pairs(path):
        rows = [_read_pair(value, where) for where, value in iter_objects(path)]
        source = {"file": path.name, "sha256": weights_sha256(path), "rows": len(rows), "left_out": 0}
    else:
        dataset = load_dataset(data)
        rows, without = lay_out_rows(dataset.rows, seed_tasks, random_seed)
        source = {"file": dataset.name, "sha256": None, "rows": len(dataset.rows), "left_out": without}
        if without == len(dataset.rows):
            raise InputError(
                f"{show_path(path)}: no completion to learn in any of its rows; training needs outputs, not instructions alone"
            )
    return rows, {**source, "not_shuffled": count_unmovable(rows)}


def _holds_pairs(path: Path) -> bool:
    """True if the first row of a file is a prompt and its completion, both laid out already."""
    _, first = next(iter_objects(path))
    return {"prompt", "completion"} <= set(first)


def _read_pair(value: Mapping[str, Any], where: str) -> FinetuningRow:
    """A row as it is, with whatever else it holds."""
    texts = (value.get("prompt"), value.get("completion"))
    if not all(isinstance(text, str) for text in texts) or not strip_end(texts[1]).strip():
        raise InputError(f'{where}: no completion to learn; every row needs "prompt" and "completion", texts both')
    return FinetuningRow(**value)


@dataclass(frozen=True)
class Planned:
    """One adapter to train: of which column, with which training seed and settings, and what is there of it."""

    column: str
    training_seed: int
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


def plan_training(
    run: RunFolder,
    base: Path,
    files: Mapping[str, Path],
    settings: Settings,
    columns: Sequence[str] = TRAINED,
    training_seeds: Sequence[int] = (42,),
    backend: str = "local",
) -> LocalTraining | ProviderTraining:
    """Every column with every training seed. All have as many update steps as `run_data` has in the settings' epochs, unless
    `settings.steps` says how many: what differs is the data, and not how long it is trained on.
    """
    if backend == "provider":
        return plan_provider(run)
    if not training_seeds:
        raise ParameterError("training_seeds=[]: give one training seed at least, such as [42]")
    tokenizer = load_tokenizer(base)
    pairs = {name: load_pairs(files[name]) for name in dict.fromkeys([*columns, "run_data"])}
    rows = {name: tokenise_rows(texts, tokenizer, settings.max_length) for name, texts in pairs.items()}
    steps = settings.steps or len(settings.plan(rows["run_data"]))
    planned = []
    for column in columns:
        for seed in training_seeds:
            own, out_dir = replace(settings, steps=steps, random_seed=seed), run / f"{ADAPTERS}/{column}/{seed}"
            progress = find_progress(out_dir, describe_training(base, files[column], own))
            planned.append(Planned(column, seed, files[column], out_dir, own, rows[column], progress))
    return LocalTraining(base, tokenizer, rows, planned)


@dataclass(frozen=True)
class LocalTraining:
    """All adapters of a run, planned; `rows` are the tokens of each column's file. The weights are loaded once, if needed."""

    base: Path
    tokenizer: Any
    rows: Mapping[str, Sequence[TokenRow]]
    planned: Sequence[Planned]

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        return load_model(self.base)

    def mark_row(self, column: str = "run_data", length: int = 40) -> list[tuple[str, bool]]:
        """(token, True if it carries loss) of the row whose length is nearest to `length` tokens."""
        return mark_tokens(min(self.rows[column], key=lambda row: abs(len(row.ids) - length)), self.tokenizer)

    def read_first(self, files: Mapping[str, Path]) -> list[dict[str, Any]]:
        """A row a column: how many rows it has, and the first of them."""
        first = {column: load_pairs(files[column])[0] for column in self.rows}
        return [
            {"column": column, "rows": len(self.rows[column]), "first prompt": prompt, "its completion": completion}
            for column, (prompt, completion) in first.items()
        ]

    def describe(self) -> list[dict[str, Any]]:
        """A row an adapter: how much it is trained on, for how long, and what is there of it."""
        return [one.line() for one in self.planned]

    def estimate(self, heldout: Sequence[tuple[str, str]] = ()) -> str:
        """What is still to do in a sentence, with its minutes: one batch is timed."""
        left = [one for one in self.planned if one.tokens]
        if not left:
            return "Nothing to train: every adapter is there, of these data and settings."
        tokens = sum(one.tokens for one in left)
        held = sum(len(row.ids) for row in tokenise_rows(heldout, self.tokenizer))
        seconds = self._time_token(left[0])
        # the way there alone takes less than half as long as there and back
        total = (tokens + len(left) * (MEASURES + 1) * held / FORWARD_SHARE) * seconds
        speed = f"{1000 * seconds:.1f} s for 1,000, measured just now"
        return f"About {show_duration(max(total, 60))} for {tokens:,} tokens ({speed})."

    def _time_token(self, one: Planned) -> float:
        model, _ = self.loaded
        with adapted(model, one.settings) as tuned:
            return time_tokens(
                tuned, one.rows, one.plan[0], choose_precision(one.settings.precision, model.device.type)
            )

    def train(
        self, heldout: Sequence[tuple[str, str]] = (), source: Mapping[str, Any] | None = None, merge: bool = False
    ) -> list[dict[str, Any]]:
        """The training records of all, in order; what is finished is read, the others are trained or go on."""
        given = {"heldout": heldout, "source": source, "merge": merge}
        return [
            train_adapter(
                self.base, one.train_file, one.out_dir, load=lambda: self.loaded, **given, **vars(one.settings)
            )
            for one in self.planned
        ]

    def tabulate(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A row an adapter: its loss on what it was trained on, and on the held-out tasks before and after."""
        return [
            {
                **one.key(),
                "training loss": record["train_loss"]["last_fifth"],
                **{f"held-out loss {when}": loss for when, loss in (record["heldout_loss"] or {}).items()},
                "seconds": record["seconds"],
            }
            for one, record in zip(self.planned, records, strict=True)
        ]

    def headline(self, records: Sequence[Mapping[str, Any]]) -> str:
        """What was trained, in a few words."""
        return f"{len(records)} adapters, {records[0]['steps']} steps each"

    def caption(self, source: Mapping[str, Any]) -> str:
        """What the figure's curves are of."""
        rank = self.planned[0].settings.rank
        return f"Trained on {source['file']}, {source['rows']} rows. LoRA of rank {rank} on {self.base.name}."

    def plot_losses(self, axes: Sequence[Axes]) -> None:
        """The two panels of `curves.plot_losses`."""
        plot_losses(load_losses([one.out_dir for one in self.planned]), axes)
