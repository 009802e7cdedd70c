"""The run folder: where each notebook's files are, who writes what, and the numbers every notebook records.

    run = open_run("outputs/mine", "02_generate_instructions", random_seed=42, ...)
    run.require("machine_generated_instructions.jsonl")     # or an error that says which notebook writes it
    run.record({"accepted": 64})                             # results/02_generate_instructions.json
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .records import (
    InputError,
    ParameterError,
    Rejection,
    append_record,
    load_records,
    project_path,
    read_json,
    shown_path,
    write_json,
    write_records,
    write_text,
)

INSTRUCTIONS = "machine_generated_instructions.jsonl"
CLASSIFICATION = "is_clf_or_not_*_template_1.jsonl"
INSTANCES = "machine_generated_instances.jsonl"
ALL_INSTANCES = "finetuning_data/all_generated_instances.jsonl"
FINETUNING = "finetuning_data/gpt3_finetuning_data_*.jsonl"
REJECTIONS = "rejections.jsonl"


@dataclass(frozen=True)
class Notebook:
    """What a notebook reads from and writes to the run folder (glob patterns), and whether it is part of the main job."""

    reads: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()  # read where they are there, missed where they are not
    writes: tuple[str, ...] = ()
    main: bool = True


NOTEBOOKS: dict[str, Notebook] = {
    "00_start_here": Notebook(),
    "01_read_seed_tasks": Notebook(),
    "02_generate_instructions": Notebook(writes=(INSTRUCTIONS,)),
    "03_identify_classification": Notebook(reads=(INSTRUCTIONS,), writes=(CLASSIFICATION,)),
    "04_generate_instances": Notebook(reads=(INSTRUCTIONS, CLASSIFICATION), writes=(INSTANCES,)),
    "05_filter_and_export": Notebook(reads=(INSTANCES, CLASSIFICATION), writes=(ALL_INSTANCES, FINETUNING)),
    "10_describe_dataset": Notebook(uses=(ALL_INSTANCES, CLASSIFICATION)),
    "11_parse_verb_nouns": Notebook(uses=(INSTRUCTIONS,)),
    "12_measure_lengths": Notebook(uses=(ALL_INSTANCES,)),
    "13_measure_rouge_overlap": Notebook(uses=(INSTRUCTIONS,)),
    "14_review_quality": Notebook(uses=(ALL_INSTANCES, "review/answers_*.jsonl"), main=False),
    "17_compare_with_paper": Notebook(uses=("results/0*.json", "results/1[0-6]*.json")),
    "22_meet_the_quirks": Notebook(uses=(INSTRUCTIONS, CLASSIFICATION, INSTANCES, ALL_INSTANCES, REJECTIONS), main=False),
}

# Parameters that change when or how fast a run goes, never what it writes: a later call may change them freely.
FREE_PARAMETERS = {
    "run_dir", "store", "concurrency", "num_instructions_to_generate", "requests_per_minute", "tokens_per_minute",
    "max_cost_usd", "max_tokens_total", "price_table", "show",
}  # fmt: skip


@dataclass
class RunFolder:
    """One run folder as seen from one notebook."""

    path: Path
    notebook: str

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def require(self, pattern: str) -> Path:
        """The newest file of the run folder that matches `pattern`; raises InputError naming the notebook that writes it."""
        found = find_files(self.path, pattern)
        if found:
            return max(found, key=lambda path: path.stat().st_mtime_ns)
        raise InputError(missing_file(self.path, pattern))

    def record(self, results: dict[str, Any]) -> dict[str, Any]:
        """Write `results/<notebook>.json`, and hand back for the cell to show what is a plain value: tables are long."""
        write_json(self.path / "results" / f"{self.notebook}.json", results)
        return {name: value for name, value in results.items() if not isinstance(value, (dict, list))}

    def note(self, **facts: Any) -> None:
        """Merge `facts` into `run.json` (one level deep: a dict is merged into the dict of that name)."""
        note_run(self.path, **facts)

    def write_rejections(self, step: str, rejections: Iterable[Rejection]) -> Path:
        """Replace the ledger rows of `step` in `rejections.jsonl`, keeping those of the other steps, in step order."""
        path = self.path / REJECTIONS
        kept = [row for row in load_records(path, Rejection) if row.step != step] if path.is_file() else []
        return write_records(path, sorted([*kept, *rejections], key=lambda row: row.step))

    @contextmanager
    def writing(self, name: str) -> Iterator[Callable[[Iterable[Any]], None]]:
        """Stream records into `name`: line by line to `name.partial`, renamed at the end, so that a finished file is whole.

        What was there before stays until then; after a stop the partial file shows how far the run came.
        """
        partial = self.path / f"{name}.partial"
        write_text(partial, "")

        def write(records: Iterable[Any]) -> None:
            for record in records:
                append_record(partial, record)

        yield write
        partial.replace(self.path / name)

    def save_figure(self, figure: Any, name: str) -> Path:
        """Save a matplotlib figure as `figures/<name>.png` and `.svg`; returns the PNG's path."""
        folder = self.path / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("svg", "png"):
            # no date and a fixed id salt: the same data gives the same bytes
            metadata = {"Date": None} if suffix == "svg" else {"Software": None}
            figure.savefig(folder / f"{name}.{suffix}", bbox_inches="tight", dpi=150, metadata=metadata)
        return folder / f"{name}.png"


