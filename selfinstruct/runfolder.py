"""The run folder: one folder that holds everything a run wrote, and the object through which all code reaches it.

    run = open_run("03_identify_classification", locals())  # in a notebook: the folder that `run_dir` names
    run.require(INSTRUCTIONS)                               # a file of it, or an error that says which notebook writes it
    run.record({"classification": 12})                      # results/03_identify_classification.json
    RunFolder("outputs/mine").state["model"]                # anywhere else: what run.json holds

NOTEBOOKS says which notebook reads and writes which files. run.json holds, by notebook, the parameters that files were
made with ("parameters"), what the runner needs to skip what did not change ("notebooks") and what the model calls came to
("usage"); and the "model" and the "kit_version". Only this module opens it.
"""

from __future__ import annotations

import ast
import inspect
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from . import __version__
from .files import (
    PROJECT_ROOT,
    InputError,
    ParameterError,
    append_record,
    load_records,
    project_path,
    read_json,
    show_path,
    write_json,
    write_records,
    write_text,
)
from .records import Rejection

NOTEBOOKS_DIR = PROJECT_ROOT / "notebooks"

INSTRUCTIONS = "machine_generated_instructions.jsonl"
CLASSIFICATION = "is_clf_or_not_*_template_1.jsonl"
INSTANCES = "machine_generated_instances.jsonl"
ALL_INSTANCES = "finetuning_data/all_generated_instances.jsonl"
FINETUNING = "finetuning_data/gpt3_finetuning_data_*.jsonl"
REJECTIONS = "rejections.jsonl"
REPORT = "report.html"
_RUN_JSON = "run.json"


@dataclass(frozen=True)
class Notebook:
    """The files of the run folder that a notebook reads and writes, as glob patterns."""

    reads: tuple[str, ...] = ()  # it cannot run without them
    uses: tuple[str, ...] = ()  # read if present
    writes: tuple[str, ...] = ()
    main: bool = True  # part of `selfinstruct run`


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
    "22_meet_the_quirks": Notebook(
        uses=(INSTRUCTIONS, CLASSIFICATION, INSTANCES, ALL_INSTANCES, REJECTIONS), main=False
    ),
}

# Parameters that change when or how fast a run goes, never what it writes: a later call may change them freely.
FREE_PARAMETERS = {
    "run_dir", "store", "concurrency", "num_instructions_to_generate", "requests_per_minute", "tokens_per_minute",
    "max_cost_usd", "max_tokens_total", "price_table", "show_rows",
}  # fmt: skip


