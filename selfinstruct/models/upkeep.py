"""The store from outside: what is in it, exports and imports, what must go, and if it is sound.

export_responses("outputs/responses.sqlite", "answers.jsonl", model="m")     # JSONL for others to import and replay
import_responses("outputs/other.sqlite", "answers.jsonl")                    # (added, known already); all or nothing
drop_responses("outputs/responses.sqlite", confirm=ask, step="02")           # once `ask` has agreed to what goes
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import InputError, ParameterError, iter_records, project_path, show_path, write_records
from .protocol import StoredResponse, find_row_fault
from .store import LOOKUP_SIZE, ResponseStore, find_change, find_damage, read_row, seal_answer

SHORTEST_KEY = 8  # of the beginning of a key, as a person types it
LABELS = "key, model, api, endpoint, step, prompt_tokens, completion_tokens"


def list_responses(path: str | Path = "outputs/responses.sqlite") -> list[dict[str, Any]]:
    """One row for each model, api, endpoint and step: responses, tokens, first and last time, and failed requests."""
    with ResponseStore(find_store(path)) as store:
        rows = store.run(
            "SELECT model, api, endpoint, step, COUNT(*) AS responses, SUM(prompt_tokens) AS prompt_tokens, "
            "SUM(completion_tokens) AS completion_tokens, MIN(created_at) AS first, MAX(created_at) AS last, "
            "(SELECT COUNT(*) FROM failures f WHERE f.model = r.model AND f.step = r.step) AS failed "
            "FROM responses r GROUP BY model, api, endpoint, step ORDER BY MIN(rowid)"
        )
    return [dict(row) for row in rows]


def find_store(path: str | Path) -> Path:
    """`path` where there is a file; raises InputError instead of making an empty store by reading it."""
    path = project_path(path)
    if not path.is_file():
        raise InputError(f"{show_path(path)}: no such store; a run makes it")
    return path


def export_responses(
    path: str | Path,
    out: str | Path,
    model: str = "",
    step: str = "",
    keys: Sequence[str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Write the responses of a store as JSONL for others to import and replay; returns how many.

    With `keys` only those, in their order (a run's: `RunFolder.read_keys`), else in the order of arrival. Before anything is
    written, `tell` gets in lines what will be. `session` is left out: it says nothing to anybody else. Raises InputError
    where there are none of that model and step.
    """
    path = find_store(path)
    with ResponseStore(path) as store:
        rows = _select(store, model, step, keys)
        missing = sorted({*(keys or ())} - {row["key"] for row in store.scan(columns="key")})
        if not rows:
            raise InputError(_explain_empty(path, model, step, missing))
        for line in [*_describe_responses(rows), *_describe_missing(path, missing)]:
            tell(line)
        write_records(out, (seal_answer(row).model_dump(exclude={"session"}) for row in _read(store, rows)))
    return len(rows)


def _select(store: ResponseStore, model: str, step: str, keys: Sequence[str] | None) -> list[sqlite3.Row]:
    """The labels of the chosen responses, in the order of `keys` or of arrival; nothing of them is looked up by their keys,
    which may be what is damaged."""
    rows = store.scan(model, step, LABELS)
    if keys is None:
        return list(rows)
    places = {key: place for place, key in enumerate(keys)}
    return sorted((row for row in rows if row["key"] in places), key=lambda row: places[row["key"]])


def _read(store: ResponseStore, rows: Sequence[sqlite3.Row]) -> Iterator[StoredResponse]:
    """The chosen responses themselves, some at a time."""
    for start in range(0, len(rows), LOOKUP_SIZE):
        part = [row["key"] for row in rows[start : start + LOOKUP_SIZE]]
        found = store.get_many(part)
        yield from (found[key] for key in part if key in found)


