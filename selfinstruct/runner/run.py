"""Run notebooks headless, in order, into one run folder: papermill with everything checked first.

    run_notebooks("outputs/mine", {"random_seed": "7"}, only=["02", "13"])

What cannot work is refused before anything runs: unknown parameters, wrong types and values, input files that no notebook
will have written, published files that were not fetched, a model that cannot be asked so, a run folder that was made with
other parameters, and one in use by another command. A notebook is skipped if its source, parameters, inputs, outputs and
the kit's code are those of its last run. Executed copies are written to `notebooks/` of the run folder.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display import show_number
from ..files import ParameterError, show_path
from ..locks import lock_folder
from ..models.store import NO_MODEL_CALLED, count_calls
from ..runfolder import NOTEBOOKS_DIR, RunFolder, find_notebook
from . import manifest
from .execution import Step, execute_step
from .kernels import kernel_environment
from .parameters import check_names, check_prerequisites, load_parameters, notebook_parameters, place_paths
from .report import build_funnels, write_report

if TYPE_CHECKING:
    from ..steps.estimate import Estimate


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook."""

    name: str
    seconds: float
    skipped: bool
    headline: str

    def line(self) -> str:
        """The outcome as the terminal shows it."""
        spent = "unchanged" if self.skipped else f"{self.seconds:.1f} s"
        return f"{self.name:28} {spent:>9}   {self.headline}".rstrip()


def run_notebooks(
    run_dir: str | Path | RunFolder,
    parameters: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    start: str = "",
    notebooks_dir: str | Path = NOTEBOOKS_DIR,
    out: Callable[[str], None] = print,
    tell_start: Callable[[str], None] = lambda name: None,
) -> list[Outcome]:
    """Run the main notebooks (or `only` some, or those from `start` on) and write report.html; returns what became of each.

    `out` gets the lines that a person reads, `tell_start` the name of each notebook that begins.
    Raises ParameterError, InputError or EndpointError before anything runs, SelfInstructError if another command uses the
    folder, and the notebook's own error, in one line, if one fails.
    """
    run = RunFolder(run_dir)
    with lock_folder(run.path):
        steps = plan_steps(run, parameters or {}, choose_notebooks(Path(notebooks_dir), only, start))
        return _run_steps(run, steps, out, tell_start)


def _run_steps(
    run: RunFolder, steps: Sequence[Step], out: Callable[[str], None], tell_start: Callable[[str], None]
) -> list[Outcome]:
    run.note()  # a folder that cannot be written is refused here, not minutes later
    (run / "notebooks").mkdir(exist_ok=True)
    out(f"{len(steps)} notebook{'s' * (len(steps) != 1)} into {run}/")
    stores = {step.parameters["store"] for step in steps if step.asks_a_model}
    before, outcomes = count_calls(stores), []
    try:
        with kernel_environment() as kernels:
            for step in steps:
                arguments = partial(kernels.arguments, another=step is not steps[-1])
                outcomes.append(run_step(run, step, arguments, tell_start))
                out(outcomes[-1].line())
    finally:
        page = write_report(run)
    asked = any(step.asks_a_model for step, outcome in zip(steps, outcomes, strict=True) if not outcome.skipped)
    unread = [problem for outcome in outcomes for problem in run.results(outcome.name).get("not_read", [])]
    lines = [f"not read: {problem}" for problem in dict.fromkeys(unread)]
    if asked and before == count_calls(stores):
        lines.append(f"{NO_MODEL_CALLED}.")
    if funnels := build_funnels(run):
        lines += ["", *(funnel.line() for funnel in funnels)]
    for line in (*lines, "", _say_next(run, page, steps)):
        out(line)
    return outcomes


def _say_next(run: RunFolder, page: Path, steps: Sequence[Step]) -> str:
    """What to do after a run; trained adapters say nothing before they are judged."""
    command = shlex.join(["selfinstruct", "run", "--run-dir", str(run), "--only", "07"])
    judge = f"{command} judges what was trained; or " if steps and steps[-1].name == "06_finetune_model" else ""
    return f"Next: {judge}open {show_path(page)}"


def estimate_notebooks(run: RunFolder, parameters: Mapping[str, Any], only: Sequence[str], start: str) -> Estimate:
    """Calls, tokens and dollars that `run_notebooks` with the same arguments would come to; nothing is called or written.

    Raises ParameterError for a wrong parameter, and if no chosen notebook calls a model.
    """
    from ..steps.estimate import STEPS, estimate_run

    steps = declare_steps(run, parameters, choose_notebooks(NOTEBOOKS_DIR, only, start))
    calling = {step.name: step.parameters for step in steps if step.name in STEPS}
    if not calling:
        raise ParameterError(f"nothing to estimate: the notebooks that call a model are {', '.join(STEPS)}")
    return estimate_run(calling)