class RunFolder:
    """A run folder: its files, the results its notebooks recorded, and run.json.

    It is made once, where a path comes in from outside (a command, a notebook's `run_dir`), and passed along from there.
    A relative path starts at the project's root. In a notebook `open_run` makes it: then `notebook` is the notebook's name
    and `parameters` holds its declared parameters.
    """

    def __init__(self, run_dir: str | Path | RunFolder, notebook: str = "", parameters: Mapping[str, Any] = {}):
        self.path = run_dir.path if isinstance(run_dir, RunFolder) else project_path(run_dir)
        self.notebook, self.parameters = notebook, dict(parameters)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __str__(self) -> str:
        return show_path(self.path)

    # files: find

    def find(self, pattern: str) -> list[Path]:
        """The files that match `pattern`, sorted by name."""
        return sorted(self.path.glob(pattern))

    def find_newest(self, pattern: str) -> Path | None:
        """The file that matches `pattern` and was written last, None if there is none."""
        return max(self.find(pattern), key=lambda path: path.stat().st_mtime_ns, default=None)

    def require(self, pattern: str) -> Path:
        """The newest file that matches `pattern`; raises InputError naming the notebook that writes it."""
        if found := self.find_newest(pattern):
            return found
        raise self.missing(pattern)

    def missing(self, pattern: str) -> InputError:
        """The error for a missing file: what, where, and which notebook writes it."""
        writers = [name for name, entry in NOTEBOOKS.items() if any(fnmatch(pattern, one) for one in entry.writes)]
        advice = "no notebook of the kit writes it"
        if writers:
            command = shlex.join(["selfinstruct", "run", "--run-dir", str(self), "--only", writers[0][:2]])
            advice = f"{writers[0]} writes it: run that first ({command})"
        return InputError(f"{self}/{pattern}: no such file; {advice}")

    def exists(self) -> bool:
        """True if a notebook wrote into this folder."""
        return any(self.find(name) for name in (_RUN_JSON, INSTRUCTIONS, CLASSIFICATION, INSTANCES, ALL_INSTANCES))

    def find_outputs(self) -> list[Path]:
        """Every file that notebooks wrote: not run.json and report.html, nor a store, which all steps share."""
        files = [path for path in self.find("**/*") if path.is_file() and not path.suffix.startswith(".sqlite")]
        return [path for path in files if path not in (self / _RUN_JSON, self / REPORT)]

    # files: write

    @contextmanager
    def writing(self, name: str) -> Iterator[Callable[[Iterable[Any]], None]]:
        """Stream records into `name`: line by line to `name.partial`, renamed at the end, so that a finished file is whole.

        An older file stays until then. After a stop the partial file holds the records so far.
        """
        partial = self / f"{name}.partial"
        write_text(partial, "")

        def write(records: Iterable[Any]) -> None:
            for record in records:
                append_record(partial, record)

        yield write
        partial.replace(self / name)

    def write_rejections(self, step: str, rejections: Iterable[Rejection]) -> Path:
        """Replace the rows of `step` in rejections.jsonl; those of other steps stay, in step order."""
        path = self / REJECTIONS
        kept = [row for row in load_records(path, Rejection) if row.step != step] if path.is_file() else []
        return write_records(path, sorted([*kept, *rejections], key=lambda row: row.step))

    def save_figure(self, figure: Any, name: str) -> Path:
        """Save a matplotlib figure as `figures/<name>.png` and `.svg`; returns the PNG's path."""
        path = self / f"figures/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        how = {"bbox_inches": "tight", "dpi": 150}
        figure.savefig(path, metadata={"Software": None}, **how)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None}, **how)  # the same data gives the same bytes
        return path

    # results

    def record(self, results: dict[str, Any]) -> dict[str, Any]:
        """Write `results/<notebook>.json`; returns its plain values for the cell to show, since tables are long."""
        write_json(self / f"results/{self.notebook}.json", results)
        return {name: value for name, value in results.items() if not isinstance(value, (dict, list))}

    def results(self, notebook: str) -> dict[str, Any]:
        """The results that `notebook` recorded, {} if none."""
        path = self / f"results/{notebook}.json"
        return read_json(path) if path.is_file() else {}

    def all_results(self) -> dict[str, dict[str, Any]]:
        """notebook -> its results, for every notebook that recorded some, in reading order."""
        return {path.stem: read_json(path) for path in self.find("results/*.json")}

    # run.json and the parameters

    @property
    def state(self) -> dict[str, Any]:
        """What run.json holds now, {} if there is none."""
        return read_json(self / _RUN_JSON) if (self / _RUN_JSON).is_file() else {}

    def note(self, **facts: Any) -> None:
        """Merge `facts` into run.json, one level deep: a dict is merged into the dict of that name."""
        state = self.state
        for name, value in facts.items():
            state[name] = {**state.get(name, {}), **value} if isinstance(value, dict) else value
        write_json(self / _RUN_JSON, state)

    def note_model(self, client: Any) -> None:
        """Record, at a notebook's end, what its `client` came to in run.json, and the keys of the answers in the store.

        The run's "model" is the one that wrote its files; who rates them, or answers elsewhere, is not. The keys go to
        `answers/<notebook>.keys`, one a line; `store export --run-dir` publishes exactly those answers.
        """
        if find_notebook(self.notebook).writes:
            self.note(model=client.describe())
        self.note(usage={self.notebook: client.usage.model_dump()})
        write_text(self / f"answers/{self.notebook}.keys", "".join(f"{key}\n" for key in client.keys))

    def read_keys(self) -> list[str]:
        """The keys of all answers that the run was made of, in the order of its notebooks; raises InputError if none."""
        keys = [key for path in self.find("answers/*.keys") for key in path.read_text(encoding="utf-8").split()]
        if not keys:
            raise InputError(f"{self}/answers: no keys of answers; run its notebooks again, which records them")
        return list(dict.fromkeys(keys))

    def arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Those of the notebook's parameters that `function` takes by the same name.

        client = connect(**run.arguments(connect), step="02")
        """
        taken = inspect.signature(function).parameters
        return {name: value for name, value in self.parameters.items() if name in taken}

    def check_parameters(self, notebook: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Raise ParameterError if the files of `notebook` in this folder were made with other parameters.

        `earlier` are the parameters of that time, `now` those of this call.
        """
        if not any(self.find(pattern) for pattern in find_notebook(notebook).writes):
            return
        earlier, now = _select_fixed(earlier), _select_fixed(now)
        changes = [
            f"{name} was {value!r}, now {now.get(name)!r}"
            for name, value in sorted(earlier.items())
            if value != now.get(name)
        ]
        if changes:
            made = f"was made with other parameters ({'; '.join(changes)})"
            raise ParameterError(
                f"{self} {made}; choose another folder (--run-dir, in a notebook run_dir), or delete this one"
            )


