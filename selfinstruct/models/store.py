"""The store: every response of a model, once, in one SQLite file; cache, resume, replay and cost ledger in one.

    store = ResponseStore("outputs/responses.sqlite")
    key = request_key({"model": "m", "prompt": "p", ...})       # sha256 of the canonical request
    store.settle(StoredResponse(key=key, ...))                  # on disk before it returns; the answer that is kept
    store.get_many([key])                                       # {key: StoredResponse}

Write-ahead logging with synchronous=NORMAL: what was put survives kill -9 of the process, and several processes and
threads may write at a time. Only the loss of power can take the last moments back. Keys of providers are never written.
A row carries the hash of its answer and is checked against it whenever it is read. `claims` says who asks what at the
moment; `upkeep` lists, exports, imports, drops and verifies.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files import InputError, SelfInstructError, describe_space, explain_write_error, project_path, show_path
from ..session import session_name
from .protocol import StoredResponse, dump_canonical

SCHEMA_VERSION = 2
BUSY_SECONDS = 60.0
SPACE_FOR_ANSWERS = 10_000_000  # bytes that must be free before one is asked for
FULL_BELOW = 100_000  # free bytes: SQLite's log begins with so many
LONGEST_EVIDENCE = 100_000  # characters of the body of a failed request
LOOKUP_SIZE = 500  # keys in one query; SQLite's own limit is far above
NO_MODEL_CALLED = "Every answer came from the store; no model was called"

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, api TEXT NOT NULL, endpoint TEXT NOT NULL, step TEXT NOT NULL,
    request TEXT NOT NULL, response TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, created_at TEXT NOT NULL, latency_s REAL NOT NULL, transport TEXT NOT NULL,
    session TEXT NOT NULL, answer_sha256 TEXT NOT NULL DEFAULT '')""",
    "CREATE INDEX IF NOT EXISTS spending ON responses (session, model, transport, prompt_tokens, completion_tokens)",
    """CREATE TABLE IF NOT EXISTS failures (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, step TEXT NOT NULL, request TEXT NOT NULL, error TEXT NOT NULL,
    failed_at TEXT NOT NULL, attempts INTEGER NOT NULL, response TEXT NOT NULL DEFAULT '')""",
    """CREATE TABLE IF NOT EXISTS batches (
    tag TEXT PRIMARY KEY, batch_id TEXT NOT NULL, endpoint TEXT NOT NULL, status TEXT NOT NULL, submitted_at TEXT NOT NULL,
    keys TEXT NOT NULL, changes TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, machine TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL,
    until REAL NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS reserved (
    owner TEXT PRIMARY KEY, session TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, tokens REAL NOT NULL,
    usd REAL NOT NULL, excess REAL NOT NULL) WITHOUT ROWID""",
)
# the key is the hash of the request
_HASHED = tuple(name for name in StoredResponse.model_fields if name not in ("request", "session", "answer_sha256"))
FROM_VERSION_1 = (
    "ALTER TABLE responses ADD COLUMN answer_sha256 TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE failures ADD COLUMN response TEXT NOT NULL DEFAULT ''",
    f"UPDATE responses SET answer_sha256 = hash_answer({', '.join(_HASHED)})",
)

_COLUMNS = tuple(StoredResponse.model_fields)
_INSERT = (
    f"INSERT OR IGNORE INTO responses ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
)
_READ = {*_COLUMNS} - {"answer_sha256"}
_ALL = ", ".join(_COLUMNS)
_WITHOUT_REQUEST = ", ".join(name for name in _COLUMNS if name != "request")


