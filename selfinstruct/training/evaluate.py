"""Judging the columns: the same held-out tasks, the same layout and decoding, before and after training (section 4.3, Table 3).

    columns = find_columns(run)                                      # before_plain, before_chat, seeds_only, ...
    bits = measure_bits(run, columns, heldout)                       # column -> array (n_seeds, n_tasks), lower is better
    responses = ask_columns(run, columns, heldout.draw(60), base)    # column -> one list of Response a training seed
    scores = score_columns(responses, heldout.draw(60).tasks)        # measure -> column -> array (n_seeds, n_tasks)

Bits per byte is the primary measure: the loss of the reference, teacher-forced, without its end token. It has no decoding noise,
and a model that has only learnt to stop gains nothing by it. What is computed is kept at once (`evaluation/` of the run folder, and
the store): after a stop the same command goes on, and a second one computes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import (
    InputError,
    ParameterError,
    append_record,
    iter_lines,
    read_json,
    write_json,
    write_records,
)
from ..models.connection import connect
from ..models.embedded import weights_sha256
from ..records import Request
from ..runfolder import RunFolder
from .tasks import EvaluationTask, TaskSet
from .weights import (
    check_adapter,
    convert_to_f16,
    describe_base,
    import_torch,
    load_adapter,
    load_model,
    unpack_weights,
)

if TYPE_CHECKING:
    import numpy as np

    from ..models.client import ModelClient

BEFORE = ("before_plain", "before_chat")
COLUMNS = (*BEFORE, "seeds_only", "generated_only", "run_data", "shuffled_outputs")
PROVIDER = "provider_model"  # the column of a model that a provider serves: it has no loss
FOLDER = "evaluation"
CHUNK = 30  # tasks whose losses are computed, and kept, at a time
LAYOUT = "human_eval predictions, no end token"  # of the losses in the cache
FILLER = "\u2237"  # stands for the prompt where the chat template is rendered once


@dataclass(frozen=True)
class TrainedAdapter:
    """What training left of one column and training seed: an adapter and its record."""

    column: str
    training_seed: str
    folder: Path
    sha256: str
    record: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / "adapter.gguf"


@dataclass(frozen=True)
class Column:
    """One way of answering: the base weights (`adapters` is empty), or an adapter for each training seed."""

    name: str
    adapters: tuple[TrainedAdapter, ...] = ()

    @property
    def chat(self) -> bool:
        return self.name == "before_chat"

    @property
    def variants(self) -> tuple[TrainedAdapter | None, ...]:
        """An adapter a training seed; None is the base."""
        return self.adapters or (None,)


class Response(dict):
    """A row of `evaluation/predictions/`: the fields of the published predictions, with id, finish_reason and tokens."""


# the columns


def find_columns(run: RunFolder, columns: str = "", base: Path | None = None) -> list[Column]:
    """The columns to judge: before training, and what notebook 06 has trained in `run`; or those named, with commas between.

    Raises ParameterError for a name that has no adapter, InputError for an adapter that was made for other weights than `base`.
    """
    trained = _find_trained(run)
    names = [name.strip() for name in columns.split(",") if name.strip()]
    for name in names:
        if name not in (*BEFORE, *trained):
            known = ", ".join((*BEFORE, *trained))
            raise ParameterError(
                f'columns: no column "{name}" in {run}/adapters; there are {known} (notebook 06 trains them)'
            )
    names = names or [name for name in COLUMNS if name in (*BEFORE, *trained)]
    if base:
        for one in (one for name in names for one in trained.get(name, ())):
            check_adapter(one.folder, base)
    return [Column(name, tuple(trained.get(name, ()))) for name in names]


def _find_trained(run: RunFolder) -> dict[str, list[TrainedAdapter]]:
    found: dict[str, list[TrainedAdapter]] = {}
    for path in run.find("adapters/*/*/adapter.gguf"):
        folder = path.parent
        if (folder / "training.json").is_file():  # written last: without it the training has not ended
            one = TrainedAdapter(
                folder.parent.name, folder.name, folder, weights_sha256(path), read_json(folder / "training.json")
            )
            found.setdefault(one.column, []).append(one)
    return found


def collect_prompts(run: RunFolder, columns: Sequence[Column]) -> list[str]:
    """Every prompt that any of the columns was trained on."""
    files = [run / f"adapters/{one.name}/train.jsonl" for one in columns if one.adapters]
    return [row["prompt"] for path in files if path.is_file() for _, row in iter_lines(path)]


# the primary measure


def measure_bits(
    run: RunFolder,
    columns: Sequence[Column],
    tasks: TaskSet,
    base: Path,
    make_measure: Callable[[TrainedAdapter | None], Callable[[Sequence[tuple[str, str]]], Sequence[Any]]] | None = None,
) -> dict[str, np.ndarray]:
    """column -> bits per byte of each task's reference, an array (n_seeds, n_tasks): nats / ln 2 / bytes of its UTF-8.

    Of several references the likeliest counts. What `evaluation/losses_*.jsonl` holds for these weights, adapter and tasks is not
    computed again, and where it holds all, torch is not loaded.
    """
    import numpy as np
    from tqdm.auto import tqdm

    make_measure = make_measure or _LossMeter(base)
    files = {
        (column.name, place): LossFile(run, tasks, base, column, adapter)
        for column in columns
        for place, adapter in enumerate(column.variants)
    }
    missing = {key: file.find_missing(tasks.tasks) for key, file in files.items()}
    bar = tqdm(
        total=sum(map(len, missing.values())), desc="bits per byte", unit="task", disable=not any(missing.values())
    )
    with bar:
        for key, file in files.items():
            if missing[key]:
                bar.set_postfix_str(f"{key[0]}, {file.name_seed()}")
                file.complete(missing[key], make_measure, bar.update)
    return {
        column.name: np.array([files[column.name, place].read(tasks.tasks) for place in range(len(column.variants))])
        for column in columns
    }


class LossFile:
    """The losses of one adapter, or of the base, on one file of tasks: a line a task, kept as they are computed."""

    def __init__(self, run: RunFolder, tasks: TaskSet, base: Path, column: Column, adapter: TrainedAdapter | None):
        self.column, self.adapter, self.run, self.base = column, adapter, run, base
        layout = LAYOUT + (", chat template" if column.chat else "")
        made_of = [describe_base(base)["sha256"], adapter.sha256 if adapter else "", tasks.sha256, layout]
        key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
        self.path = run / f"{FOLDER}/losses_{column.name}_{key[:16]}.jsonl"
        lines = iter_lines(self.path, unfinished=True) if self.path.is_file() else ()
        self.known = {row["id"]: row for _, row in lines}

    def name_seed(self) -> str:
        return f"training seed {self.adapter.training_seed}" if self.adapter else "no training"

    def find_missing(self, tasks: Sequence[EvaluationTask]) -> list[EvaluationTask]:
        return [task for task in tasks if task.id not in self.known]

    def complete(self, missing: Sequence[EvaluationTask], make_measure: Callable, tell: Callable[[int], Any]) -> None:
        """Compute the losses of `missing`, longest last, and keep them part by part."""
        measure = make_measure(self.adapter)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        ordered = sorted(missing, key=lambda task: len(task.prompt) + len(task.references[0]))
        for start in range(0, len(ordered), CHUNK):
            part = ordered[start : start + CHUNK]
            pairs = [pair for task in part for pair in self._build_pairs(task)]
            losses = iter(measure(pairs))
            rows = [self._build_row(task, [next(losses) for _ in task.references]) for task in part]
            append_record(self.path, *rows)
            self.known |= {row["id"]: row for row in rows}
            tell(len(part))

    def _build_pairs(self, task: EvaluationTask) -> list[tuple[str, str]]:
        """(prompt, completion) of each reference, without an end token; in a chat nothing stands before the answer."""
        if self.column.chat:
            prompt = find_chat_layout(self.run, self.base).replace(FILLER, task.prompt)
            return [(prompt, reference) for reference in task.references]
        return [(task.prompt, f" {reference}") for reference in task.references]

    @staticmethod
    def _build_row(task: EvaluationTask, losses: Sequence[Any]) -> dict[str, Any]:
        best = min(
            ((one, text) for one, text in zip(losses, task.references, strict=True)),
            key=lambda pair: pair[0].nats / len(pair[1].encode()),
        )
        size = len(best[1].encode())
        return {"id": task.id, "nats": round(best[0].nats, 6), "tokens": best[0].tokens, "bytes": size}

    def read(self, tasks: Sequence[EvaluationTask]) -> list[float]:
        """Bits per byte of each task."""
        rows = (self.known[task.id] for task in tasks)
        return [row["nats"] / math.log(2) / row["bytes"] for row in rows]


class _LossMeter:
    """Adapter -> how its losses are measured; the base is loaded once, for the first that is missing."""

    def __init__(self, base: Path):
        self.base = base
        self._model = self._tokenizer = None

    def __call__(self, adapter: TrainedAdapter | None) -> Callable[[Sequence[tuple[str, str]]], Sequence[Any]]:
        from .loss import measure_completion_loss

        if self._model is None:
            self._model, self._tokenizer = load_model(self.base)
        if adapter:
            self._model = load_adapter(self._model, adapter.folder / "peft")
        elif hasattr(self._model, "unload"):
            self._model = self._model.unload()
        return partial(measure_completion_loss, self._model, self._tokenizer)


def find_chat_layout(run: RunFolder, base: Path) -> str:
    """The base's chat template around one message of the user, which FILLER stands for; kept in `evaluation/chat_layout.json`.

    Raises InputError where the weights have no chat template.
    """
    path, sha256 = run / f"{FOLDER}/chat_layout.json", describe_base(base)["sha256"]
    known = read_json(path) if path.is_file() else {}
    if sha256 not in known:
        import_torch()
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(unpack_weights(base) if base.is_file() else base)
        if not tokenizer.chat_template:
            raise InputError(f"{base.name}: no chat template in it; leave before_chat out of columns")
        messages = [{"role": "user", "content": FILLER}]
        known[sha256] = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        write_json(path, known)
    return known[sha256]


# what the models write


def ask_columns(
    run: RunFolder,
    columns: Sequence[Column],
    tasks: Sequence[EvaluationTask],
    base: Path,
    max_tokens: int,
    **settings: Any,
) -> tuple[dict[str, list[list[Response]]], list[ModelClient]]:
    """(column -> the responses of each training seed, the clients that asked): all from one server with every adapter loaded.

    It serves `base` in F16, and starts with the first request that the store does not hold. `settings` go to `connect`.
    """
    weights, variants = str(convert_to_f16(base)), [one for column in columns for one in column.adapters]
    common = {**settings, "deterministic": True, "adapters": [one.path for one in variants]}
    found: dict[str, list[list[Response]]] = {}
    clients: list[ModelClient] = []
    for column in columns:
        for adapter in column.variants:
            with connect(weights, adapter=adapter.path if adapter else "", **common) as client:
                found.setdefault(column.name, []).append(
                    ask_column(run, column, adapter, tasks, client, max_tokens, base)
                )
                clients.append(client)
    return found, clients


def note_columns(run: RunFolder, columns: Sequence[Column], clients: Sequence[ModelClient]) -> None:
    """Record in run.json what answered: every adapter with its scale and what it was trained on, and what the requests came to."""
    adapters = {
        f"{one.column}/{one.training_seed}": {
            "sha256": one.sha256, "scale": 1.0,
            **{name: one.record[name] for name in ("base", "train_file") if name in one.record},
        }
        for column in columns for one in column.adapters
    }  # fmt: skip
    run.note(adapters=adapters)
    if clients:
        run.note_model(*clients)


def ask_column(
    run: RunFolder,
    column: Column,
    adapter: TrainedAdapter | None,
    tasks: Sequence[EvaluationTask],
    client: ModelClient,
    max_tokens: int,
    base: Path | None = None,
) -> list[Response]:
    """One response a task, greedily and without a stop (paper Table 4), written to `evaluation/predictions/` as well."""
    layout = find_chat_layout(run, base) if column.chat and base else FILLER
    settings = {"max_tokens": max_tokens, "temperature": 0.0, "top_p": 0.0, "as_message": base is None}
    requests = [Request(prompt=layout.replace(FILLER, task.prompt), **settings) for task in tasks]
    seed = adapter.training_seed if adapter else ""
    label = f"{column.name}{'-' * bool(seed)}{seed}"
    completions = client.complete(requests, desc=label)
    rows = [
        Response(
            prompt=task.prompt, instruction=task.instruction, input=task.input,
            response=remove_echo(task.prompt, one.text).strip(), target=task.references[0], id=task.id,
            finish_reason=one.finish_reason, tokens=one.completion_tokens,
        )
        for task, one in zip(tasks, completions, strict=True)
    ]  # fmt: skip
    write_records(run / f"{FOLDER}/predictions/{label}_predictions.jsonl", rows)
    return rows


def ask_provider(
    run: RunFolder, tasks: Sequence[EvaluationTask], max_tokens: int, **settings: Any
) -> tuple[dict[str, list[list[Response]]], list[ModelClient]]:
    """As `ask_columns`, of the model that a provider serves: each prompt as one message, as it was trained on."""
    column = Column(PROVIDER)
    with connect(**settings) as client:
        return {PROVIDER: [ask_column(run, column, None, tasks, client, max_tokens)]}, [client]


def remove_echo(prompt: str, text: str) -> str:
    """`text` without the prompt, where a model or a server says it again first.

    >>> remove_echo("Name a river.\\nOutput:", "Name a river.\\nOutput: Nile"), remove_echo("Name a river.\\nOutput:", " Nile")
    (' Nile', ' Nile')
    """
    start = text.lstrip()
    return start[len(prompt) :] if start.startswith(prompt) else text


def score_responses_of(tasks: Sequence[EvaluationTask], rows: Sequence[Response]) -> dict[str, np.ndarray]:
    """measure -> its value for each response, (n_tasks,): ROUGE-L three ways, True where the model stopped, and tokens."""
    import numpy as np

    from ..analysis.responses import score_cuts, score_responses

    texts, references = [row["response"] for row in rows], [list(task.references) for task in tasks]
    cuts = score_cuts(texts, references)
    measures = {
        "rouge_l": cuts["whole"],
        "rouge_l_no_stemmer": score_responses(texts, references, stemmer=False),
        "rouge_l_reference_length": cuts["reference_length"],
    }
    if all(row.get("finish_reason") for row in rows):
        measures["stopped"] = np.array([float(row["finish_reason"] == "stop") for row in rows])
        measures["tokens"] = np.array([float(row["tokens"]) for row in rows])
    return measures


def score_columns(
    responses: Mapping[str, Sequence[Sequence[Response]]], tasks: Sequence[EvaluationTask]
) -> dict[str, dict[str, np.ndarray]]:
    """measure -> column -> array (n_seeds, n_tasks); a column of a published file has no "stopped" and no "tokens"."""
    import numpy as np

    scored = {name: [score_responses_of(tasks, rows) for rows in seeds] for name, seeds in responses.items()}
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, seeds in scored.items():
        for measure in seeds[0]:
            found.setdefault(measure, {})[name] = np.array([one[measure] for one in seeds])
    return found


def load_columns(predictions: str, tasks: Sequence[EvaluationTask]) -> dict[str, list[list[Response]]]:
    """Files of published predictions (several with commas) as columns of one seed: file's name -> its responses to `tasks`.

    A task's row is found by its instruction and input; its reference stays the task's own, or the file's `target`, and is never
    another model's response. Raises InputError where a file leaves a task without a response.
    """
    from ..analysis.responses import load_predictions

    columns = {}
    for name in filter(None, map(str.strip, predictions.split(","))):
        rows = {(row.instruction, row.input): row for row in load_predictions(name)}
        missing = [task for task in tasks if (task.instruction, task.input) not in rows]
        if missing:
            lack = f"no response to {len(missing)} of {len(tasks)} tasks, the first {missing[0].id}"
            raise InputError(f"{name}: {lack}; give tasks={name} to judge on the tasks of that file")
        found = [rows[task.instruction, task.input] for task in tasks]
        label = Path(name).stem.removesuffix("_predictions")
        columns[label] = [[Response(**row.model_dump()) for row in found]]
    return columns
