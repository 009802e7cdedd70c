"""The runs of a sweep, or any run folders and data sets, and their numbers: what notebook 21 compares.

    cells, problems = load_cells(run)            # the sweep in this folder: a cell for each arm and random seed
    cells, problems = load_cells(run, "outputs/a, alpaca.json")  # or any runs and data sets, an arm each
    numbers = measure_cells(cells)              # {"admitted_per_request": 1.9, ...} of each cell

A number that a run's notebooks did not measure is left out, never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.datasets import Dataset, load_dataset, load_datasets, split_sources
from ..files import InputError, given_path, load_records, read_json
from ..records import MachineInstruction, Rejection
from ..runfolder import ALL_INSTANCES, INSTRUCTIONS, REJECTIONS, RunFolder
from .verbs import Parser, find_verb_noun, load_parses

if TYPE_CHECKING:
    from .verdicts import Values

SWEEP, EXAMPLE = "sweep.json", "outputs/example"
# what a sweep may be judged by; and the share of candidates that a rule drops, such as "too_similar_share"
MEASURES = (
    "admitted_per_request", "admitted", "requests", "candidates", "admitted_share", "novelty", "mean_instruction_words",
    "mean_input_words", "mean_output_words", "classification_share", "instances_per_instruction", "with_instances_share",
    "copied_share", "tokens_per_admitted", "usd_per_admitted", "verb_noun_diversity_share",
    "trial_accepted_per_request", "trial_copied_share", "trial_cost_per_accepted_usd", "trial_accuracy",
    "trial_valid_instances_per_task", "trial_parse_rate",
)  # fmt: skip
STEP_1, STEP_2, STEP_4 = "02_generate_instructions", "03_identify_classification", "05_filter_and_export"
TRIAL = "20_ablate_prompts"  # a number of its trial A is `trial_` and the name that `ablation.Trial.summary` has for it


@dataclass(frozen=True)
class Round:
    """What one round of step 1 brought: admitted instructions, candidates, how new the admitted ones are on average, and how many
    candidates each rule dropped.
    """

    admitted: int
    candidates: int
    novelty: float | None
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One run of one arm; `dataset` is its instances, before step 4 its instructions. `run` is None for data of others.

    `instructions`, `rounds` and `dropped` (rule -> candidates) are those of step 1, where it ran.
    """

    arm: str
    random_seed: int
    name: str
    dataset: Dataset
    run: RunFolder | None = None
    instructions: tuple[str, ...] = ()
    rounds: tuple[Round, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)


def load_cells(run: RunFolder, runs: str | Sequence[Any] = "") -> tuple[list[Cell], list[str]]:
    """(the cells to compare, what could not be read): those of the sweep in `run`, or the run folders and data sets that `runs`
    names, an arm each. Where there is neither, the run itself and the example.

    Named ones that have no number in common with the first, such as a trial with a run, are left out and named. Raises
    InputError where nothing can be read, or where of several that are named nothing is left to compare the first one with.
    """
    plan = read_json(run / SWEEP) if not runs and (run / SWEEP).is_file() else None
    if plan is None:
        return _load_named(runs, run)
    done = {name: cell for name, cell in plan["cells"].items() if cell["state"] == "done"}
    problems = [
        f"{name}: {cell.get('error') or 'not run yet'}" for name, cell in plan["cells"].items() if name not in done
    ]
    if not done:
        raise InputError(f"{run}: no cell of this sweep is done; {'; '.join(problems[:3]) or 'it has none'}")
    cells = []
    for name, cell in done.items():
        folder = RunFolder(run / cell["folder"])
        cells.append(_build_cell(cell["arm"], cell["random_seed"], name, replace(_load_run(folder), name=cell["arm"])))
    return cells, problems


def _load_named(runs: str | Sequence[Any], run: RunFolder) -> tuple[list[Cell], list[str]]:
    named = split_sources(runs)
    sources = named or [run, *([EXAMPLE] if str(run) != EXAMPLE else [])]
    datasets, problems = _load_either([_find_trial(one) or one for one in sources], run)
    first, *others = (_build_cell(one.name, 0, one.name, one) for one in datasets)
    apart = [one for one in others if not _list_kinds(first) & _list_kinds(one)]
    problems += [_explain_apart(first, one) for one in apart]
    if len(named) > 1 and len(others) == len(apart):
        raise InputError("; ".join(problems))
    return [first, *(one for one in others if one not in apart)], problems


def _list_kinds(cell: Cell) -> set[str]:
    """What a cell can be compared in, in words: two cells need one kind in common."""
    step = find_trial_step(cell)
    found = {"the rows of a run or data set": cell.dataset.rows, f"a trial of notebook 20 (step {step!r})": step}
    return {kind for kind, there in found.items() if there}


def _explain_apart(first: Cell, other: Cell) -> str:
    holds = (f"{one.dataset.source} holds only {' and '.join(sorted(_list_kinds(one)))}" for one in (first, other))
    return (
        f"{' and '.join(holds)}: they have no number in common. Compare a trial with a trial of the same step, and a run or data set "
        "with another one; a folder can have both (selfinstruct run --only 02,20 --run-dir FOLDER)"
    )