class ResponseStore:
    """One SQLite file of responses. Safe for several threads and processes; every write is a transaction of its own.

    Raises InputError where the file cannot be opened or written, is not a store, was written by a later version, or where a
    row is not what was stored.
    """

    def __init__(self, path: str | Path = "outputs/responses.sqlite"):
        self.path = project_path(path)
        self._lock = threading.RLock()  # `run` within a transaction is part of it
        with self._explain_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.text_factory = lambda raw: raw.decode(errors="replace")  # a broken byte is for the hash to find
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._switch_to_wal()
        self._db.execute("PRAGMA synchronous=NORMAL")
        if self._read_version() < SCHEMA_VERSION:
            with self.transaction() as execute:
                found = self._read_version()  # another command may have come first
                self._db.create_function("hash_answer", len(_HASHED), _hash_values, deterministic=True)
                for statement in (*(FROM_VERSION_1 if found == 1 else ()), *SCHEMA):
                    execute(statement)
                execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _switch_to_wal(self) -> None:
        """Where another process is at it, this one statement fails at once, whatever the timeout: it is tried again."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.002, 0.02))

    def _read_version(self) -> int:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise InputError(f"{show_path(self.path)}: written by a later version of the kit; update it")
        return version

    @contextmanager
    def _explain_errors(self, size: int = 0) -> Iterator[None]:
        """Errors of the file in a sentence; `size` is the number of bytes that are to be written."""
        try:
            yield
            return
        except OSError as error:
            fault = explain_write_error(self.path, error, size)
        except UnicodeDecodeError as error:  # a damaged schema: SQLite's message quotes it
            fault = _explain_damage(self.path, error)
        except sqlite3.DatabaseError as error:
            fault = _explain_database_error(self.path, error, size)
        raise fault

    def run(self, sql: str, values: Sequence[Any] | dict[str, Any] = (), size: int = 0) -> list[sqlite3.Row]:
        """The rows that one statement gives."""
        with self._lock, self._explain_errors(size):
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self, size: int = 0) -> Iterator[Any]:
        """One write of several statements, all or none; yields the function that executes them."""
        with self._lock, self._explain_errors(size):
            self._db.execute("BEGIN IMMEDIATE")  # waits for other writers; BEGIN alone fails later, and at once
            try:
                yield self._db.execute
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:  # a full disk has rolled back already
                    self._db.execute("ROLLBACK")

    # responses

    def get_many(self, keys: Iterable[str]) -> dict[str, StoredResponse]:
        """The stored responses among `keys`."""
        return {row["key"]: self._read_row(row) for row in self._look_up(_ALL, keys)}

    def get_answers(self, keys: Iterable[str]) -> dict[str, StoredResponse]:
        """As `get_many` with every `request` left empty: whoever asks has them, and 52,000 are half a gigabyte."""
        return {row["key"]: self._read_row(row) for row in self._look_up(_WITHOUT_REQUEST, keys)}

    def _look_up(self, columns: str, keys: Iterable[str]) -> Iterator[sqlite3.Row]:
        keys = list(dict.fromkeys(keys))
        for start in range(0, len(keys), LOOKUP_SIZE):
            part = keys[start : start + LOOKUP_SIZE]
            yield from self.run(f"SELECT {columns} FROM responses WHERE key IN ({','.join('?' * len(part))})", part)

    def _read_row(self, row: sqlite3.Row) -> StoredResponse:
        if fault := find_damage(row):
            ask_again = f"`selfinstruct store drop --store {show_path(self.path)} --key {row['key']}`"
            raise InputError(f"{show_path(self.path)}: {fault}; {ask_again} removes it, and a run asks it again")
        return read_row(row)

    def put(self, stored: StoredResponse) -> bool:
        """Write one response, durable against kill -9 on return; False where the key was there already, which stays."""
        return self.put_all([stored]) > 0

    def put_all(self, rows: Iterable[StoredResponse]) -> int:
        """Write responses in one transaction, all or none; returns how many were not there already, which stay."""
        added = size = 0
        with self.transaction() as execute:
            for values in map(_to_values, rows):
                size += len(values["request"]) + len(values["response"])
                with self._explain_errors(size):
                    added += execute(_INSERT, values).rowcount
                    for table in ("failures", "claims"):
                        execute(f"DELETE FROM {table} WHERE key = ?", (values["key"],))
        return added

    def settle(self, stored: StoredResponse) -> StoredResponse:
        """Write one response and end its claim; returns the one that is kept: an earlier one where there is one."""
        return stored if self.put(stored) else self.get_answers([stored.key])[stored.key]

    def rows(self, model: str = "", step: str = "") -> Iterator[StoredResponse]:
        """Every response in the order of arrival; of one model or step only if named."""
        return map(self._read_row, self.scan(model, step))

    def scan(self, model: str = "", step: str = "", columns: str = _ALL) -> Iterator[sqlite3.Row]:
        """The rows of `rows` as they are in the file, read page by page."""
        last = 0
        sql = f"SELECT {columns}, rowid AS at FROM responses WHERE at > ? AND ? IN ('', model) AND ? IN ('', step)"
        while page := self.run(f"{sql} ORDER BY at LIMIT 1000", (last, model, step)):
            last = page[-1]["at"]
            yield from page

    def delete(self, rows: Iterable[int], keys: Iterable[str]) -> None:
        """Remove the responses at `rows` (`at` of a scan) and the failures of `keys`, and what they said from the file."""
        self.run("PRAGMA secure_delete=ON")
        with self.transaction():
            self._db.executemany("DELETE FROM responses WHERE rowid = ?", ((at,) for at in rows))
            self._db.executemany("DELETE FROM failures WHERE key = ?", ((key,) for key in keys))
        self.run("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds the old pages until then

    def check_file(self) -> str | None:
        """What SQLite finds wrong with the file, or None."""
        found = [row[0] for row in self.run("PRAGMA integrity_check")]
        return None if found == ["ok"] else "; ".join(found)

    def require_space(self) -> None:
        """Raise InputError where the disk is too full for an answer: better before it is paid for than after."""
        free = shutil.disk_usage(self.path.parent).free
        if free < SPACE_FOR_ANSWERS:
            raise explain_write_error(
                self.path, OSError(errno.ENOSPC, "too little space for answers"), SPACE_FOR_ANSWERS
            )

    def __len__(self) -> int:
        return self.run("SELECT COUNT(*) FROM responses")[0][0]

    # failures, spending, batch jobs

    def put_failure(
        self, key: str, model: str, step: str, request: dict[str, Any], error: str, at: str, response: str = ""
    ) -> None:
        """Record that a request failed for good, with the body of the response if one came, as evidence.

        The next run asks it again, and a response then removes the record.
        """
        self.run(
            "INSERT INTO failures (key, model, step, request, error, failed_at, response, attempts) VALUES (?, ?, ?, ?, ?, ?, ?, 1) "
            "ON CONFLICT(key) DO UPDATE SET error = excluded.error, failed_at = excluded.failed_at, "
            "response = excluded.response, attempts = attempts + 1",
            (key, model, step, dump_canonical(request), error, at, _shorten(response)),
        )

    def failures(self) -> list[dict[str, Any]]:
        """Requests that failed and were not answered since: key, model, step, request, error, failed_at, attempts, response."""
        return [dict(row) for row in self.run("SELECT * FROM failures ORDER BY rowid")]

    def sum_tokens(self, session: str) -> list[tuple[str, str, int, int]]:
        """(model, transport, prompt tokens, completion tokens) of what one command has fetched so far."""
        sums = "SELECT model, transport, SUM(prompt_tokens), SUM(completion_tokens) FROM responses"
        return [tuple(row) for row in self.run(f"{sums} WHERE session = ? GROUP BY model, transport", (session,))]

    def put_batch(self, row: dict[str, Any]) -> None:
        """Record a batch job: `tag` (ours, known before the provider gives its `batch_id`), endpoint, status, submitted_at,
        `keys` of its requests, and `changes`, the parameters adapted in them. It takes the place of claims on `keys`."""
        values = {**row, "keys": json.dumps(row["keys"]), "changes": json.dumps(row["changes"])}
        sql = "INSERT OR REPLACE INTO batches VALUES (:tag, :batch_id, :endpoint, :status, :submitted_at, :keys, :changes)"
        with self.transaction() as execute:
            execute(sql, values)
            self._db.executemany("DELETE FROM claims WHERE key = ?", ((key,) for key in row["keys"]))

    def batches(self, endpoint: str) -> list[dict[str, Any]]:
        """Batch jobs of `endpoint`, oldest first, as they were put."""
        found = self.run("SELECT * FROM batches WHERE endpoint = ? ORDER BY submitted_at, rowid", (endpoint,))
        return [{**row, "keys": json.loads(row["keys"]), "changes": json.loads(row["changes"])} for row in found]

    def close(self) -> None:
        """Close the file; the last one to close it folds the write-ahead log in."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> ResponseStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# a row and its hash


