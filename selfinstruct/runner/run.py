"""Run notebooks headless, in order, into one run folder: papermill with everything checked first.

    run_notebooks("outputs/mine", {"random_seed": "7"}, only=["02", "13"])

Before anything runs: unknown parameters, wrong types and values, input files that nobody will have written, published
files that were not fetched, a model that cannot be asked so, a run folder made with other parameters, and one that another
command is at work in are refused. A notebook whose source, parameters,
inputs, outputs and kit code are those of its last run is skipped. Executed copies lie in `notebooks/` of the run folder,
free of dates and machine names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import ParameterError, SelfInstructError, project_path, shown_path
from ..models.session import session_name
from ..models.store import ResponseStore
from ..runfolder import NOTEBOOKS, NOTEBOOKS_DIR, Notebook, RunFolder
from . import manifest
from .execution import Step, execute, kernel_environment, occupying
from .parameters import Parameter, check_names, check_prerequisites, notebook_parameters

if TYPE_CHECKING:
    from ..steps.estimate import Estimate


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook."""

    name: str
    seconds: float
    skipped: bool
    headline: str


def run_notebooks(
    run_dir: str | Path,
    parameters: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    start: str = "",
    notebooks_dir: str | Path = NOTEBOOKS_DIR,
    out: Callable[[str], None] = print,
) -> list[Outcome]:
    """Run the main notebooks (or `only` some, or those from `start` on) and write report.html; returns what became of each.

    Raises ParameterError, InputError or EndpointError before anything runs, SelfInstructError where another command is in
    the folder, and the notebook's own error, in one line, where one fails.
    """
    run = RunFolder(run_dir)
    with occupying(run):
        steps = plan_steps(run, parameters or {}, choose_notebooks(Path(notebooks_dir), only, start))
        return _run_steps(run, steps, out)


def _run_steps(run: RunFolder, steps: Sequence[Step], out: Callable[[str], None]) -> list[Outcome]:
    run.note()  # an unwritable folder is refused here, not minutes later
    (run / "notebooks").mkdir(exist_ok=True)
    out(f"{len(steps)} notebook{'s' * (len(steps) != 1)} into {run}/")
    outcomes: list[Outcome] = []
    given = [step.parameters for step in steps]
    with kernel_environment():
        before = calls_of_this_command(given)
        try:
            for step in steps:
                outcomes.append(run_step(run, step))
                out(_line(outcomes[-1]))
        finally:
            closing = _close(run)
        called = before != calls_of_this_command(given)
    asked = any(asks_a_model(one) for one, outcome in zip(given, outcomes, strict=True) if not outcome.skipped)
    replayed = [REPLAYED] if asked and not called else []
    unread = [problem for outcome in outcomes for problem in run.results(outcome.name).get("not_read", [])]
    for line in (*(f"not read: {problem}" for problem in dict.fromkeys(unread)), *replayed, *closing):
        out(line)
    return outcomes


def _line(outcome: Outcome) -> str:
    spent = "unchanged" if outcome.skipped else f"{outcome.seconds:.1f} s"
    return f"{outcome.name:28} {spent:>9}   {outcome.headline}".rstrip()


def _close(run: RunFolder) -> list[str]:
    from .report import funnel_lines, write_report

    page = write_report(run)
    funnel = funnel_lines(run)
    return ["", *funnel, *([""] if funnel else []), f"Next: open {shown_path(page)}"]


def estimate_notebooks(
    run_dir: str | Path,
    parameters: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    start: str = "",
    notebooks_dir: str | Path = NOTEBOOKS_DIR,
) -> Estimate:
    """Calls, tokens and dollars that `run_notebooks` with the same arguments would come to; nothing is called or written.

    Raises ParameterError for a wrong parameter, and where no chosen notebook calls a model.
    """
    from ..steps.estimate import STEPS, estimate_run

    steps = declare_steps(RunFolder(run_dir), parameters or {}, choose_notebooks(Path(notebooks_dir), only, start))
    calling = {step.name: step.parameters for step in steps if step.name in STEPS}
    if not calling:
        raise ParameterError(f"nothing to estimate: the notebooks that call a model are {', '.join(STEPS)}")
    return estimate_run(calling)


