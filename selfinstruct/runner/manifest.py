"""What the last run of each notebook was made of, in run.json under "notebooks": the runner skips what did not change.

A notebook is unchanged when the sha256 over its source, parameters, input files, the kit's code and seeds is the same,
everything it wrote is still there with the same bytes, and no model request of it failed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..data.datasets import files_of
from ..files import PROJECT_ROOT, project_path
from ..runfolder import REJECTIONS, RunFolder

# written by every step in turn, or by the runner itself: they must be there, not be the same
_SHARED = {REJECTIONS, "run.json", "report.html"}
# what runs notebooks or shows results is not what makes them
_NOT_METHOD = ("cli.py", "runner/", "models/probe.py")


def fingerprint(run: RunFolder, notebook: Path, parameters: Mapping[str, Any], reads: Iterable[str]) -> str:
    """The sha256 over everything that a notebook's outputs can depend on, the model's answers excepted."""
    inputs = [path for pattern in reads for path in run.find(pattern)]
    own = {name: value for name, value in parameters.items() if name != "run_dir"}
    named = [value for name, value in own.items() if isinstance(value, str) and name != "store"]
    inputs += [path for value in named for part in value.split(",") for path in _named_files(part.strip())]
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
    for path in [notebook, *_method_files(), *inputs]:
        digest.update(f"{path.name} {_sha256(path)}".encode())
    return digest.hexdigest()


def _named_files(value: str) -> list[Path]:
    """The files a parameter's text points to, if it is the path of a file or of a data set's folder."""
    path = project_path(value) if value and len(value) < 500 and "\0" not in value else None
    if path is None or not path.exists():
        return []
    return [path] if path.is_file() else files_of(path)


def _method_files() -> list[Path]:
    package = PROJECT_ROOT / "selfinstruct"
    files = (path for suffix in ("*.py", "*.json") for path in package.rglob(suffix))
    code = [path for path in files if not path.relative_to(package).as_posix().startswith(_NOT_METHOD)]
    # not seeds/published/: fetching those is no reason to run everything again
    return sorted([*code, *(PROJECT_ROOT / "seeds").glob("*.jsonl")])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def snapshot(run: RunFolder) -> dict[str, tuple[int, int]]:
    """(modification time, size) of every file of the run folder: what differs after a notebook is what it wrote.

    A store that lies in the folder does not count: every step writes to it.
    """
    files = (path for path in run.path.rglob("*") if path.is_file() and not path.suffix.startswith(".sqlite"))
    return {path.relative_to(run.path).as_posix(): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def is_unchanged(run: RunFolder, name: str, made_of: str) -> bool:
    """Whether the notebook's last run stands: same ingredients, same outputs, no failed request."""
    entry = run.state.get("notebooks", {}).get(name, {})
    if entry.get("fingerprint") != made_of or run.failed_requests(name):
        return False
    return all((run / path).is_file() and _mark(run, path) == mark for path, mark in entry["outputs"].items())


def _mark(run: RunFolder, path: str) -> str:
    return "" if path in _SHARED else _sha256(run / path)


def remember(
    run: RunFolder, name: str, made_of: str, before: Mapping[str, Any], writes: Iterable[str], seconds: float
) -> None:
    """Add to the notebook's entry, now that it has finished, what it was made of and the sha256 of what it wrote."""
    after = snapshot(run)
    written = {path for path, state in after.items() if before.get(path) != state} - {"run.json", "report.html"}
    written |= {path.relative_to(run.path).as_posix() for pattern in writes for path in run.find(pattern)}
    outputs = {path: _mark(run, path) for path in sorted(written)}
    entry = {**run.state["notebooks"][name], "fingerprint": made_of, "seconds": seconds, "outputs": outputs}
    run.note(notebooks={name: entry})


def begin(run: RunFolder, name: str, parameters: Mapping[str, Any]) -> None:
    """Write down that the notebook starts with these parameters; it counts as done only after `remember`."""
    given = {key: value for key, value in parameters.items() if key != "run_dir"}
    run.note(notebooks={name: {"parameters": given, "fingerprint": "", "outputs": {}}})