def _describe_responses(rows: Iterable[sqlite3.Row]) -> list[str]:
    """What is chosen, a line for each model and endpoint: an address in it may be nobody else's business."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for row in rows:
        counts.setdefault((row["model"], row["api"], row["endpoint"]), Counter())[row["step"] or "-"] += 1
    return [
        f"{model}, {api} at {endpoint}: {steps.total():,} response{'s' * (steps.total() != 1)} ("
        + ", ".join(f"step {step}: {number:,}" for step, number in sorted(steps.items())) + ")"
        for (model, api, endpoint), steps in sorted(counts.items())
    ]  # fmt: skip


def _describe_missing(path: Path, missing: Sequence[str]) -> list[str]:
    """The keys that the store does not have, each on a line under a headline; [] if none."""
    who = "1 answer of the run is" if len(missing) == 1 else f"{len(missing):,} answers of the run are"
    headline = f"{who} not in {show_path(path)}; a replay asks the model:"
    return [headline, *(f"  {key}" for key in missing)] if missing else []


def _explain_empty(path: Path, model: str, step: str, missing: Sequence[str] = ()) -> str:
    """The message for an export that would be empty: what was asked for, and what there is."""
    there = sorted({f"{row['model']} step {row['step'] or '-'}" for row in list_responses(path)})
    asked = [f"of {name} {value!r}" for name, value in (("model", model), ("step", step)) if value]
    advice = f"there are: {', '.join(there)}" if there else "it is empty; a run fills it"
    asked += ["of the run"] if missing else []
    return f"{show_path(path)}: no responses {' '.join([*asked, ''])}in it; {advice}"


def import_responses(path: str | Path, source: str | Path) -> tuple[int, int]:
    """Add the responses of an exported file to a store, all or nothing; returns (added, known already).

    Raises InputError with file:line at the first line that is not a response, whose key does not fit its request, or whose
    answer was changed.
    """
    number = sum(1 for _ in _read_export(source))  # every line is judged before the store is opened
    with ResponseStore(path) as store:
        added = store.put_all(_read_export(source))
    return added, number - added


def _read_export(source: str | Path) -> Iterator[StoredResponse]:
    for number, row in iter_records(source, StoredResponse):
        if fault := find_row_fault(row) or find_change(row):
            advice = "the file was changed after its export; export it again, or leave that line out"
            raise InputError(f"{show_path(source)}:{number}: {fault}; {advice}")
        yield row


def drop_responses(
    path: str | Path,
    confirm: Callable[[str], bool],
    model: str = "",
    step: str = "",
    keys: Sequence[str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Remove responses and records of failures: those of a model, of a step, of `keys`, or of all that are named.

    First `tell` gets in lines what goes, and `confirm` the question; returns how many responses went, 0 where it said no.
    Raises ParameterError where nothing is named, InputError where there is nothing of that name.
    """
    if not (model or step or keys is not None):
        raise ParameterError(
            "name what must go: a run folder, a model, a step or a key; a whole store is a file to delete"
        )
    path = find_store(path)
    with ResponseStore(path) as store:
        rows = _select(store, model, step, keys)
        failed = _find_failed(store, model, step, keys)
        if not rows and not failed:
            raise InputError(_explain_empty(path, model, step, keys or ()))
        for line in _describe_responses(rows):
            tell(line)
        if not confirm(_describe_loss(rows, failed)):
            return 0
        store.delete([row["at"] for row in rows], failed)
    return len(rows)


def _find_failed(store: ResponseStore, model: str, step: str, keys: Sequence[str] | None) -> list[str]:
    rows = store.run("SELECT key FROM failures WHERE ? IN ('', model) AND ? IN ('', step)", (model, step))
    return [row["key"] for row in rows if keys is None or row["key"] in keys]


def _describe_loss(rows: Sequence[sqlite3.Row], failed: Sequence[str]) -> str:
    prompt, completion = (sum(row[f"{kind}_tokens"] for row in rows) for kind in ("prompt", "completion"))
    many = f"{len(rows):,} response{'s' * (len(rows) != 1)}"
    failures = f" and {len(failed):,} record{'s' * (len(failed) != 1)} of failures" if failed else ""
    return f"Drop {many} ({prompt:,} + {completion:,} tokens){failures}? A run that needs them asks the model again"


def find_keys(path: str | Path, beginnings: Iterable[str]) -> list[str]:
    """The keys of responses and failures that begin so; raises InputError for a beginning that none has."""
    with ResponseStore(find_store(path)) as store:
        known = [row["key"] for row in [*store.scan(columns="key"), *store.run("SELECT key FROM failures")]]
    found: list[str] = []
    for beginning in beginnings:
        keys = [key for key in known if key.startswith(beginning)]
        if len(beginning) < SHORTEST_KEY or not keys:
            why = f"no key begins with {beginning!r}" if keys == [] else f"{beginning!r} is too short for a key"
            raise InputError(
                f"{show_path(project_path(path))}: {why}; give {SHORTEST_KEY} characters or more, as messages print them"
            )
        found += keys
    return list(dict.fromkeys(found))


def verify_store(path: str | Path = "outputs/responses.sqlite") -> tuple[int, list[str]]:
    """(responses, faults): the file's own integrity, every key against its request, every answer against its hash."""
    with ResponseStore(find_store(path)) as store:
        faults = [f"file: {fault}" for fault in [store.check_file()] if fault]
        faults += [f"{fault}  (key {row['key']})" for row in store.scan() if (fault := _find_fault(row))]
        return len(store), faults


def _find_fault(row: sqlite3.Row) -> str | None:
    return find_damage(row) or find_row_fault(read_row(row))
