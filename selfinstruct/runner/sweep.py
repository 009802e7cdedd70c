"""Run a sweep: every arm with every random seed through the notebooks, then notebook 21 over all of them.

    plan = load_plan(Path("docs/example_sweep.yaml"))
    run_sweep(plan, RunFolder("outputs/example_sweep"), agree=click.confirm)

A cell (an arm with a random seed) is a run folder below `cells/`; all share one store, one embedded server and the limits of one
command. A cell that is finished is not run again, so the same command goes on after a stop, tries again what failed, and runs
only what is new when an arm or a seed was added. sweep.json says what became of each.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

from ..analysis.cells import (
    STEP_1,
    SWEEP,
    collect_rounds,
    collect_values,
    count_requests_per_round,
    load_cells,
    measure_cells,
)
from ..analysis.verdicts import ALPHA, SMALLEST_SHARE, count_seeds, find_detectable
from ..display import count_of, show_number
from ..files import EndpointError, InputError, SelfInstructError, StoppedEarly, show_path, write_json
from ..locks import lock_folder
from ..runfolder import RunFolder
from . import manifest
from .plan import Cell, SweepPlan, estimate_plan
from .run import declare_steps, run_notebooks

COMPARE = "21_sweep_and_compare"
EXAMPLE = "outputs/example"
LONGEST_VALUE = 60  # characters of a parameter's value in the list of those that differ
CAPS = ("max_cost_usd", "max_tokens_total")
Say = Callable[[str], None]
Results = Iterator[tuple[Cell, SelfInstructError | None]]  # cells as they end, with the error of one that failed


def run_sweep(
    plan: SweepPlan,
    sweep: RunFolder,
    agree: Callable[[str], bool],
    out: Say = print,
    run_cells: Callable[[SweepPlan, RunFolder, Sequence[Cell]], Results] | None = None,
) -> dict[str, Any]:
    """Run what is not finished yet, then notebook 21; returns the numbers that it recorded.

    `agree` gets the question before anything runs, with the estimate above it. `run_cells` runs the cells elsewhere (see
    `cluster`). Raises StoppedEarly where nobody agreed, at a limit or Ctrl-C; SelfInstructError at the end where cells failed.
    """
    cells = plan.list_cells()
    waiting = [cell for cell in cells if not is_finished(plan, sweep, cell)]
    out(f"{count_of('arm', len(plan.arms))} x {count_of('seed', len(plan.random_seeds))} = {count_of('cell', len(cells))}, "
        f"{len(waiting):,} to run, into {sweep}/")  # fmt: skip
    if waiting:
        _ask(plan, waiting, agree, out)
    with lock_folder(sweep / "cells", "another folder with --sweep-dir"):
        states = {cell: {"state": "waiting" if cell in waiting else "done"} for cell in cells}
        _write_states(plan, sweep, states)
        try:
            _run_waiting(plan, sweep, waiting, states, out, run_cells or run_here)
        finally:
            _write_states(plan, sweep, states)
    failed = {cell.name: state["error"] for cell, state in states.items() if state["state"] == "failed"}
    results = compare_sweep(plan, sweep, out) if len(failed) < len(cells) else {}
    for line in advise_next(plan, results):
        out(line)
    if failed:
        why = "; ".join(f"{name}: {error}" for name, error in list(failed.items())[:3])
        raise SelfInstructError(
            f"{len(failed)} of {len(cells)} cells failed ({why}); the same command tries them again, alone"
        )
    return results


def advise_next(plan: SweepPlan, results: Mapping[str, Any]) -> list[str]:
    """What to do after the sentences, in a line; [] where nothing was compared."""
    file, wanted = show_path(plan.path), max((one["more_seeds"] for one in results.get("verdicts", [])), default=0)
    if not results:
        return []
    if wanted:
        return [
            f"To go on: {wanted} more random seed{'s' * (wanted != 1)} in {file}, and the same command; only new cells run."
        ]
    return [f"To go on: another arm or seed in {file}, and the same command; only new cells run."]


def is_finished(plan: SweepPlan, sweep: RunFolder, cell: Cell) -> bool:
    """True if the cell's folder holds what its notebooks would write now."""
    run = RunFolder(sweep / cell.folder)
    if not run.state:
        return False
    for step in declare_steps(run, plan.list_parameters(cell), plan.notebooks):
        inputs = (*step.entry.reads, *step.entry.uses)
        made_of = manifest.measure_fingerprint(run, step.path, step.parameters, inputs)
        if not manifest.is_unchanged(run, step.name, made_of):
            return False
    return True


