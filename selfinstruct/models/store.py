"""The store: every response of a model, once, in one SQLite file; cache, resume, replay and cost ledger in one.

    store = ResponseStore("outputs/responses.sqlite")
    key = request_key({"model": "m", "prompt": "p", ...})       # sha256 of the canonical request
    store.put(StoredResponse(key=key, ...))                     # on disk before it returns
    store.get_many([key])                                       # {key: StoredResponse}

Write-ahead logging with synchronous=NORMAL: what was put survives kill -9 of the process, and several processes and
threads may write at a time. Only the loss of power can take the last moments back. Keys of providers are never written.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files import InputError, SelfInstructError, iter_lines, load_records, project_path, show_path, write_records
from .protocol import StoredResponse, dump_canonical, find_row_fault
from .session import session_name

SCHEMA_VERSION = 1
BUSY_SECONDS = 60.0
LOOKUP_SIZE = 500  # keys in one query; SQLite's own limit is far above
NO_MODEL_CALLED = "Every answer came from the store; no model was called"

SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, api TEXT NOT NULL, endpoint TEXT NOT NULL, step TEXT NOT NULL,
    request TEXT NOT NULL, response TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, created_at TEXT NOT NULL, latency_s REAL NOT NULL, transport TEXT NOT NULL,
    session TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS spending ON responses (session, model, transport, prompt_tokens, completion_tokens);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, step TEXT NOT NULL, request TEXT NOT NULL, error TEXT NOT NULL,
    failed_at TEXT NOT NULL, attempts INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    tag TEXT PRIMARY KEY, batch_id TEXT NOT NULL, endpoint TEXT NOT NULL, status TEXT NOT NULL, submitted_at TEXT NOT NULL,
    keys TEXT NOT NULL, changes TEXT NOT NULL);
"""

_COLUMNS = tuple(StoredResponse.model_fields)
_INSERT = f"INSERT OR IGNORE INTO responses VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"


