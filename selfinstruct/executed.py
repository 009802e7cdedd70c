"""Executed notebooks without what differs between equal runs: times, versions, random ids, progress bars that have ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .records import write_text

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"


def normalise_notebook(path: Path) -> Path:
    """Rewrite an executed notebook so that equal runs give equal files, whole or not at all."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    drop_progress_bars(notebook)
    return write_text(path, nbformat.writes(notebook) + "\n")


def drop_progress_bars(notebook: Any) -> None:
    """Take tqdm's bars out of the outputs: they show a random id and how long it took; other widgets stay."""
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    kept = 0
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not _is_progress_bar(output, state)]
            kept += sum(WIDGET_VIEW in output.get("data", {}) for output in cell.outputs)
    if not kept:
        notebook.metadata.pop("widgets", None)


def _is_progress_bar(output: Any, state: dict[str, Any]) -> bool:
    """Whether an output shows a box of widgets with a progress bar in it, which is how tqdm draws one."""
    view = output.get("data", {}).get(WIDGET_VIEW)
    box = state.get(view["model_id"], {}).get("state", {}) if view else {}
    children = [child.removeprefix("IPY_MODEL_") for child in box.get("children", [])]
    return any(state.get(child, {}).get("model_name") == "FloatProgressModel" for child in children)