def choose_notebooks(notebooks_dir: Path, only: Sequence[str] = (), start: str = "") -> list[Path]:
    """The notebooks to run in reading order: the main ones, or all that begin with one of `only`, from `start` on.

    Raises ParameterError if a number or name fits no notebook, or if one of `only` comes before `start`.
    """
    found = sorted(notebooks_dir.glob("[0-9]*.ipynb"))
    for wanted in [*only, *([start] if start else [])]:
        if not any(_fits(path, wanted) for path in found):
            names = ", ".join(path.stem for path in found) or "none"
            raise ParameterError(f'no notebook "{wanted}" in {show_path(notebooks_dir)}; there are: {names}')
    if only:
        chosen = [path for path in found if any(_fits(path, wanted) for wanted in only)]
        if early := [path.stem for path in chosen if start and path.stem < start and not _fits(path, start)]:
            raise ParameterError(
                f"--only {','.join(only)} --from {start}: {early[0]} comes before {start}; give one of the two"
            )
        return chosen
    return [path for path in found if path.stem >= start and find_notebook(path.stem).main]


def read_parameters(file: Path, only: Sequence[str] = (), start: str = "") -> dict[str, Any]:
    """The parameters of a YAML file but for those that only other notebooks take: one file may hold those of all.

    Raises InputError with file:line for what is no such file; a name that no notebook has is refused with the others.
    """
    names = {path: set(notebook_parameters(path)) for path in sorted(NOTEBOOKS_DIR.glob("[0-9]*.ipynb"))}
    taken = set().union(*(names[path] for path in choose_notebooks(NOTEBOOKS_DIR, only, start)))
    others = set().union(*names.values()) - taken
    return {name: value for name, value in load_parameters(file).items() if name not in others}


def _fits(path: Path, wanted: str) -> bool:
    return path.stem == wanted.removesuffix(".ipynb") or path.stem.split("_")[0] == wanted


def plan_steps(run: RunFolder, given: Mapping[str, Any], paths: Sequence[Path]) -> list[Step]:
    """Every notebook with its full parameters; raises the kit's error for whatever could not work."""
    steps = declare_steps(run, given, paths)
    for number, step in enumerate(steps):
        earlier = manifest.read_entry(run, step.name).get("parameters", {})
        run.check_parameters(step.name, earlier, step.parameters)
        check_prerequisites(step.parameters)
        _check_inputs(run, step, steps[:number])
    return steps


def declare_steps(run: RunFolder, given: Mapping[str, Any], paths: Sequence[Path]) -> list[Step]:
    """Every notebook with its full parameters, checked against what it declares but not against the run folder."""
    declared = {path: notebook_parameters(path) for path in paths}
    check_names(given, (name for one in declared.values() for name in one), f"{len(paths)} notebook(s)")
    if "run_dir" in given:
        raise ParameterError("run_dir is not given with -p; use --run-dir, it holds for all notebooks")
    # relative to the project's root: executed copies then hold no path of this machine
    given = {**place_paths(given), "run_dir": str(run)}
    return [
        Step(path, {name: one.convert(given[name]) if name in given else one.default for name, one in names.items()})
        for path, names in declared.items()
    ]


def _check_inputs(run: RunFolder, step: Step, before: Sequence[Step]) -> None:
    if step.parameters.get("data"):
        return  # other data replaces the run's own files
    coming = [pattern for earlier in before for pattern in earlier.entry.writes]
    for pattern in step.entry.reads:
        if not run.find(pattern) and not any(fnmatch(pattern, written) for written in coming):
            raise run.missing(pattern)


def run_step(
    run: RunFolder, step: Step, arguments: Callable[[], Mapping[str, Any]], tell_start: Callable[[str], None]
) -> Outcome:
    """Run one notebook into the run folder, with more of papermill's `arguments`, or skip it if nothing changed."""
    inputs = (*step.entry.reads, *step.entry.uses)
    fingerprint = manifest.measure_fingerprint(run, step.path, step.parameters, inputs)
    if manifest.is_unchanged(run, step.name, fingerprint):
        return Outcome(step.name, 0.0, True, read_headline(run, step.name))
    before, began = manifest.take_snapshot(run), time.monotonic()
    tell_start(step.name)
    manifest.record_start(run, step.name, step.parameters)
    execute_step(step, run / "notebooks" / step.path.name, arguments())
    seconds = round(time.monotonic() - began, 1)
    run.note_spent(seconds={step.name: seconds})
    manifest.record_end(run, step.name, before, step.entry.writes, fingerprint=fingerprint)
    return Outcome(step.name, seconds, False, read_headline(run, step.name))


def read_headline(run: RunFolder, notebook: str) -> str:
    """The notebook's result in a line: the `headline` that it recorded, else its first three numbers."""
    results = run.results(notebook)
    if "headline" in results:
        return str(results["headline"])
    numbers = [(name, value) for name, value in results.items() if type(value) in (int, float)][:3]
    return ", ".join(f"{name.replace('_', ' ')} {show_number(value)}" for name, value in numbers)
