"""One notebook in one kernel: papermill, its errors, the executed copy.

    with lock_folder(run.path), kernel_environment() as kernels:
        execute_step(step, run / "notebooks" / step.path.name, kernels.arguments())

The executed copy holds no dates and no machine names, so that equal runs give equal files.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..files import SelfInstructError, StoppedEarly, show_path, write_text
from ..models.store import NO_MODEL_CALLED
from ..runfolder import Notebook, find_notebook

if TYPE_CHECKING:
    from nbformat import NotebookNode

_STOPPED = "{}: stopped by you; the same command continues from the stored answers"
_OURS = {kind.__name__: kind for kind in (SelfInstructError, *SelfInstructError.__subclasses__())}


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
        return find_notebook(self.name)

    @property
    def asks_a_model(self) -> bool:
        """True if the notebook sends requests to a model when it has these parameters."""
        given = self.parameters
        return "store" in given and ("model" in given or bool(given.get("rater_model")))


def execute_step(step: Step, copy: Path, arguments: Mapping[str, Any]) -> None:
    """Execute a notebook with papermill into `copy`; raises the error of a failing cell in one line.

    `arguments` are more of papermill's, such as those of `Kernels`.
    """
    papermill = import_papermill()
    from nbclient.exceptions import DeadKernelError

    for name in ("papermill", "asyncio"):  # the error below says it, once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    bar = {"desc": step.name, "leave": False} if sys.stderr.isatty() else False
    page = _Page(copy, arguments.get("on_notebook_start"))
    try:
        papermill.execute_notebook(
            _escape_braces(step.path), None, step.parameters, kernel_name="python3", progress_bar=bar, cwd=step.path.parent,
            **{**arguments, "on_notebook_start": page.start, "on_cell_start": page.save},
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        raise _cell_error(step, copy, error) from None
    except KeyboardInterrupt:
        raise StoppedEarly(_STOPPED.format(step.name)) from None
    except DeadKernelError:
        raise SelfInstructError(f"{step.name}: its kernel died (out of memory?); the same command continues") from None
    finally:
        page.finish()


# jsonschema's grammar of addresses, which nothing here checks; Hadoop's file system, which papermill looks for
NOT_FOR_PAPERMILL = ("rfc3987_syntax", "pyarrow")


def import_papermill() -> ModuleType:
    """papermill, without what it would load for two seconds and nothing here uses."""
    absent = [name for name in NOT_FOR_PAPERMILL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        import papermill
    finally:
        for name in absent:
            del sys.modules[name]
    return papermill


class _Page:
    """The notebook that runs, on disk at the start of its cells but at most once a second.

    papermill itself writes it twice a cell, which takes longer than most cells do.
    """

    def __init__(self, path: Path, then: Callable[[], Awaitable[None]] | None):
        self.path, self.then, self.notebook, self.saved = path, then, None, 0.0

    async def start(self, notebook: NotebookNode) -> None:
        self.notebook = notebook
        self.save()
        if self.then:
            await self.then()

    def save(self, **_: Any) -> None:
        if time.monotonic() - self.saved > 1:
            _write_notebook(self.path, self.notebook)
            self.saved = time.monotonic()

    def finish(self) -> None:
        if self.notebook is not None:
            _write_notebook(self.path, normalise_notebook(self.notebook))


def _write_notebook(path: Path, notebook: NotebookNode) -> None:
    import nbformat

    write_text(path, nbformat.writes(notebook) + "\n")


def _escape_braces(path: Path) -> str:
    """A path for papermill, which fills braces in it with parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _cell_error(step: Step, copy: Path, error: Any) -> SelfInstructError:
    """The kit's own errors keep their kind and text; any other names the notebook, the cell and the executed copy."""
    if error.ename in _OURS:
        return _OURS[error.ename](f"{step.name}: {error.evalue}")
    if error.ename == "KeyboardInterrupt":
        return StoppedEarly(_STOPPED.format(step.name))
    where = f"{step.name}, cell [{error.exec_count}]"
    return SelfInstructError(f"{where}: {error.ename}: {error.evalue}; see {show_path(copy)} for the whole story")


WIDGET = "application/vnd.jupyter.widget-view+json"


def normalise_notebook(notebook: NotebookNode) -> NotebookNode:
    """Take out of an executed notebook what differs between equal runs; changes it in place.

    Widgets go: tqdm's bars hold a random id and a duration, and a form does nothing without its kernel.
    """
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
        if cell.cell_type == "code":
            cell.outputs = [output for output in _join_streams(cell.outputs) if _is_of_the_run(output)]
    return notebook


def _join_streams(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The outputs, with one for what a cell printed at a time: the kernel sends it in pieces, cut wherever it happened to stand."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and "text" in output and output.get("name") == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _is_of_the_run(output: NotebookNode) -> bool:
    """False for a widget, and for the line that says that no model was called: who asked first is no matter of the run's data."""
    if output.get("name") == "stdout":
        lines = output.text.splitlines(keepends=True)
        output.text = "".join(line for line in lines if not line.startswith(NO_MODEL_CALLED))
        return output.text != ""
    return WIDGET not in output.get("data", {})