class ResponseStore:
    """One SQLite file of responses. Safe for several threads and processes; every write is a transaction of its own.

    Raises InputError where the file cannot be opened, is not a store, or was written by a later version.
    """

    def __init__(self, path: str | Path = "outputs/responses.sqlite"):
        self.path = project_path(path)
        self._lock = threading.Lock()
        with self._explain_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._prepare()

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise InputError(f"{show_path(self.path)}: written by a later version of the kit; update it")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if version < SCHEMA_VERSION:
            self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            fault, advice = f"cannot be used ({error})", "check the disk, and choose a folder you may write to"
        except sqlite3.DatabaseError as error:
            fault, advice = f"not a store of responses ({error})", "move it away or name another"
        else:
            return
        raise InputError(f"{show_path(self.path)}: {fault}; {advice}")

    def _run(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        with self._lock, self._explain_errors():
            return self._db.execute(sql, values).fetchall()

    def get_many(self, keys: Iterable[str]) -> dict[str, StoredResponse]:
        """The stored responses among `keys`."""
        keys = list(dict.fromkeys(keys))
        found: dict[str, StoredResponse] = {}
        for start in range(0, len(keys), LOOKUP_SIZE):
            part = keys[start : start + LOOKUP_SIZE]
            marks = ",".join("?" * len(part))
            for row in self._run(f"SELECT * FROM responses WHERE key IN ({marks})", part):
                found[row["key"]] = _from_row(row)
        return found

    def put(self, stored: StoredResponse) -> bool:
        """Write one response, durable against kill -9 on return; False where the key was there already, which stays."""
        # the response keeps the server's order of fields: a replay must give the same bytes as the call did
        response = json.dumps(stored.response, separators=(",", ":"), ensure_ascii=False)
        values = {**dict(stored), "request": dump_canonical(stored.request), "response": response}
        with self._lock, self._explain_errors():
            added = self._db.execute(_INSERT, values).rowcount > 0
            self._db.execute("DELETE FROM failures WHERE key = ?", (stored.key,))
        return added

    def put_failure(self, key: str, model: str, step: str, request: dict[str, Any], error: str, at: str) -> None:
        """Record that a request failed for good; the next run asks it again, and a response then removes the record."""
        self._run(
            "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT(key) DO UPDATE SET "
            "error = excluded.error, failed_at = excluded.failed_at, attempts = attempts + 1",
            (key, model, step, dump_canonical(request), error, at),
        )

    def failures(self) -> list[dict[str, Any]]:
        """Requests that failed and were not answered since: key, model, step, request, error, failed_at, attempts."""
        return [dict(row) for row in self._run("SELECT * FROM failures ORDER BY rowid")]

    def sum_tokens(self, session: str) -> list[tuple[str, str, int, int]]:
        """(model, transport, prompt tokens, completion tokens) of what one command has fetched so far."""
        sums = "SELECT model, transport, SUM(prompt_tokens), SUM(completion_tokens) FROM responses"
        return [tuple(row) for row in self._run(f"{sums} WHERE session = ? GROUP BY model, transport", (session,))]

    def put_batch(self, row: dict[str, Any]) -> None:
        """Record a batch job: `tag` (ours, known before the provider gives its `batch_id`), endpoint, status, submitted_at,
        `keys` of its requests, and `changes`, the parameters adapted in them."""
        values = {**row, "keys": json.dumps(row["keys"]), "changes": json.dumps(row["changes"])}
        sql = "INSERT OR REPLACE INTO batches VALUES (:tag, :batch_id, :endpoint, :status, :submitted_at, :keys, :changes)"
        self._run(sql, values)

    def batches(self, endpoint: str) -> list[dict[str, Any]]:
        """Batch jobs of `endpoint`, oldest first, as they were put."""
        found = self._run("SELECT * FROM batches WHERE endpoint = ? ORDER BY submitted_at, rowid", (endpoint,))
        return [{**row, "keys": json.loads(row["keys"]), "changes": json.loads(row["changes"])} for row in found]

    def rows(self, model: str = "", step: str = "") -> Iterator[StoredResponse]:
        """Every response in the order of arrival, read page by page; of one model or step only if named."""
        last = 0
        sql = "SELECT *, rowid FROM responses WHERE rowid > ? AND ? IN ('', model) AND ? IN ('', step)"
        while page := self._run(f"{sql} ORDER BY rowid LIMIT 1000", (last, model, step)):
            last = page[-1]["rowid"]
            yield from map(_from_row, page)

    def __len__(self) -> int:
        return self._run("SELECT COUNT(*) FROM responses")[0][0]

    def close(self) -> None:
        """Close the file; the last one to close it folds the write-ahead log in."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> ResponseStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _from_row(row: sqlite3.Row) -> StoredResponse:
    values = {name: row[name] for name in _COLUMNS}
    texts = {name: json.loads(row[name]) for name in ("request", "response")}
    return StoredResponse.model_construct(**{**values, **texts})


def count_calls(stores: Iterable[str | Path]) -> dict[str | Path, Any]:
    """store -> the tokens that this command has fetched into it, and all failed requests.

    Equal before and after some work where that work called no model (NO_MODEL_CALLED); the work of all processes of the
    command counts, such as the kernels of a run. Of a store that cannot be read nothing is known: it is never equal.
    """
    return {store: _count_calls(store) for store in stores}


def _count_calls(path: str | Path) -> Any:
    try:
        if not project_path(path).is_file():
            return [], []
        with ResponseStore(path) as store:
            return store.sum_tokens(session_name()), store.failures()
    except (SelfInstructError, OSError, RuntimeError):  # whoever needs the store says what is wrong with it
        return object()


def list_responses(path: str | Path = "outputs/responses.sqlite") -> list[dict[str, Any]]:
    """One row for each model, api, endpoint and step: responses, tokens, first and last time, and failed requests."""
    with ResponseStore(find_store(path)) as store:
        rows = store._run(
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
        rows, missing = _find_responses(store, model, step, keys)
    if not rows:
        raise InputError(_explain_empty(path, model, step, missing))
    for line in [*_describe_responses(rows), *_describe_missing(path, missing)]:
        tell(line)
    write_records(out, [row.model_dump(exclude={"session"}) for row in rows])
    return len(rows)


def _find_responses(
    store: ResponseStore, model: str, step: str, keys: Sequence[str] | None
) -> tuple[list[StoredResponse], list[str]]:
    """(the chosen responses, those of `keys` that the store does not have)."""
    if keys is None:
        return list(store.rows(model, step)), []
    found = store.get_many(keys)
    rows = (found[key] for key in keys if key in found)
    chosen = [row for row in rows if model in ("", row.model) and step in ("", row.step)]
    return chosen, [key for key in keys if key not in found]


def _describe_responses(rows: Iterable[StoredResponse]) -> list[str]:
    """What goes out, a line for each model and endpoint: an address in it may be nobody else's business."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for row in rows:
        counts.setdefault((row.model, row.api, row.endpoint), Counter())[row.step or "-"] += 1
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
    """Add the responses of an exported file to a store; returns (added, known already).

    Raises InputError with file:line at the first line that is not a response or whose key does not fit its request;
    nothing is added then.
    """
    rows = load_records(source, StoredResponse)
    for (number, _), row in zip(iter_lines(source), rows, strict=True):
        if fault := find_row_fault(row):
            raise InputError(f"{show_path(source)}:{number}: {fault}; the file was changed after its export")
    with ResponseStore(path) as store:
        added = sum(store.put(row) for row in rows)
    return added, len(rows) - added


def verify_store(path: str | Path = "outputs/responses.sqlite") -> tuple[int, list[str]]:
    """(responses, faults): the file's own integrity, every key against its request, every response readable."""
    with ResponseStore(find_store(path)) as store:
        (integrity,) = store._run("PRAGMA integrity_check")[0]
        faults = [] if integrity == "ok" else [f"file: {integrity}"]
        faults += [fault for row in store.rows() if (fault := find_row_fault(row))]
        return len(store), faults
