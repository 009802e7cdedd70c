"""Before and after training, on the same held-out tasks with the same decoding (section 4.3, Table 3): what notebook 07 does.

    evaluation = open_evaluation(run, tasks="heldout")      # everything that could not work is refused here
    evaluation.plan()                                       # before looking: the least difference that can be seen
    print(evaluation.estimate(max_tokens=96))               # how long the next two lines take
    bits = evaluation.measure_bits()                        # column -> array (n_seeds, n_tasks)
    responses = evaluation.ask(max_tokens=96)               # column -> the responses of each training seed
    scores = evaluation.score(bits, responses)              # measure -> column -> array (n_seeds, n_tasks)
    evaluation.compare(scores)                              # the pairs, with what could have been seen

Published predictions come in as further columns, and so does a provider's tuned model; both have the measures of what is written
only. A held-out task whose instruction was trained on is left out, of all columns.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display import count_of
from ..files import InputError, ParameterError, given_path
from ..runfolder import RunFolder
from ..steps.estimate import estimate_requests
from ..training.weights import check_libraries, find_base
from .bits import LossMeter, estimate_bits, find_missing_bits, measure_bits
from .columns import BEFORE, OF_07, PROVIDER, Column, Places, collect_prompts, find_chat_layout, find_columns
from .comparison import (
    PRIMARY,
    WRITTEN,
    SideBySide,
    compare_measures,
    find_extremes,
    find_pairs,
    plan_comparison,
    say_difference,
    summarise_measures,
)
from .responses import (
    Response,
    ask_columns,
    ask_provider,
    build_requests,
    list_unasked,
    load_columns,
    note_columns,
    score_columns,
    split_names,
)
from .tasks import USER_ORIENTED_252, TaskSet, describe_tasks, find_leaks, find_tasks, load_tasks

if TYPE_CHECKING:
    import numpy as np

    from ..models.client import ModelClient

NONE = ["none"]  # as `judged`: no model of the run folder, only published predictions or a provider's model
USER_ORIENTED = "user_oriented"


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
    clients: list[ModelClient] = field(default_factory=list)  # what else asked: their figures are added
    random_seed: int = 42
    places: Places = OF_07

    @property
    def names(self) -> list[str]:
        """All columns, in the order of the table."""
        return [*(one.name for one in self.columns), *([PROVIDER] if self.provider else []), *self.published]

    @property
    def can_write(self) -> bool:
        """True if llama.cpp can serve the columns of the run folder: it needs a GGUF file and adapters in its form."""
        adapters = [one for column in self.columns for one in column.adapters]
        return bool(self.base and self.base.is_file() and all(one.path.is_file() for one in adapters))

    @property
    def clusters(self) -> dict[str, Sequence[str] | None]:
        """measure -> the task of each row, None where every row is a task of its own."""
        return {PRIMARY: self.heldout.clusters, **dict.fromkeys(WRITTEN, self.sample.clusters)}

    # before looking

    def describe(self) -> list[dict[str, Any]]:
        """Every column: training seeds, and of the first one's record the rows and steps."""
        rows = [
            {"column": one.name, "training seeds": len(one.adapters) or None, **_describe_training(one)}
            for one in self.columns
        ]
        known = {one.name for one in self.columns}
        return [*rows, *({"column": name} for name in self.names if name not in known)]

    def describe_spread(self) -> dict[str, dict[str, Any]]:
        """How varied the held-out tasks are, next to the paper's 252: name -> `describe_tasks`."""
        ours = {self.heldout.name: describe_tasks(self.heldout.tasks, self.run)}
        return ours if self.heldout.name == USER_ORIENTED else {**ours, "the paper's 252": USER_ORIENTED_252}

    def plan(self) -> dict[str, float]:
        """measure -> the least true difference that is found with 80 % power in each of the pairs to come, after Holm's correction
        for their number; nothing of it needs a result.
        """
        pairs, own = find_pairs(self.names), {one.name for one in self.columns}
        written = {name for name in self.names if self.can_write or name not in own}
        judged = {**({PRIMARY: own} if own else {}), "rouge_l": written, "stopped": written - set(self.published)}
        units = {name: (self.heldout if name == PRIMARY else self.sample).units for name in judged}
        return plan_comparison(
            units, {name: sum(set(pair) <= names for pair in pairs) for name, names in judged.items()}
        )

    # measuring

    @cached_property
    def meter(self) -> LossMeter:
        """What computes losses; the weights are loaded once, at the first that is missing."""
        return LossMeter(self.base)

    def estimate(self, max_tokens: int = 96, store: str | Path = "outputs/responses.sqlite") -> str:
        """How long `measure_bits` and `ask` take, and what a provider may cost, a line each; a first part of the losses is
        computed, and kept.
        """
        tasks, lines = self.sample.tasks, []
        if self.columns:
            lines.append(estimate_bits(self.run, self.columns, self.heldout, self.base, self.meter))
        if self.columns and self.can_write and tasks:
            left = list_unasked(self.run, self.columns, tasks, self.base, max_tokens, store)
            cost = estimate_requests(left, "embedded") if left else "all are in the store"
            lines.append(f"Answers: {cost}.")
        if self.provider:
            asked = build_requests(self.run, Column(PROVIDER), tasks, max_tokens)
            lines.append(f"{PROVIDER}: {estimate_requests(asked, self.provider['model'], self.provider['base_url'])}.")
        return "\n".join(lines) or "Nothing is computed or asked: these answers are published."

    def measure_bits(self) -> dict[str, np.ndarray]:
        """Bits per byte of every column of the run folder, on all held-out tasks."""
        return measure_bits(self.run, self.columns, self.heldout, self.base, self.meter) if self.columns else {}

    def ask(
        self,
        max_tokens: int = 96,
        store: str | Path = "outputs/responses.sqlite",
        concurrency: int = 4,
        max_cost_usd: float = 0.0,
    ) -> dict[str, list[list[Response]]]:
        """The responses of every column to the sample, {} without one; run.json records what answered. The last two are for a
        provider.
        """
        responses, clients, tasks = {}, [], self.sample.tasks
        for earlier in self.run.find(f"{self.places.predictions}/*.jsonl") if tasks else ():
            earlier.unlink()  # of another sample, or of columns that are gone
        if self.columns and self.can_write and tasks:
            responses, clients = ask_columns(self.run, self.columns, tasks, self.base, max_tokens, store, self.places)
        if self.provider:
            limits = {"store": store, "concurrency": concurrency, "max_cost_usd": max_cost_usd, "step": "07"}
            theirs, client = ask_provider(self.run, tasks, max_tokens, **self.provider, **limits)
            responses, clients = {**responses, **theirs}, [*clients, *client]
        note_columns(self.run, self.columns, [*self.clients, *clients], self.places)
        return {**responses, **self.published}

    def score(self, bits: Mapping[str, Any], responses: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
        """measure -> column -> array (n_seeds, n_tasks), bits per byte first."""
        primary = {PRIMARY: dict(bits)} if bits else {}
        return {**primary, **score_columns(responses, self.sample.tasks)}

    # concluding

    def summarise(self, scores: Mapping[str, Any], n_resamples: int = 10_000) -> dict[str, Any]:
        """column -> measure -> mean, with "intervals" over tasks and "seed_sd" over training seeds, in the table's order."""
        how = {"n_resamples": n_resamples, "random_seed": self.random_seed}
        found = summarise_measures(scores, self.clusters, **how)
        return {name: found[name] for name in self.names if name in found}

    def compare(self, scores: Mapping[str, Any], n_resamples: int = 10_000) -> list[dict[str, Any]]:
        """The differences of the pairs that the loop asks about, a record a pair and measure."""
        return compare_measures(scores, find_pairs(self.names), self.clusters, n_resamples, self.random_seed)

    @property
    def source(self) -> str:
        """The small print of a figure."""
        seeds = max((len(one.adapters) for one in self.columns), default=0)
        trained = f"; {count_of('seed of training', seeds)}" if seeds else ""
        base = f"; {self.base.stem}" if self.base else ""
        sizes = {"bits per byte": len(self.heldout.tasks)} if self.columns else {}
        sizes |= {"ROUGE-L": len(self.sample.tasks)} if self.can_write or not self.columns else {}
        each = ", ".join(f"{count} for {measure}" for measure, count in sizes.items())
        return f"tasks: {self.heldout.name}, {each}{trained}{base}. Grey band: less than was planned to be seen (80 % power, after Holm)."

    def show_extremes(self, responses: Mapping[str, Any], scores: Mapping[str, Any], show_rows: int = 3) -> SideBySide:
        """Before and after, or the first pair there is: largest gains in ROUGE-L, then losses, of the first training seed."""
        pairs = find_pairs([name for name in self.names if name in responses])
        second, first = next((pair for pair in pairs if pair[1] == "before_plain"), pairs[0] if pairs else ("", ""))
        if not second:
            return SideBySide([], "", "")
        gains = scores["rouge_l"][second][0] - scores["rouge_l"][first][0]
        texts = responses[first][0], responses[second][0]
        return SideBySide(find_extremes(self.sample.tasks, *texts, gains, show_rows), first, second)

    def collect_results(self, summary: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What notebook 07 records: columns by name, each pair with what could have been seen, and a headline."""
        first = next(iter(differences), None)
        return {
            "tasks": self.heldout.name, "n_tasks": len(self.heldout.tasks), "n_generation_tasks": len(self.sample.tasks),
            "tasks_sha256": self.heldout.sha256, "columns": dict(summary), "differences": list(differences),
            "minimum_detectable_difference": self.plan(), "table_3": self._collect_table_3(summary, differences),
            "problems": self.problems, "headline": say_difference(first) if first else "one column: nothing to compare",
        }  # fmt: skip

    def _collect_table_3(self, summary: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the scorecard compares with Table 3: {} unless it was measured on SuperNI, as the paper did."""
        if self.heldout.name != "superni":
            return {}
        found: dict[str, Any] = {"n": len(self.sample.tasks), "tasks": len({one.cluster for one in self.sample.tasks})}
        for name, one in summary.items():
            found[name] = {"rouge_l": one.get("rouge_l"), "interval": one["intervals"].get("rouge_l")}
        for row in differences:
            if (row["measure"], row["pair"]) == ("rouge_l", "run_data - before_plain"):
                found["gain"] = {"rouge_l": row["difference"], "interval": [row["low"], row["high"]]}
        return found


def check_evaluation(tasks: str = "heldout", predictions: str = "", **_: Any) -> None:
    """Raise InputError now for held-out tasks or predictions that are not there, before anything is trained for them."""
    find_tasks(tasks)
    for name in split_names(predictions):
        if not given_path(name).is_file():
            advice = "the published ones come with: selfinstruct fetch predictions"
            raise InputError(f"predictions={name!r}: no such file; {advice}")


def open_evaluation(
    run: RunFolder,
    tasks: str = "heldout",
    base_model: str = "",
    judged: Sequence[str] = (),
    predictions: str = "",
    model: str = "",
    base_url: str = "",
    api: str = "chat",
    n_tasks: int = 0,
    n_generation_tasks: int = 60,
    random_seed: int = 42,
) -> Evaluation:
    """Tasks, columns and weights, all checked: what could not work is refused here, before anything long begins.

    Raises InputError for missing tasks, predictions, adapters or chat template and for adapters of other weights, ParameterError
    for a column that is not there, EndpointError where torch is missing and something is left to compute.
    """
    check_evaluation(tasks, predictions)
    base = None if [*judged] == NONE else find_base(base_model)
    columns = find_columns(run, judged, base) if base else []
    provider = {"model": model, "base_url": base_url, "api": api} if model else {}
    _check_columns(run, columns, judged, bool(provider or predictions))
    heldout, problems = leave_out_leaks(load_tasks(tasks), collect_prompts(run, columns))
    heldout = heldout.draw(n_tasks, random_seed)
    # published answers are there for all tasks, and judging them takes seconds
    sample = heldout.draw(n_generation_tasks if columns or provider else 0, random_seed)
    if base and find_missing_bits(run, columns, heldout, base):
        check_libraries()
        if any(one.chat for one in columns):
            find_chat_layout(run, base)
    problems += _list_missing(columns)
    published = load_columns(predictions, sample.tasks)
    found = Evaluation(run, heldout, sample, columns, base, published, provider, problems, random_seed=random_seed)
    if columns and not found.can_write:
        problems.append(f"llama.cpp cannot serve {base.name} with its adapters: bits per byte only, nothing is written")
    return found


def _check_columns(run: RunFolder, columns: Sequence[Column], judged: Sequence[str], has_others: bool) -> None:
    """Raise where there would be nothing to compare."""
    if has_others or (judged and [*judged] != NONE) or any(one.adapters for one in columns):
        return
    if judged:
        raise ParameterError(f"judged={NONE}, no predictions and no model: nothing to judge; name one of the two")
    command = shlex.join(["selfinstruct", "run", "--run-dir", str(run), "--only", "06,07"])
    raise InputError(
        f"{run}/adapters: no trained column; 06_finetune_model writes them: run that first, or both ({command})"
    )


def leave_out_leaks(heldout: TaskSet, prompts: Sequence[str]) -> tuple[TaskSet, list[str]]:
    """The tasks that were not trained on, and a line on the others, and on rows that have no answer."""
    leaked, notes = find_leaks(heldout.tasks, prompts), []
    if heldout.left_out:
        notes.append(f"{count_of('row', heldout.left_out)} of {heldout.source} left out: no answer to judge by")
    if not leaked:
        return heldout, notes
    kept = tuple(one for one in heldout.tasks if one.id not in set(leaked))
    if len(kept) < 2:
        raise InputError(f"{heldout.source}: the columns were trained on these tasks; choose others with tasks=FILE")
    tasks = count_of("held-out task", len(leaked))
    notes.append(f"{tasks} left out: the instruction was trained on ({', '.join(leaked[:3])})")
    return replace(heldout, tasks=kept), notes


def _describe_training(column: Column) -> dict[str, Any]:
    record = column.adapters[0].record if column.adapters else {}
    return {"rows": record.get("train_file", {}).get("rows"), "steps": record.get("steps")}


def _list_missing(columns: Sequence[Column]) -> list[str]:
    """A line where the columns have different numbers of training seeds."""
    seeds = {one.name: len(one.adapters) for one in columns if one.name not in BEFORE}
    if len(set(seeds.values())) <= 1:
        return []
    return [f"training seeds differ: {', '.join(f'{name} {count}' for name, count in seeds.items())}"]
