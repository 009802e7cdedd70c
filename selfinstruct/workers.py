"""Who computes: this process, processes of this machine, or the workers of a Dask cluster. The answers are the same.

    with open_workers(2) as workers:                              # or scheduler="tcp://10.0.0.5:8786"
        for answer in workers.run(measure, [(1, 2), (3, 4)]):     # measure(1, 2), then measure(3, 4)
            ...

A call goes out with its arguments and its answer comes back: workers need no shared file system. One whose worker dies is
made again.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import __version__
from .files import PROJECT_ROOT, InputError, SelfInstructError, StoppedEarly, usable_cpus

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S, WORKERS_S = 10, 60
RETRIES = 3  # times that processes may die over one piece of work
AHEAD = 4  # calls under way for each worker
INSTALL = "pip install -e '.[distributed]'"
STARTING = "start one: `dask scheduler`, and on each machine `dask worker tcp://HOST:8786 --nthreads 1`"
CODE = (
    "selfinstruct/**/*.py",
    "selfinstruct/**/*.json",
    "selfinstruct/**/*.jinja",
    "notebooks/*.ipynb",
    "seeds/*.jsonl",
)


@contextmanager
def open_workers(count: int = 0, scheduler: str = "") -> Iterator[Workers]:
    """`count` processes here (0: as many as there are processors; 1: this process), or all workers of a Dask cluster.

    Raises InputError for a scheduler that is not there, and for workers of other versions. Processes start at the first call.
    """
    count = count or math.ceil(usable_cpus())
    if scheduler:
        with connect_cluster(scheduler) as client:
            yield Cluster(client, scheduler)
    elif count > 1:
        workers = Processes(count)
        try:
            yield workers
        finally:
            workers.close()
    else:
        yield Workers()


class Workers:
    """This process, one call after the other."""

    count = ahead = 1

    def hold(self, value: Any) -> Any:
        """`value` as an argument of several calls: a cluster sends it once to each worker that needs it."""
        return value

    def submit(self, function: Callable, *arguments: Any) -> Callable[[], Any]:
        """Start a call; what comes back waits for its answer."""
        return functools.partial(function, *arguments)

    def run(self, function: Callable, calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """function(*call) of each call, in order. `calls` is read a few calls ahead, as workers become free."""
        under_way: deque[Callable[[], Any]] = deque()
        for call in calls:
            under_way.append(self.submit(function, *call))
            if len(under_way) >= self.ahead:
                yield under_way.popleft()()
        while under_way:
            yield under_way.popleft()()


class Processes(Workers):
    """Processes of this machine; they end with this one, however it ends."""

    def __init__(self, count: int):
        self.count, self.ahead, self._deaths = count, AHEAD * count, 0
        self._start()

    def _start(self) -> None:
        from multiprocessing import get_context

        self._pool = ProcessPoolExecutor(self.count, get_context("spawn"), initializer=_begin_process)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable, *arguments: Any) -> Callable[[], Any]:
        sent = self._send(function, arguments)

        def wait() -> Any:
            nonlocal sent
            while True:
                pool, future = sent
                try:
                    return future.result()
                except BrokenExecutor:
                    self._replace(pool)
                    sent = self._send(function, arguments)

        return wait

    def _send(self, function: Callable, arguments: tuple[Any, ...]) -> tuple[ProcessPoolExecutor, Any]:
        try:
            return self._pool, self._pool.submit(function, *arguments)
        except BrokenExecutor:
            self._replace(self._pool)
            return self._send(function, arguments)

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        """New processes: where one dies, Python gives up all of its pool."""
        if broken is not self._pool:
            return
        self._deaths += 1
        if self._deaths > RETRIES:
            raise SelfInstructError(
                f"processes of this command died {self._deaths} times; is there enough memory? Fewer of them need less: --workers 1"
            )
        broken.shutdown(wait=False)
        self._start()


def _begin_process() -> None:
    """In a new process: Ctrl-C is for the one that started it, and its end, even by kill -9, is this one's."""
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Cluster(Workers):
    """The workers of a Dask cluster; they may come and go."""

    def __init__(self, client: Client, scheduler: str):
        self._client, self._scheduler = client, scheduler
        self.count = sum(client.nthreads().values())
        self.ahead = max(32, AHEAD * self.count)

    def hold(self, value: Any) -> Future:
        # a task and not `scatter`: the scheduler makes it again where the worker that has it dies
        return self._client.submit(_give, value, pure=False)

    def submit(self, function: Callable, *arguments: Any) -> Callable[[], Any]:
        return functools.partial(self._wait, self._client.submit(function, *arguments, pure=False))

    def _wait(self, future: Future) -> Any:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise SelfInstructError(
                f"{self._scheduler}: several workers died over one piece of work; is there enough memory?"
            ) from error
        except (CancelledError, OSError) as error:
            raise StoppedEarly(f"{self._scheduler}: the scheduler is gone; the same command goes on") from error


def _give(value: Any) -> Any:
    return value


@contextmanager
def connect_cluster(scheduler: str) -> Iterator[Client]:
    """A client of the cluster, whose workers are checked."""
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(f"--scheduler needs Dask: {INSTALL}") from error
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler at {scheduler} ({type(error).__name__}); {STARTING}") from error
    try:
        _check_workers(client, scheduler)
        yield client
    finally:
        client.close()


def _check_workers(client: Client, scheduler: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError as error:
        raise InputError(f"{scheduler}: no worker came in {WORKERS_S} s; {STARTING}") from error
    check_versions(client.run(describe_versions), describe_versions())


def describe_versions() -> dict[str, str]:
    """What must be the same everywhere for work to come out the same: the kit with its code, and Python."""
    import platform

    files = sorted(path for pattern in CODE for path in PROJECT_ROOT.glob(pattern))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    return {"kit": __version__, "code": code, "Python": platform.python_version()}


def check_versions(workers: Mapping[str, Mapping[str, str]], here: Mapping[str, str]) -> None:
    """Raise InputError that names every worker whose versions are not those of this command."""
    found = [
        f"{address}: {name} {versions.get(name)}, here {value}"
        for address, versions in workers.items()
        for name, value in here.items()
        if versions.get(name) != value
    ]
    if found:
        raise InputError(
            f"workers differ from this command: {'; '.join(found)}; install the same kit everywhere (its code is selfinstruct/, "
            "notebooks/ and seeds/*.jsonl)"
        )
