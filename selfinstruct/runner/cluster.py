"""Cells of a sweep on a Dask cluster: workers run the notebooks, the sweep's command asks the model and keeps every answer.

    run_sweep(plan, sweep, agree, run_cells=functools.partial(run_on_cluster, scheduler="tcp://10.0.0.5:8786"))

Only Dask's own connections are used: no shared file system, no further port, no key on a worker. A notebook on a worker calls a
loopback address of its worker (see `models.door`); the call goes to this command as a Dask event, the answer comes back the same
way, and the finished run folder as bytes. A worker that dies loses nothing that was paid for: its cell starts again elsewhere, and
what it had asked is answered from the one store.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from ..files import EndpointError, InputError, SelfInstructError, StoppedEarly, project_path
from ..models.claims import Claims
from ..models.connection import connect
from ..models.door import DOOR_VARIABLE, STORE_VARIABLE
from ..models.protocol import StoredResponse
from ..models.spending import Pace
from ..models.store import ResponseStore
from ..records import Request
from ..runfolder import RunFolder
from ..workers import RETRIES, connect_cluster
from .manifest import measure_named_files
from .plan import Cell, SweepPlan, declare_arm
from .run import declare_steps, run_notebooks
from .sweep import Results

if TYPE_CHECKING:
    from distributed import Client, Worker

TOPIC, DOOR = "selfinstruct-store", "selfinstruct-door"
ANSWER_S, CLAIM_S = 900.0, 600.0
MOST_NAMED = 3  # files of a worker in a sentence
ASKERS = 32  # requests that the command has under way at most


def run_on_cluster(plan: SweepPlan, sweep: RunFolder, cells: Sequence[Cell], scheduler: str) -> Results:
    """Run `cells` on the workers of `scheduler`, as many at once as there are; yields each as it ends.

    Raises InputError before anything runs as `check_cluster` does; StoppedEarly where a limit of the sweep is reached, or
    where a cell finds only workers that came later and have other texts.
    """
    if not cells:
        return
    with check_cluster(plan, scheduler) as (client, texts), Service(client, plan, sweep, texts) as service:
        from distributed import as_completed

        futures = {
            client.submit(_run_cell, **service.describe(cell), pure=False, retries=RETRIES): cell for cell in cells
        }
        for future, found in as_completed(futures, with_results=True, raise_errors=False):
            yield futures[future], service.receive(futures[future], future, found)


# on the command's side


@contextmanager
def check_cluster(plan: SweepPlan, scheduler: str) -> Iterator[tuple[Client, Texts]]:
    """A client of the cluster, and the texts that cells read on a worker's own disk, which are the same everywhere.

    Raises InputError for a scheduler that is not there, without workers, with workers of other versions or of other texts.
    """
    with connect_cluster(scheduler) as client:
        texts = list_texts(plan)
        if differing := describe_differing(client.run(measure_named_files, texts.named), texts):
            raise InputError(differing)
        yield client, texts


class Texts(NamedTuple):
    """The parameters, (name, value), that name files, and what the command has of those: path -> sha256."""

    named: list[tuple[str, str]]
    files: dict[str, str]


def list_texts(plan: SweepPlan) -> Texts:
    """What the cells of a plan read besides the kit: prompt sets, seed tasks, data, prices."""
    steps = [step for arm in plan.arms for step in declare_arm(plan, arm)]
    named = {(name, value) for step in steps for name, value in step.parameters.items() if isinstance(value, str)}
    named.add(("prompt_set", ""))  # of a notebook that has no such parameter
    return Texts(sorted(named), measure_named_files(sorted(named)))


def describe_differing(workers: Mapping[str, Mapping[str, str]], texts: Texts) -> str:
    """The workers whose files are not those of this command, with what is wrong and what to do; "" where there are none."""
    found = []
    for address, files in workers.items():
        paths = [path for path in sorted({*files, *texts.files}) if files.get(path) != texts.files.get(path)]
        more = [f"{len(paths) - MOST_NAMED} more"] if len(paths) > MOST_NAMED else []
        named = [f"{path} {_compare_file(path, files, texts)}" for path in paths[:MOST_NAMED]]
        found += [f"{address}: {', '.join(named + more)}"] if paths else []
    if not found:
        return ""
    advice = "cells read them there: bring them to what they are here, under the same path, and give the command again"
    return f"workers have other files than this command: {'; '.join(found)}; {advice}"


def _compare_file(path: str, files: Mapping[str, str], texts: Texts) -> str:
    if path not in files:
        return "is missing"
    return "has another text" if path in texts.files else "is there, and not here"


class Service:
    """Answers the workers' calls from the one store, and asks for them what it does not have."""

    def __init__(self, client: Client, plan: SweepPlan, sweep: RunFolder, texts: Texts):
        self._client, self._plan, self._sweep, self._texts = client, plan, sweep, texts
        self._mark, self._pool = secrets.token_hex(8), ThreadPoolExecutor(ASKERS)
        self._local, self._lock = threading.local(), threading.Lock()
        self._given: dict[str, dict[str, Any]] = {}  # cell -> the parameters of its notebook that asks
        self._claims: dict[str, tuple[str, Claims, set[str]]] = {}  # owner -> (worker, its claims, their keys)
        self._stores: dict[str, ResponseStore] = {}
        self._paces: dict[str, Pace] = {}

    def __enter__(self) -> Service:
        self._here.parent.mkdir(parents=True, exist_ok=True)
        self._here.write_text(self._mark)
        self._client.subscribe_topic(TOPIC, lambda event: self._pool.submit(self._answer, event[1]))
        self._client.subscribe_topic("all", lambda event: self._pool.submit(self._notice, event[1]))
        self._client.register_plugin(_make_door(self._texts))
        return self

    def __exit__(self, *_: object) -> None:
        for topic in (TOPIC, "all"):
            with suppress(ValueError):
                self._client.unsubscribe_topic(topic)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._here.unlink(missing_ok=True)

    @property
    def _here(self) -> Path:
        """A file that a worker sees where it works in the very same folder."""
        return self._sweep / "cells" / ".here"

    def describe(self, cell: Cell) -> dict[str, Any]:
        """The arguments of a cell's task."""
        # once, and here: threads that parse notebooks at a time fail in Python before 3.11.8 (gh-106905)
        self._given[cell.name] = self._find_parameters(cell)
        folder = f"{self._sweep}/{cell.folder}"
        given = {"folder": folder, "parameters": self._plan.list_parameters(cell), "notebooks": self._plan.numbers}
        return {"name": cell.name, **given, "here": f"{self._sweep}/cells/.here", "mark": self._mark}

    def receive(self, cell: Cell, future: Any, found: Any) -> SelfInstructError | None:
        """Put a finished cell's files in their place; returns the error that it failed with."""
        if future.status != "finished":
            error = found[1] if isinstance(found, tuple) else found
            if isinstance(error, StoppedEarly):
                raise error
            return (
                error if isinstance(error, SelfInstructError) else SelfInstructError(f"{type(error).__name__}: {error}")
            )
        files, failed = found
        if files:
            with tarfile.open(fileobj=io.BytesIO(files)) as tar:
                tar.extractall(self._sweep / cell.folder, filter="data")
        return SelfInstructError(failed) if failed else None

    def _answer(self, message: Mapping[str, Any]) -> None:
        try:
            value = self._serve(message["worker"], message["owner"], message["cell"], *message["call"])
        except StoppedEarly as error:
            value = {"stopped": str(error)}
        except EndpointError as error:
            value = {"error": str(error)}
        except Exception as error:  # whatever it is, a worker waits for it
            value = {"error": f"{type(error).__name__}: {error}"}
        self._client.loop.add_callback(self._send, message, value)

    async def _send(self, message: Mapping[str, Any], value: Any) -> None:
        with suppress(OSError, ValueError, KeyError):  # a worker that is gone
            await self._client._run(_reply, message["id"], value, workers=[message["worker"]], on_error="ignore")

    def _serve(self, worker: str, owner: str, cell: str, method: str, *args: Any) -> dict[str, Any]:
        given = self._given[cell]
        if method == "ask":
            return self._ask(given, *args)
        store = self._open_store(given.get("store", "outputs/responses.sqlite"))
        if method == "settle":
            return {"row": store.settle(StoredResponse(**args[0])).model_dump()}
        if method == "claim":
            return self._claim(store, worker, owner, args[0])
        raise ValueError(method)

    def _find_parameters(self, cell: Cell) -> dict[str, Any]:
        run = RunFolder(self._sweep / cell.folder)
        steps = declare_steps(run, self._plan.list_parameters(cell), self._plan.notebooks)
        return next((step.parameters for step in steps if step.asks_a_model), {})

    def _open_store(self, path: str) -> ResponseStore:
        with self._lock:
            return self._stores.setdefault(path, ResponseStore(path))

    def _claim(self, store: ResponseStore, worker: str, owner: str, key: str) -> dict[str, Any]:
        """The answer, or True for whoever may ask; {} while somebody else does."""
        if found := store.get_many([key]):
            return {"row": found[key].model_dump()}
        with self._lock:
            _, claims, keys = self._claims.setdefault(owner, (worker, Claims(store), set()))
        mine = claims.take(key, CLAIM_S)
        keys |= {key} if mine else set()
        return {"mine": True} if mine else {}

    def _ask(
        self, given: Mapping[str, Any], key: str, request: Mapping[str, Any], step: str, api: str
    ) -> dict[str, Any]:
        if not given.get("api", api).startswith("batch"):
            given = {**given, "api": api}  # the worker's: a prompt set for a chat is asked as one
        client = self._find_client(given, step)
        [completion] = client.complete([Request(**request)])
        if completion.error is not None:
            return {"failed": completion.error}
        return {"row": client.store.get_many([key])[key].model_dump()}

    def _find_client(self, given: Mapping[str, Any], step: str) -> Any:
        """A client for this thread: their limits are kept together in the store, and they have one pace."""
        import inspect

        taken = {name: value for name, value in given.items() if name in inspect.signature(connect).parameters}
        name = json.dumps([taken, step], sort_keys=True)
        clients = self._local.__dict__.setdefault("clients", {})
        if name not in clients:
            clients[name] = client = connect(**{**taken, "concurrency": 1, "step": step})
            with self._lock:
                client.pace = self._paces.setdefault(name, client.pace)
        return clients[name]

    def _notice(self, event: Any) -> None:
        """A worker that is gone claims nothing."""
        if isinstance(event, dict) and event.get("action") == "remove-worker":
            with self._lock:
                gone = [owner for owner, (worker, *_) in self._claims.items() if worker == event.get("worker")]
                ended = [self._claims.pop(owner) for owner in gone]
            for _, claims, keys in ended:
                claims.release(keys)