def _load_run(folder: RunFolder) -> Dataset:
    """A run's instances, before step 4 its instructions; of a run with only a trial no rows."""
    part = "instances" if (folder / ALL_INSTANCES).is_file() else "instructions"
    return _find_trial(folder) or load_dataset(folder, part)


def _find_trial(source: Any) -> Dataset | None:
    """A run folder with only a trial as a data set without rows; None for anything else."""
    if not isinstance(source, (str, Path, RunFolder)):
        return None
    run = source if isinstance(source, RunFolder) else RunFolder(given_path(source))
    if any(run.find(name) for name in (INSTRUCTIONS, ALL_INSTANCES)) or not run.results(TRIAL):
        return None
    return Dataset(run.path.name, [], str(run), run=run)


def _load_either(sources: Sequence[Any], run: RunFolder) -> tuple[list[Dataset], list[str]]:
    """The data sets with their instances, or with the instructions alone where a run has not come to its instances yet."""
    try:
        datasets, problems = load_datasets(sources, run)
        if not problems:
            return datasets, problems
    except InputError:
        return load_datasets(sources, run, "instructions")
    earlier = load_datasets(sources, run, "instructions")
    return earlier if len(earlier[0]) > len(datasets) else (datasets, problems)


def _build_cell(arm: str, seed: int, name: str, dataset: Dataset) -> Cell:
    """A cell with its rounds, if the data set is a run's and step 1 ran in it."""
    run = dataset.run
    if run is None or not (run / INSTRUCTIONS).is_file():
        return Cell(arm, seed, name, dataset, run, tuple(dataset.instructions))
    records = load_records(run / INSTRUCTIONS, MachineInstruction, without=("prompt", "response"))
    ledger = load_records(run / REJECTIONS, Rejection) if (run / REJECTIONS).is_file() else []
    ledger = [row for row in ledger if row.step.startswith("1")]
    dropped = dict(Counter(row.reason for row in ledger).most_common())
    texts = tuple(record.instruction for record in records)
    return Cell(arm, seed, name, dataset, run, texts, _count_rounds(records, ledger), dropped)