def open_run(notebook: str, parameters: Mapping[str, Any], **derived: Any) -> RunFolder:
    """Open (or make) the run folder for `notebook`: `parameters` is its `locals()`; only the declared ones are taken.

    `derived` are settings that the notebook computes from its parameters; run.json records both. Raises ParameterError if
    the folder holds files of this notebook made with other parameters, and InputError if it cannot be written.
    """
    declared = {name: parameters[name] for name in find_declared(notebook, parameters)}
    run = RunFolder(declared["run_dir"], notebook, declared)
    now = _select_fixed({**declared, **derived})
    run.check_parameters(notebook, run.state.get("parameters", {}).get(notebook, {}), now)
    run.note(kit_version=__version__, parameters={notebook: now})
    return run


def find_notebook(name: str) -> Notebook:
    """The entry of NOTEBOOKS; a notebook of one's own has an empty one and is no part of the main job."""
    return NOTEBOOKS.get(name, Notebook(main=False))


def find_declared(notebook: str, namespace: Mapping[str, Any]) -> list[str]:
    """The names in the cell tagged `parameters` of one of the kit's notebooks; of any other, the plain values in lower case."""
    path = NOTEBOOKS_DIR / f"{notebook}.ipynb"
    if path.is_file():
        names = [name for name, _ in parameter_nodes(path)[1]]
        if set(names) <= set(namespace):
            return names
    plain = (str, int, float, bool, list, dict)
    return [name for name, value in namespace.items() if name.islower() and name[0] != "_" and type(value) in plain]


def parameter_nodes(path: Path) -> tuple[str, list[tuple[str, ast.Assign | ast.AnnAssign]]]:
    """(source, [(name, its assignment)]) of a notebook's cell tagged `parameters`, in its order.

    Read with Python's own parser: papermill's inspection loses every line whose comment holds a `=`. Raises InputError
    if the file is not a notebook.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
        source = "".join(next(tagged, {"source": ""})["source"])
        nodes = [node for node in ast.parse(source).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        reason = str(error).partition("\n")[0][:80]
        raise InputError(f"{show_path(path)}: not a notebook ({reason}); restore it from the repository") from error
    return source, [
        (ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0]), node) for node in nodes
    ]


def _select_fixed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that decide what a step writes, as run.json holds them (JSON has no tuples)."""
    return json.loads(json.dumps({name: value for name, value in parameters.items() if name not in FREE_PARAMETERS}))
