"""The run folder: one folder that holds everything a run wrote, and the object through which all code reaches it.

    run = open_run("03_identify_classification", locals())  # in a notebook: the folder that `run_dir` names
    run.require(INSTRUCTIONS)                               # a file of it, or an error that says which notebook writes it
    run.record({"classification": 12})                      # results/03_identify_classification.json
    RunFolder("outputs/mine").state["model"]                # anywhere else: what run.json holds

NOTEBOOKS says which notebook reads and writes which files. run.json holds, by notebook, the parameters that files were
made with ("parameters"), what the runner needs to skip what did not change ("notebooks") and what the model calls came to
("usage"); the hashes of seed and prompt files ("files", "seed_tasks"); and the "model", the file of its "labels" and the
"kit_version". Only this module opens it. What depends on the machine, and on who asked first, is in spent.json alone: seconds,
threads, answers that came from the store, dollars spent here. So equal runs give equal folders, wherever they ran.

Step files that are there before a notebook first writes into a folder come from another program, such as the released code.
Notebooks 02 to 04 go on from them, as the released scripts do, with a copy in `taken_over/`; no other is ever replaced.
"""

from __future__ import annotations

import ast
import inspect
import json
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import __version__
from .files import (
    PROJECT_ROOT,
    InputError,
    ParameterError,
    append_record,
    holds_secret,
    load_records,
    project_path,
    read_json,
    show_path,
    write_json,
    write_records,
    write_text,
)
from .promptfile import refuse_moved
from .records import Rejection

if TYPE_CHECKING:
    from pydantic import BaseModel

R = TypeVar("R", bound="BaseModel")
NOTEBOOKS_DIR = PROJECT_ROOT / "notebooks"

INSTRUCTIONS = "machine_generated_instructions.jsonl"
CLASSIFICATION = "is_clf_or_not*.jsonl"  # the released code and this kit have the model in the name, others have not
INSTANCES = "machine_generated_instances.jsonl"
ALL_INSTANCES = "finetuning_data/all_generated_instances.jsonl"
SAMPLED_INSTANCES = "finetuning_data/sampled_generated_instances_*.jsonl"
FINETUNING = "finetuning_data/gpt3_finetuning_data_*.jsonl"
REJECTIONS = "rejections.jsonl"
REPORT = "report.html"
OUR_REPORT = b"<title>Self-Instruct: "  # how a page of ours is told from another program's
TAKEN_OVER = "taken_over"  # copies of files that the kit did not write, as they were
CONTINUED = (INSTRUCTIONS, CLASSIFICATION, INSTANCES)  # of these it goes on from another program's
_RUN_JSON = "run.json"
SPENT = "spent.json"
_SPENT_USAGE, _SPENT_MODEL = {"cached", "spent_usd"}, {"replayed", "threads"}
_PARTS = (
    "parameters",
    "notebooks",
    "usage",
    "model",
    "files",
    "seed_tasks",
    "adapted",
    "taken_over",
)  # of it, objects all


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
    "05_filter_and_export": Notebook(
        reads=(INSTANCES, CLASSIFICATION), writes=(ALL_INSTANCES, SAMPLED_INSTANCES, FINETUNING)
    ),
    # no `writes`: an adapter's own record decides if it is made anew, and a run may train again with other settings
    "06_finetune_model": Notebook(reads=(FINETUNING,), main=False),
    "07_evaluate_model": Notebook(uses=("adapters/*/*/training.json", "adapters/*/train.jsonl"), main=False),
    "10_describe_dataset": Notebook(uses=(ALL_INSTANCES, CLASSIFICATION)),
    "11_parse_verb_nouns": Notebook(uses=(INSTRUCTIONS,)),
    "12_measure_lengths": Notebook(uses=(ALL_INSTANCES,)),
    "13_measure_rouge_overlap": Notebook(uses=(INSTRUCTIONS,)),
    "14_review_quality": Notebook(uses=(ALL_INSTANCES, "review/answers_*.jsonl"), main=False),
    "15_rate_responses": Notebook(
        uses=(
            "evaluation/predictions/*.jsonl",
            "evaluation/scaling/predictions/*.jsonl",
            "ratings/grades_*.jsonl",
            "review/blind_answers_*.jsonl",
        ),
        main=False,
    ),
    "16_scale_data": Notebook(uses=(FINETUNING, ALL_INSTANCES, "results/15_rate_responses.json"), main=False),
    "17_compare_with_paper": Notebook(uses=("results/0*.json", "results/1[0-6]*.json")),
    "20_ablate_prompts": Notebook(main=False),
    "21_sweep_and_compare": Notebook(
        uses=("sweep.json", "cells/*/*/*.jsonl", "cells/*/*/*/*.jsonl", "cells/*/*/results/*.json"), main=False
    ),
    "22_meet_the_quirks": Notebook(
        uses=(INSTRUCTIONS, CLASSIFICATION, INSTANCES, ALL_INSTANCES, REJECTIONS), main=False
    ),
}