def open_run(run_dir: str | Path, notebook: str, **parameters: Any) -> RunFolder:
    """Open (or make) the run folder for `notebook` with the parameters it runs with.

    Raises ParameterError where the folder holds this step's files made with other parameters, and InputError where the
    folder cannot be written.
    """
    path = project_path(run_dir)
    identity = _identity(parameters)
    earlier = _parameters_of(path, notebook)
    if earlier is not None:
        _check_same(path, earlier, identity)
    note_run(path, kit_version=__version__, parameters={notebook: identity})
    return RunFolder(path, notebook)


def check_parameters(run_dir: str | Path, notebook: str, now: Mapping[str, Any]) -> None:
    """Raise ParameterError where the runner made `notebook`'s files in this folder with other parameters.

    The check of `open_run`, before a kernel starts, on the parameters as they were given: a notebook may derive more.
    """
    path = project_path(run_dir)
    earlier = _run_json(path).get("notebooks", {}).get(notebook, {}).get("parameters")
    if earlier is not None and _parameters_of(path, notebook) is not None:
        _check_same(path, _identity(earlier), _identity(now))


def _identity(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the bytes of a step, as run.json holds it (JSON has no tuples)."""
    return json.loads(json.dumps({name: value for name, value in parameters.items() if name not in FREE_PARAMETERS}))


def _parameters_of(path: Path, notebook: str) -> dict[str, Any] | None:
    """The parameters the notebook's files in the folder were made with; None where there are no such files."""
    entry = NOTEBOOKS.get(notebook, Notebook(main=False))
    written = any(find_files(path, pattern) for pattern in entry.writes)
    return _run_json(path).get("parameters", {}).get(notebook) if written else None


def _check_same(path: Path, earlier: dict[str, Any], now: dict[str, Any]) -> None:
    differ = [name for name in sorted(set(earlier) | set(now)) if earlier.get(name) != now.get(name)]
    if differ:
        said = "; ".join(f"{name} was {earlier.get(name)!r}, now {now.get(name)!r}" for name in differ)
        raise ParameterError(
            f"{shown_path(path)} was made with other parameters ({said}); choose another run_dir, or delete that folder"
        )


def find_files(path: Path, pattern: str) -> list[Path]:
    """The files below the run folder `path` that match `pattern`, sorted by name."""
    return sorted(path.glob(pattern))


def missing_file(path: Path, pattern: str) -> str:
    """The message for a file that is not there: what, where, and which notebook writes it."""
    writers = [
        name for name, entry in NOTEBOOKS.items() if any(fnmatch.fnmatch(pattern, written) for written in entry.writes)
    ]
    advice = (
        f"{writers[0]} writes it: run that first (selfinstruct run --only {writers[0][:2]})"
        if writers
        else "no notebook of the kit writes it"
    )
    return f"{shown_path(path)}/{pattern}: no such file; {advice}"


def note_run(path: Path, **facts: Any) -> None:
    """Merge `facts` into `path/run.json`, one level deep."""
    state = _run_json(path)
    for name, value in facts.items():
        state[name] = {**state.get(name, {}), **value} if isinstance(value, dict) else value
    write_json(path / "run.json", state)


def _run_json(path: Path) -> dict[str, Any]:
    file = path / "run.json"
    return read_json(file) if file.is_file() else {}