def _count_rounds(records: Sequence[MachineInstruction], ledger: Sequence[Rejection]) -> tuple[Round, ...]:
    last = max((one.request_idx or 0 for one in (*records, *ledger)), default=-1)
    admitted: list[list[MachineInstruction]] = [[] for _ in range(last + 1)]
    for record in records:
        admitted[record.request_idx].append(record)
    dropped: list[Counter[str]] = [Counter() for _ in admitted]
    for row in ledger:
        dropped[row.request_idx or 0][row.reason] += 1
    return tuple(
        Round(
            len(found),
            len(found) + rules.total(),
            _mean([1 - max(one.most_similar.values(), default=0) for one in found]),
            dict(rules),
        )
        for found, rules in zip(admitted, dropped, strict=True)
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def measure_cells(
    cells: Sequence[Cell], parser: Parser | None = None, cache: Path | None = None
) -> list[dict[str, float]]:
    """The numbers of each cell, those that it has; with a `parser` also how diverse its verbs and nouns are.

    Diversity counts different pairs among equally many instructions of every cell, since a longer list has more of them.
    """
    pairs = _parse_pairs(cells, parser, cache) if parser and cache else [[] for _ in cells]
    size = min((len(found) for found in pairs if found), default=0)
    rules = list(dict.fromkeys(rule for cell in cells for rule in cell.dropped))
    return [
        {
            name: value
            for name, value in {**_measure_cell(cell, rules), **_measure_pairs(found, size)}.items()
            if value is not None
        }
        for cell, found in zip(cells, pairs, strict=True)
    ]


def _measure_cell(cell: Cell, rules: Iterable[str]) -> dict[str, float | None]:
    results = {name: cell.run.results(name) if cell.run else {} for name in (STEP_1, STEP_2, STEP_4)}
    return {
        **_measure_step_1(cell, results[STEP_1], rules),
        **_measure_texts(cell),
        **_measure_later(results[STEP_2], results[STEP_4], cell.dataset),
        **_measure_cost(cell),
        **_measure_trial(cell),
    }


def _measure_step_1(cell: Cell, found: Mapping[str, Any], rules: Iterable[str]) -> dict[str, float | None]:
    """`rules` are those of all cells: one that drops nothing in a cell has a share of 0 there, or its pair would be lost."""
    if not cell.rounds:
        return {}
    admitted, candidates = (sum(getattr(one, name) for one in cell.rounds) for name in ("admitted", "candidates"))
    requested = found.get("requested")
    news = [one.novelty * one.admitted for one in cell.rounds if one.novelty is not None]
    dropped = {f"{rule}_share": cell.dropped.get(rule, 0) / candidates if candidates else None for rule in rules}
    return {
        "admitted_per_request": admitted / requested if requested else None,
        "admitted": admitted, "requests": requested, "candidates": candidates,
        "admitted_share": admitted / candidates if candidates else None,
        "novelty": sum(news) / admitted if admitted else None, **dropped,
    }  # fmt: skip


def _measure_texts(cell: Cell) -> dict[str, float | None]:
    parts = {**cell.dataset.parts, "instruction": cell.instructions}
    return {f"mean_{part}_words": _mean([len(text.split()) for text in texts]) for part, texts in parts.items()}


def _measure_later(step_2: Mapping[str, Any], step_4: Mapping[str, Any], dataset: Dataset) -> dict[str, float | None]:
    """What steps 2 to 4 recorded; of data without a run, what its rows say."""
    share = step_2.get("classification_share")
    if not step_4 and dataset.has_instances:
        flags = [row.is_classification for row in dataset.rows if row.is_classification is not None]
        share = _mean(flags) if share is None else share
        return {
            "classification_share": share,
            "instances_per_instruction": len(dataset.rows) / max(len(dataset.instructions), 1),
        }
    quality, tasks = step_4.get("quality", {}), step_4.get("tasks")
    return {
        "classification_share": share,
        "instances_per_instruction": step_4["accepted"] / tasks if tasks else None,
        "with_instances_share": step_4["tasks_with_instances"] / tasks if tasks else None,
        "copied_share": quality["copied_from_prompt"] / quality["instances"] if quality.get("instances") else None,
    }


def _measure_cost(cell: Cell) -> dict[str, float | None]:
    """Tokens and dollars for each admitted instruction, whoever paid; without a price no dollars."""
    usage = list(cell.run.state.get("usage", {}).values()) if cell.run else []
    admitted = sum(one.admitted for one in cell.rounds)
    if not usage or not admitted:
        return {}
    tokens = sum(one["prompt_tokens"] + one["completion_tokens"] for one in usage)
    costs = [one.get("cost_usd") for one in usage]
    return {
        "tokens_per_admitted": tokens / admitted,
        "usd_per_admitted": None if None in costs else sum(costs) / admitted,
    }


def _measure_trial(cell: Cell) -> dict[str, float | None]:
    """The numbers of trial A of notebook 20."""
    return {name: value for name, (value, *_) in read_trial(cell).items()}


def find_trial_step(cell: Cell) -> str:
    """What the run's trial of notebook 20 asked: "instructions", "classification" or "instances"; "" without a trial."""
    found = cell.run.results(TRIAL) if cell.run else {}
    return found.get("step", "instructions") if found else ""


def read_trial(cell: Cell) -> dict[str, list[float | None]]:
    """number -> [value, low, high] of trial A of notebook 20, with the ends of its 95 % interval over draws; {} without one."""
    values = cell.run.results(TRIAL).get("values", []) if cell.run else []
    return {f"trial_{name}": found for name, found in (values[0] if values else {}).items()}


def _parse_pairs(cells: Sequence[Cell], parser: Parser, cache: Path) -> list[list[tuple[str, str]]]:
    """(verb, noun) of each instruction that has both, for each cell."""
    texts = list(dict.fromkeys(text for cell in cells for text in cell.instructions))
    parses = load_parses(texts, parser, cache)
    found = {text: find_verb_noun(parses[text]) for text in texts}
    return [
        [(one.verb, one.noun) for text in cell.instructions if (one := found[text]).verb and one.noun] for cell in cells
    ]


def _measure_pairs(pairs: Sequence[tuple[str, str]], size: int) -> dict[str, float | None]:
    return {"verb_noun_diversity_share": len(set(pairs[:size])) / size} if size and pairs else {}


def collect_values(cells: Sequence[Cell], numbers: Sequence[Mapping[str, float]]) -> dict[str, Values]:
    """number -> arm -> random seed -> value, of the numbers that at least two arms have (or all, if there is one arm)."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for cell, one in zip(cells, numbers, strict=True):
        for name, value in one.items():
            found.setdefault(name, {}).setdefault(cell.arm, {})[cell.random_seed] = float(value)
    enough = min(2, len({cell.arm for cell in cells}))
    return {name: values for name, values in found.items() if len(values) >= enough}


def collect_rounds(cells: Iterable[Cell], requests_per_round: Mapping[str, int]) -> dict[tuple[str, int], list[float]]:
    """(arm, random seed) -> instructions admitted per request in each round."""
    return {
        (cell.arm, cell.random_seed): [one.admitted / requests_per_round[cell.name] for one in cell.rounds]
        for cell in cells
        if cell.name in requests_per_round
    }


def count_requests_per_round(cells: Iterable[Cell]) -> dict[str, int]:
    """cell -> the requests in each of its rounds, where its step 1 recorded them."""
    found = {cell.name: read_parameters(cell).get(STEP_1, {}).get("requests_per_round") for cell in cells}
    return {name: number for name, number in found.items() if number}


def read_parameters(cell: Cell) -> Mapping[str, Mapping[str, Any]]:
    """notebook -> the parameters that the cell's run had; {} of data of others."""
    return cell.run.state.get("parameters", {}) if cell.run else {}