# Parameters that change when or how fast a run goes, never what it writes: a later call may change them freely. Of
# `max_instances_to_generate` it is the stop that counts, which is recorded as it was sent.
FREE_PARAMETERS = {
    "run_dir", "store", "concurrency", "num_instructions_to_generate", "requests_per_minute", "tokens_per_minute",
    "max_cost_usd", "max_tokens_total", "price_table", "show_rows", "max_instances_to_generate", "timeout_s",
}  # fmt: skip


# of parameters that a prompt set has now: an earlier kit recorded these where nobody chose
_EARLIER_DEFAULTS: dict[str, Any] = {
    "requests_per_round": 0,
    "classification_requests": -1,
    "blocked_starts": "by model",
}


class RunFolder:
    """A run folder: its files, the results its notebooks recorded, and run.json.

    It is made once, where a path comes in from outside (a command, a notebook's `run_dir`), and passed along from there.
    A relative path starts at the project's root. In a notebook `open_run` makes it: then `notebook` is the notebook's name
    and `parameters` holds its declared parameters, and what it derives from them.
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
        """The file that matches `pattern` and was written last, None if there is none; of several with labels the run's own."""
        labels = self.state.get("labels")
        return max(self.find(pattern), key=lambda path: (path.name == labels, path.stat().st_mtime_ns), default=None)

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
        """Every file that notebooks wrote: not run.json, spent.json and report.html, nor a store, which all steps share."""
        files = [path for path in self.find("**/*") if path.is_file() and not path.suffix.startswith(".sqlite")]
        return [path for path in files if path not in (self / _RUN_JSON, self / SPENT, self / REPORT)]

    # files: write

    @contextmanager
    def writing(self, name: str) -> Iterator[Callable[[Iterable[Any]], None]]:
        """Stream records into `name`: line by line to `name.partial`, renamed at the end, so that a finished file is whole.

        An older file stays until then. After a stop the partial file holds the records so far. Lines of another program
        come first, byte for byte.
        """
        partial, taken = self / f"{name}.partial", self / TAKEN_OVER / name
        lines = taken.read_bytes().decode() if taken.is_file() else ""
        write_text(partial, lines + "\n" * (lines[-1:] not in ("", "\n")))

        def write(records: Iterable[Any]) -> None:
            for record in records:
                append_record(partial, record)

        yield write
        partial.replace(self / name)

    def find_foreign(self, notebook: str) -> list[Path]:
        """The files that `notebook` writes and that another program wrote: run.json does not know the notebook yet.

        In a folder without run.json that may be a notebook of the same name, in the place of the executed copy, its results, the
        keys of its answers, or a page with the report's name.
        """
        state = self.state
        if notebook in state.get("parameters", {}):
            return []
        names = [one for pattern in find_notebook(notebook).writes for one in (pattern, f"{pattern}.partial")]
        found = [path for pattern in names for path in self.find(pattern)]
        if state:
            return found
        beside = (f"notebooks/{notebook}.ipynb", f"results/{notebook}.json", f"answers/{notebook}.keys", REPORT)
        found += [path for name in beside for path in self.find(name)]
        return [path for path in found if path.name != REPORT or OUR_REPORT not in path.read_bytes()]

    def check_foreign(self, notebook: str) -> None:
        """Raise InputError where `notebook` would replace a file that the kit did not write and cannot go on from."""
        for path in self.find_foreign(notebook):
            copy = self / TAKEN_OVER / path.name
            is_taken = copy.is_file() and copy.read_bytes() != path.read_bytes()
            if is_taken or not any(fnmatch(path.name, pattern) for pattern in CONTINUED):
                found = show_path(copy if is_taken else path)
                raise InputError(
                    f"{found}: not written by this kit, and {notebook} would replace it; choose another run_dir, or move the file "
                    f"away (to analyse the data as it is: data={self})"
                )

    def take_over(self) -> None:
        """Copy what another program wrote, and this notebook goes on from, to `taken_over/`; run.json names the files."""
        foreign, ledger = self.find_foreign(self.notebook), self / REJECTIONS
        if (
            INSTRUCTIONS in find_notebook(self.notebook).writes
            and not self.state.get("parameters")
            and ledger.is_file()
        ):
            load_records(ledger, Rejection)  # one of another form is refused before anything is asked
            foreign.append(ledger)
        for path in foreign:
            (self / TAKEN_OVER).mkdir(exist_ok=True)
            shutil.copy2(path, self / TAKEN_OVER / path.name)
        if foreign:
            self.note(taken_over={self.notebook: [path.name for path in foreign]})

    def load_taken_over(self, record: type[R], *patterns: str) -> list[R]:
        """The rows of another program that this run goes on from, [] as a rule: of the newest file that matches the first of
        `patterns` that any does. Raises InputError with file:line for a row that is no `record`.
        """
        found = filter(None, (self.find_newest(f"{TAKEN_OVER}/{pattern}") for pattern in patterns))
        return next((load_records(path, record) for path in found), [])

    def write_rejections(self, step: str, rejections: Iterable[Rejection]) -> Path:
        """Replace the rows of `step` in rejections.jsonl; those of other steps stay, in step order, and those of the part of
        step 1 that is taken over.
        """
        path = self / REJECTIONS
        kept = [row for row in load_records(path, Rejection) if row.step != step] if path.is_file() else []
        taken = self.load_taken_over(Rejection, REJECTIONS) if step.startswith("1") else []
        kept += [row for row in taken if row.step == step]
        return write_records(path, sorted([*kept, *rejections], key=lambda row: row.step))

    def save_figure(self, figure: Any, name: str) -> Path:
        """Save a matplotlib figure as `figures/<name>.png` and `.svg`; returns the PNG's path."""
        path = self / f"figures/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        how = {"bbox_inches": "tight", "dpi": 150}
        figure.savefig(path, metadata={"Software": None}, **how)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None}, **how)  # the same data gives the same bytes
        _show_saved(figure, path)
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
        """What run.json holds now, {} if there is none; raises InputError where it is not the kit's."""
        state = read_json(self / _RUN_JSON) if (self / _RUN_JSON).is_file() else {}
        parts = (
            {f'"{name}" is ': state[name] for name in _PARTS if name in state}
            if isinstance(state, dict)
            else {"": state}
        )
        for what, part in parts.items():
            if not isinstance(part, dict):
                kind = type(part).__name__
                raise InputError(f"{self}/{_RUN_JSON}: {what}a {kind}, not the kit's; choose another run_dir")
        for given in filter(
            lambda one: isinstance(one, dict) and "prompt_source" in one, state.get("parameters", {}).values()
        ):
            given["prompt_set"] = given.pop("prompt_source")  # as it was called before
        return state

    def note(self, **facts: Any) -> None:
        """Merge `facts` into run.json, one level deep: a dict is merged into the dict of that name."""
        write_json(self / _RUN_JSON, _merge(self.state, facts))

    def replace(self, **facts: Any) -> None:
        """Write `facts` to run.json in the place of what it has by these names."""
        write_json(self / _RUN_JSON, {**self.state, **facts})

    @property
    def spent(self) -> dict[str, Any]:
        """What spent.json holds now, {} if there is none."""
        return read_json(self / SPENT) if (self / SPENT).is_file() else {}

    def note_spent(self, **facts: Any) -> None:
        """Merge `facts` into spent.json, as `note` does into run.json."""
        write_json(self / SPENT, _merge(self.spent, facts))

    def note_model(self, client: Any, *others: Any) -> None:
        """Record, at a notebook's end, what its `client` came to in run.json, and the keys of the answers in the store; of
        several on one server the figures are added up.

        The run's "model" is the one that wrote its files; who rates them, answers elsewhere or was not asked, is not. The
        keys go to `answers/<notebook>.keys`, one a line; `store export --run-dir` publishes exactly those answers.
        """
        described, clients = client.describe(), (client, *others)
        usage = _add_up([one.usage.model_dump() for one in clients])
        here = {name: described.pop(name) for name in sorted(_SPENT_MODEL & described.keys())}
        if client.keys and find_notebook(self.notebook).writes:
            self.note(model=described)
        if adapted := described.get("adapted"):  # what this step could not send as its parameters say
            self.note(adapted={self.notebook: adapted})
        here |= {name: usage.pop(name) for name in sorted(_SPENT_USAGE)}
        self.note(usage={self.notebook: usage})
        self.note_spent(usage={self.notebook: here})
        keys = sorted({key for one in clients for key in one.keys})
        write_text(self / f"answers/{self.notebook}.keys", "".join(f"{key}\n" for key in keys))

    def read_keys(self) -> list[str]:
        """The keys of all answers that the run was made of, in the order of its notebooks; raises InputError if none."""
        keys = [key for path in self.find("answers/*.keys") for key in path.read_text(encoding="utf-8").split()]
        if not keys:
            raise InputError(f"{self}/answers: no keys of answers; run its notebooks again, which records them")
        return list(dict.fromkeys(keys))

    def note_files(self, files: Mapping[str, Mapping[str, str]]) -> None:
        """Record the seed and prompt files that this notebook reads, part -> path and sha256, in run.json under "files"; as
        "seed_tasks" those of step 1, which the run came from.

        Raises ParameterError if files of this notebook in this folder were made when the content was another.
        """
        earlier = self.state.get("files", {}).get(self.notebook, {})
        now = {one["sha256"] for one in files.values()}
        changed = [one["path"] for one in earlier.values() if one["sha256"] not in now]
        writes = find_notebook(self.notebook).writes
        if changed and any(self.find(pattern) for pattern in writes):
            advice = "choose another folder (run_dir; of a sweep --sweep-dir), delete this one, or put the file back as it was"
            raise ParameterError(f"{self} was made with another content of {', '.join(changed)}; {advice}")
        came_from = {"seed_tasks": files["seed_tasks"]} if INSTRUCTIONS in writes else {}
        self.note(files={self.notebook: files}, **came_from)

    def arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Those of the notebook's parameters that `function` takes by the same name.

        client = connect(**run.arguments(connect), step="02")
        """
        taken = inspect.signature(function).parameters
        known = {**self.parameters, "adapted": self._read_adapted()}
        return {name: value for name, value in known.items() if name in taken}

    def _read_adapted(self) -> dict[str, str]:
        """What an earlier notebook of the run found this model to refuse: nothing is refused twice in one run."""
        model = self.state.get("model", {})
        same = all(model.get(name) == self.parameters.get(name) for name in ("model", "api"))
        return model.get("adapted") or {} if same else {}

    def check_parameters(self, notebook: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Raise ParameterError if the files of `notebook` in this folder were made with other parameters, and InputError if
        another program made them.

        `earlier` are the parameters of that time, `now` those of this call.
        """
        self.check_foreign(notebook)
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