def _to_values(stored: StoredResponse) -> dict[str, Any]:
    """`stored` as a row of the table, with the hash of its answer."""
    # the response keeps the server's order of fields: a replay must give the same bytes as the call did
    response = json.dumps(stored.response, separators=(",", ":"), ensure_ascii=False)
    values = {**dict(stored), "request": dump_canonical(stored.request), "response": response}
    return {**values, "answer_sha256": hash_answer(values)}


def read_row(row: sqlite3.Row) -> StoredResponse:
    """A row of the table, which must be as it was stored; its hash has done its work."""
    names = {name.lower() for name in row.keys()}  # noqa: SIM118  SQLite's names of columns have no case
    values = {"request": "{}"} | {name: row[name] for name in sorted(_READ & names)}
    texts = {name: json.loads(values[name]) for name in ("request", "response")}
    return StoredResponse.model_construct(**(values | texts))


def hash_answer(values: Mapping[str, Any]) -> str:
    """sha256 of all that a row says but its request, of which the key is the hash, and the command that fetched it."""
    return _hash_values(*(values[name] for name in _HASHED))


def _hash_values(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, default=repr).encode()).hexdigest()


def _shorten(evidence: str) -> str:
    """The beginning of a response's body, in characters that a file can hold."""
    return evidence[:LONGEST_EVIDENCE].encode("utf-8", "replace").decode()


