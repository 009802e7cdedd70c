"""A sweep's plan: a YAML file that names arms, random seeds and notebooks; read, checked, counted and priced before anything runs.

    plan = load_plan(Path("docs/example_sweep.yaml"))
    plan.arms                       # {"num_prompt_instructions=8": {...}, ...}
    plan.list_cells()               # every arm with every random seed
    print(estimate_plan(plan, plan.list_cells()).table())

An arm is one setting: a line of `arms`, or a combination of the values in `grid`, or both. Values are text, converted by the
notebook's own annotations like those of `selfinstruct run -p`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..ablation.trial import load_machine_instructions, plan_trial
from ..analysis.cells import MEASURES, TRIAL
from ..analysis.verdicts import DEFAULT_SEEDS
from ..files import InputError, ParameterError, SelfInstructError, show_path
from ..models.endpoint import is_embedded
from ..models.spending import load_price
from ..prompts import STEPS
from ..runfolder import NOTEBOOKS_DIR, RunFolder
from ..steps import estimate
from .parameters import Parameter, check_names, check_prerequisites, notebook_parameters, place_paths, suggest_name
from .run import choose_notebooks, declare_steps

if TYPE_CHECKING:
    from .execution import Step

MOST_CELLS = 100_000
MOST_ESTIMATED = 25  # arms whose prompts are counted; further ones are like their mean
MOST_CHECKED = 200  # arms that are checked with all their parameters together; every single value always is
LONGEST_NAME, LONGEST_ROW = 80, 26  # characters of a folder's name, of an arm's in the estimate


class PlanFile(BaseModel):
    """The file as it is written; see docs/sweeps.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    notebooks: list[str] = Field(default=[])
    random_seeds: list[int] = Field(default=list(range(1, DEFAULT_SEEDS + 1)), min_length=1)
    parameters: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    arms: dict[str, dict[str, Any]] = {}
    reference: str = ""
    measure: str = ""
    smallest_difference: float = Field(default=0.0, ge=0)

    @field_validator("random_seeds", mode="before")
    @classmethod
    def _count_seeds(cls, value: Any) -> Any:
        """`6` means the seeds 1 to 6."""
        return list(range(1, int(value) + 1)) if isinstance(value, str) and value.isdigit() else value


class Cell(NamedTuple):
    """One run of a sweep: an arm with a random seed."""

    arm: str
    random_seed: int

    @property
    def name(self) -> str:
        return f"{self.arm} / seed {self.random_seed}"

    @property
    def folder(self) -> str:
        """Its run folder below the sweep's."""
        return f"cells/{_name_folder(self.arm)}/seed{self.random_seed}"


@dataclass(frozen=True)
class SweepPlan:
    """A checked plan: `arms` has each arm's own parameters, converted; `fixed` those of all."""

    path: Path
    notebooks: tuple[Path, ...]
    random_seeds: tuple[int, ...]
    fixed: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    reference: str
    measure: str
    smallest_difference: float

    @property
    def numbers(self) -> list[str]:
        """The notebooks' numbers, as `only` takes them."""
        return [path.stem for path in self.notebooks]

    def list_cells(self) -> list[Cell]:
        """Every arm with every random seed; seed by seed, so that a sweep that stops early has whole pairs."""
        return [Cell(arm, seed) for seed in self.random_seeds for arm in self.arms]

    def list_parameters(self, cell: Cell) -> dict[str, Any]:
        """What the cell's notebooks are given."""
        return {**self.fixed, **self.arms[cell.arm], "random_seed": cell.random_seed}


def load_plan(path: Path, notebooks_dir: Path = NOTEBOOKS_DIR) -> SweepPlan:
    """The plan in a YAML file.

    Raises InputError or ParameterError with file:line: what is no YAML, an unknown key or parameter with the one that was
    probably meant, a value that its notebook does not take, an empty grid, more than MOST_CELLS cells.
    """
    values, lines = _read_lines(path)
    where = _Lines(path, lines)
    plan = _validate(values, where)
    with where.named("notebooks"):
        notebooks = tuple(choose_notebooks(notebooks_dir, plan.notebooks))
    declared = [notebook_parameters(one) for one in notebooks]
    _check_size(plan, where)
    fixed = _convert(plan.parameters, declared, where, "parameters")
    arms = _build_arms(plan, declared, where)
    if repeated := [seed for seed in plan.random_seeds if plan.random_seeds.count(seed) > 1]:
        raise ParameterError(f"{where[('random_seeds',)]}: random seed {repeated[0]} twice; each needs its own")
    with where.named("reference"):
        _check_member(plan.reference, ["", *arms], "arm", "reference")
    measure = plan.measure or (
        MEASURES[0] if [one.stem for one in notebooks] != [TRIAL] else "trial_accepted_per_request"
    )
    with where.named("measure"):
        if not measure.endswith("_share"):  # each rule that drops has one
            _check_member(measure, MEASURES, "number", "measure")
    reference = plan.reference or next(iter(arms))
    checked = SweepPlan(
        path, notebooks, tuple(plan.random_seeds), fixed, arms, reference, measure, plan.smallest_difference
    )
    _check_arms(checked, where)
    return checked