def _add_up(usages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of each figure; None where one of them is not known."""
    columns = {name: [one[name] for one in usages] for name in usages[0]}
    return {name: None if None in values else sum(values) for name, values in columns.items()}


def _show_saved(figure: Any, path: Path) -> None:
    """Where figures stand below their cell, show the one that was saved: drawing it a third time takes half a second."""
    import matplotlib

    if "inline" in matplotlib.get_backend():
        from IPython.display import Image, display
        from matplotlib import pyplot

        pyplot.close(figure)
        display(Image(path.read_bytes()))


def open_run(notebook: str, parameters: Mapping[str, Any], **derived: Any) -> RunFolder:
    """Open (or make) the run folder for `notebook`: `parameters` is its `locals()`; only the declared ones are taken.

    `derived` are settings that the notebook computes from its parameters; run.json records both. Raises ParameterError if
    the folder holds files of this notebook made with other parameters, and InputError if it cannot be written.
    """
    declared = {name: parameters[name] for name in find_declared(notebook, parameters)}
    if notebook in NOTEBOOKS:
        refuse_moved(parameters)  # papermill lets unknown names pass
    check_secrets(declared)
    run = RunFolder(declared["run_dir"], notebook, {**declared, **derived})
    now = _select_fixed(run.parameters)
    run.check_parameters(notebook, run.state.get("parameters", {}).get(notebook, {}), now)
    run.take_over()
    run.note(kit_version=__version__, parameters={notebook: now})
    return run


def _merge(state: dict[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in facts.items():
        state[name] = {**state.get(name, {}), **value} if isinstance(value, dict) else value
    return state


def check_secrets(parameters: Mapping[str, Any]) -> None:
    """Raise ParameterError for an address with a password or a key in it: run.json and executed notebooks hold parameters."""
    for name, value in parameters.items():
        if isinstance(value, str) and holds_secret(value):
            why = "holds a password or key, and parameters are written to run.json and the notebooks"
            advice = f"leave {name} empty and put the address into the environment: export OPENAI_BASE_URL=..."
            raise ParameterError(f"{name} {why}; {advice}")


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
    fixed = {
        name: value
        for name, value in parameters.items()
        if name not in FREE_PARAMETERS and (name, value) not in _EARLIER_DEFAULTS.items()
    }
    examples = parameters.get("max_instances_to_generate")
    if examples and "stop" in fixed:  # an earlier kit recorded "Example 6" whatever it sent
        fixed["stop"] = [f"Example {examples + 1}" if stop == "Example 6" else stop for stop in fixed["stop"]]
    return json.loads(json.dumps(fixed))