def find_damage(row: sqlite3.Row) -> str | None:
    """What of `row` is not as it was stored, or None."""
    if row["answer_sha256"] != hash_answer(row):
        return f"the answer {str(row['key'])[:12]} is not the one that was stored (its hash is another)"
    request = row["request"] if "request" in row.keys() else None  # noqa: SIM118  a Row is no mapping
    if request is not None and row["key"] != hashlib.sha256(str(request).encode("utf-8", "surrogatepass")).hexdigest():
        return f"key {row['key'][:12]} is not the hash of its request"
    return None


def seal_answer(stored: StoredResponse) -> StoredResponse:
    """`stored` with the hash of its answer, as it is exported."""
    return stored.model_copy(update={"answer_sha256": _to_values(stored)["answer_sha256"]})


def find_change(stored: StoredResponse) -> str | None:
    """What of an exported response is not as it was exported, or None; exports of before have no hash."""
    if stored.answer_sha256 not in ("", seal_answer(stored).answer_sha256):
        return f"answer {stored.key[:12]} is not the one of its hash"
    return None


def _explain_damage(path: Path, error: Exception) -> InputError:
    advice = "import an export of it into a new one; `selfinstruct store export` may still save a part"
    return InputError(f"{show_path(path)}: the file is damaged ({error}); {advice}")


def _explain_database_error(path: Path, error: sqlite3.DatabaseError, size: int) -> InputError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    where = show_path(path)
    # a log that cannot be begun on a full disk is an "I/O error" to SQLite
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        return explain_write_error(path, OSError(errno.ENOSPC, str(error)), size or SPACE_FOR_ANSWERS)
    if code == sqlite3.SQLITE_BUSY:
        why = f"another command has been writing to it for {BUSY_SECONDS:g} s"
        return InputError(f"{where}: {why} ({error}); wait for it, or end it, and run this one again")
    if code == sqlite3.SQLITE_CORRUPT:
        return _explain_damage(path, error)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        why = error if os.access(path.parent, os.W_OK) else f"its folder is read-only; {error}"
        return InputError(f"{where}: cannot be used ({why}); choose a folder you may write to")
    if isinstance(error, sqlite3.OperationalError):
        facts = f"{error}; {describe_space(path, size)}"
        advice = "check the disk and what you may use of it (quota, ulimit -f), and choose a folder you may write to"
        return InputError(f"{where}: cannot be used ({facts}); {advice}")
    return InputError(f"{where}: not a store of responses ({error}); move it away or name another")


def _is_full(path: Path) -> bool:
    return path.parent.is_dir() and shutil.disk_usage(path.parent).free < FULL_BELOW


# was a model called?


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