def _ask(plan: SweepPlan, waiting: Sequence[Cell], agree: Callable[[str], bool], out: Say) -> None:
    """The estimate, the limits, and the question."""
    estimate = estimate_plan(plan, waiting)
    if estimate:
        out(f"\n{estimate.table()}")
    caps = {name: value for name in CAPS for value in [plan.fixed.get(name)] if value}
    limits = ", ".join(f"{name}={value:g}" for name, value in caps.items())
    out(f"Limit for the whole sweep: {limits or 'none; `parameters` takes ' + ' and '.join(CAPS)}.")
    cost = estimate.total.cost_usd if estimate else None
    if cost and caps.get("max_cost_usd") and cost > caps["max_cost_usd"]:
        out("The estimate is above the limit: the sweep will stop there, and go on with a higher one.")
    if not agree(f"Run {count_of('cell', len(waiting))}?"):
        raise StoppedEarly("nothing was run; answer yes, or give --yes")


def _run_waiting(
    plan: SweepPlan,
    sweep: RunFolder,
    waiting: Sequence[Cell],
    states: dict[Cell, dict[str, Any]],
    out: Say,
    run_cells: Any,
) -> None:
    began, before = time.monotonic(), ""
    for done, (cell, error) in enumerate(run_cells(plan, sweep, waiting), 1):
        states[cell] = {"state": "failed", "error": str(error)} if error else {"state": "done"}
        _write_states(plan, sweep, states)
        left = (time.monotonic() - began) / done * (len(waiting) - done)
        out(
            f"[{done}/{len(waiting)}] {cell.name}: {error or 'done'}"
            + (f"; about {_show_time(left)} left" if left else "")
        )
        if isinstance(error, EndpointError) and str(error) == before:
            raise error  # twice the same: no other cell will find a model there
        before = str(error or "")


def run_here(plan: SweepPlan, sweep: RunFolder, cells: Iterable[Cell]) -> Results:
    """Run cells one after the other in kernels of this machine."""
    for cell in cells:
        yield cell, run_cell(sweep / cell.folder, plan.list_parameters(cell), plan)


def run_cell(folder: Any, parameters: Mapping[str, Any], plan: SweepPlan) -> SelfInstructError | None:
    """Run one cell; returns the error it failed with. A limit or Ctrl-C ends more than a cell, and is raised."""
    try:
        where = plan.notebooks[0].parent
        run_notebooks(folder, parameters, plan.numbers, notebooks_dir=where, out=lambda line: None)
    except StoppedEarly:
        raise
    except SelfInstructError as error:
        return error
    return None


def _show_time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _write_states(plan: SweepPlan, sweep: RunFolder, states: Mapping[Cell, Mapping[str, Any]]) -> None:
    """sweep.json: the plan as it was meant, and what became of each cell."""
    facts = {
        "notebooks": plan.numbers, "random_seeds": plan.random_seeds, "parameters": plan.fixed, "arms": plan.arms,
        "reference": plan.reference, "measure": plan.measure, "smallest_difference": plan.smallest_difference,
    }  # fmt: skip
    cells = {
        cell.name: {"arm": cell.arm, "random_seed": cell.random_seed, "folder": cell.folder, **state}
        for cell, state in states.items()
    }
    write_json(sweep / SWEEP, {**facts, "cells": cells})


def compare_sweep(plan: SweepPlan, sweep: RunFolder, out: Say) -> dict[str, Any]:
    """Run notebook 21 over the sweep, and print its sentences."""
    given = {name: getattr(plan, name) for name in ("reference", "measure", "smallest_difference")}
    return compare_runs(sweep, given, out)


def compare_runs(run: RunFolder, parameters: Mapping[str, Any], out: Say) -> dict[str, Any]:
    """Run notebook 21 into `run` with these parameters; prints its sentences and returns what it recorded."""
    lines: list[str] = []
    run_notebooks(run, parameters, [COMPARE], out=lines.append)
    results = run.results(COMPARE)
    unread = [line for line in lines if line.startswith("not read: ")]
    for line in ("", *unread, *_list_differing(results), *results.get("sentences", []), *lines[-1:]):
        out(line)
    return results