def choose_notebooks(notebooks_dir: Path, only: Sequence[str] = (), start: str = "") -> list[Path]:
    """The notebooks to run in reading order: the main ones, or all that begin with one of `only`, from `start` on.

    Raises ParameterError where a number or name fits no notebook.
    """
    found = sorted(notebooks_dir.glob("[0-9]*.ipynb"))
    for wanted in [*only, *([start] if start else [])]:
        if not any(_fits(path, wanted) for path in found):
            names = ", ".join(path.stem for path in found) or "none"
            raise ParameterError(f'no notebook "{wanted}" in {shown_path(notebooks_dir)}; there are: {names}')
    if only:
        return [path for path in found if any(_fits(path, wanted) for wanted in only)]
    return [path for path in found if path.stem >= start and NOTEBOOKS.get(path.stem, Notebook(main=False)).main]


def _fits(path: Path, wanted: str) -> bool:
    return path.stem == wanted.removesuffix(".ipynb") or path.stem.split("_")[0] == wanted


def plan_steps(run: RunFolder, given: Mapping[str, Any], paths: Sequence[Path]) -> list[Step]:
    """Every notebook with its full parameters; raises the kit's error for whatever could not work."""
    steps = declare_steps(run, given, paths)
    for number, step in enumerate(steps):
        run.check_given(step.name, step.parameters)
        check_prerequisites(step.name, step.parameters)
        _check_inputs(run, step, steps[:number])
    return steps


def declare_steps(run: RunFolder, given: Mapping[str, Any], paths: Sequence[Path]) -> list[Step]:
    """Every notebook with its full parameters, checked against what it declares but not against the run folder."""
    declared = {path: notebook_parameters(path) for path in paths}
    check_names(given, (name for one in declared.values() for name in one), f"{len(paths)} notebook(s)")
    if "run_dir" in given:
        raise ParameterError("run_dir is not given with -p; use --run-dir, it holds for all notebooks")
    return [Step(path, _full_parameters(run, given, declared[path])) for path in paths]


def _full_parameters(run: RunFolder, given: Mapping[str, Any], declared: Mapping[str, Parameter]) -> dict[str, Any]:
    chosen = {
        name: parameter.checked(given[name]) if name in given else parameter.default
        for name, parameter in declared.items()
    }
    # relative below the project: executed copies then carry no path of this machine
    return {**chosen, "run_dir": str(run)} if "run_dir" in declared else chosen


def _check_inputs(run: RunFolder, step: Step, before: Sequence[Step]) -> None:
    if step.parameters.get("data"):
        return  # other data takes the place of the run's own files
    coming = [pattern for earlier in before for pattern in earlier.entry.writes]
    for pattern in step.entry.reads:
        if not run.find(pattern) and not any(fnmatch(pattern, written) for written in coming):
            raise run.missing(pattern)


def run_step(run: RunFolder, step: Step) -> Outcome:
    """Run one notebook into the run folder, or skip it where nothing changed since its last run."""
    inputs = (*step.entry.reads, *step.entry.uses)
    fingerprint = manifest.fingerprint(run, step.path, step.parameters, inputs)
    if manifest.is_unchanged(run, step.name, fingerprint):
        return Outcome(step.name, 0.0, True, run.headline(step.name))
    before, began = manifest.snapshot(run), time.monotonic()
    manifest.begin(run, step.name, step.parameters)
    execute(step, run / "notebooks" / step.path.name)
    seconds = round(time.monotonic() - began, 1)
    manifest.remember(run, step.name, fingerprint, before, step.entry.writes, seconds)
    return Outcome(step.name, seconds, False, run.headline(step.name))


REPLAYED = "Every answer came from the store: 0 new calls"


def asks_a_model(parameters: Mapping[str, Any]) -> bool:
    """Whether a notebook with these parameters has questions for a model."""
    return "store" in parameters and ("model" in parameters or bool(parameters.get("rater_model")))


def calls_of_this_command(notebooks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """store -> the answers that this command fetched into it, and all failed requests, for notebooks with these parameters.

    Counted where clients count them, so that a notebook that writes down no usage counts too.
    """
    return {store: _calls(store) for store in {given["store"] for given in notebooks if asks_a_model(given)}}


def _calls(store: str) -> Any:
    if not project_path(store).is_file():
        return [], []
    try:
        with ResponseStore(store) as opened:
            return opened.spent(session_name()), opened.failures()
    except SelfInstructError:  # the notebook that needs the store says what is wrong with it; nothing is known here
        return object()
