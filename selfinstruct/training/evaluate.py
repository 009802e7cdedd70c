"""Before and after training, on the same held-out tasks with the same decoding (section 4.3, Table 3): what notebook 07 does.

    evaluation = open_evaluation(run, tasks="heldout")      # everything that could not work is refused here
    evaluation.plan()                                       # before looking: the least difference that can be seen
    bits = evaluation.measure_bits()                        # column -> array (n_seeds, n_tasks)
    responses = evaluation.ask(max_tokens=96)               # column -> the responses of each training seed
    evaluation.score(bits, responses)                       # measure -> column -> array (n_seeds, n_tasks)

Published predictions come in as further columns, and so does a provider's tuned model; both have the measures of what is written
only. A held-out task whose instruction was trained on is left out, of all columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display import count_of
from ..files import InputError, ParameterError, given_path
from ..runfolder import RunFolder
from .bits import find_missing_bits, measure_bits
from .columns import BEFORE, PROVIDER, Column, collect_prompts, find_columns
from .comparison import PRIMARY, plan_comparison
from .responses import Response, ask_columns, ask_provider, load_columns, note_columns, score_columns, split_names
from .tasks import TaskSet, find_leaks, find_tasks, load_tasks
from .weights import check_libraries, find_base

if TYPE_CHECKING:
    import numpy as np

    from ..models.client import ModelClient

NONE = "none"  # as `columns`: no model of the run folder, only published predictions or a provider's model


@dataclass
class Evaluation:
    """What is judged on what: `heldout` for bits per byte, its part `sample` for what the models write; `problems` to show;
    `clients` that asked for something else before, for run.json.
    """

    run: RunFolder
    heldout: TaskSet
    sample: TaskSet
    columns: list[Column]
    base: Path | None
    published: dict[str, list[list[Response]]]
    provider: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)
    clients: list[ModelClient] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """All columns, in the order of the table."""
        return [*(one.name for one in self.columns), *([PROVIDER] if self.provider else []), *self.published]

    def describe(self) -> list[dict[str, Any]]:
        """Every column: training seeds, and of the first one's record the rows and steps."""
        rows = [
            {"column": one.name, "training seeds": len(one.adapters) or None, **_describe_training(one)}
            for one in self.columns
        ]
        others = [name for name in self.names if name not in {one.name for one in self.columns}]
        return [*rows, *({"column": name} for name in others)]

    @property
    def source(self) -> str:
        """The small print of a figure."""
        seeds = sorted({len(one.adapters) for one in self.columns if one.adapters})
        trained = f", {count_of('training seed', seeds[-1])}" if seeds else ""
        of_bits = f"{len(self.heldout.tasks)} for bits per byte, " if self.columns else ""
        base = f"; {self.base.stem}" if self.base else ""
        return f"tasks: {self.heldout.name}, {of_bits}{len(self.sample.tasks)} for ROUGE-L{trained}{base}. Grey: could not be seen."

    def plan(self) -> dict[str, float]:
        """measure -> the least true difference that is found with 80 % power; nothing of it needs a result."""
        sizes = {PRIMARY: len(self.heldout.tasks)} if self.columns else {}
        written = dict.fromkeys(("rouge_l", "stopped"), len(self.sample.tasks))
        return plan_comparison({**sizes, **written})

    def measure_bits(self) -> dict[str, np.ndarray]:
        """Bits per byte of every column of the run folder, on all held-out tasks."""
        return measure_bits(self.run, self.columns, self.heldout, self.base) if self.columns else {}

    def ask(
        self, max_tokens: int = 96, store: str | Path = "outputs/responses.sqlite", **limits: Any
    ) -> dict[str, Any]:
        """The responses of every column to the sample; run.json records what answered. `limits` are a provider's, for `connect`."""
        responses, clients = {}, []
        if self.columns:
            responses, clients = ask_columns(self.run, self.columns, self.sample.tasks, self.base, max_tokens, store)
        if self.provider:
            more = {**limits, **self.provider, "store": store, "step": "07"}
            theirs, client = ask_provider(self.run, self.sample.tasks, max_tokens, **more)
            responses, clients = {**responses, **theirs}, [*clients, *client]
        note_columns(self.run, self.columns, [*self.clients, *clients])
        return {**responses, **self.published}

    def score(self, bits: Mapping[str, Any], responses: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
        """measure -> column -> array (n_seeds, n_tasks), bits per byte first."""
        primary = {PRIMARY: dict(bits)} if bits else {}
        return {**primary, **score_columns(responses, self.sample.tasks)}

    @property
    def clusters(self) -> dict[str, Sequence[str] | None]:
        """measure -> the task of each row, None where every row is a task of its own."""
        written = self.sample.clusters
        names = ("rouge_l", "rouge_l_no_stemmer", "rouge_l_reference_length", "stopped", "tokens")
        return {PRIMARY: self.heldout.clusters, **dict.fromkeys(names, written)}


def check_evaluation(tasks: str = "heldout", predictions: str = "", **_: Any) -> None:
    """Raise InputError now for held-out tasks or predictions that are not there, before anything is trained for them."""
    find_tasks(tasks)
    for name in split_names(predictions):
        if not given_path(name).is_file():
            raise InputError(
                f"predictions={name!r}: no such file; the published ones come with: selfinstruct fetch predictions"
            )


def open_evaluation(
    run: RunFolder,
    tasks: str = "heldout",
    base_model: str = "",
    columns: str = "",
    predictions: str = "",
    model: str = "",
    base_url: str = "",
    api: str = "chat",
    n_tasks: int = 0,
    n_generation_tasks: int = 60,
    random_seed: int = 42,
) -> Evaluation:
    """Tasks, columns and weights, all checked: what could not work is refused here, before anything long begins.

    Raises InputError for missing tasks, predictions or adapters and for adapters of other weights, ParameterError for a column
    that is not there, EndpointError where torch is missing and something is left to compute.
    """
    heldout = load_tasks(tasks)
    base = None if columns == NONE else find_base(base_model)
    chosen = find_columns(run, columns, base) if base else []
    heldout, problems = leave_out_leaks(heldout, collect_prompts(run, chosen))
    heldout = heldout.draw(n_tasks, random_seed)
    sample = heldout.draw(n_generation_tasks, random_seed)
    published = load_columns(predictions, sample.tasks)
    provider = {"model": model, "base_url": base_url, "api": api} if model else {}
    if base and not any(one.adapters for one in chosen) and not (published or provider or columns):
        raise run.missing("adapters/*/*/adapter.gguf")
    if not (chosen or published or provider):
        raise ParameterError(
            f'columns="{NONE}" and neither predictions nor model: nothing to judge; name one of the two'
        )
    if base and find_missing_bits(run, chosen, heldout, base):
        check_libraries()
    problems += _list_missing(chosen)
    return Evaluation(run, heldout, sample, chosen, base, published, provider, problems)


def leave_out_leaks(heldout: TaskSet, prompts: Sequence[str]) -> tuple[TaskSet, list[str]]:
    """The tasks that were not trained on, and a line on the others."""
    leaked = set(find_leaks(heldout.tasks, prompts))
    if not leaked:
        return heldout, []
    kept = tuple(one for one in heldout.tasks if one.id not in leaked)
    if len(kept) < 2:
        raise InputError(f"{heldout.source}: the columns were trained on these tasks; choose others with tasks=FILE")
    words = f"{count_of('held-out task', len(leaked))} left out: the instruction was trained on ({', '.join(sorted(leaked)[:3])})"
    return replace(heldout, tasks=kept), [words]


def _describe_training(column: Column) -> dict[str, Any]:
    record = column.adapters[0].record if column.adapters else {}
    return {name: record.get(name) for name in ("rows", "steps")}


def _list_missing(columns: Sequence[Column]) -> list[str]:
    """A line where the columns have different numbers of training seeds."""
    seeds = {one.name: len(one.adapters) for one in columns if one.name not in BEFORE}
    if len(set(seeds.values())) <= 1:
        return []
    return [f"training seeds differ: {', '.join(f'{name} {count}' for name, count in seeds.items())}"]
