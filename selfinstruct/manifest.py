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

from .datasets import files_of
from .records import PROJECT_ROOT, project_path, read_json
from .runfolder import REJECTIONS, find_files, note_run

# written by every step in turn, or by the runner itself: they must be there, not be the same
_SHARED = {REJECTIONS, "run.json", "report.html"}
# what runs notebooks or shows results is not what makes them
_NOT_METHOD = {
    f"{name}.py"
    for name in "cli commands doctor executed kernel manifest occupied parameters probe replayed report runner".split()
}


def fingerprint(folder: Path, notebook: Path, parameters: Mapping[str, Any], reads: Iterable[str]) -> str:
    """The sha256 over everything that a notebook's outputs can depend on, the model's answers excepted."""
    inputs = [path for pattern in reads for path in find_files(folder, pattern)]
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
    package = [*(PROJECT_ROOT / "selfinstruct").glob("*.py"), *(PROJECT_ROOT / "selfinstruct").glob("*.json")]
    code = [path for path in package if path.name not in _NOT_METHOD]
    # not seeds/published/: fetching those is no reason to run everything again
    return sorted([*code, *(PROJECT_ROOT / "seeds").glob("*.jsonl")])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """(modification time, size) of every file of the run folder: what differs after a notebook is what it wrote.

    A store that lies in the folder does not count: every step writes to it.
    """
    files = (path for path in folder.rglob("*") if path.is_file() and not path.suffix.startswith(".sqlite"))
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def is_unchanged(folder: Path, name: str, made_of: str) -> bool:
    """Whether the notebook's last run stands: same ingredients, same outputs, no failed request."""
    entry = _entries(folder).get(name, {})
    if entry.get("fingerprint") != made_of or failed_requests(folder, name):
        return False
    return all((folder / path).is_file() and _mark(folder, path) == mark for path, mark in entry["outputs"].items())


def _mark(folder: Path, path: str) -> str:
    return "" if path in _SHARED else _sha256(folder / path)


def remember(
    folder: Path, name: str, made_of: str, before: Mapping[str, Any], writes: Iterable[str], seconds: float
) -> None:
    """Add to the notebook's entry, now that it has finished, what it was made of and the sha256 of what it wrote."""
    after = snapshot(folder)
    written = {path for path, state in after.items() if before.get(path) != state} - {"run.json", "report.html"}
    written |= {path.relative_to(folder).as_posix() for pattern in writes for path in find_files(folder, pattern)}
    outputs = {path: _mark(folder, path) for path in sorted(written)}
    entry = {**_entries(folder)[name], "fingerprint": made_of, "seconds": seconds, "outputs": outputs}
    note_run(folder, notebooks={name: entry})


def begin(folder: Path, name: str, parameters: Mapping[str, Any]) -> None:
    """Write down that the notebook starts with these parameters; it counts as done only after `remember`."""
    given = {key: value for key, value in parameters.items() if key != "run_dir"}
    note_run(folder, notebooks={name: {"parameters": given, "fingerprint": "", "outputs": {}}})


def _entries(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    return read_json(path).get("notebooks", {}) if path.is_file() else {}


def load_results(folder: Path, name: str) -> dict[str, Any]:
    """The numbers the notebook recorded, {} where it has recorded none."""
    path = folder / "results" / f"{name}.json"
    return read_json(path) if path.is_file() else {}


def failed_requests(folder: Path, name: str) -> int:
    """How many model requests of the notebook's last run failed for good; the next run asks them again."""
    failed = load_results(folder, name).get("failed", 0)
    return failed if isinstance(failed, int) else 0


def headline(folder: Path, name: str) -> str:
    """The notebook's result in a line: its own `headline` where it records one, else its first three numbers."""
    results = load_results(folder, name)
    if "headline" in results:
        return str(results["headline"])
    numbers = [(key, value) for key, value in results.items() if type(value) in (int, float)][:3]
    return ", ".join(f"{key.replace('_', ' ')} {shown_number(value)}" for key, value in numbers)


def not_read(folder: Path, name: str) -> list[str]:
    """What of `data` the notebook could not read, and went on without."""
    return list(load_results(folder, name).get("not_read", []))


def shown_number(value: float) -> str:
    """A count in full with thousands marked, a measure with three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