def _list_differing(results: Mapping[str, Any]) -> list[str]:
    """The parameters that single runs differ in, a line each; those of a sweep are its grid."""
    rows = results.get("differing_parameters", []) if results.get("rows") else []
    lines = []
    for row in rows:
        values = (f"{str(value)[:LONGEST_VALUE]} ({arm})" for arm, value in row.items() if arm != "parameter")
        lines.append(f"{row['parameter']}: {', '.join(values)}")
    return ["What was done differently:", *(f"  {line}" for line in lines), ""] if lines else []


def describe_power(plan: SweepPlan, sweep: RunFolder) -> list[str]:
    """What difference the plan could see, before anything is spent: lines to print.

    The spread of paired differences comes from finished runs of this sweep where two pairs are there, else for the number
    admitted per request from the rounds of the example, as if rounds were independent.
    """
    comparisons = max(len(plan.arms) - 1, 1)
    alpha, seeds = ALPHA / comparisons, len(plan.random_seeds)
    spread, origin, mean = _find_spread(plan, sweep)
    unit = f" {plan.measure}" if spread else " standard deviations of a paired difference"
    rows = [
        f"{number:>5} seeds see a difference of {show_number(find_detectable(number, spread or 1.0, alpha))}{unit}"
        + ("   <- this plan" if number == seeds else "")
        for number in sorted({2, 3, 4, 6, 10, 20, seeds} - {1})
    ]
    smallest = plan.smallest_difference or SMALLEST_SHARE * (mean or 0)
    lines = [
        f"{count_of('arm', len(plan.arms))} x {count_of('seed', seeds)}, compared by {plan.measure}; in 80 of 100 sweeps "
        f"(paired t, 5 %{f', the strictest step of Holm for {comparisons} arms' if comparisons > 1 else ''}):",
        *rows, f"Spread: {origin}.",
    ]  # fmt: skip
    if spread and smallest:
        lines.append(
            f"For the {show_number(smallest)} asked for: {count_of('seed', count_seeds(spread, smallest, alpha))}."
        )
    return [*lines, f"Next: selfinstruct sweep {show_path(plan.path)}"]


def _find_spread(plan: SweepPlan, sweep: RunFolder) -> tuple[float | None, str, float | None]:
    """(standard deviation of a paired difference, where it is from, the mean of a run)."""
    try:
        cells, _ = load_cells(sweep) if (sweep / SWEEP).is_file() else ([], [])
        values = collect_values(cells, measure_cells(cells)).get(plan.measure, {})
    except InputError:  # nothing of it is finished
        values = {}
    base = values.get(plan.reference, {})
    found = [
        [arm[seed] - base[seed] for seed in arm if seed in base]
        for name, arm in values.items()
        if name != plan.reference
    ]
    found = [differences for differences in found if len(differences) > 1]
    spread = sqrt(statistics.mean(map(statistics.variance, found))) if found else 0.0
    if spread:
        pairs = sum(map(len, found))
        return (
            spread,
            f"{show_number(spread)}, from {count_of('pair', pairs)} of finished runs",
            statistics.mean(base.values()),
        )
    return _guess_spread(plan)


def _guess_spread(plan: SweepPlan) -> tuple[float | None, str, float | None]:
    estimate = estimate_plan(plan, plan.list_cells()[:1])
    example, _ = load_cells(RunFolder(EXAMPLE)) if RunFolder(EXAMPLE).exists() else ([], [])
    per_round = count_requests_per_round(example)  # a round of the example, whatever this plan's own rounds are
    [rounds] = collect_rounds(example, per_round).values() or [[]]
    if plan.measure != "admitted_per_request" or not estimate or len(rounds) < 2 or STEP_1 not in plan.numbers:
        return None, "not known; run two seeds of each arm, and ask again", None
    number = max(estimate.steps[0].calls / min(per_round.values()), 1)
    spread = statistics.stdev(rounds) * sqrt(2 / number)
    origin = f"{show_number(spread)}, from the rounds of {EXAMPLE} as if {number:.0f} of them were independent; drift adds to it"
    return spread, origin, statistics.mean(rounds)