def _read_lines(path: Path) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The values of a YAML file, all of them text, and the line of every key."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        node, values = yaml.compose(text, Loader=yaml.BaseLoader), yaml.load(text, Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{show_path(path)}: cannot be read ({error})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{show_path(path)}:{line}: not YAML ({error.problem})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{show_path(path)}: not YAML ({error})") from error
    return values, dict(_iter_lines(node, ()))


def _iter_lines(node: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, str(key.value)), key.start_mark.line + 1
            yield from _iter_lines(value, (*place, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            yield (*place, str(at)), value.start_mark.line + 1
            yield from _iter_lines(value, (*place, str(at)))


class _Lines:
    """Where the keys of the file are: `lines["grid", "temperature"]` is "sweep.yaml:7"."""

    def __init__(self, path: Path, lines: Mapping[tuple[str, ...], int]):
        self._path, self._lines = show_path(path), lines

    def __getitem__(self, place: tuple[str, ...]) -> str:
        beginnings = (place[:end] for end in range(len(place), 0, -1))
        return f"{self._path}:{next((self._lines[one] for one in beginnings if one in self._lines), 1)}"

    def __contains__(self, arm: str) -> bool:
        return ("arms", arm) in self._lines

    def named(self, *place: str) -> _At:
        """A context in which every error of the kit gets the line of `place`."""
        return _At(self[place])


class _At:
    def __init__(self, where: str):
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, SelfInstructError):
            raise type(error)(f"{self._where}: {error}") from error


def _validate(values: Any, where: _Lines) -> PlanFile:
    if not isinstance(values, dict):
        raise InputError(f"{where[()]}: a sweep is a YAML mapping; docs/example_sweep.yaml is one to start from")
    try:
        return PlanFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = tuple(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            advice = suggest_name(place[-1], PlanFile.model_fields)
            raise ParameterError(f'{where[place]}: unknown key "{place[-1]}" of a sweep; {advice}') from error
        raise ParameterError(f"{where[place]}: {'.'.join(place)}: {first['msg']}") from error


def _check_size(plan: PlanFile, where: _Lines) -> None:
    """Raise where there is nothing to run, and where nobody can have meant so much; before the grid is spread out."""
    for name, values in plan.grid.items():
        if not values:
            raise ParameterError(f"{where['grid', name]}: an empty grid: {name} needs at least one value")
    if not plan.grid and not plan.arms:
        raise ParameterError(
            f"{where[('grid',)]}: an empty grid: give `grid` (parameter: [values]) or `arms` (name: parameters)"
        )
    cells = len(plan.random_seeds) * max(len(plan.arms), 1) * math.prod(map(len, plan.grid.values()))
    if cells > MOST_CELLS:
        raise ParameterError(
            f"{where[('grid',)]}: {cells:,} cells; at most {MOST_CELLS:,} are taken, and a few dozen are usual"
        )


def _convert(
    given: Mapping[str, Any], declared: Iterable[Mapping[str, Parameter]], where: _Lines, *place: str
) -> dict[str, Any]:
    """Values as the notebooks' types; a parameter of several notebooks must fit all of them."""
    declared = list(declared)
    names = {name for one in declared for name in one}
    converted = {}
    for name, value in place_paths(given).items():
        with where.named(*place, name):
            if name in ("run_dir", "random_seed"):
                better = (
                    "`random_seeds` has the seeds" if name == "random_seed" else "each cell has a folder of its own"
                )
                raise ParameterError(f"{name} is no parameter of an arm: {better}")
            check_names([name], names, "the notebooks of this sweep")
            found = [one[name].convert(value) for one in declared if name in one]
            converted[name] = found[0]
    return converted


def _build_arms(plan: PlanFile, declared: list[dict[str, Parameter]], where: _Lines) -> dict[str, dict[str, Any]]:
    """name -> parameters of each arm, in the order of the file."""
    named = {name: _convert(given, declared, where, "arms", name) for name, given in plan.arms.items()} or {"": {}}
    grid = {
        name: [_convert({name: value}, declared, where, "grid")[name] for value in values]
        for name, values in plan.grid.items()
    }
    shown = {name: _show_values(values) for name, values in grid.items()}
    arms: dict[str, dict[str, Any]] = {}
    for first, own in named.items():
        for chosen in product(*(range(len(values)) for values in grid.values())):
            values = {key: grid[key][at] for key, at in zip(grid, chosen, strict=True)}
            parts = (f"{key}={shown[key][at]}" for key, at in zip(grid, chosen, strict=True))
            name = ", ".join(filter(None, [first, *parts]))
            if name in arms:
                raise ParameterError(f"{where[('grid',)]}: two arms of the same values ({name}); each needs its own")
            arms[name] = {**own, **values}
    return arms


def _show_values(values: Sequence[Any]) -> list[str]:
    """Values in the names of arms; of paths their last parts, where those tell them apart."""
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    short = [Path(text).name if "/" in text else text or '""' for text in texts]
    return short if len(set(short)) == len(short) else [text or '""' for text in texts]


def _name_folder(arm: str) -> str:
    """An arm's name as a folder's; what does not fit is told apart by a hash."""
    plain = re.sub(r"[^\w.+=-]+", "_", arm).strip("._")[:LONGEST_NAME]
    return plain if plain == arm else f"{plain}-{hashlib.sha256(arm.encode()).hexdigest()[:6]}"


def _check_member(name: str, known: Iterable[str], what: str, where: str) -> None:
    if name not in known:
        raise ParameterError(f'no {what} "{name}" for {where}; {suggest_name(name, filter(None, known))}')


def _check_arms(plan: SweepPlan, where: _Lines) -> None:
    """Raise what the notebooks of an arm would raise at their start: models, data, published files that are not there."""
    if not any("random_seed" in notebook_parameters(path) for path in plan.notebooks):
        raise ParameterError(f"{where[('notebooks',)]}: no notebook of {', '.join(plan.numbers)} takes a random seed")
    for arm in list(plan.arms)[:MOST_CHECKED]:
        with where.named(*(("arms", arm) if arm in where else ("grid",))):
            for step in declare_arm(plan, arm):
                check_prerequisites(step.parameters)


def declare_arm(plan: SweepPlan, arm: str) -> list[Step]:
    """The notebooks of an arm's first cell, with all their parameters."""
    given = plan.list_parameters(Cell(arm, plan.random_seeds[0]))
    return declare_steps(RunFolder("outputs/run"), given, plan.notebooks)


def estimate_plan(plan: SweepPlan, cells: Iterable[Cell]) -> estimate.Estimate | None:
    """What `cells` come to, a row for each arm (of very many arms, for some and for the rest together); None where no notebook
    of the plan asks a model, or there is no cell.
    """
    times = Counter(cell.arm for cell in cells)
    if not times or not {*estimate.STEPS, TRIAL} & set(plan.numbers):
        return None
    rows, arms = [], list(times)
    for arm in arms[:MOST_ESTIMATED]:
        found = _estimate_arm(plan, arm)
        rows.append(_multiply(found.total, times[arm], _shorten(arm)))
    if rest := sum(times[arm] for arm in arms[MOST_ESTIMATED:]):
        counted = replace(found, steps=tuple(rows)).total
        rows.append(_multiply(counted, rest / (times.total() - rest), f"{len(arms) - MOST_ESTIMATED:,} more arms"))
    return replace(found, steps=tuple(rows))


def _shorten(arm: str) -> str:
    """An arm's name for a row: of a long one both ends, since arms of a grid differ in either.

    >>> _shorten("temperature=0.3, rouge_threshold=0.2")
    'temperature=0…threshold=0.2'
    """
    half = LONGEST_ROW // 2
    return arm if len(arm) <= LONGEST_ROW else f"{arm[:half]}…{arm[-half:]}"


def _estimate_arm(plan: SweepPlan, arm: str) -> estimate.Estimate:
    """What one cell of an arm comes to: its steps, and its trials."""
    given = {step.name: step.parameters for step in declare_arm(plan, arm)}
    steps = {name: one for name, one in given.items() if name in estimate.STEPS}
    found = [estimate.estimate_run(steps)] if steps else []
    found += [_estimate_trials(given[TRIAL])] if TRIAL in given else []
    return replace(found[0], steps=tuple(step for one in found for step in one.steps))


def _estimate_trials(given: Mapping[str, Any]) -> estimate.Estimate:
    """What notebook 20 asks: trial A; and where there is another set as many draws for B, for step 2 and for its exercise."""
    embedded = is_embedded(given["model"], given["base_url"])
    price = load_price(given["model"], given["price_table"], given["base_url"])
    client = SimpleNamespace(endpoint=SimpleNamespace(embedded=embedded))  # all that a plan needs to know of one
    machine = load_machine_instructions(given["machine_from"])
    asked = (given["prompt_set"], given["step"], given["n_draws"], given["random_seed"], machine, given["quirks"])
    plan, name = plan_trial(client, *asked), estimate.STEPS[STEPS.index(given["step"])]
    tokens = (estimate.EMBEDDED_COMPLETION if embedded else estimate.EXPECTED_COMPLETION)[name]
    calls = len(plan.requests) * (4 if given["other_set"] else 1)
    step = estimate.estimate_step(TRIAL, calls, plan.requests, plan.prompts.choose_api(given["api"]), price, tokens)
    return estimate.Estimate(given["model"], (step,), price, estimate.ADMITTED_PER_REQUEST, embedded)


def _multiply(one: estimate.StepEstimate, times: float, name: str) -> estimate.StepEstimate:
    numbers = {key: value for key, value in vars(one).items() if key != "step"}
    counts = {key: round(value * times) for key, value in numbers.items() if "usd" not in key}
    costs = {key: None if value is None else value * times for key, value in numbers.items() if "usd" in key}
    return replace(one, step=name, **counts, **costs)
