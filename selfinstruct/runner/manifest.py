"""What the last run of each notebook was made of, in run.json under "notebooks": the runner skips what did not change.

A notebook is unchanged when the sha256 over its source, parameters, input files, the kit's code and seeds is the same,
everything it wrote is still there with the same bytes, and no model request of it failed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..data.datasets import files_of
from ..files import PROJECT_ROOT, SelfInstructError, show_path
from ..prompts import find_folder
from ..runfolder import REJECTIONS, RunFolder
from .parameters import find_named_path

_NOT_READ, _SETS = ("run_dir", "store"), ("prompt_set", "other_set")
# what runs notebooks or shows results is not what makes them
_NOT_METHOD = ("cli.py", "runner/", "workers.py", "models/probe.py")


def measure_fingerprint(run: RunFolder, notebook: Path, parameters: Mapping[str, Any], reads: Iterable[str]) -> str:
    """The sha256 over everything that a notebook's outputs can depend on, the model's answers excepted."""
    own = {name: value for name, value in parameters.items() if name != "run_dir"}
    inputs = [path for pattern in reads for path in run.find(pattern)] + find_named_files(own)
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
    for path in [notebook, *_find_method_files(), *inputs]:
        digest.update(f"{path.name} {_sha256(path)}".encode())
    return digest.hexdigest()


def find_named_files(parameters: Mapping[str, Any]) -> list[Path]:
    """The files that a notebook's parameters name: data, other files, and those of a prompt set. A store is none, nor a run_dir.

    Raises ParameterError for a prompt set that is not here.
    """
    own = {name: value for name, value in parameters.items() if isinstance(value, str) and name not in _NOT_READ}
    found = [path for value in own.values() for part in value.split(",") for path in _find_data_files(part.strip())]
    found += [path for part in own.get("runs", "").split(",") for path in _find_results(part.strip())]
    return found + [path for name in _SETS if name in own for path in _find_set_files(own[name])]


def measure_named_files(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """path -> sha256 of the files that these parameters, (name, value), name on this machine; of what is not here there is none."""
    found: dict[str, str] = {}
    for name, value in named:
        with suppress(SelfInstructError):
            files = [path for path in find_named_files({name: value}) if not path.name.startswith(".")]
            found |= {show_path(path): _sha256(path) for path in files}
    return found


def _find_data_files(value: str) -> list[Path]:
    """The files that a parameter's text names, if it is the path of a file or of a data set's folder."""
    path = find_named_path(value)
    if path is None:
        return []
    return [path] if path.is_file() else files_of(path)


def _find_results(value: str) -> list[Path]:
    """What the notebooks recorded in a run folder that is compared, trials for one."""
    path = find_named_path(value)
    return RunFolder(path).find("results/*.json") if path else []


def _find_method_files() -> list[Path]:
    package = PROJECT_ROOT / "selfinstruct"
    files = (path for suffix in ("*.py", "*.json") for path in package.rglob(suffix))
    code = [path for path in files if not path.relative_to(package).as_posix().startswith(_NOT_METHOD)]
    # not seeds/published/: fetching those is no reason to run everything again
    return sorted([*code, *(PROJECT_ROOT / "seeds").glob("*.jsonl")])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_set_files(prompt_set: str) -> list[Path]:
    """The files of a prompt set, and those that it may take from: what it leaves out comes from `ours`, and "" is `short` at times."""
    folders = dict.fromkeys(find_folder(name) for name in (prompt_set or "ours", "ours", "short"))
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]


def take_snapshot(run: RunFolder) -> dict[Path, tuple[int, int]]:
    """(modification time, size) of every output in the run folder: what differs after a notebook is what it wrote."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.find_outputs()}


def read_entry(run: RunFolder, name: str) -> dict[str, Any]:
    """What run.json holds of the notebook's last run: parameters, fingerprint, outputs; {} before the first."""
    return run.state.get("notebooks", {}).get(name, {})


def is_unchanged(run: RunFolder, name: str, fingerprint: str) -> bool:
    """True if the notebook need not run: same ingredients, same outputs, no failed request."""
    entry = read_entry(run, name)
    if entry.get("fingerprint") != fingerprint or run.results(name).get("failed"):
        return False
    return all((run / path).is_file() and _mark(run, path) == mark for path, mark in entry["outputs"].items())


def _mark(run: RunFolder, path: str) -> str:
    # every step writes to the ledger in turn: it must be there, not be the same
    return "" if path == REJECTIONS else _sha256(run / path)


def record_start(run: RunFolder, name: str, parameters: Mapping[str, Any]) -> None:
    """Record that the notebook starts with these parameters; it counts as done only after `record_end`."""
    given = {key: value for key, value in parameters.items() if key != "run_dir"}
    run.note(notebooks={name: {"parameters": given, "fingerprint": "", "outputs": {}}})


def record_end(run: RunFolder, name: str, before: Mapping[Path, Any], writes: Iterable[str], **facts: Any) -> None:
    """Record that the notebook has finished: `facts`, and the sha256 of what it wrote since the snapshot `before`."""
    written = {path for path, state in take_snapshot(run).items() if before.get(path) != state}
    written |= {path for pattern in writes for path in run.find(pattern)}
    names = sorted(path.relative_to(run.path).as_posix() for path in written)
    outputs = {path: _mark(run, path) for path in names}
    run.note(notebooks={name: {**read_entry(run, name), **facts, "outputs": outputs}})