# on the workers' side


def _run_cell(
    name: str, folder: str, parameters: Mapping[str, Any], notebooks: Sequence[str], here: str, mark: str
) -> tuple[bytes, str]:
    """On a worker: one cell into `folder` of this machine; its files, b"" where the command sees them itself, and its error."""
    from distributed import get_worker

    door, failed = get_worker().plugins[DOOR], ""
    if door.differing:
        raise StoppedEarly(door.differing)
    run = RunFolder(folder)
    with tempfile.TemporaryDirectory(prefix="selfinstruct-") as scratch:
        ours = {DOOR_VARIABLE: door.open(name), STORE_VARIABLE: f"{scratch}/answers.sqlite"}
        with patch.dict(os.environ, ours):  # one cell at a time in a worker: --nthreads 1
            try:
                run_notebooks(run, parameters, notebooks, out=lambda line: None)
            except StoppedEarly:
                raise
            except SelfInstructError as error:
                failed = f"{error} (on worker {get_worker().address})"  # what a file's path means, it means there
    marked = project_path(here)
    same_folder = marked.is_file() and marked.read_text() == mark
    if same_folder or not run.path.is_dir():  # a cell that is refused leaves none
        return b"", failed
    return _pack(run.path), failed


def _pack(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.add(folder, arcname=".")
    return out.getvalue()


def _make_door(texts: Texts) -> Any:
    """The worker's part: loopback HTTP for its notebooks, Dask's own connections from here on.

    A worker that comes later is checked as the first ones were.
    """
    from distributed import WorkerPlugin

    class DoorPlugin(WorkerPlugin):
        name = DOOR

        def setup(self, worker: Worker) -> None:
            self.passage = Passage(worker)
            self.differing = describe_differing({worker.address: measure_named_files(texts.named)}, texts)

        def teardown(self, worker: Worker) -> None:
            self.passage.close()

        def open(self, cell: str) -> str:
            return self.passage.open(cell)

    return DoorPlugin()


class Passage:
    """A worker's loopback server; each cell has a secret address of its own."""

    def __init__(self, worker: Worker):
        from http.server import ThreadingHTTPServer

        self._worker = worker
        self._cells: dict[str, str] = {}
        self.waiting: dict[str, tuple[threading.Event, list[Any]]] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def open(self, cell: str) -> str:
        owner = secrets.token_urlsafe(16)
        self._cells[owner] = cell
        return f"http://127.0.0.1:{self._http.server_address[1]}/{owner}"

    def call(self, owner: str, call: Sequence[Any]) -> Any:
        """What the sweep's command answers; KeyError for an address that was not given out."""
        number, arrived, box = uuid.uuid4().hex, threading.Event(), []
        message = {
            "id": number,
            "worker": self._worker.address,
            "owner": owner,
            "cell": self._cells[owner],
            "call": call,
        }
        self.waiting[number] = (arrived, box)
        self._worker.loop.add_callback(self._worker.log_event, TOPIC, message)
        try:
            return box[0] if arrived.wait(ANSWER_S) else {"error": "the sweep's command does not answer"}
        finally:
            self.waiting.pop(number, None)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def _make_handler(passage: Passage) -> Any:
    from http.server import BaseHTTPRequestHandler

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                body = json.dumps(passage.call(self.path[1:], call)).encode()
            except KeyError:
                return self.send_error(403)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


def _reply(number: str, value: Any, dask_worker: Worker) -> None:
    """On a worker: hand an answer to the call that waits for it."""
    arrived, box = dask_worker.plugins[DOOR].passage.waiting.get(number, (threading.Event(), []))
    box.append(value)
    arrived.set()
