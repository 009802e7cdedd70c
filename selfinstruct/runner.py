"""Run notebooks headless, in order, into one run folder: papermill with everything checked first.

    run_notebooks("outputs/mine", {"random_seed": "7"}, only=["02", "13"])

Before anything runs: unknown parameters, wrong types and values, input files that nobody will have written, published
files that were not fetched, a model that cannot be asked so, a run folder made with other parameters, and one that another
command is at work in are refused. A notebook whose source, parameters,
inputs, outputs and kit code are those of its last run is skipped. Executed copies lie in `notebooks/` of the run folder,
free of dates and machine names.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import manifest, records
from .executed import normalise_notebook
from .kernel import kernel_environment, patience
from .occupied import occupying
from .parameters import Parameter, check_names, check_prerequisites, notebook_parameters
from .records import PROJECT_ROOT, InputError, ParameterError, SelfInstructError, StoppedEarly, project_path, shown_path
from .replayed import REPLAYED, asks_a_model, calls_of_this_command
from .runfolder import NOTEBOOKS, Notebook, check_parameters, find_files, missing_file, note_run

if TYPE_CHECKING:
    from .estimate import Estimate

NOTEBOOKS_DIR = PROJECT_ROOT / "notebooks"
_OURS = {
    name: kind for name, kind in vars(records).items() if isinstance(kind, type) and issubclass(kind, SelfInstructError)
}


@dataclass(frozen=True)
class Step:
    """One notebook of a run with the parameters it gets, all of them, checked."""

    path: Path
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def entry(self) -> Notebook:
        return NOTEBOOKS.get(self.name, Notebook(main=False))


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
    folder = project_path(run_dir)
    with occupying(folder):
        steps = plan_steps(folder, parameters or {}, choose_notebooks(Path(notebooks_dir), only, start))
        return _run_steps(folder, steps, out)


def _run_steps(folder: Path, steps: Sequence[Step], out: Callable[[str], None]) -> list[Outcome]:
    note_run(folder)  # an unwritable folder is refused here, not minutes later
    (folder / "notebooks").mkdir(exist_ok=True)
    out(f"{len(steps)} notebook{'s' * (len(steps) != 1)} into {shown_path(folder)}/")
    outcomes: list[Outcome] = []
    given = [step.parameters for step in steps]
    with kernel_environment():
        before = calls_of_this_command(given)
        try:
            for step in steps:
                outcomes.append(run_step(folder, step))
                out(_line(outcomes[-1]))
        finally:
            closing = _close(folder)
        called = before != calls_of_this_command(given)
    asked = any(asks_a_model(one) for one, outcome in zip(given, outcomes, strict=True) if not outcome.skipped)
    replayed = [REPLAYED] if asked and not called else []
    unread = [problem for outcome in outcomes for problem in manifest.not_read(folder, outcome.name)]
    for line in (*(f"not read: {problem}" for problem in dict.fromkeys(unread)), *replayed, *closing):
        out(line)
    return outcomes


def _line(outcome: Outcome) -> str:
    spent = "unchanged" if outcome.skipped else f"{outcome.seconds:.1f} s"
    return f"{outcome.name:28} {spent:>9}   {outcome.headline}".rstrip()


def _close(folder: Path) -> list[str]:
    from .report import funnel_lines, write_report

    page = write_report(folder)
    funnel = funnel_lines(folder)
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
    from .estimate import STEPS, estimate_run

    steps = declare_steps(project_path(run_dir), parameters or {}, choose_notebooks(Path(notebooks_dir), only, start))
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


def plan_steps(folder: Path, given: Mapping[str, Any], paths: Sequence[Path]) -> list[Step]:
    """Every notebook with its full parameters; raises the kit's error for whatever could not work."""
    steps = declare_steps(folder, given, paths)
    for number, step in enumerate(steps):
        check_parameters(folder, step.name, step.parameters)
        check_prerequisites(step.name, step.parameters)
        _check_inputs(folder, step, steps[:number])
    return steps


def declare_steps(folder: Path, given: Mapping[str, Any], paths: Sequence[Path]) -> list[Step]:
    """Every notebook with its full parameters, checked against what it declares but not against the run folder."""
    declared = {path: notebook_parameters(path) for path in paths}
    check_names(given, (name for one in declared.values() for name in one), f"{len(paths)} notebook(s)")
    if "run_dir" in given:
        raise ParameterError("run_dir is not given with -p; use --run-dir, it holds for all notebooks")
    return [Step(path, _full_parameters(folder, given, declared[path])) for path in paths]


def _full_parameters(folder: Path, given: Mapping[str, Any], declared: Mapping[str, Parameter]) -> dict[str, Any]:
    chosen = {
        name: parameter.checked(given[name]) if name in given else parameter.default
        for name, parameter in declared.items()
    }
    # relative below the project: executed copies then carry no path of this machine
    return {**chosen, "run_dir": shown_path(folder)} if "run_dir" in declared else chosen


def _check_inputs(folder: Path, step: Step, before: Sequence[Step]) -> None:
    if step.parameters.get("data"):
        return  # other data takes the place of the run's own files
    coming = [pattern for earlier in before for pattern in earlier.entry.writes]
    for pattern in step.entry.reads:
        if not find_files(folder, pattern) and not any(fnmatch(pattern, written) for written in coming):
            raise InputError(missing_file(folder, pattern))


def run_step(folder: Path, step: Step) -> Outcome:
    """Run one notebook into the run folder, or skip it where nothing changed since its last run."""
    inputs = (*step.entry.reads, *step.entry.uses)
    fingerprint = manifest.fingerprint(folder, step.path, step.parameters, inputs)
    if manifest.is_unchanged(folder, step.name, fingerprint):
        return Outcome(step.name, 0.0, True, manifest.headline(folder, step.name))
    before, began = manifest.snapshot(folder), time.monotonic()
    manifest.begin(folder, step.name, step.parameters)
    execute(step, folder / "notebooks" / step.path.name)
    seconds = round(time.monotonic() - began, 1)
    manifest.remember(folder, step.name, fingerprint, before, step.entry.writes, seconds)
    return Outcome(step.name, seconds, False, manifest.headline(folder, step.name))


def execute(step: Step, copy: Path) -> None:
    """Execute a notebook with papermill into `copy`; raises the error of a failing cell as one clear message."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    for name in ("papermill", "asyncio"):  # what ends a notebook is told below, once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    bar = {"desc": step.name, "leave": False} if sys.stderr.isatty() else False
    try:
        papermill.execute_notebook(
            step.path, copy, step.parameters, kernel_name="python3", progress_bar=bar, cwd=step.path.parent,
            **patience(),
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        raise _cell_error(step, copy, error) from None
    except KeyboardInterrupt:
        raise StoppedEarly(f"{step.name}: stopped by you; the same command continues from the stored answers") from None
    except DeadKernelError:
        raise SelfInstructError(f"{step.name}: its kernel died (out of memory?); the same command continues") from None
    finally:
        if copy.is_file():
            normalise_notebook(copy)


def _cell_error(step: Step, copy: Path, error: Any) -> SelfInstructError:
    """The kit's own errors keep their kind and words; any other names the notebook, the cell and the executed copy."""
    if error.ename in _OURS:
        return _OURS[error.ename](f"{step.name}: {error.evalue}")
    if error.ename == "KeyboardInterrupt":
        return StoppedEarly(f"{step.name}: stopped by you; the same command continues from the stored answers")
    where = f"{step.name}, cell [{error.exec_count}]"
    return SelfInstructError(f"{where}: {error.ename}: {error.evalue}; see {shown_path(copy)} for the whole story")
