"""What the columns write: greedy answers to a sample of the held-out tasks, from one server, and their scores.

    responses, clients = ask_columns(run, columns, sample.tasks, base, 96, store)      # column -> responses of each training seed
    score_columns(responses, sample.tasks)                          # measure -> column -> array (n_seeds, n_tasks)

Every answer is in the store the moment it comes; the rows of `evaluation/predictions/` have the fields of the published ones,
and so have those of notebook 16 in `evaluation/scaling/predictions/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis.predictions import load_predictions, score_cuts, score_responses
from ..files import InputError, SelfInstructError, given_path, write_records
from ..models.connection import connect
from ..records import Request
from ..runfolder import RunFolder
from ..training.weights import convert_to_f16
from .columns import FILLER, OF_07, OF_16, PROVIDER, Column, Places, TrainedAdapter, find_chat_layout, load_trained
from .tasks import EvaluationTask

if TYPE_CHECKING:
    import numpy as np

    from ..models.client import ModelClient


class Response(dict):
    """A row of `evaluation/predictions/`: the fields of the published predictions, with id, finish_reason and tokens."""


def ask_columns(
    run: RunFolder,
    columns: Sequence[Column],
    tasks: Sequence[EvaluationTask],
    base: Path,
    max_tokens: int,
    store: str | Path,
    places: Places = OF_07,
) -> tuple[dict[str, list[list[Response]]], list[ModelClient]]:
    """(column -> the responses of each training seed, the clients that asked): all from one server with every adapter loaded.

    It serves `base` in F16, and starts with the first request that `store` does not hold.
    """
    found: dict[str, list[list[Response]]] = {}
    clients: list[ModelClient] = []
    for column, adapter, client in _connect_each(columns, base, store):
        rows = ask_column(run, column, adapter, tasks, client, max_tokens, base, places)
        found.setdefault(column.name, []).append(rows)
        clients.append(client)
    return found, clients


def _connect_each(
    columns: Sequence[Column], base: Path, store: str | Path
) -> Iterator[tuple[Column, TrainedAdapter | None, ModelClient]]:
    weights, variants = str(convert_to_f16(base)), [one for column in columns for one in column.adapters]
    common = {"store": store, "deterministic": True, "adapters": [one.path for one in variants], "step": "07"}
    for column in columns:
        for adapter in column.variants:
            with connect(weights, adapter=adapter.path if adapter else "", **common) as client:
                yield column, adapter, client


def list_unasked(
    run: RunFolder,
    columns: Sequence[Column],
    tasks: Sequence[EvaluationTask],
    base: Path,
    max_tokens: int,
    store: str | Path,
) -> list[Request]:
    """The requests of `ask_columns` that `store` has no answer to; nothing is asked."""
    return [
        request
        for column, _, client in _connect_each(columns, base, store)
        for request in client.find_missing(build_requests(run, column, tasks, max_tokens, base))
    ]


def build_requests(
    run: RunFolder, column: Column, tasks: Sequence[EvaluationTask], max_tokens: int, base: Path | None = None
) -> list[Request]:
    """A request a task, greedy and without a stop (paper Table 4); without `base` each is one message of a chat."""
    layout = find_chat_layout(run, base) if column.chat and base else FILLER
    settings = {"max_tokens": max_tokens, "temperature": 0.0, "top_p": 0.0, "as_message": base is None}
    return [Request(prompt=layout.replace(FILLER, task.prompt), **settings) for task in tasks]


def note_columns(
    run: RunFolder, columns: Sequence[Column], clients: Sequence[ModelClient], places: Places = OF_07
) -> None:
    """Record in run.json what answered: every adapter with its scale and what it was trained on, and what the requests came to.

    What another notebook has listed stays while it is there and the same; of this one's only those of `columns` do.
    """
    others = OF_16 if places == OF_07 else OF_07
    listed = run.state.get("adapters", {})
    kept = {
        name: one for name, one in listed.items() if _find_sha256(run / others.adapters / name) == one.get("sha256")
    }
    adapters = {
        f"{one.column}/{one.training_seed}": {
            "sha256": one.sha256, "scale": 1.0,
            **{name: one.record[name] for name in ("base", "train_file") if name in one.record},
        }
        for column in columns for one in column.adapters
    }  # fmt: skip
    run.replace(adapters={**kept, **adapters})
    if clients:
        run.note_model(*clients)


def _find_sha256(folder: Path) -> str:
    """The sha256 of the adapter in COLUMN/TRAINING_SEED, "" where there is none any more."""
    try:
        return load_trained(folder).sha256
    except SelfInstructError:
        return ""


def ask_column(
    run: RunFolder,
    column: Column,
    adapter: TrainedAdapter | None,
    tasks: Sequence[EvaluationTask],
    client: ModelClient,
    max_tokens: int,
    base: Path | None = None,
    places: Places = OF_07,
) -> list[Response]:
    """One response a task, also written to the folder of predictions."""
    requests = build_requests(run, column, tasks, max_tokens, base)
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
    write_records(run / f"{places.predictions}/{label}_predictions.jsonl", rows)
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


def score_column(tasks: Sequence[EvaluationTask], rows: Sequence[Response]) -> dict[str, np.ndarray]:
    """measure -> its value for each response, (n_tasks,): ROUGE-L three ways, True where the model stopped, and tokens."""
    import numpy as np

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

    scored = {name: [score_column(tasks, rows) for rows in seeds] for name, seeds in responses.items()}
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
    columns = {}
    for name in split_names(predictions):
        rows = {(row.instruction, row.input): row for row in load_predictions(given_path(name))}
        missing = [task for task in tasks if (task.instruction, task.input) not in rows]
        if missing:
            lack = f"no response to {len(missing)} of {len(tasks)} tasks, the first {missing[0].id}"
            raise InputError(f"{name}: {lack}; give tasks={name} to judge on the tasks of that file")
        found = [rows[task.instruction, task.input] for task in tasks]
        label = Path(name).stem.removesuffix("_predictions")
        columns[label] = [[Response(**row.model_dump()) for row in found]]
    return columns


def split_names(text: str) -> list[str]:
    """The names in a parameter's text, with commas between."""
    return [part.strip() for part in text.split(",") if part.strip()]
